package rpc

import (
	"context"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/steledb/stele/internal/base/keys"
)

// Gate decides at the door who may call what.
type Gate interface {
	// Admit says whether the caller of ctx may use a method at all.
	Admit(ctx context.Context, method string) error
	// MayWatch says whether the caller of ctx may watch a span.
	MayWatch(ctx context.Context, span keys.Span) error
}

// Metadata keys that a token may come under.
const (
	tokenMetadata = "token"
	authMetadata  = "authorization"

	// bearer is what HTTP's users put before a token.
	bearer = "Bearer "
)

// tokenOf returns the token a request came with.
func tokenOf(ctx context.Context) (string, bool) {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return "", false
	}
	for _, key := range []string{tokenMetadata, authMetadata} {
		if v := md.Get(key); len(v) > 0 {
			return strings.TrimPrefix(v[0], bearer), true
		}
	}
	return "", false
}

// UnaryGate is the interceptor that identifies the caller of a unary method.
// with notes the token in the context.
func UnaryGate(g Gate, with func(ctx context.Context, token string) context.Context) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if token, ok := tokenOf(ctx); ok {
			ctx = with(ctx, token)
		}
		if err := g.Admit(ctx, info.FullMethod); err != nil {
			return nil, toStatus(err)
		}
		return handler(ctx, req)
	}
}

// StreamGate is UnaryGate for streams. A watch stream is opened by anybody:
// each watcher on it is asked for by itself, and the refusal is an answer on the
// stream.
func StreamGate(g Gate, with func(ctx context.Context, token string) context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if token, ok := tokenOf(stream.Context()); ok {
			stream = &withContext{stream, with(stream.Context(), token)}
		}
		if info.FullMethod == pb.Watch_Watch_FullMethodName {
			return handler(srv, stream)
		}
		if err := g.Admit(stream.Context(), info.FullMethod); err != nil {
			return toStatus(err)
		}
		return handler(srv, stream)
	}
}

// withContext is a stream with another context.
type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *withContext) Context() context.Context { return s.ctx }

// WatchGate is the Watch service's way to ask the gate.
type WatchGate struct{ Gate }

// PermitWatch implements WatchAuth.
func (g WatchGate) PermitWatch(ctx context.Context, span keys.Span) error {
	return toStatus(g.MayWatch(ctx, span))
}
