package rpc

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/watch"
	"github.com/steledb/stele/internal/member/watching"
)

// WatchSource says what the header of every watch response repeats.
type WatchSource interface {
	Header() (clusterID, memberID, term uint64)
}

// WatchAuth decides who may watch what.
type WatchAuth interface {
	// PermitWatch returns nil or the status error whose text, as Error gives
	// it, becomes the reason of the refusal.
	PermitWatch(ctx context.Context, span keys.Span) error
}

// WatchObserver is told what happens on watch streams, for metrics. Any field
// may be nil.
type WatchObserver struct {
	// Failed counts streams that broke; kind is "send" or "receive".
	Failed func(kind string)
	// SentEvents, SentControl and SentProgress are told how long sending one
	// response took.
	SentEvents   func(events int, took time.Duration)
	SentControl  func(took time.Duration)
	SentProgress func(took time.Duration)
}

// times reports whether anyone wants to know how long sending takes.
func (o *WatchObserver) times() bool {
	return o.SentEvents != nil || o.SentControl != nil || o.SentProgress != nil
}

// WatchOptions are the settings of the Watch service.
type WatchOptions struct {
	// Auth is asked on each create; nil permits everything.
	Auth WatchAuth
	// ProgressInterval is the pause between progress notifications of an idle
	// watcher; 0 means WatchProgressInterval. Up to a tenth is added to it, so
	// that streams opened together do not answer together.
	ProgressInterval time.Duration
	// FragmentBytes is the size from which a response is split for watchers
	// that accept fragments: the largest request and WatchFragmentOverhead.
	// 0 means that of the default --max-request-bytes.
	FragmentBytes int
	Observe       WatchObserver
}

// Defaults of etcd.
const (
	WatchProgressInterval = 10 * time.Minute
	// WatchFragmentOverhead is what etcd adds to --max-request-bytes for the
	// size of a response.
	WatchFragmentOverhead = 512 << 10
	watchFragmentBytes    = 3<<19 + WatchFragmentOverhead
)

// WatchServer serves the Watch service from a member's watch hub.
//
// Each stream has two goroutines: one reads requests and hands them to the
// hub, the other (the handler's own) takes the hub's output and sends it. What
// waits between them is in the hub's queues and bounded there; the reader of
// requests pauses while its answers pile up.
type WatchServer struct {
	pb.UnimplementedWatchServer

	hub    *watching.Hub
	source WatchSource
	opt    WatchOptions
}

var _ pb.WatchServer = (*WatchServer)(nil)

// NewWatchServer returns the service over hub.
func NewWatchServer(hub *watching.Hub, source WatchSource, opt WatchOptions) *WatchServer {
	if opt.ProgressInterval <= 0 {
		opt.ProgressInterval = WatchProgressInterval
	}
	if opt.FragmentBytes <= 0 {
		opt.FragmentBytes = watchFragmentBytes
	}
	return &WatchServer{hub: hub, source: source, opt: opt}
}

// Watch serves one stream until the client cancels it, it breaks or the hub
// stops. That the client has closed its sending half does not end it.
func (ws *WatchServer) Watch(stream pb.Watch_WatchServer) error {
	s := &watchStream{
		ws:     ws,
		stream: stream,
		hub:    ws.hub.Open(),
		enc:    newWatchEncoder(ws, stream),
	}
	defer s.hub.Close()
	// The reader ends when the transport does, which is right after this
	// function returns; until then Recv cannot be interrupted. What it may
	// still do to the closed hub stream has no effect.
	broken := make(chan error, 1)
	go func() {
		if err := s.receive(); err != nil {
			broken <- err
		}
	}()
	return s.send(broken)
}

// watchStream is one client stream.
type watchStream struct {
	ws     *WatchServer
	stream pb.Watch_WatchServer
	hub    *watching.Stream
	enc    watchEncoder // owned by send
}

// send moves output from the hub to the client until something ends it.
func (s *watchStream) send(broken <-chan error) error {
	ctx := s.stream.Context()
	progress := time.NewTicker(s.ws.progressInterval())
	defer progress.Stop()
	for {
		select {
		case <-s.hub.Ready():
			if err := s.sendAll(ctx); err != nil {
				return watchEnd(ctx, err)
			}
		case <-progress.C:
			s.hub.Notify()
		case err := <-broken:
			return watchEnd(ctx, err)
		case <-ctx.Done():
			return watchEnd(ctx, ctx.Err())
		case <-s.ws.hub.Done():
			return rpctypes.ErrGRPCStopped
		}
	}
}

func (ws *WatchServer) progressInterval() time.Duration {
	return ws.opt.ProgressInterval + rand.N(ws.opt.ProgressInterval/10+1)
}

// sendAll sends what the hub has for the stream now.
func (s *watchStream) sendAll(ctx context.Context) error {
	for {
		out, more := s.hub.Take()
		s.enc.begin()
		for i := range out {
			if err := s.sendOne(&out[i]); err != nil {
				s.ws.failed("send", err)
				return err
			}
			out[i].Events = nil // sent; let go of them before the rest is
		}
		if !more || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (s *watchStream) sendOne(r *watch.Response) error {
	if !s.ws.opt.Observe.times() {
		return s.enc.each(r, s.stream.Send)
	}
	began := time.Now()
	if err := s.enc.each(r, s.stream.Send); err != nil {
		return err
	}
	s.ws.observe(r, len(r.Events), time.Since(began))
	return nil
}

// receive hands requests to the hub. It returns nil when the client has no
// more of them.
func (s *watchStream) receive() error {
	ctx := s.stream.Context()
	for {
		req, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.ws.failed("receive", err)
			return err
		}
		if err := s.hub.WaitRoom(ctx); err != nil {
			return err
		}
		s.handle(ctx, req)
	}
}

// handle does what one request asks; an empty one asks nothing.
func (s *watchStream) handle(ctx context.Context, req *pb.WatchRequest) {
	switch r := req.GetRequestUnion().(type) {
	case *pb.WatchRequest_CreateRequest:
		s.create(ctx, r.CreateRequest)
	case *pb.WatchRequest_CancelRequest:
		if r.CancelRequest != nil {
			s.hub.Cancel(r.CancelRequest.GetWatchId())
		}
	case *pb.WatchRequest_ProgressRequest:
		if r.ProgressRequest != nil {
			s.hub.Progress()
		}
	}
}

func (s *watchStream) create(ctx context.Context, c *pb.WatchCreateRequest) {
	if c == nil {
		return
	}
	r := watchRequest(c)
	if auth := s.ws.opt.Auth; auth != nil {
		if err := auth.PermitWatch(ctx, r.Span); err != nil {
			s.hub.Refuse(err.Error())
			return
		}
	}
	s.hub.Create(r)
}

// watchRequest reads a create request. Filters that are not known are ignored.
func watchRequest(c *pb.WatchCreateRequest) watch.Request {
	r := watch.Request{
		Span:           keys.Span{Key: c.GetKey(), End: c.GetRangeEnd()},
		Start:          c.GetStartRevision(),
		ID:             c.GetWatchId(),
		PrevKV:         c.GetPrevKv(),
		Fragment:       c.GetFragment(),
		ProgressNotify: c.GetProgressNotify(),
	}
	if len(r.Span.Key) == 0 {
		r.Span.Key = []byte{0} // before every key
	}
	for _, f := range c.GetFilters() {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			r.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			r.NoDelete = true
		}
	}
	return r
}

// watchEnd is the status of a stream that ends with err. A client that goes
// away gets "watch canceled"; a cause that the server gave when it cancelled
// the stream, having no leader for example, goes before that.
func watchEnd(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if _, ok := status.FromError(cause); ok {
			return cause
		}
	}
	if errors.Is(err, context.Canceled) {
		return rpctypes.ErrGRPCWatchCanceled
	}
	return toStatus(err)
}

// failed counts a broken stream, unless the client or the server ended it.
func (ws *WatchServer) failed(kind string, err error) {
	if ws.opt.Observe.Failed != nil && !watchEnded(err) {
		ws.opt.Observe.Failed(kind)
	}
}

func (ws *WatchServer) observe(r *watch.Response, events int, took time.Duration) {
	o := &ws.opt.Observe
	switch {
	case events > 0:
		if o.SentEvents != nil {
			o.SentEvents(events, took)
		}
	case r.Created || r.Canceled:
		if o.SentControl != nil {
			o.SentControl(took)
		}
	case o.SentProgress != nil:
		o.SentProgress(took)
	}
}
