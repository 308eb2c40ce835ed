package concurrency

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/concurrencypb"
)

type lockService struct{ store }

// Lock waits for its turn. Meanwhile it keeps the lease alive, once it has
// answered that is the caller's task.
func (s *lockService) Lock(ctx context.Context, r *concurrencypb.LockRequest) (*concurrencypb.LockResponse, error) {
	lease, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	prefix := prefixOf(r.Name)
	key := candidate(prefix, lease)
	header, rev, err := s.enter(ctx, prefix, key, lease)
	if err != nil {
		return nil, err
	}
	if header == nil {
		if header, err = s.await(ctx, turn{prefix, key, lease, rev}); err != nil {
			return nil, err
		}
	}
	return &concurrencypb.LockResponse{Header: header, Key: key}, nil
}

// enter makes the caller a candidate, if it is none yet, and returns its create
// revision. The header is nil if somebody else is before it.
func (s *lockService) enter(ctx context.Context, prefix, key []byte, lease int64) (*pb.ResponseHeader, int64, error) {
	owner := read(first(prefix))
	resp, err := s.txn(ctx, &pb.TxnRequest{
		Compare: createdAt(key, 0),
		Success: []*pb.RequestOp{put(&pb.PutRequest{Key: key, Lease: lease}), owner},
		Failure: []*pb.RequestOp{read(&pb.RangeRequest{Key: key}), owner},
	})
	if err != nil {
		return nil, 0, err
	}
	rev := resp.Header.Revision
	if !resp.Succeeded {
		rev = resp.Responses[0].GetResponseRange().Kvs[0].CreateRevision
	}
	if owners := resp.Responses[1].GetResponseRange().Kvs; len(owners) == 0 || owners[0].CreateRevision == rev {
		return resp.Header, rev, nil
	}
	return nil, rev, nil
}

// turn is a candidate in the queue.
type turn struct {
	prefix, key []byte
	lease       int64
	rev         int64 // create revision of key
}

// await returns when everybody before t has gone. Then t may have gone too, with
// its lease.
func (s *lockService) await(ctx context.Context, t turn) (*pb.ResponseHeader, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.keepAlive(waiting, t.lease)
	err := s.waitFirst(ctx, t.prefix, t.rev)
	var resp *pb.RangeResponse
	if err == nil {
		resp, err = s.get(ctx, &pb.RangeRequest{Key: t.key})
	}
	if err != nil {
		s.withdraw(ctx, t.key)
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, errSessionExpired
	}
	return resp.Header, nil
}

func (s *lockService) Unlock(ctx context.Context, r *concurrencypb.UnlockRequest) (*concurrencypb.UnlockResponse, error) {
	resp, err := s.delete(ctx, r.Key)
	if err != nil {
		return nil, err
	}
	return &concurrencypb.UnlockResponse{Header: resp.Header}, nil
}
