package concurrency

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/base/concurrencypb"
)

// Observe sends who leads and with which value, from the present on, until the
// caller ends it. A leader that leads very shortly may be left out.
func (s *electionService) Observe(r *concurrencypb.LeaderRequest, out grpc.ServerStreamingServer[concurrencypb.LeaderResponse]) error {
	ctx, prefix := out.Context(), prefixOf(r.Name)
	for {
		err := s.observeOne(ctx, out, prefix)
		switch {
		case ctx.Err() != nil:
			return status.FromContextError(ctx.Err()).Err()
		case err != nil && !errors.Is(err, errCompacted):
			return errObserveEnded
		}
		// The leader is gone, or how it came and went is compacted: look again.
	}
}

// observeOne sends the next leader and follows it to its end.
func (s *electionService) observeOne(ctx context.Context, out sender, prefix []byte) error {
	resp, err := s.get(ctx, first(prefix))
	if err != nil {
		return err
	}
	leader := &concurrencypb.LeaderResponse{Header: resp.Header}
	if len(resp.Kvs) > 0 {
		leader.Kv = resp.Kvs[0]
	} else if leader, err = s.awaitLeader(ctx, prefix, resp.Header.Revision); err != nil {
		return err
	}
	if err := out.Send(leader); err != nil {
		return err
	}
	return s.follow(out, leader)
}
