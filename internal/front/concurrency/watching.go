package concurrency

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// errCompacted says that a watch could not start where it should. It does not
// leave this package.
var errCompacted = errors.New("the history to watch is compacted")

// watcher is one watch, on a stream of its own.
type watcher struct {
	ctx    context.Context // the caller's
	cancel context.CancelFunc
	stream pb.Watch_WatchClient
}

func (s store) open(ctx context.Context, r *pb.WatchCreateRequest) (*watcher, error) {
	streamCtx, cancel := context.WithCancel(ctx)
	stream, err := s.watch.Watch(streamCtx)
	if err == nil {
		err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	}
	if err != nil {
		cancel()
		return nil, outcome(ctx, err)
	}
	return &watcher{ctx, cancel, stream}, nil
}

func (w *watcher) close() { w.cancel() }

// next returns the next response; errCompacted if the watch began too early.
func (w *watcher) next() (*pb.WatchResponse, error) {
	resp, err := w.stream.Recv()
	switch {
	case err != nil && w.ctx.Err() == nil:
		return nil, errWatchLost // the server is stopping
	case err != nil:
		return nil, outcome(w.ctx, err)
	case resp.CompactRevision != 0:
		return nil, errCompacted
	case resp.Canceled:
		return nil, fmt.Errorf("%s", resp.CancelReason)
	}
	return resp, nil
}
