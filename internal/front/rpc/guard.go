package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Guard stands around every handler: a request that makes one panic fails
// alone, and a unary request that takes long is told of.
//
// It does not make a panic harmless: whatever the handler had half done stays
// half done, so handlers release what they hold by defer. What changes the
// replicated state does not run in handlers; a panic there ends the process.
type Guard struct {
	Log *slog.Logger
	// WarnAfter is the time after which a unary request counts as slow; 0:
	// none does.
	WarnAfter time.Duration
}

// epoch is where this package counts time from: the monotonic clock alone is
// read twice as fast as the date.
var epoch = time.Now()

// errPanic is what the client of a failed request hears. The cause is in the
// log: it may tell about others' data.
var errPanic = status.Error(codes.Internal, "etcdserver: the request failed inside the server, see its log")

// Unary guards calls with one request and one response.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer g.recover(info.FullMethod, &err)
	begun := time.Since(epoch)
	resp, err = next(ctx, req)
	g.judge(ctx, info.FullMethod, req, resp, begun)
	return resp, err
}

// Stream guards calls with streams.
func (g *Guard) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer g.recover(info.FullMethod, &err)
	return next(srv, stream)
}

func (g *Guard) recover(method string, err *error) {
	cause := recover()
	if cause == nil {
		return
	}
	g.Log.Error("a request made its handler panic", "method", method, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	*err = errPanic
}

// judge writes the line about a request: a warning for a slow one, otherwise
// for those who debug.
func (g *Guard) judge(ctx context.Context, method string, req, resp any, begun time.Duration) {
	took, level := time.Since(epoch)-begun, slog.LevelDebug
	if g.WarnAfter > 0 && took > g.WarnAfter {
		level = slog.LevelWarn
	}
	if !g.Log.Enabled(ctx, level) {
		return
	}
	remote := "No remote client info."
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	s := statsOf(req, resp)
	g.Log.Log(ctx, level, "request stats",
		"start time", epoch.Add(begun), "time spent", took, "remote", remote, "response type", method,
		"request count", s.reqCount, "request size", s.reqSize,
		"response count", s.respCount, "response size", s.respSize, "request content", s.content)
}

// stats are what a request was about; -1 where etcd does not count.
type stats struct {
	reqCount, reqSize, respCount, respSize int64
	content                                string // without values
}

func statsOf(req, resp any) stats {
	s := stats{-1, -1, -1, -1, ""}
	switch r := req.(type) {
	case *pb.RangeRequest:
		s = stats{0, size(req), 0, size(resp), r.String()}
		if resp, ok := resp.(*pb.RangeResponse); ok && resp != nil {
			s.respCount = resp.Count
		}
	case *pb.PutRequest:
		s = stats{1, size(req), 0, size(resp), pb.NewLoggablePutRequest(r).String()}
	case *pb.DeleteRangeRequest:
		s = stats{0, size(req), 0, size(resp), r.String()}
		if resp, ok := resp.(*pb.DeleteRangeResponse); ok && resp != nil {
			s.respCount = resp.Deleted
		}
	case *pb.TxnRequest:
		s = stats{0, size(req), 0, size(resp), pb.NewLoggableTxnRequest(r).String()}
		if resp, ok := resp.(*pb.TxnResponse); ok && resp != nil {
			taken := r.Success
			if !resp.Succeeded {
				taken = r.Failure
			}
			s.reqCount, s.reqSize = int64(len(taken)), 0
			for _, op := range taken {
				s.reqSize += size(op)
			}
		}
	}
	return s
}

func size(m any) int64 {
	if p, ok := m.(proto.Message); ok {
		return int64(proto.Size(p))
	}
	return 0
}
