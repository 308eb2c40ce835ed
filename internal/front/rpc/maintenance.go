package rpc

import (
	"context"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// snapshotChunkBytes is the size of one blob of a Snapshot stream, etcd's own.
const snapshotChunkBytes = 32 << 10

// maintenanceMember is what the Maintenance service needs of the member.
type maintenanceMember interface {
	Identity
	// Status answers all but the header.
	Status(ctx context.Context) (*pb.StatusResponse, error)
	Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error)
	Hash(ctx context.Context) (hash uint32, rev int64, err error)
	HashKV(ctx context.Context, rev int64) (*pb.HashKVResponse, error)
	Defragment(ctx context.Context) error
	// Snapshot opens a consistent copy of the backend file followed by its
	// SHA-256, total bytes in all.
	Snapshot(ctx context.Context) (body io.ReadCloser, total int64, version string, err error)
	MoveLeader(ctx context.Context, to uint64) error
	Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error)
}

type maintenanceService struct {
	pb.UnimplementedMaintenanceServer
	m    maintenanceMember
	head header
}

func (s *maintenanceService) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	resp, err := s.m.Status(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

// Alarm lists, raises or clears alarms.
func (s *maintenanceService) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	resp, err := s.m.Alarm(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *maintenanceService) Defragment(ctx context.Context, _ *pb.DefragmentRequest) (*pb.DefragmentResponse, error) {
	if err := s.m.Defragment(ctx); err != nil {
		return nil, toStatus(err)
	}
	return &pb.DefragmentResponse{}, nil
}

func (s *maintenanceService) Hash(ctx context.Context, _ *pb.HashRequest) (*pb.HashResponse, error) {
	hash, rev, err := s.m.Hash(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.HashResponse{Header: s.head.at(rev), Hash: hash}, nil
}

func (s *maintenanceService) HashKV(ctx context.Context, r *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	resp, err := s.m.HashKV(ctx, r.Revision)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

// Snapshot streams the backend file in chunks, and its SHA-256 as the last
// one. One chunk is in memory at a time; a slow client holds a read
// transaction open but blocks nobody.
func (s *maintenanceService) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	body, total, version, err := s.m.Snapshot(stream.Context())
	if err != nil {
		return toStatus(err)
	}
	defer body.Close()
	const digestBytes = 32
	for left := total; left > 0; {
		size := min(left, snapshotChunkBytes)
		if left > digestBytes {
			size = min(size, left-digestBytes) // the digest travels alone
		}
		blob := make([]byte, size)
		if _, err := io.ReadFull(body, blob); err != nil {
			return toStatus(err)
		}
		left -= size
		if err := stream.Send(&pb.SnapshotResponse{RemainingBytes: uint64(left), Blob: blob, Version: version}); err != nil {
			return err
		}
	}
	return nil
}

// MoveLeader has no header in its answer when the target leads already.
func (s *maintenanceService) MoveLeader(ctx context.Context, r *pb.MoveLeaderRequest) (*pb.MoveLeaderResponse, error) {
	if err := s.m.MoveLeader(ctx, r.TargetID); err != nil {
		return nil, toStatus(err)
	}
	return &pb.MoveLeaderResponse{}, nil
}

func (s *maintenanceService) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	resp, err := s.m.Downgrade(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}
