package concurrency

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sessionTTL is that of leases made for callers who bring none, in seconds.
const sessionTTL = 60

// session returns the lease to be a candidate with: the caller's, or a new one.
func (s store) session(ctx context.Context, lease int64) (int64, error) {
	if lease != 0 {
		return lease, nil
	}
	resp, err := s.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: sessionTTL})
	if err != nil {
		return 0, outcome(ctx, err)
	}
	return resp.ID, nil
}

// keepAlive renews a lease, three times per TTL, until ctx ends or the lease
// does. That it has ended is noticed where its key is missing.
func (s store) keepAlive(ctx context.Context, lease int64) {
	stream, err := s.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return
	}
	for {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease}); err != nil {
			return
		}
		resp, err := stream.Recv()
		if err != nil || resp.TTL <= 0 {
			return
		}
		select {
		case <-time.After(time.Duration(resp.TTL) * time.Second / 3):
		case <-ctx.Done():
			return
		}
	}
}

// candidate is the key of lease among those of prefix.
func candidate(prefix []byte, lease int64) []byte {
	return fmt.Appendf(append([]byte(nil), prefix...), "%x", lease)
}
