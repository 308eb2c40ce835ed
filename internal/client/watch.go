package client

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// watchBuffer is how many responses a watch keeps for its reader. Beyond it
// the whole Watcher stops reading, and gRPC's flow control stops the server.
const watchBuffer = 16

// broadcastID is the watch id of an answer meant for every watch of a stream,
// and of a watch that could not be created.
const broadcastID = -1

// WatchRequest says what to watch.
type WatchRequest struct {
	Key, RangeEnd  []byte
	Rev            int64 // first revision to see; 0: from now on
	PrevKV         bool
	ProgressNotify bool // periodic responses without events
}

// WatchResponse is what a watch reports: events, progress (neither events nor
// Canceled), or its end.
type WatchResponse struct {
	Header          *pb.ResponseHeader
	Events          []*mvccpb.Event
	CompactRevision int64 // set when the watch ended because it wanted history that is gone
	Canceled        bool  // the last response of its watch
	Err             error // why, if Canceled
}

// IsProgress reports whether r only tells how far the watch has come.
func (r WatchResponse) IsProgress() bool {
	return len(r.Events) == 0 && !r.Canceled && r.CompactRevision == 0 && r.Header.GetRevision() != 0
}

// Watcher runs any number of watches over one stream and resumes all of them,
// each after the last revision it saw, when the stream breaks.
//
// One goroutine, run, owns the watches; a second one per stream only receives.
// Creations go out one at a time, because a refused one answers without an id
// and only its place in the order tells which it was.
type Watcher struct {
	c      *Client
	cancel context.CancelFunc
	done   chan struct{}

	requests chan *watch
	progress chan struct{}
}

// watch is one watch of a Watcher; its fields are owned by run.
type watch struct {
	req  WatchRequest
	next int64 // revision to resume from; req.Rev until something was seen
	out  chan WatchResponse
}

// NewWatcher starts a Watcher that ends with ctx or Close.
func (c *Client) NewWatcher(ctx context.Context) *Watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{
		c: c, cancel: cancel, done: make(chan struct{}),
		requests: make(chan *watch), progress: make(chan struct{}),
	}
	r := &watchRun{w: w, ctx: ctx, byID: map[int64]*watch{}}
	go r.loop()
	return w
}

// Watch adds a watch. Its channel is closed after a Canceled response, or
// when the Watcher ends. The channel must be read.
func (w *Watcher) Watch(req WatchRequest) <-chan WatchResponse {
	one := &watch{req: req, next: req.Rev, out: make(chan WatchResponse, watchBuffer)}
	select {
	case w.requests <- one:
	case <-w.done:
		close(one.out)
	}
	return one.out
}

// RequestProgress asks the server for its revision; the answer comes to every
// watch once each of them has caught up with it.
func (w *Watcher) RequestProgress() {
	select {
	case w.progress <- struct{}{}:
	case <-w.done:
	}
}

// Close ends all watches and waits for the Watcher's goroutines.
func (w *Watcher) Close() {
	w.cancel()
	<-w.done
}

// watchRun is the state of a Watcher's goroutine.
type watchRun struct {
	w   *Watcher
	ctx context.Context

	waiting  []*watch         // to be created, in this order
	creating *watch           // sent, not answered yet; nil if none
	byID     map[int64]*watch // created on the current stream
	asked    int              // progress requests not sent yet
}

// loop opens streams until the Watcher ends or a stream ends for good.
func (r *watchRun) loop() {
	defer close(r.w.done)
	defer r.closeAll()
	for {
		if !r.awaitWork() {
			return
		}
		err := r.serve()
		if r.ctx.Err() != nil {
			return // whoever closed the Watcher knows why
		}
		if isHalt(r.ctx, err) {
			r.failAll(callError(r.ctx, err))
			return
		}
		r.resume()
		if pause(r.ctx, reopenPause) != nil {
			return
		}
	}
}

// awaitWork keeps an idle Watcher from holding a stream open.
func (r *watchRun) awaitWork() bool {
	for len(r.waiting) == 0 {
		select {
		case one := <-r.w.requests:
			r.waiting = append(r.waiting, one)
		case <-r.w.progress: // nobody to report to
		case <-r.ctx.Done():
			return false
		}
	}
	return true
}

// serve runs one stream to its end and returns why it ended.
func (r *watchRun) serve() error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	stream, err := r.w.c.WatchClient.Watch(RequireLeader(ctx))
	if err != nil {
		return err
	}
	received, ended := receive(ctx, stream)
	for {
		if err := r.sendNext(stream); err != nil {
			return <-ended // Recv knows the reason
		}
		select {
		case one := <-r.w.requests:
			r.waiting = append(r.waiting, one)
		case <-r.w.progress:
			r.asked++
		case resp := <-received:
			r.handle(resp)
		case err := <-ended:
			return err
		}
	}
}

// receive pumps a stream into a channel until the stream ends.
func receive(ctx context.Context, stream pb.Watch_WatchClient) (<-chan *pb.WatchResponse, <-chan error) {
	out, ended := make(chan *pb.WatchResponse), make(chan error, 1)
	go func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case out <- resp:
			case <-ctx.Done():
				ended <- ctx.Err()
				return
			}
		}
	}()
	return out, ended
}

// sendNext sends what is due: one creation at a time, then progress requests.
func (r *watchRun) sendNext(stream pb.Watch_WatchClient) error {
	if r.creating != nil {
		return nil
	}
	if len(r.waiting) > 0 {
		r.creating, r.waiting = r.waiting[0], r.waiting[1:]
		return stream.Send(createRequest(r.creating))
	}
	for ; r.asked > 0; r.asked-- {
		req := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		if err := stream.Send(req); err != nil {
			return err
		}
	}
	return nil
}

func createRequest(one *watch) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: one.req.Key, RangeEnd: one.req.RangeEnd, StartRevision: one.next,
		PrevKv: one.req.PrevKV, ProgressNotify: one.req.ProgressNotify,
	}}}
}

func (r *watchRun) handle(resp *pb.WatchResponse) {
	switch {
	case resp.Created:
		r.handleCreated(resp)
	case resp.WatchId == broadcastID:
		for _, one := range r.byID {
			r.deliver(one, resp)
		}
	case r.byID[resp.WatchId] != nil:
		r.deliver(r.byID[resp.WatchId], resp)
		if resp.Canceled {
			close(r.byID[resp.WatchId].out)
			delete(r.byID, resp.WatchId)
		}
	}
}

func (r *watchRun) handleCreated(resp *pb.WatchResponse) {
	one := r.creating
	if one == nil {
		return
	}
	r.creating = nil
	if resp.WatchId == broadcastID || resp.Canceled {
		r.emit(one, WatchResponse{Canceled: true, Err: rpctypes.Error(errors.New(resp.CancelReason))})
		close(one.out)
		return
	}
	if one.next == 0 {
		one.next = resp.Header.GetRevision() + 1
	}
	r.byID[resp.WatchId] = one
}

func (r *watchRun) deliver(one *watch, resp *pb.WatchResponse) {
	switch {
	case len(resp.Events) > 0:
		one.next = resp.Events[len(resp.Events)-1].Kv.ModRevision + 1
	case !resp.Canceled && resp.Header.GetRevision() >= one.next:
		one.next = resp.Header.GetRevision() + 1
	}
	r.emit(one, WatchResponse{
		Header: resp.Header, Events: resp.Events, CompactRevision: resp.CompactRevision,
		Canceled: resp.Canceled, Err: cancelError(resp),
	})
}

func cancelError(resp *pb.WatchResponse) error {
	switch {
	case !resp.Canceled:
		return nil
	case resp.CompactRevision != 0:
		return rpctypes.ErrCompacted
	case resp.CancelReason != "":
		return rpctypes.Error(status.Error(codes.FailedPrecondition, resp.CancelReason))
	}
	return rpctypes.ErrFutureRev
}

func (r *watchRun) emit(one *watch, resp WatchResponse) {
	select {
	case one.out <- resp:
	case <-r.ctx.Done():
	}
}

// all lists the watches that are not closed, each once.
func (r *watchRun) all() []*watch {
	var list []*watch
	if r.creating != nil {
		list = append(list, r.creating)
	}
	for _, one := range r.byID {
		list = append(list, one)
	}
	return append(list, r.waiting...)
}

// resume queues every watch for the next stream.
func (r *watchRun) resume() {
	r.waiting = r.all()
	r.creating, r.asked = nil, 0
	clear(r.byID)
}

func (r *watchRun) failAll(err error) {
	for _, one := range r.all() {
		r.emit(one, WatchResponse{Canceled: true, Err: err})
	}
}

func (r *watchRun) closeAll() {
	for _, one := range r.all() {
		close(one.out)
	}
}
