package rpc

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/core/kv"
)

// kvMember is what the KV service needs of the member.
type kvMember interface {
	Proposer
	Identity
	Viewer
	Linearizer
	Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error)
	// MayRange and MayTxn ask for the caller's rights to read.
	MayRange(ctx context.Context, r *pb.RangeRequest) error
	MayTxn(ctx context.Context, r *pb.TxnRequest) error
}

type kvService struct {
	pb.UnimplementedKVServer
	m    kvMember
	head header
	opt  Options
	*reading
}

func (s *kvService) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := kv.CheckRange(r); err != nil {
		return nil, toStatus(err)
	}
	begun := time.Since(epoch)
	if err := s.readable(ctx, r); err != nil {
		return nil, toStatus(err)
	}
	waited := time.Duration(0)
	if !r.Serializable {
		waited = time.Since(epoch) - begun
	}
	view := s.m.View()
	defer view.Close()
	resp, err := kv.Range(view, r)
	s.didRange(r, resp, begun, waited, err)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

// readable waits until a range may be answered and checks the caller's right
// to it.
func (s *kvService) readable(ctx context.Context, r *pb.RangeRequest) error {
	if !r.Serializable {
		if err := s.m.LinearizableRead(ctx); err != nil {
			return err
		}
	}
	return s.m.MayRange(ctx, r)
}

// RangeStream sends the answer of Range in chunks of one moment. One chunk is
// in memory at a time.
func (s *kvService) RangeStream(r *pb.RangeRequest, stream pb.KV_RangeStreamServer) error {
	if err := kv.CheckStream(r); err != nil {
		return toStatus(err)
	}
	s.ranges.Inc()
	if err := s.readable(stream.Context(), r); err != nil {
		return toStatus(err)
	}
	view := s.m.View()
	defer view.Close()
	chunks, err := kv.NewStream(view, r, kv.StreamOptions{})
	if err != nil {
		return toStatus(err)
	}
	for {
		chunk, last, err := chunks.Next()
		if err != nil {
			return toStatus(err)
		}
		if last {
			s.head.fill(&chunk.RangeResponse.Header)
		}
		if err := stream.Send(chunk); err != nil || last {
			return err
		}
	}
}

func (s *kvService) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	if err := kv.CheckPut(r); err != nil {
		return nil, toStatus(err)
	}
	res, err := s.m.Propose(ctx, &pb.InternalRaftRequest{Put: r})
	if err != nil {
		return nil, toStatus(err)
	}
	resp := res.Resp.(*pb.PutResponse)
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *kvService) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := kv.CheckDelete(r); err != nil {
		return nil, toStatus(err)
	}
	res, err := s.m.Propose(ctx, &pb.InternalRaftRequest{DeleteRange: r})
	if err != nil {
		return nil, toStatus(err)
	}
	resp := res.Resp.(*pb.DeleteRangeResponse)
	s.head.fill(&resp.Header)
	return resp, nil
}

// Txn sends a transaction through the log unless it only reads.
func (s *kvService) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := kv.CheckTxn(r, s.opt.MaxTxnOps); err != nil {
		return nil, toStatus(err)
	}
	resp, err := s.txn(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *kvService) txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if !kv.IsReadOnly(r) {
		res, err := s.m.Propose(ctx, &pb.InternalRaftRequest{Txn: r})
		if err != nil {
			return nil, err
		}
		return res.Resp.(*pb.TxnResponse), nil
	}
	begun := time.Since(epoch)
	resp, err := s.readTxn(ctx, r)
	s.didTxn(r, resp, begun, err)
	return resp, err
}

// readTxn answers a transaction that only reads from the published state.
func (s *kvService) readTxn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if !kv.IsSerializable(r) {
		if err := s.m.LinearizableRead(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.m.MayTxn(ctx, r); err != nil {
		return nil, err
	}
	view := s.m.View()
	defer view.Close()
	return kv.ReadTxn(view, r)
}

func (s *kvService) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	resp, err := s.m.Compact(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

// unimplemented are the outcomes that say that a request asks for something
// that is not there.
func unimplemented(err error) (error, bool) {
	if err == kv.ErrStreamSort || err == kv.ErrStreamFilter {
		return status.Error(codes.Unimplemented, err.Error()), true
	}
	return nil, false
}
