// Package inproc carries gRPC calls to services of the same process.
//
// A Channel is both ends of a connection: services register on it as on a
// server, clients call through it as through a connection. The JSON gateway and
// the concurrency services use it to call the member's own services without a
// socket, HTTP/2 or flow control between them.
//
// What a caller can rely on is what gRPC promises: interceptors run, metadata
// of the call arrives as incoming metadata, errors come back as statuses,
// messages are encoded and decoded (the two sides share no memory), a stream
// ends with its context. What travels beyond that is the caller's context: its
// values are seen by the service, as with a plain function call.
//
// In each direction of a stream at most streamQueue messages wait; who sends
// more waits too.
package inproc

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// streamQueue is how many messages may wait in one direction of a stream. A
// message is at most as large as a request (to the service) or a watch response
// (from it), so a stream that nobody reads holds a few MiB at worst.
const streamQueue = 4

// Options say what stands between callers and services.
type Options struct {
	Unary  []grpc.UnaryServerInterceptor  // the first is the outermost
	Stream []grpc.StreamServerInterceptor // likewise
	// Codec is the services' side of encoding; nil is gRPC's own.
	Codec encoding.CodecV2
	// RequestBytesMax is the largest request; 0 is no limit.
	RequestBytesMax int
}

// Channel connects clients to services of the same process. Register first,
// call then; calls may be concurrent.
type Channel struct {
	opt     Options
	codec   encoding.CodecV2 // the client's side
	unary   map[string]unaryMethod
	streams map[string]streamMethod
}

type unaryMethod struct {
	srv  any
	desc grpc.MethodDesc
}

type streamMethod struct {
	srv  any
	desc grpc.StreamDesc
}

var (
	_ grpc.ServiceRegistrar    = (*Channel)(nil)
	_ grpc.ClientConnInterface = (*Channel)(nil)
)

// New returns a channel without services.
func New(opt Options) *Channel {
	c := &Channel{opt: opt, codec: encoding.GetCodecV2(proto.Name), unary: map[string]unaryMethod{}, streams: map[string]streamMethod{}}
	if c.opt.Codec == nil {
		c.opt.Codec = c.codec
	}
	return c
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *Channel) RegisterService(desc *grpc.ServiceDesc, srv any) {
	for _, m := range desc.Methods {
		c.unary["/"+desc.ServiceName+"/"+m.MethodName] = unaryMethod{srv, m}
	}
	for _, m := range desc.Streams {
		c.streams["/"+desc.ServiceName+"/"+m.StreamName] = streamMethod{srv, m}
	}
}

// Invoke implements grpc.ClientConnInterface.
func (c *Channel) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	m, ok := c.unary[method]
	if !ok {
		return unknown(method)
	}
	request, err := c.codec.Marshal(args)
	if err != nil {
		return status.Errorf(codes.Internal, "encode the request of %s: %v", method, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	head := newHead(method)
	resp, err := m.desc.Handler(m.srv, head.serverContext(ctx), func(v any) error { return c.decode(request, v) }, chainUnary(c.opt.Unary))
	if err != nil {
		head.report(opts, false)
		return toStatus(err)
	}
	head.report(opts, true)
	answer, err := c.opt.Codec.Marshal(resp)
	if err != nil {
		return status.Errorf(codes.Internal, "encode the answer of %s: %v", method, err)
	}
	defer answer.Free()
	return c.codec.Unmarshal(answer, reply)
}

// decode gives a request to the service's side.
func (c *Channel) decode(data mem.BufferSlice, v any) error {
	defer data.Free()
	if n := data.Len(); c.opt.RequestBytesMax > 0 && n > c.opt.RequestBytesMax {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", n, c.opt.RequestBytesMax)
	}
	return c.opt.Codec.Unmarshal(data, v)
}

func unknown(method string) error {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return status.Errorf(codes.Unimplemented, "unknown method %s for service %s", name, service)
}

// toStatus is what a server makes of a service's error.
func toStatus(err error) error {
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.FromContextError(err).Err()
}

// here is the address of callers.
type here struct{}

func (here) Network() string { return "inproc" }
func (here) String() string  { return "@" }

var self net.Addr = here{}

// incoming turns a caller's context into a service's.
func incoming(ctx context.Context) context.Context {
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: self})
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(metadata.NewIncomingContext(ctx, md), nil)
	}
	return ctx
}

func chainUnary(all []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if len(all) == 0 {
		return nil
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		next := handler
		for i := len(all) - 1; i >= 0; i-- {
			around, inner := all[i], next
			next = func(ctx context.Context, req any) (any, error) { return around(ctx, req, info, inner) }
		}
		return next(ctx, req)
	}
}

func chainStream(all []grpc.StreamServerInterceptor, info *grpc.StreamServerInfo, handler grpc.StreamHandler) grpc.StreamHandler {
	for i := len(all) - 1; i >= 0; i-- {
		around, inner := all[i], handler
		handler = func(srv any, ss grpc.ServerStream) error { return around(srv, ss, info, inner) }
	}
	return handler
}
