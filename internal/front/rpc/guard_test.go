package rpc

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func newGuard() (*Guard, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return &Guard{Log: slog.New(slog.NewTextHandler(out, nil)), WarnAfter: time.Hour}, out
}

// Goal: a request that makes its handler panic fails alone, and the log says
// where. Method: handlers that panic, under both kinds of guard.
func TestPanicFailsOneRequest(t *testing.T) {
	g, log := newGuard()
	bad := func(context.Context, any) (any, error) { panic("no such thing") }
	_, err := g.Unary(context.Background(), &pb.RangeRequest{}, &grpc.UnaryServerInfo{FullMethod: "/etcdserverpb.KV/Range"}, bad)
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "no such thing") {
		t.Errorf("the client hears %v", err)
	}
	for _, want := range []string{"no such thing", "/etcdserverpb.KV/Range", "guard_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not name %q", want)
		}
	}
	err = g.Stream(nil, nil, &grpc.StreamServerInfo{FullMethod: "/etcdserverpb.Watch/Watch"}, func(any, grpc.ServerStream) error { panic("again") })
	if status.Code(err) != codes.Internal {
		t.Errorf("the client of a stream hears %v", err)
	}
}

// Goal: a slow request is told of, with sizes and without values; a quick one
// is not.
func TestSlowRequestIsToldOf(t *testing.T) {
	g, log := newGuard()
	put := &pb.PutRequest{Key: []byte("name"), Value: []byte("secret")}
	call := func() {
		t.Helper()
		_, err := g.Unary(context.Background(), put, &grpc.UnaryServerInfo{FullMethod: "/etcdserverpb.KV/Put"},
			func(context.Context, any) (any, error) { return &pb.PutResponse{}, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	call()
	if log.Len() > 0 {
		t.Errorf("a quick request was told of: %s", log)
	}
	g.WarnAfter = 1 // nothing is quicker
	call()
	for _, want := range []string{"level=WARN", `msg="request stats"`, `"response type"=/etcdserverpb.KV/Put`, `"request count"=1`, `"request size"=14`, "value_size:6"} {
		if !strings.Contains(strings.ReplaceAll(log.String(), "  ", " "), want) {
			t.Errorf("no %s in %s", want, log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log shows the value: %s", log)
	}
}
