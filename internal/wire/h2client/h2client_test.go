package h2client

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	put       = NewMethod("/etcdserverpb.KV/Put")
	get       = NewMethod("/etcdserverpb.KV/Range")
	keepAlive = NewMethod("/etcdserverpb.Lease/LeaseKeepAlive")
)

// peer is a grpc-go server whose answers a test decides.
type peer struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	put   func(context.Context, *pb.PutRequest) (*pb.PutResponse, error)
	rng   func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	alive func(pb.Lease_LeaseKeepAliveServer) error
}

func (p *peer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return p.put(ctx, r)
}
func (p *peer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return p.rng(ctx, r)
}
func (p *peer) LeaseKeepAlive(s pb.Lease_LeaseKeepAliveServer) error { return p.alive(s) }

func serve(t *testing.T, p *peer, opts ...grpc.ServerOption) (*grpc.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	pb.RegisterKVServer(srv, p)
	pb.RegisterLeaseServer(srv, p)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return srv, l.Addr().String()
}

func dial(t *testing.T, addr string, opt Options) *Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Dial(ctx, "tcp", addr, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// echo answers with the number in the value as its revision.
func echo(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	resp := &pb.PutResponse{}
	resp.Header = &pb.ResponseHeader{Revision: int64(binary.BigEndian.Uint64(r.Value))}
	return resp, nil
}

// Goal: every call gets its own answer, with many in flight on one connection.
// Method: 100 streams call again and again from their OnEnd; each request has
// a number that must come back.
func TestManyCallsInFlight(t *testing.T) {
	_, addr := serve(t, &peer{put: echo})
	c := dial(t, addr, Options{Token: "secret.1"})
	const total, streams = 5000, 100
	var next, done atomic.Int64
	all := make(chan struct{})
	finish := func() {
		if done.Add(1) == streams {
			close(all)
		}
	}
	for range streams {
		var want uint64
		var req []byte
		s := &Stream{}
		start := func() {
			want = uint64(next.Add(1))
			if want > total {
				finish()
				return
			}
			m := &pb.PutRequest{Key: []byte("k"), Value: binary.BigEndian.AppendUint64(nil, want)}
			req = encode(t, m)
			if err := c.Start(s, put, req, true); err != nil {
				t.Error(err)
				finish()
			}
		}
		var got int64
		s.OnMessage = func(_ *Stream, msg []byte) {
			var r pb.PutResponse
			if err := proto.Unmarshal(msg, &r); err != nil {
				t.Error(err)
			}
			got = r.Header.Revision
		}
		s.OnEnd = func(_ *Stream, err error) {
			if err != nil || got != int64(want) {
				t.Errorf("call %d: answer %d, error %v", want, got, err)
			}
			start()
		}
		start()
	}
	c.Flush()
	<-all
}

// Goal: large messages pass, within the windows of both sides.
// Method: a server with the smallest windows gets requests of 3 MiB at once;
// the next test asks for answers that exceed our own window for a stream.
func TestLargeRequests(t *testing.T) {
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i >> 10)
	}
	p := &peer{rng: func(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
		if !bytes.Equal(r.Key, big) {
			return nil, status.Error(codes.DataLoss, "the key changed on its way")
		}
		return &pb.RangeResponse{Count: 7, Header: &pb.ResponseHeader{}, Kvs: nil, More: true}, nil
	}}
	_, addr := serve(t, p, grpc.MaxRecvMsgSize(8<<20), grpc.InitialWindowSize(65535), grpc.InitialConnWindowSize(65535))
	c := dial(t, addr, Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := c.Call(context.Background(), get, encode(t, &pb.RangeRequest{Key: big}))
			var r pb.RangeResponse
			if err != nil || proto.Unmarshal(got, &r) != nil || r.Count != 7 {
				t.Errorf("answer %v, error %v", &r, err)
			}
		})
	}
	wg.Wait()
}

func TestLargeAnswers(t *testing.T) {
	p := &peer{put: func(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
		resp := &pb.PutResponse{Header: &pb.ResponseHeader{}}
		resp.PrevKv = &mvccpb.KeyValue{Value: make([]byte, len(r.Value)<<10)}
		return resp, nil
	}}
	_, addr := serve(t, p, grpc.MaxSendMsgSize(64<<20))
	c := dial(t, addr, Options{MaxReplyBytes: 50 << 20})
	for _, kib := range []int{1, 15, 16, 17, 1000, 40 << 10} {
		got, err := c.Call(context.Background(), put, encode(t, &pb.PutRequest{Value: make([]byte, kib)}))
		var r pb.PutResponse
		if err != nil || proto.Unmarshal(got, &r) != nil || len(r.PrevKv.Value) != kib<<10 {
			t.Errorf("%d KiB: error %v", kib, err)
		}
	}
	_, err := c.Call(context.Background(), put, encode(t, &pb.PutRequest{Value: make([]byte, 51<<10)}))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a reply above the limit: %v", err)
	}
	if _, err := c.Call(context.Background(), put, encode(t, &pb.PutRequest{Value: make([]byte, 1)})); err != nil {
		t.Errorf("the connection should live on: %v", err)
	}
}

// Goal: a status arrives as it was sent, also one that needs escaping; the
// token is sent; an unknown method is Unimplemented.
func TestErrorsAndMetadata(t *testing.T) {
	_, addr := serve(t, &peer{put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return nil, status.Errorf(codes.FailedPrecondition, "100%% für %q\n", md["token"])
	}})
	c := dial(t, addr, Options{Token: "t.1"})
	for range 3 { // the second and third use the kept block
		_, err := c.Call(context.Background(), put, nil)
		if want := "100% für [\"t.1\"]\n"; status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := c.Call(context.Background(), NewMethod("/no.Such/Method"), nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v", err)
	}
}

// Goal: the server's limit on streams holds and nobody is forgotten.
func TestStreamLimit(t *testing.T) {
	var now, most atomic.Int64
	_, addr := serve(t, &peer{put: func(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer now.Add(-1)
		return echo(ctx, r)
	}}, grpc.MaxConcurrentStreams(3))
	c := dial(t, addr, Options{})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := c.Call(context.Background(), put, encode(t, &pb.PutRequest{Value: make([]byte, 8)})); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 {
		t.Errorf("%d calls at once, the server allows 3", most.Load())
	}
}

// Goal: a server that names no limit gets all calls at once.
// Method: 300 calls that end only when all of them are there.
func TestNoStreamLimit(t *testing.T) {
	const calls = 300
	var here atomic.Int64
	all := make(chan struct{})
	_, addr := serve(t, &peer{put: func(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
		if here.Add(1) == calls {
			close(all)
		}
		select {
		case <-all:
			return echo(ctx, r)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}, grpc.MaxConcurrentStreams(0))
	c := dial(t, addr, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := c.Call(ctx, put, encode(t, &pb.PutRequest{Value: make([]byte, 8)})); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Goal: a server that goes away gracefully ends what it took, and the
// connection takes no new calls.
func TestGoAway(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	srv, addr := serve(t, &peer{put: func(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
		close(entered)
		<-release
		return &pb.PutResponse{}, nil
	}})
	c := dial(t, addr, Options{})
	result := make(chan error, 1)
	go func() {
		_, err := c.Call(context.Background(), put, nil)
		result <- err
	}()
	<-entered
	stopped := make(chan struct{})
	go func() { srv.GracefulStop(); close(stopped) }()
	for { // until the GOAWAY is here
		c.mu.Lock()
		draining := c.draining
		c.mu.Unlock()
		if draining {
			break
		}
		runtime.Gosched()
	}
	if err := c.Start(&Stream{}, put, nil, true); status.Code(err) != codes.Unavailable {
		t.Errorf("a call after GOAWAY: %v", err)
	}
	close(release)
	if err := <-result; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-stopped
	<-c.finished
}

// Goal: a stream of both directions works, and ends from our side.
func TestBothDirections(t *testing.T) {
	ended := make(chan error, 2)
	_, addr := serve(t, &peer{alive: func(s pb.Lease_LeaseKeepAliveServer) error {
		for {
			r, err := s.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				ended <- err
				return err
			}
			if err := s.Send(&pb.LeaseKeepAliveResponse{ID: r.ID + 1}); err != nil {
				return err
			}
		}
	}})
	c := dial(t, addr, Options{})
	got, done := make(chan int64, 10), make(chan error, 1)
	s := &Stream{
		OnMessage: func(_ *Stream, msg []byte) {
			var r pb.LeaseKeepAliveResponse
			if err := proto.Unmarshal(msg, &r); err != nil {
				t.Error(err)
			}
			got <- r.ID
		},
		OnEnd: func(_ *Stream, err error) { done <- err },
	}
	ask := func(id int64) []byte { return encode(t, &pb.LeaseKeepAliveRequest{ID: id}) }
	if err := c.Start(s, keepAlive, ask(1), false); err != nil {
		t.Fatal(err)
	}
	c.Flush()
	if id := <-got; id != 2 {
		t.Errorf("first answer %d", id)
	}
	c.Send(s, ask(5), false)
	c.Send(s, ask(7), true)
	c.Flush()
	if a, b := <-got, <-got; a != 6 || b != 8 {
		t.Errorf("answers %d, %d", a, b)
	}
	if err := <-done; err != nil {
		t.Errorf("the end: %v", err)
	}
	if err := c.Start(s, keepAlive, ask(9), false); err != nil {
		t.Fatal(err)
	}
	c.Flush()
	<-got
	if !c.Cancel(s) || c.Cancel(s) {
		t.Error("the first Cancel ends it, the second finds nothing")
	}
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("the server should see the cancellation: %v", err)
	}
}

// Goal: Close ends every call once, a context ends one call, a port that talks
// something else is refused.
func TestEnds(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	_, addr := serve(t, &peer{put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
		select {
		case <-ctx.Done():
		case <-hold:
		}
		return nil, ctx.Err()
	}})
	c := dial(t, addr, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Call(ctx, put, nil); status.Code(err) != codes.Canceled {
		t.Errorf("cancelled call: %v", err)
	}
	var ends atomic.Int64
	for range 10 {
		s := &Stream{OnEnd: func(_ *Stream, err error) {
			if status.Code(err) == codes.Canceled {
				ends.Add(1)
			}
		}}
		if err := c.Start(s, put, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if ends.Load() != 10 {
		t.Errorf("%d ends of 10", ends.Load())
	}
	if err := c.Start(&Stream{}, put, nil, true); err == nil {
		t.Error("a call on a closed connection")
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err == nil {
			io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
			nc.Close()
		}
	}()
	if _, err := Dial(context.Background(), "tcp", l.Addr().String(), Options{}); err == nil || !strings.Contains(err.Error(), "h2client") {
		t.Errorf("an HTTP/1 server: %v", err)
	}
}

// serverBytes is what a well-behaved server might say to three calls.
func serverBytes(t testing.TB) []byte {
	var b, h strings.Builder
	fr := http2.NewFramer(&b, nil)
	enc := hpack.NewEncoder(&h)
	block := func(kv ...string) []byte {
		h.Reset()
		for i := 0; i < len(kv); i += 2 {
			if err := enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}); err != nil {
				t.Fatal(err)
			}
		}
		return []byte(h.String())
	}
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}))
	check(fr.WriteSettingsAck())
	check(fr.WritePing(false, [8]byte{1}))
	check(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(":status", "200", "content-type", "application/grpc")}))
	check(fr.WriteData(1, false, []byte{0, 0, 0, 0, 3, 'a'}))
	check(fr.WriteDataPadded(1, false, []byte{'b', 'c', 0, 0}, []byte{0}))
	check(fr.WriteData(1, false, []byte{0, 0, 0}))
	check(fr.WriteWindowUpdate(0, 100))
	check(fr.WriteWindowUpdate(3, 100))
	check(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: block("grpc-status", "0")}))
	check(fr.WriteContinuation(1, true, nil))
	check(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndStream: true, EndHeaders: true, BlockFragment: block(":status", "200", "content-type", "application/grpc", "grpc-status", "5", "grpc-message", "a%20b%")}))
	check(fr.WriteRSTStream(5, http2.ErrCodeCancel))
	check(fr.WriteGoAway(5, http2.ErrCodeNo, []byte("bye")))
	return []byte(b.String())
}

// play lets a connection with three calls read data from its server, and tells
// how each call ended.
func play(t *testing.T, data []byte) (messages []string, ends []error) {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	c := New(ours, Options{Authority: "x", MaxReplyBytes: 1 << 16})
	count := make([]int, 3)
	ends = make([]error, 3)
	started := make([]bool, 3)
	for i := range 3 {
		s := &Stream{
			OnMessage: func(_ *Stream, msg []byte) { messages = append(messages, fmt.Sprintf("%d:%s", i, msg)) },
			OnEnd:     func(_ *Stream, err error) { count[i]++; ends[i] = err },
		}
		started[i] = c.Start(s, put, []byte("hello"), true) == nil
	}
	c.Flush()
	theirs.Write(data)
	theirs.Close()
	<-c.finished
	for i := range 3 {
		if (count[i] == 1) != started[i] {
			t.Errorf("call %d ended %d times", i, count[i])
		}
	}
	return messages, ends
}

func TestConversation(t *testing.T) {
	messages, ends := play(t, serverBytes(t))
	if want := "[0:abc 0:]"; fmt.Sprint(messages) != want {
		t.Errorf("messages %v, want %s", messages, want)
	}
	if ends[0] != nil {
		t.Errorf("first call: %v", ends[0])
	}
	if s := status.Convert(ends[1]); s.Code() != codes.NotFound || s.Message() != "a b%" {
		t.Errorf("second call: %v", ends[1])
	}
	if status.Code(ends[2]) != codes.Canceled {
		t.Errorf("third call: %v", ends[2])
	}
}

// Goal: whatever a server sends, the connection ends without a panic and every
// call has ended once.
func FuzzServerBytes(f *testing.F) {
	good := serverBytes(f)
	f.Add(good)
	for i := 0; i < len(good); i += 7 {
		f.Add(good[:i])
	}
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		play(t, data)
	})
}

func BenchmarkCall(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, &peer{put: echo})
	go srv.Serve(l)
	defer srv.Stop()
	c, err := Dial(context.Background(), "tcp", l.Addr().String(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	req := encode(b, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 256)})
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range 100 {
		wg.Add(1)
		s := &Stream{}
		next := func() {
			if left.Add(-1) < 0 || c.Start(s, put, req, true) != nil {
				wg.Done()
			}
		}
		s.OnEnd = func(*Stream, error) { next() }
		next()
	}
	c.Flush()
	wg.Wait()
}
