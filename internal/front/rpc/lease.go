package rpc

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/lease"
)

// leaseMember is what the Lease service needs of the member.
type leaseMember interface {
	Proposer
	Identity
	NewLeaseID() int64
	// RenewLease gives a lease its full TTL again and returns it in seconds;
	// lease.ErrNotFound if there is none.
	RenewLease(ctx context.Context, id int64) (ttl int64, err error)
	// LeaseTimeToLive answers all but the header; lease.ErrNotFound as above.
	LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	// Leases lists ids, the one that expires first being the first.
	Leases(ctx context.Context) ([]int64, error)
}

type leaseService struct {
	pb.UnimplementedLeaseServer
	m    leaseMember
	head header
}

func (s *leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.ID == 0 {
		r = &pb.LeaseGrantRequest{TTL: r.TTL, ID: s.m.NewLeaseID()}
	}
	res, err := s.m.Propose(ctx, &pb.InternalRaftRequest{LeaseGrant: r})
	if err != nil {
		return nil, toStatus(err)
	}
	resp := res.Resp.(*pb.LeaseGrantResponse)
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	res, err := s.m.Propose(ctx, &pb.InternalRaftRequest{LeaseRevoke: r})
	if err != nil {
		return nil, toStatus(err)
	}
	resp := res.Resp.(*pb.LeaseRevokeResponse)
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *leaseService) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	resp, err := s.m.LeaseTimeToLive(ctx, r)
	if errors.Is(err, lease.ErrNotFound) {
		resp, err = &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: -1}, nil
	}
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	ids, err := s.m.Leases(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	resp := &pb.LeaseLeasesResponse{Header: s.head.now(), Leases: make([]*pb.LeaseStatus, 0, len(ids))}
	for _, id := range ids {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: id})
	}
	return resp, nil
}

// LeaseKeepAlive renews leases as the client asks, one answer per request in
// the order of the requests. A lease that does not exist is answered with TTL 0.
func (s *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return toStatus(err)
		}
		// The header comes first: its revision must not be newer than the renewal.
		resp := &pb.LeaseKeepAliveResponse{ID: r.ID, Header: s.head.now()}
		resp.TTL, err = s.m.RenewLease(stream.Context(), r.ID)
		if err != nil && !errors.Is(err, lease.ErrNotFound) {
			return toStatus(err)
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}
