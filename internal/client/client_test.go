package client

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// fake is a server whose answers a test scripts. Its calls are recorded.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedAuthServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	mu    sync.Mutex
	calls []string // guarded by mu: method and token

	fail   func(call int) error // for KV calls, by number from 1
	logins int                  // guarded by mu
	watch  func(stream pb.Watch_WatchServer) error
	ttl    func(n int) int64 // of the n-th renewal
}

func (f *fake) note(ctx context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	f.calls = append(f.calls, strings.TrimSpace(name+" "+strings.Join(md.Get("token"), "")))
	if f.fail == nil {
		return nil
	}
	return f.fail(len(f.calls))
}

func (f *fake) Range(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{}, f.note(ctx, "range")
}

func (f *fake) Put(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{}, f.note(ctx, "put")
}

func (f *fake) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logins++
	return &pb.AuthenticateResponse{Token: strings.Repeat("t", f.logins)}, nil
}

func (f *fake) Watch(stream pb.Watch_WatchServer) error { return f.watch(stream) }

func (f *fake) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for n := 1; ; n++ {
		req, err := stream.Recv()
		if err != nil {
			return nil
		}
		if err := stream.Send(&pb.LeaseKeepAliveResponse{ID: req.ID, TTL: f.ttl(n)}); err != nil {
			return err
		}
	}
}

func (f *fake) seen() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, ", ")
}

func serve(t *testing.T, f *fake, network, addr string) string {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, f)
	pb.RegisterAuthServer(s, f)
	pb.RegisterWatchServer(s, f)
	pb.RegisterLeaseServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func connect(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var unavailable = status.Error(codes.Unavailable, "going away")

// Goal: a read is repeated while the server is unavailable, a write is not,
// because it may have been carried out. Each failure is one warning.
func TestOnlyReadsAreRepeated(t *testing.T) {
	f := &fake{fail: func(n int) error {
		if n <= 2 {
			return unavailable
		}
		return nil
	}}
	var log bytes.Buffer
	cfg := Config{Endpoints: []string{serve(t, f, "tcp", "127.0.0.1:0")}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	c := connect(t, cfg)
	if _, err := c.Range(t.Context(), &pb.RangeRequest{}); err != nil {
		t.Errorf("range: %v", err)
	}
	if got := f.seen(); got != "range, range, range" {
		t.Errorf("calls: %s", got)
	}
	if n := strings.Count(log.String(), "retrying of unary invoker failed"); n != 2 {
		t.Errorf("%d warnings, want 2:\n%s", n, &log)
	}

	f.calls = nil
	if _, err := c.Put(t.Context(), &pb.PutRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("put: %v", err)
	}
	if got := f.seen(); got != "put" {
		t.Errorf("calls: %s", got)
	}
}

// Goal: what the server means comes back as its own error, comparable and
// without gRPC's words; the caller's deadline as the caller's deadline.
func TestErrorsAreTranslated(t *testing.T) {
	f := &fake{fail: func(int) error { return rpctypes.ErrGRPCCompacted }}
	c := connect(t, Config{Endpoints: []string{serve(t, f, "tcp", "127.0.0.1:0")}})
	_, err := c.Range(t.Context(), &pb.RangeRequest{})
	if !errors.Is(err, rpctypes.ErrCompacted) || err.Error() != "etcdserver: mvcc: required revision has been compacted" {
		t.Errorf("got %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // nobody listens there now
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = connect(t, Config{Endpoints: []string{addr}}).Range(ctx, &pb.RangeRequest{})
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "context deadline exceeded" {
		t.Errorf("got %v", err)
	}
}

// Goal: a dead endpoint costs nothing but a try. Also checks unix sockets.
func TestDeadEndpointIsPassedOver(t *testing.T) {
	f := &fake{}
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, f, "unix", socket)
	c := connect(t, Config{Endpoints: []string{"http://127.0.0.1:1", "unix://" + socket}})
	if _, err := c.Put(t.Context(), &pb.PutRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), Config{}); !errors.Is(err, ErrNoEndpoints) {
		t.Errorf("no endpoints: %v", err)
	}
}

// Goal: name and password buy a token, and another one when it is refused; a
// fixed token is never replaced. The write that was refused for its token is
// repeated: it was not carried out.
func TestTokenIsRenewed(t *testing.T) {
	f := &fake{fail: func(n int) error {
		if n == 2 {
			return rpctypes.ErrGRPCInvalidAuthToken
		}
		return nil
	}}
	addr := serve(t, f, "tcp", "127.0.0.1:0")
	c := connect(t, Config{Endpoints: []string{addr}, Username: "u", Password: "p"})
	for range 2 {
		if _, err := c.Put(t.Context(), &pb.PutRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.seen(); got != "put t, put t, put tt" {
		t.Errorf("calls: %s", got)
	}

	f.calls = []string{"one"}
	fixed := connect(t, Config{Endpoints: []string{addr}, Token: "fixed", Username: "u", Password: "p"})
	if _, err := fixed.Put(t.Context(), &pb.PutRequest{}); !errors.Is(err, rpctypes.ErrInvalidAuthToken) {
		t.Errorf("got %v", err)
	}
	if got := f.seen(); got != "one, put fixed" {
		t.Errorf("calls: %s", got)
	}
}

func event(rev int64) *pb.WatchResponse {
	return &pb.WatchResponse{WatchId: 7, Header: &pb.ResponseHeader{Revision: rev},
		Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: rev}}}}
}

// Goal: when the stream breaks, a watch goes on after the last event it
// showed, and its reader notices nothing. When the server ends it, the reader
// gets the reason and the channel closes.
func TestWatchResumes(t *testing.T) {
	starts := make(chan int64, 8)
	stream := 0
	f := &fake{}
	f.watch = func(s pb.Watch_WatchServer) error {
		req, err := s.Recv()
		if err != nil {
			return err
		}
		starts <- req.GetCreateRequest().StartRevision
		_ = s.Send(&pb.WatchResponse{WatchId: 7, Created: true, Header: &pb.ResponseHeader{Revision: 10}})
		stream++
		switch stream {
		case 1: // breaks before anything happened
			return unavailable
		case 2:
			_ = s.Send(event(12))
			_ = s.Send(event(15))
			return unavailable
		}
		return s.Send(&pb.WatchResponse{WatchId: 7, Canceled: true, CompactRevision: 20, Header: &pb.ResponseHeader{}})
	}
	c := connect(t, Config{Endpoints: []string{serve(t, f, "tcp", "127.0.0.1:0")}})
	w := c.NewWatcher(t.Context())
	defer w.Close()
	var revs []int64
	var last WatchResponse
	for resp := range w.Watch(WatchRequest{Key: []byte("k")}) {
		for _, ev := range resp.Events {
			revs = append(revs, ev.Kv.ModRevision)
		}
		last = resp
	}
	if len(revs) != 2 || revs[0] != 12 || revs[1] != 15 {
		t.Errorf("events at %v, want 12 and 15", revs)
	}
	if !last.Canceled || !errors.Is(last.Err, rpctypes.ErrCompacted) {
		t.Errorf("last: %+v", last)
	}
	for _, want := range []int64{0, 11, 16} {
		if got := <-starts; got != want {
			t.Errorf("asked for revision %d, want %d", got, want)
		}
	}
}

// Goal: a refused watch names the reason; others of the same Watcher live on,
// and an answer to a progress request reaches them.
func TestRefusedWatchAndProgress(t *testing.T) {
	f := &fake{}
	f.watch = func(s pb.Watch_WatchServer) error {
		for id := int64(0); ; {
			req, err := s.Recv()
			if err != nil {
				return nil
			}
			switch create := req.GetCreateRequest(); {
			case create == nil:
				_ = s.Send(&pb.WatchResponse{WatchId: -1, Header: &pb.ResponseHeader{Revision: 33}})
			case string(create.Key) == "no":
				_ = s.Send(&pb.WatchResponse{WatchId: -1, Created: true, Canceled: true, CancelReason: "etcdserver: permission denied"})
			default:
				_ = s.Send(&pb.WatchResponse{WatchId: id, Created: true, Header: &pb.ResponseHeader{Revision: 5}})
				id++
			}
		}
	}
	c := connect(t, Config{Endpoints: []string{serve(t, f, "tcp", "127.0.0.1:0")}})
	w := c.NewWatcher(t.Context())
	defer w.Close()
	refused, fine := w.Watch(WatchRequest{Key: []byte("no")}), w.Watch(WatchRequest{Key: []byte("yes")})
	if resp := <-refused; !resp.Canceled || !errors.Is(resp.Err, rpctypes.ErrPermissionDenied) {
		t.Errorf("refused: %+v", resp)
	}
	if _, open := <-refused; open {
		t.Error("a refused watch is still open")
	}
	w.RequestProgress()
	if resp := <-fine; !resp.IsProgress() || resp.Header.Revision != 33 {
		t.Errorf("progress: %+v", resp)
	}
	w.Close()
	if resp, open := <-fine; open {
		t.Errorf("closing said %+v", resp)
	}
}

// Goal: renewals go on until the lease is gone, which is no error; renewing a
// lease that is gone once is one.
func TestKeepAlive(t *testing.T) {
	f := &fake{ttl: func(n int) int64 { return int64(2 - n) }} // 1, then 0
	c := connect(t, Config{Endpoints: []string{serve(t, f, "tcp", "127.0.0.1:0")}})
	renewals := 0
	if err := c.KeepAlive(t.Context(), 5, func(*pb.LeaseKeepAliveResponse) { renewals++ }); err != nil || renewals != 1 {
		t.Errorf("%d renewals, %v", renewals, err)
	}
	f.ttl = func(int) int64 { return 0 }
	if _, err := c.KeepAliveOnce(t.Context(), 5); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("got %v", err)
	}
}
