package inproc

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stream is one call with streams; client and server are its two ends.
//
// The handler runs in a goroutine of its own and ends when it returns or, since
// every wait of a handler ends with its context, soon after the caller's
// context does. Then ended is closed, and the caller receives what is still
// queued and the result.
type stream struct {
	c      *Channel
	head   *head
	up     chan mem.BufferSlice // to the service; closed by CloseSend
	down   chan mem.BufferSlice // to the caller
	ended  chan struct{}
	result error // written before ended is closed

	closeSend sync.Once
}

// NewStream implements grpc.ClientConnInterface. As with gRPC, the stream's
// resources are freed when ctx ends or the stream has been received to its end.
func (c *Channel) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	m, ok := c.streams[method]
	if !ok {
		return nil, unknown(method)
	}
	s := &stream{
		c: c, head: newHead(method),
		up: make(chan mem.BufferSlice, streamQueue), down: make(chan mem.BufferSlice, streamQueue),
		ended: make(chan struct{}),
	}
	info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: m.desc.ClientStreams, IsServerStream: m.desc.ServerStreams}
	handler := chainStream(c.opt.Stream, info, m.desc.Handler)
	serverCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		err := handler(m.srv, &serverEnd{s, s.head.serverContext(serverCtx)})
		if err != nil {
			s.result = toStatus(err)
		}
		close(s.ended)
	}()
	return &clientEnd{s, ctx}, nil
}

func contextError(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() }

// clientEnd is what the caller holds.
type clientEnd struct {
	*stream
	ctx context.Context
}

func (s *clientEnd) Context() context.Context { return s.ctx }
func (s *clientEnd) Trailer() metadata.MD     { return s.head.trailerNow() }

// Header waits for the first message or the end.
func (s *clientEnd) Header() (metadata.MD, error) {
	select {
	case <-s.head.sent:
	case <-s.ended:
	case <-s.ctx.Done():
		return nil, contextError(s.ctx)
	}
	return s.head.headerNow(), nil
}

func (s *clientEnd) CloseSend() error {
	s.closeSend.Do(func() { close(s.up) })
	return nil
}

func (s *clientEnd) SendMsg(m any) error {
	data, err := s.c.codec.Marshal(m)
	if err != nil {
		return status.Errorf(codes.Internal, "encode a message of %s: %v", s.head.method, err)
	}
	select {
	case s.up <- data:
		return nil
	case <-s.ended:
		return io.EOF // the reason is RecvMsg's
	case <-s.ctx.Done():
		return contextError(s.ctx)
	}
}

func (s *clientEnd) RecvMsg(m any) error {
	select {
	case data := <-s.down:
		return s.take(data, m)
	case <-s.ctx.Done():
		return contextError(s.ctx)
	case <-s.ended:
	}
	select { // sent before the end
	case data := <-s.down:
		return s.take(data, m)
	default:
	}
	if s.result != nil {
		return s.result
	}
	return io.EOF
}

func (s *clientEnd) take(data mem.BufferSlice, m any) error {
	defer data.Free()
	return s.c.codec.Unmarshal(data, m)
}

// serverEnd is what the service holds.
type serverEnd struct {
	*stream
	ctx context.Context
}

func (s *serverEnd) Context() context.Context        { return s.ctx }
func (s *serverEnd) SetHeader(md metadata.MD) error  { return s.head.SetHeader(md) }
func (s *serverEnd) SendHeader(md metadata.MD) error { return s.head.SendHeader(md) }
func (s *serverEnd) SetTrailer(md metadata.MD)       { _ = s.head.SetTrailer(md) } // cannot fail

func (s *serverEnd) SendMsg(m any) error {
	data, err := s.c.opt.Codec.Marshal(m)
	if err != nil {
		return status.Errorf(codes.Internal, "encode a message of %s: %v", s.head.method, err)
	}
	_ = s.head.SendHeader(nil) // cannot fail
	select {
	case s.down <- data:
		return nil
	case <-s.ctx.Done():
		return contextError(s.ctx)
	}
}

func (s *serverEnd) RecvMsg(m any) error {
	select {
	case data, ok := <-s.up:
		if !ok {
			return io.EOF
		}
		return s.c.decode(data, m)
	case <-s.ctx.Done():
		return contextError(s.ctx)
	}
}
