package bench

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/concurrencypb"
	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/wire/h2client"
)

// locker takes the lock around a transaction and returns how to give it back.
type locker func(ctx context.Context, c *h2client.Conn) (unlock func(), err error)

const (
	lockName       = "stm-lock"
	lockTTLSeconds = 600 // longer than any queue of clients takes
)

// lockerOf knows the values of --stm-locker.
func lockerOf(kind string) (locker, error) {
	switch kind {
	case "stm":
		return func(context.Context, *h2client.Conn) (func(), error) { return func() {}, nil }, nil
	case "lock-rpc":
		return underLease(lockByRPC), nil
	case "lock-client":
		return underLease(lockByKeys), nil
	}
	return nil, fmt.Errorf("--stm-locker must be stm, lock-client or lock-rpc, not %q", kind)
}

// underLease gives each lock a lease of its own, because a lock is named after
// its lease. Revoking that gives the lock back.
func underLease(lock func(context.Context, *h2client.Conn, int64) error) locker {
	return func(ctx context.Context, c *h2client.Conn) (func(), error) {
		var lease pb.LeaseGrantResponse
		if err := call(ctx, c, methodLeaseGrant, &pb.LeaseGrantRequest{TTL: lockTTLSeconds}, &lease); err != nil {
			return nil, err
		}
		revoke := func() {
			// If this fails the lock is held until the lease expires: the run
			// then stands still and shows it.
			_ = call(context.WithoutCancel(ctx), c, methodLeaseRevoke, &pb.LeaseRevokeRequest{ID: lease.ID}, &pb.LeaseRevokeResponse{})
		}
		if err := lock(ctx, c, lease.ID); err != nil {
			revoke()
			return nil, err
		}
		return revoke, nil
	}
}

func lockByRPC(ctx context.Context, c *h2client.Conn, lease int64) error {
	return call(ctx, c, methodLock, &concurrencypb.LockRequest{Name: []byte(lockName), Lease: lease}, &concurrencypb.LockResponse{})
}

// lockByKeys queues as etcd's clients do: each puts a key under the lock's
// name, and waits until the one created just before its own is gone.
func lockByKeys(ctx context.Context, c *h2client.Conn, lease int64) error {
	prefix := []byte(lockName + "/")
	mine := fmt.Appendf(nil, "%s/%x", lockName, lease)
	var put pb.PutResponse
	if err := call(ctx, c, methodPut, &pb.PutRequest{Key: mine, Lease: lease}, &put); err != nil {
		return err
	}
	rev := put.Header.GetRevision()
	for {
		var before pb.RangeResponse
		err := call(ctx, c, methodRange, &pb.RangeRequest{
			Key: prefix, RangeEnd: keys.PrefixEnd(prefix), Limit: 1, MaxCreateRevision: rev - 1,
			SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND,
		}, &before)
		if err != nil || len(before.Kvs) == 0 {
			return err
		}
		if err := awaitDelete(ctx, c, before.Kvs[0].Key, before.Header.GetRevision()+1); err != nil {
			return err
		}
	}
}

// awaitDelete watches a key from rev on until something happens to it; a key
// in the queue only ever is deleted.
func awaitDelete(ctx context.Context, c *h2client.Conn, key []byte, rev int64) error {
	body, err := proto.Marshal(createWatch(&pb.WatchCreateRequest{Key: key, StartRevision: rev}))
	if err != nil {
		return fmt.Errorf("watch request: %w", err)
	}
	happened, ended := make(chan struct{}, 1), make(chan error, 1)
	s := &h2client.Stream{
		OnMessage: func(_ *h2client.Stream, msg []byte) {
			if n, err := scanWatch(msg); err != nil || n.canceled || n.events > 0 {
				select {
				case happened <- struct{}{}:
				default:
				}
			}
		},
		OnEnd: func(_ *h2client.Stream, err error) { ended <- err },
	}
	if err := c.Start(s, methodWatch, body, false); err != nil {
		return err
	}
	c.Flush()
	select {
	case err := <-ended:
		return err
	case <-happened:
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.Cancel(s)
	return err
}
