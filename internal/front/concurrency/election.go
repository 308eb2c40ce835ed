package concurrency

import (
	"bytes"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/base/concurrencypb"
)

type electionService struct{ store }

// Campaign waits for its turn. Unlike Lock it leaves the lease to the caller
// from the beginning. Its header is that of the moment when it joined.
func (s *electionService) Campaign(ctx context.Context, r *concurrencypb.CampaignRequest) (*concurrencypb.CampaignResponse, error) {
	lease, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, err
	}
	prefix := prefixOf(r.Name)
	leader := &concurrencypb.LeaderKey{Name: r.Name, Key: candidate(prefix, lease), Lease: lease}
	header, err := s.join(ctx, leader, r.Value)
	if err != nil {
		return nil, err
	}
	if err := s.waitFirst(ctx, prefix, leader.Rev); err != nil {
		if ctx.Err() != nil {
			s.abandon(ctx, leader)
		}
		return nil, err
	}
	return &concurrencypb.CampaignResponse{Header: header, Leader: leader}, nil
}

// join makes the caller a candidate and sets the revision of its key. A caller
// that is a candidate already stays where it is and has its value changed.
func (s *electionService) join(ctx context.Context, leader *concurrencypb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	resp, err := s.txn(ctx, &pb.TxnRequest{
		Compare: createdAt(leader.Key, 0),
		Success: []*pb.RequestOp{put(&pb.PutRequest{Key: leader.Key, Value: value, Lease: leader.Lease})},
		Failure: []*pb.RequestOp{read(&pb.RangeRequest{Key: leader.Key})},
	})
	if err != nil {
		return nil, err
	}
	leader.Rev = resp.Header.Revision
	if resp.Succeeded {
		return resp.Header, nil
	}
	kv := resp.Responses[0].GetResponseRange().Kvs[0]
	leader.Rev = kv.CreateRevision
	if bytes.Equal(kv.Value, value) {
		return resp.Header, nil
	}
	if _, err := s.proclaim(ctx, leader, value); err != nil {
		s.abandon(ctx, leader)
		return nil, err
	}
	return resp.Header, nil
}

// abandon resigns for a caller that may have gone.
func (s *electionService) abandon(ctx context.Context, leader *concurrencypb.LeaderKey) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, _ = s.resign(ctx, leader) // else the candidate goes with its lease
}

func (s *electionService) Proclaim(ctx context.Context, r *concurrencypb.ProclaimRequest) (*concurrencypb.ProclaimResponse, error) {
	if r.Leader == nil {
		return nil, errMissingLeaderKey
	}
	header, err := s.proclaim(ctx, r.Leader, r.Value)
	if err != nil {
		return nil, err
	}
	return &concurrencypb.ProclaimResponse{Header: header}, nil
}

func (s *electionService) proclaim(ctx context.Context, leader *concurrencypb.LeaderKey, value []byte) (*pb.ResponseHeader, error) {
	resp, err := s.txn(ctx, &pb.TxnRequest{
		Compare: createdAt(leader.Key, leader.Rev),
		Success: []*pb.RequestOp{put(&pb.PutRequest{Key: leader.Key, Value: value, Lease: leader.Lease})},
	})
	if err != nil {
		return nil, err
	}
	if !resp.Succeeded {
		return nil, errNotLeader
	}
	return resp.Header, nil
}

// Resign is content if the leadership was over already.
func (s *electionService) Resign(ctx context.Context, r *concurrencypb.ResignRequest) (*concurrencypb.ResignResponse, error) {
	if r.Leader == nil {
		return nil, errMissingLeaderKey
	}
	header, err := s.resign(ctx, r.Leader)
	if err != nil {
		return nil, err
	}
	return &concurrencypb.ResignResponse{Header: header}, nil
}

func (s *electionService) resign(ctx context.Context, leader *concurrencypb.LeaderKey) (*pb.ResponseHeader, error) {
	resp, err := s.txn(ctx, &pb.TxnRequest{
		Compare: createdAt(leader.Key, leader.Rev),
		Success: []*pb.RequestOp{remove(leader.Key)},
	})
	if err != nil {
		return nil, err
	}
	return resp.Header, nil
}

func (s *electionService) Leader(ctx context.Context, r *concurrencypb.LeaderRequest) (*concurrencypb.LeaderResponse, error) {
	resp, err := s.get(ctx, first(prefixOf(r.Name)))
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, errNoLeader
	}
	return &concurrencypb.LeaderResponse{Header: resp.Header, Kv: resp.Kvs[0]}, nil
}

// sender is where Observe's answers go.
type sender interface {
	Send(*concurrencypb.LeaderResponse) error
	Context() context.Context
}

// follow sends the values of one leader, which it had at the revision of since,
// until its key is deleted.
func (s *electionService) follow(out sender, since *concurrencypb.LeaderResponse) error {
	w, err := s.open(out.Context(), &pb.WatchCreateRequest{Key: since.Kv.Key, StartRevision: since.Header.Revision + 1})
	if err != nil {
		return err
	}
	defer w.close()
	for {
		resp, err := w.next()
		if err != nil {
			return err
		}
		for _, e := range resp.Events {
			if e.Type == mvccpb.Event_DELETE {
				return nil
			}
			if err := out.Send(&concurrencypb.LeaderResponse{Header: resp.Header, Kv: e.Kv}); err != nil {
				return err
			}
		}
	}
}

// awaitLeader waits for the first candidate after revision rev, of an election
// that had none.
func (s *electionService) awaitLeader(ctx context.Context, prefix []byte, rev int64) (*concurrencypb.LeaderResponse, error) {
	w, err := s.open(ctx, &pb.WatchCreateRequest{Key: prefix, RangeEnd: prefixEnd(prefix), StartRevision: rev + 1})
	if err != nil {
		return nil, err
	}
	defer w.close()
	for {
		resp, err := w.next()
		if err != nil {
			return nil, err
		}
		for _, e := range resp.Events {
			if e.Type == mvccpb.Event_PUT {
				// One response may hold several revisions; following goes on
				// after this one.
				resp.Header.Revision = e.Kv.ModRevision
				return &concurrencypb.LeaderResponse{Header: resp.Header, Kv: e.Kv}, nil
			}
		}
	}
}
