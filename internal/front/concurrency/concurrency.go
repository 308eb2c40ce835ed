// Package concurrency serves etcd's Lock and Election services.
//
// They own no state: a lock and an election are keys, and everything is told
// to the KV, Lease and Watch services, by the same few requests that etcd's
// client library makes. So a lock taken here and one taken with the library
// exclude each other.
//
//	name/694da203db1a8325     one candidate: its lease in hex
//	name/694da203db1a8339     the key created first has the lock, or leads
//
// Each candidate waits only for the key created just before its own, so a
// lock that is released wakes one of them and not all.
//
// A waiting call holds one watch; how many calls there can be is bounded by the
// gRPC server's streams.
package concurrency

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/base/concurrencypb"
)

// Outcomes, in etcd's words.
var (
	errSessionExpired   = errors.New("mutex: session is expired")
	errNotLeader        = errors.New("election: not leader")
	errNoLeader         = errors.New("election: no leader")
	errObserveEnded     = errors.New("election: observe closed early")
	errMissingLeaderKey = errors.New(`"leader" field must be provided`)
	errWatchLost        = errors.New("lost watcher waiting for delete")
)

// cleanupTimeout bounds the removal of a candidate whose caller has gone.
const cleanupTimeout = 5 * time.Second

// Register adds both services to r. They make their requests through conn, with
// the caller's context.
func Register(r grpc.ServiceRegistrar, conn grpc.ClientConnInterface) {
	s := store{pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewWatchClient(conn)}
	r.RegisterService(&concurrencypb.LockServiceDesc, &lockService{s})
	r.RegisterService(&concurrencypb.ElectionServiceDesc, &electionService{s})
}

// store is what the services ask.
type store struct {
	kv    pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
}

// outcome is what a client is told of a refused request. Etcd's services talk to
// the store through its client library, which makes plain errors of the
// statuses it knows, and so their codes do not come through: the client sees
// Unknown with the store's text.
func outcome(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return rpctypes.Error(err)
}

func (s store) txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := s.kv.Txn(ctx, r)
	return resp, outcome(ctx, err)
}

func (s store) get(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	resp, err := s.kv.Range(ctx, r)
	return resp, outcome(ctx, err)
}

func (s store) delete(ctx context.Context, key []byte) (*pb.DeleteRangeResponse, error) {
	resp, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key})
	return resp, outcome(ctx, err)
}

// withdraw deletes the candidate of a call that failed, even if because its
// caller has gone. If that fails too, the candidate goes with its lease.
func (s store) withdraw(ctx context.Context, key []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_, _ = s.delete(ctx, key)
}

// waitFirst waits until no candidate of prefix was created before revision rev.
func (s store) waitFirst(ctx context.Context, prefix []byte, rev int64) error {
	for {
		resp, err := s.get(ctx, lastBefore(prefix, rev))
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		err = s.waitDelete(ctx, resp.Kvs[0].Key, resp.Header.Revision)
		if err != nil && !errors.Is(err, errCompacted) {
			return err
		}
		// Gone, or the history needed to say so is. Either way, look again.
	}
}

// waitDelete waits until key, which lives at revision rev, is deleted.
func (s store) waitDelete(ctx context.Context, key []byte, rev int64) error {
	w, err := s.open(ctx, &pb.WatchCreateRequest{Key: key, StartRevision: rev + 1})
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
		}
	}
}

// prefixEnd is the end of the range of all keys that begin with prefix, which
// ends with a slash.
func prefixEnd(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	end[len(end)-1]++
	return end
}

func prefixOf(name []byte) []byte { return append(append([]byte(nil), name...), '/') }

// first asks for the candidate that was created first.
func first(prefix []byte) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: prefix, RangeEnd: prefixEnd(prefix), Limit: 1,
		SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_CREATE,
	}
}

// lastBefore asks for the candidate that was created last before revision rev.
func lastBefore(prefix []byte, rev int64) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: prefix, RangeEnd: prefixEnd(prefix), Limit: 1, MaxCreateRevision: rev - 1,
		SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_CREATE,
	}
}

// createdAt compares the create revision of key; 0 is that of a key that does
// not exist.
func createdAt(key []byte, rev int64) []*pb.Compare {
	return []*pb.Compare{{
		Key: key, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: rev},
	}}
}

func put(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func read(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func remove(key []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
}
