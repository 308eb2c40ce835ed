package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/client"
)

var errSessionExpired = errors.New("session expired")

// session is a lease that is kept alive while the command runs; what hangs on
// it goes when the command does.
type session struct {
	c     *client.Client
	lease int64
	done  chan struct{} // closed when the lease is gone
	stop  context.CancelFunc
}

func newSession(c *client.Client, ttlSeconds int) (*session, error) {
	ctx, stop := context.WithCancel(context.Background())
	resp, err := c.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: int64(ttlSeconds)})
	if err != nil {
		stop()
		return nil, err
	}
	s := &session{c: c, lease: resp.ID, done: make(chan struct{}), stop: stop}
	go func() {
		defer close(s.done)
		_ = c.KeepAlive(ctx, s.lease, func(*pb.LeaseKeepAliveResponse) {})
	}()
	return s, nil
}

// close revokes the lease, if it still can.
func (s *session) close() {
	s.stop()
	<-s.done
	_, _ = s.c.LeaseRevoke(context.Background(), &pb.LeaseRevokeRequest{ID: s.lease})
}

// claim is a place in the queue below a prefix: key prefix + lease id, in
// order of creation. The first place is the lock, or the leadership.
type claim struct {
	s      *session
	prefix string // ends with "/"
	key    string
	rev    int64 // create revision of key
	header *pb.ResponseHeader
}

// take queues with value and waits until every earlier place is gone.
//
// Each claimant watches only the place just before its own, so that a release
// wakes one of them; and looks again after it woke, because that place may
// have been given up by one who was waiting too.
func (s *session) take(ctx context.Context, name, value string) (*claim, error) {
	c := &claim{s: s, prefix: name + "/", key: fmt.Sprintf("%s/%x", name, s.lease)}
	if err := c.queue(ctx, value); err != nil {
		return nil, err
	}
	if err := c.awaitTurn(ctx); err != nil {
		c.release(context.Background())
		return nil, err
	}
	return c, nil
}

// queue creates the key unless this session has done so before.
func (c *claim) queue(ctx context.Context, value string) error {
	key := []byte(c.key)
	resp, err := c.s.c.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL, Key: key,
			TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
		}},
		Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: key, Value: []byte(value), Lease: c.s.lease})},
		Failure: []*pb.RequestOp{rangeOp(&pb.RangeRequest{Key: key})},
	})
	if err != nil {
		return err
	}
	c.header, c.rev = resp.Header, resp.Header.GetRevision()
	if !resp.Succeeded {
		c.rev = resp.Responses[0].GetResponseRange().Kvs[0].CreateRevision
	}
	return nil
}

func (c *claim) awaitTurn(ctx context.Context) error {
	for {
		resp, err := c.s.c.Range(ctx, &pb.RangeRequest{
			Key: []byte(c.prefix), RangeEnd: keys.PrefixEnd([]byte(c.prefix)), Limit: 1, MaxCreateRevision: c.rev - 1,
			SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND,
		})
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			c.header = resp.Header
			return c.checkHeld(ctx)
		}
		if err := awaitDelete(ctx, c.s.c, resp.Kvs[0].Key, resp.Header.GetRevision()); err != nil {
			return err
		}
	}
}

// checkHeld makes sure that our own place did not expire while we waited.
func (c *claim) checkHeld(ctx context.Context) error {
	resp, err := c.s.c.Range(ctx, &pb.RangeRequest{Key: []byte(c.key)})
	if err == nil && len(resp.Kvs) == 0 {
		return errSessionExpired
	}
	return err
}

// release gives the place up.
func (c *claim) release(ctx context.Context) error {
	_, err := c.s.c.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(c.key)})
	return err
}

func awaitDelete(ctx context.Context, c *client.Client, key []byte, rev int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := c.NewWatcher(ctx)
	defer w.Close()
	for resp := range w.Watch(client.WatchRequest{Key: key, Rev: rev}) {
		if resp.Canceled {
			return resp.Err
		}
		for _, ev := range resp.Events {
			if ev.Type == mvccpb.Event_DELETE {
				return nil
			}
		}
	}
	return ctx.Err()
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

// untilSignal is a context that ends with SIGINT or SIGTERM, for commands that
// have something to give back.
func untilSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}
