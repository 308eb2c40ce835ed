package rpc

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/watch"
	"github.com/steledb/stele/internal/member/watching"
)

// watchRig is a member reduced to a store and a hub, served over grpc.
type watchRig struct {
	t     testing.TB
	store *mvcc.Store
	hub   *watching.Hub
	conn  *grpc.ClientConn
}

func (*watchRig) Header() (clusterID, memberID, term uint64) { return 11, 22, 3 }

func newWatchRig(t testing.TB, opt WatchOptions, intercept ...grpc.StreamServerInterceptor) *watchRig {
	store, err := mvcc.Open(nil, mvcc.Options{FinishedCompact: mvcc.Never})
	if err != nil {
		t.Fatal(err)
	}
	g := &watchRig{t: t, store: store}
	g.hub = watching.Start(store.Rev(), store.CompactRev(), func() watching.History { return store.View() }, watching.Options{})
	server := grpc.NewServer(grpc.ChainStreamInterceptor(intercept...))
	pb.RegisterWatchServer(server, NewWatchServer(g.hub, g, opt))
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	g.conn, err = grpc.NewClient("passthrough:///watch",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.conn.Close()
		g.hub.Close()
		server.Stop()
		<-served
	})
	return g
}

func (g *watchRig) put(key, value string) {
	g.txn(func(txn *mvcc.Txn) { txn.Put([]byte(key), []byte(value), 0) })
}

func (g *watchRig) txn(change func(*mvcc.Txn)) {
	txn := g.store.Begin()
	change(txn)
	changes := txn.Commit()
	g.store.Publish()
	g.hub.Publish(g.store.Rev(), changes)
}

func (g *watchRig) compact(rev int64) {
	if err := g.store.Compact(rev); err != nil {
		g.t.Fatal(err)
	}
	g.store.Publish()
	g.hub.Compacted(rev)
}

// watchTalk is a conversation on one stream.
type watchTalk struct {
	t      testing.TB
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
}

func (g *watchRig) talk() *watchTalk {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	g.t.Cleanup(cancel)
	stream, err := pb.NewWatchClient(g.conn).Watch(ctx)
	if err != nil {
		g.t.Fatal(err)
	}
	return &watchTalk{t: g.t, stream: stream, cancel: cancel}
}

func (c *watchTalk) send(r *pb.WatchRequest) {
	c.t.Helper()
	if err := c.stream.Send(r); err != nil {
		c.t.Fatal(err)
	}
}

func (c *watchTalk) create(r *pb.WatchCreateRequest) {
	c.t.Helper()
	c.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
}

func (c *watchTalk) cancelID(id int64) {
	c.t.Helper()
	c.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (c *watchTalk) progress() {
	c.t.Helper()
	c.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

// wants receives one response for each text and compares.
func (c *watchTalk) wants(why string, texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		r, err := c.stream.Recv()
		if err != nil {
			c.t.Fatalf("%s: want %q, got %v", why, text, err)
		}
		if got := watchText(r); got != text {
			c.t.Fatalf("%s:\n want %s\n got  %s", why, text, got)
		}
	}
}

// quiet shows that nothing is on the way: what is asked for now comes next.
func (c *watchTalk) quiet(why string, rev int64) {
	c.t.Helper()
	c.progress()
	c.wants(why, fmt.Sprintf("-1 @%d", rev))
}

func (c *watchTalk) ends(why string, code codes.Code, msg string) {
	c.t.Helper()
	_, err := c.stream.Recv()
	if s := status.Convert(err); s.Code() != code || !strings.Contains(s.Message(), msg) {
		c.t.Fatalf("%s: want %s %q, got %v", why, code, msg, err)
	}
}

func watchText(r *pb.WatchResponse) string {
	var b strings.Builder
	fmt.Fprint(&b, r.WatchId)
	for _, f := range []struct {
		name string
		set  bool
	}{{"created", r.Created}, {"canceled", r.Canceled}, {"fragment", r.Fragment}} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	if r.CancelReason != "" {
		fmt.Fprintf(&b, " %q", r.CancelReason)
	}
	if r.CompactRevision != 0 {
		fmt.Fprintf(&b, " compacted=%d", r.CompactRevision)
	}
	for _, e := range r.Events {
		value := string(e.Kv.Value)
		if len(value) > 8 {
			value = fmt.Sprintf("(%d bytes)", len(value))
		}
		fmt.Fprintf(&b, " %s %s=%s", e.Type, e.Kv.Key, value)
		if e.PrevKv != nil {
			fmt.Fprintf(&b, "[%d]", e.PrevKv.ModRevision)
		}
	}
	fmt.Fprintf(&b, " @%d", r.Header.GetRevision())
	if h := r.Header; h.GetClusterId() != 11 || h.GetMemberId() != 22 || h.GetRaftTerm() != 3 {
		fmt.Fprintf(&b, " with header %v", h)
	}
	if len(r.ProtoReflect().GetUnknown()) > 0 {
		b.WriteString(" with unknown fields")
	}
	return b.String()
}

// The whole life of watchers on one stream, in the order a client sees it.
func TestWatchConversation(t *testing.T) {
	g := newWatchRig(t, WatchOptions{})
	c := g.talk()
	c.progress()
	c.send(&pb.WatchRequest{})
	c.create(&pb.WatchCreateRequest{})
	c.wants("neither progress without watchers nor an empty request is answered", "0 created @1")
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), PrevKv: true})
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")})
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), WatchId: 1})
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: -1})
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), WatchId: 7, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, 9}})
	c.wants("creates",
		"1 created @1",
		`-1 created canceled "mvcc: watcher range is empty" @1`,
		`-1 created canceled "mvcc: duplicate watch ID provided on the WatchStream" @1`,
		`-1 created canceled "etcdserver: mvcc: required revision has been compacted" @1`,
		"7 created @1")
	g.put("a", "1")
	c.wants("a put", "1 PUT a=1 @2")
	g.txn(func(txn *mvcc.Txn) {
		txn.Put([]byte("a"), []byte("2"), 0)
		txn.Put([]byte("b"), []byte("2"), 0)
		txn.Put([]byte("z"), []byte("2"), 0)
	})
	c.wants("one transaction is one response", "1 PUT a=2[2] PUT b=2 @3")
	g.txn(func(txn *mvcc.Txn) { txn.Delete([]byte("b")) })
	for range 2 { // their order is free
		r, err := c.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		want := map[int64]string{1: "1 DELETE b=[3] @4", 7: "7 DELETE b= @4"}[r.WatchId]
		if got := watchText(r); got != want {
			t.Errorf("a deletion: want %s, got %s", want, got)
		}
	}
	c.cancelID(7)
	c.cancelID(1234)
	c.wants("cancel; of an unknown id silently", "7 canceled @4")
	c.quiet("nothing else happened", 4)

	g.compact(3)
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2})
	c.wants("a compacted start", "2 created @4", "2 canceled compacted=3 @0")
	c.quiet("a compacted watcher does not keep progress from being told", 4)
	c.create(&pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte{0}, StartRevision: 3, PrevKv: true})
	c.wants("the compact revision itself is served", "3 created @4", "3 PUT a=2 PUT b=2 PUT z=2 DELETE b=[3] @4")
	c.create(&pb.WatchCreateRequest{Key: []byte("f"), StartRevision: 6})
	c.wants("a start in the future", "4 created @4")
	c.progress()
	g.put("f", "5")
	c.wants("... is not served early and keeps progress from being told", "3 PUT f=5 @5")
	g.put("f", "6")
	for range 2 {
		if _, err := c.stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	c.quiet("the future has come", 6)

	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	g.put("a", "7")
	r, err := c.stream.Recv()
	if err != nil || r.Header.Revision != 7 {
		t.Errorf("after half-close events go on: %v %v", r, err)
	}
	g.hub.Close()
	for err == nil {
		_, err = c.stream.Recv()
	}
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "etcdserver: server stopped" {
		t.Errorf("when the server stops: %v", err)
	}
}

// A client that goes away takes its watchers with it; a cause that the server
// gives when it cancels a stream is told to the client.
func TestWatchStreamEnds(t *testing.T) {
	noLeader := status.Error(codes.Unavailable, "etcdserver: no leader")
	opened, ended := make(chan context.CancelCauseFunc, 1), make(chan error, 3)
	g := newWatchRig(t, WatchOptions{}, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		ctx, cancel := context.WithCancelCause(ss.Context())
		opened <- cancel
		err := h(srv, watchStreamWithContext{ss, ctx})
		ended <- err
		return err
	})
	talk := func() (*watchTalk, context.CancelCauseFunc) {
		c := g.talk()
		c.create(&pb.WatchCreateRequest{Key: []byte("a")})
		c.wants("a watcher of its own", "0 created @1")
		return c, <-opened
	}
	c, cancel := talk()
	cancel(noLeader)
	c.ends("the server's cause", codes.Unavailable, "etcdserver: no leader")
	c, cancel = talk()
	cancel(nil)
	c.ends("cancelled by the server without a cause", codes.Canceled, "etcdserver: watch canceled")
	c, _ = talk()
	c.cancel()
	for range 3 {
		<-ended
	}
	if st := g.hub.Stats(); st.Streams != 0 || st.Watchers != 0 {
		t.Errorf("left behind: %+v", st)
	}
}

type watchStreamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s watchStreamWithContext) Context() context.Context { return s.ctx }

// watchOnly permits one key.
type watchOnly string

func (key watchOnly) PermitWatch(_ context.Context, span keys.Span) error {
	if span.IsPoint() && string(span.Key) == string(key) {
		return nil
	}
	return status.Error(codes.PermissionDenied, "etcdserver: permission denied")
}

// Auth is asked before anything else about a request is checked.
func TestWatchAuth(t *testing.T) {
	g := newWatchRig(t, WatchOptions{Auth: watchOnly("mine")})
	c := g.talk()
	const denied = `-1 created canceled "rpc error: code = PermissionDenied desc = etcdserver: permission denied" @1`
	c.create(&pb.WatchCreateRequest{Key: []byte("z"), RangeEnd: []byte("a"), StartRevision: -1})
	c.create(&pb.WatchCreateRequest{})
	c.create(&pb.WatchCreateRequest{Key: []byte("mine")})
	c.wants("one of three is permitted", denied, denied, "0 created @1")
}

// Idle watchers that wish so are told the revision every interval; those with
// events since are not.
func TestWatchProgressNotify(t *testing.T) {
	g := newWatchRig(t, WatchOptions{ProgressInterval: 20 * time.Millisecond})
	c := g.talk()
	c.create(&pb.WatchCreateRequest{Key: []byte("a")})
	c.create(&pb.WatchCreateRequest{Key: []byte("b"), ProgressNotify: true})
	c.wants("only the second asked for it", "0 created @1", "1 created @1", "1 @1", "1 @1")
}

// Responses above the limit are split for watchers that accept it, at events,
// and the last piece says that it is the last.
func TestWatchFragments(t *testing.T) {
	g := newWatchRig(t, WatchOptions{})
	value := make([]byte, 400<<10)
	g.txn(func(txn *mvcc.Txn) {
		for i := range 8 {
			txn.Put(fmt.Appendf(nil, "f%d", i), value, 0)
		}
	})
	c := g.talk()
	big := func(i int) string { return fmt.Sprintf(" PUT f%d=(409600 bytes)", i) }
	five := big(0) + big(1) + big(2) + big(3) + big(4)
	three := big(5) + big(6) + big(7)
	c.create(&pb.WatchCreateRequest{Key: []byte("f"), RangeEnd: []byte("g"), StartRevision: 2, Fragment: true})
	c.wants("with fragments", "0 created @2", "0 fragment"+five+" @2", "0"+three+" @2")
	c.create(&pb.WatchCreateRequest{Key: []byte("f"), RangeEnd: []byte("g"), StartRevision: 2})
	c.wants("without", "1 created @2", "1"+five+three+" @2")
}

// A client that does not read costs a bounded amount and nobody else's time;
// when it reads again, it gets everything in order.
func TestWatchSlowClient(t *testing.T) {
	const puts = 500
	g := newWatchRig(t, WatchOptions{})
	slow, quick := g.talk(), g.talk()
	for _, c := range []*watchTalk{slow, quick} {
		c.create(&pb.WatchCreateRequest{Key: []byte("k")})
		c.wants("create", "0 created @1")
	}
	value := strings.Repeat("v", 100<<10) // 50 MB in all, more than a stream may have queued
	read := func(c *watchTalk) {
		for next := int64(2); next < puts+2; {
			r, err := c.stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision != next {
					t.Fatalf("revision %d, want %d", e.Kv.ModRevision, next)
				}
				next++
			}
		}
	}
	for range puts {
		g.put("k", value)
	}
	read(quick)
	if st := g.hub.Stats(); st.Behind < 1 || st.Pending > watch.DefaultStreamBytes/len(value)+1 {
		t.Errorf("while one client does not read: %+v", st)
	}
	read(slow)
	slow.quiet("all has come", puts+1)
	if st := g.hub.Stats(); st.Behind != 0 || st.Pending != 0 {
		t.Errorf("when both have read: %+v", st)
	}
}

// A stream that does not encode gets the same messages, with Events set.
func TestWatchDecodedStream(t *testing.T) {
	g := newWatchRig(t, WatchOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	stream := &watchDirect{ctx: ctx, in: make(chan *pb.WatchRequest, 1), out: make(chan *pb.WatchResponse, 8)}
	done := make(chan error, 1)
	go func() { done <- NewWatchServer(g.hub, g, WatchOptions{}).Watch(stream) }()
	stream.in <- &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}}
	if got := watchText(<-stream.out); got != "0 created @1" {
		t.Error(got)
	}
	g.put("a", "1")
	if got := watchText(<-stream.out); got != "0 PUT a=1 @2" {
		t.Error(got)
	}
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("ended with %v", err)
	}
}

// watchDirect is a stream within the process.
type watchDirect struct {
	grpc.ServerStream
	ctx context.Context
	in  chan *pb.WatchRequest
	out chan *pb.WatchResponse
}

func (s *watchDirect) WatchDecoded()            {}
func (s *watchDirect) Context() context.Context { return s.ctx }

func (s *watchDirect) Send(r *pb.WatchResponse) error {
	s.out <- r
	return nil
}

func (s *watchDirect) Recv() (*pb.WatchRequest, error) {
	select {
	case r := <-s.in:
		return r, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// What goes over the wire is byte for byte what setting Events would give.
func TestWatchWireIsPlainProtobuf(t *testing.T) {
	g := newWatchRig(t, WatchOptions{})
	s := g.hub.Open()
	defer s.Close()
	enc := newWatchEncoder(NewWatchServer(g.hub, g, WatchOptions{}), nil)
	s.Create(watchRequest(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true}))
	<-s.Ready()
	s.Take()
	g.txn(func(txn *mvcc.Txn) {
		txn.Put([]byte("a"), []byte("1"), 5)
		txn.Put([]byte("b"), nil, 0)
	})
	<-s.Ready()
	out, _ := s.Take()
	for i := range out {
		err := enc.each(&out[i], func(m *pb.WatchResponse) error {
			plain := &pb.WatchResponse{Header: m.Header, WatchId: m.WatchId}
			for _, e := range out[i].Events {
				plain.Events = append(plain.Events, e.Message())
			}
			want, err := proto.Marshal(plain)
			if err != nil {
				return err
			}
			if got, err := proto.Marshal(m); err != nil || string(got) != string(want) || proto.Size(m) != len(want) {
				t.Errorf("got  %x (%v)\nwant %x", got, err, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkWatchFanOut sends each put to 10,000 watchers over grpc.
func BenchmarkWatchFanOut(b *testing.B) {
	const streams, each = 100, 100
	g := newWatchRig(b, WatchOptions{})
	got := make(chan int, streams)
	for range streams {
		c := g.talk()
		for range each {
			c.create(&pb.WatchCreateRequest{Key: []byte("key")})
			if _, err := c.stream.Recv(); err != nil {
				b.Fatal(err)
			}
		}
		go func() {
			for {
				r, err := c.stream.Recv()
				if err != nil {
					return
				}
				got <- len(r.Events)
			}
		}()
	}
	value := strings.Repeat("v", 256)
	for b.Loop() {
		g.put("key", value)
		for n := 0; n < streams*each; n += <-got {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams*each), "ns/event")
}
