package h2grpc_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/wire/h2grpc"
)

func wantStatus(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	if st := status.Convert(err); st.Code() != code || st.Message() != message {
		t.Fatalf("%v %q, want %v %q", st.Code(), st.Message(), code, message)
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Goal: handlers find in their context what grpc-go puts there.
func TestContext(t *testing.T) {
	seen := make(chan error, 1)
	s := &service{block: func(ctx context.Context) error {
		defer close(seen)
		if m, _ := grpc.Method(ctx); m != "/grpc.testing.TestService/EmptyCall" {
			t.Errorf("method %q", m)
		}
		if p, ok := peer.FromContext(ctx); !ok || p.Addr.(*net.TCPAddr).Port == 0 || p.AuthInfo == nil {
			t.Errorf("peer %v", p)
		}
		md, _ := metadata.FromIncomingContext(ctx)
		for name, want := range map[string][]string{
			"token": {"a", "b"}, "data-bin": {"\x00\xff"}, ":authority": {"somewhere"}, "content-type": {"application/grpc"},
			"te": nil, "grpc-timeout": nil,
		} {
			if got := md.Get(name); !slices.Equal(got, want) {
				t.Errorf("metadata %s: %q, want %q", name, got, want)
			}
		}
		deadline, ok := ctx.Deadline()
		if left := time.Until(deadline); !ok || left <= 0 || left > 10*time.Second {
			t.Errorf("deadline in %v", left)
		}
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if d, _ := child.Deadline(); !d.Equal(deadline) {
			t.Errorf("a child's deadline is %v, want the call's", d)
		}
		return ctx.Err()
	}}
	addr, _ := serve(t, h2grpc.Options{}, s)
	ctx := metadata.AppendToOutgoingContext(within(t), "token", "a", "token", "b", "data-bin", "\x00\xff")
	if _, err := dial(t, addr, grpc.WithAuthority("somewhere")).EmptyCall(ctx, &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	<-seen
}

// Goal: a handler's context, and contexts made from it, end with the client's
// interest in the call and with the deadline.
func TestContextEnds(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error)
	s := &service{block: func(ctx context.Context) error {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		began <- struct{}{}
		<-child.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}}
	addr, _ := serve(t, h2grpc.Options{}, s)
	c := dial(t, addr)

	ctx, cancel := context.WithCancel(within(t))
	go func() { _, _ = c.EmptyCall(ctx, &pb.Empty{}) }()
	<-began
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Fatal(err)
	}

	raw := connect(t, addr)
	id := raw.id
	raw.must(raw.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: raw.block("/grpc.testing.TestService/EmptyCall", "grpc-timeout", "20m"), EndHeaders: true}))
	raw.must(raw.fr.WriteData(id, true, framed(&pb.Empty{})))
	raw.flush()
	<-began
	if err := <-ended; err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	raw.wantEnd(id)
}

// Goal: statuses keep their details, plain errors become Unknown and ends of
// contexts their codes.
func TestStatuses(t *testing.T) {
	detailed, err := status.New(codes.FailedPrecondition, "see below").WithDetails(&pb.SimpleRequest{ResponseSize: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		err  error
		code codes.Code
	}{{detailed.Err(), codes.FailedPrecondition}, {net.ErrClosed, codes.Unknown}, {context.Canceled, codes.Canceled}, {context.DeadlineExceeded, codes.DeadlineExceeded}} {
		addr, _ := serve(t, h2grpc.Options{}, &service{block: func(context.Context) error { return want.err }})
		_, err := dial(t, addr).EmptyCall(within(t), &pb.Empty{})
		wantStatus(t, err, want.code, status.Convert(want.err).Message())
		if n := len(status.Convert(want.err).Details()); len(status.Convert(err).Details()) != n {
			t.Errorf("%v has %v details, want %d", err, status.Convert(err).Details(), n)
		}
	}
}

// Goal: interceptors surround calls, the first outermost.
func TestInterceptors(t *testing.T) {
	var order []string
	unary := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			order = append(order, name+info.FullMethod)
			return handler(ctx, req)
		}
	}
	stream := func(name string) grpc.StreamServerInterceptor {
		return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			order = append(order, name+info.FullMethod)
			return handler(srv, ss)
		}
	}
	addr, _ := serve(t, h2grpc.Options{
		Unary:  []grpc.UnaryServerInterceptor{unary("1"), unary("2"), unary("3")},
		Stream: []grpc.StreamServerInterceptor{stream("4"), stream("5")},
	}, &service{})
	c := dial(t, addr)
	if _, err := c.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	serverStreaming(t, within(t), c)
	const empty, output = "/grpc.testing.TestService/EmptyCall", "/grpc.testing.TestService/StreamingOutputCall"
	if want := []string{"1" + empty, "2" + empty, "3" + empty, "4" + output, "5" + output}; !slices.Equal(order, want) {
		t.Fatalf("%q, want %q", order, want)
	}
}

// Goal: what is no method is named in the answer as grpc-go names it.
func TestUnknownMethods(t *testing.T) {
	addr, _ := serve(t, h2grpc.Options{}, &service{})
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(plain()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for method, want := range map[string]string{
		"/no.Service/M":              "unknown service no.Service",
		"/grpc.testing.TestService/": "unknown method  for service grpc.testing.TestService",
		"/nonsense":                  `malformed method name: "/nonsense"`,
	} {
		err := cc.Invoke(within(t), method, &pb.Empty{}, &pb.Empty{})
		wantStatus(t, err, codes.Unimplemented, want)
	}
}

// Goal: GracefulStop lets a call end that has begun, takes no new connection,
// and returns when the last call has ended.
func TestGracefulStop(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	s := &service{block: func(context.Context) error { close(began); <-release; return nil }}
	addr, server := serve(t, h2grpc.Options{}, s)
	c := dial(t, addr)
	answered := make(chan error, 1)
	go func() { _, err := c.EmptyCall(within(t), &pb.Empty{}); answered <- err }()
	<-began
	stopped := make(chan struct{})
	go func() { server.GracefulStop(); close(stopped) }()
	waitFor(t, "connections are refused", func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	select {
	case <-stopped:
		t.Fatal("GracefulStop did not wait for the call")
	default:
	}
	close(release)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	<-stopped
}

// Goal: a connection that drains says so, still takes a call that was on its
// way, then names the last call and hangs up after it.
func TestGoAwayConversation(t *testing.T) {
	addr, server := serve(t, h2grpc.Options{}, &service{})
	c := connect(t, addr)
	open := c.open("StreamingInputCall", false)
	c.flush()
	go server.GracefulStop()
	isGoAway := func(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok }
	if f := c.until(isGoAway).(*http2.GoAwayFrame); f.LastStreamID != 1<<31-1 || f.ErrCode != http2.ErrCodeNo {
		t.Fatalf("the warning is %v", f)
	}
	ping := c.until(func(f http2.Frame) bool { _, ok := f.(*http2.PingFrame); return ok }).(*http2.PingFrame)
	late := c.call("EmptyCall", &pb.Empty{})
	c.must(c.fr.WritePing(true, ping.Data))
	c.flush()
	if f := c.until(isGoAway).(*http2.GoAwayFrame); f.LastStreamID != late {
		t.Fatalf("the last call is %d, want %d", f.LastStreamID, late)
	}
	c.must(c.fr.WriteData(open, true, nil))
	c.flush()
	c.wantEnd(open)
	c.wantCut()
}

// Goal: silent, idle and old connections are noticed.
func TestKeepalive(t *testing.T) {
	isPing := func(f http2.Frame) bool { p, ok := f.(*http2.PingFrame); return ok && !p.IsAck() }
	t.Run("silent", func(t *testing.T) {
		opt := h2grpc.Options{Keepalive: keepalive.ServerParameters{Time: time.Second, Timeout: 50 * time.Millisecond}}
		addr, _ := serve(t, opt, &service{})
		c := connect(t, addr)
		if c.until(isPing) == nil {
			t.Fatal("no ping")
		}
		c.wantCut()
	})
	for name, k := range map[string]keepalive.ServerParameters{
		"idle": {MaxConnectionIdle: 50 * time.Millisecond},
		"old":  {MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := serve(t, h2grpc.Options{Keepalive: k}, &service{})
			c := connect(t, addr)
			if name == "old" { // cut off with a call open
				c.open("StreamingInputCall", false)
				c.flush()
			}
			c.wantGoAway(http2.ErrCodeNo)
			if name == "idle" {
				c.must(c.fr.WritePing(true, [8]byte{'d', 'r', 'a', 'i', 'n'}))
				c.flush()
			}
			c.wantCut()
		})
	}
}

// Goal: the same over TLS, with the client's certificate known to handlers.
func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	cert := web.TLS.Certificates[0]
	server := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"}})
	s := &service{block: func(ctx context.Context) error {
		p, _ := peer.FromContext(ctx)
		info, ok := p.AuthInfo.(credentials.TLSInfo)
		if !ok || len(info.State.PeerCertificates) == 0 {
			t.Errorf("auth info %v", p.AuthInfo)
		}
		return nil
	}}
	addr, _ := serve(t, h2grpc.Options{Creds: server}, s)
	client := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
	c := dial(t, addr, grpc.WithTransportCredentials(client))
	ctx := within(t)
	emptyUnary(t, ctx, c)
	largeUnary(t, ctx, c)
	pingPong(t, ctx, c)
}

// Goal: a client that wants no table in headers gets answers without one.
func TestNoHeaderTable(t *testing.T) {
	addr, _ := serve(t, h2grpc.Options{}, &service{})
	c := connect(t, addr)
	c.fr.ReadMetaHeaders = nil
	c.wantEnd(func() uint32 { id := c.call("EmptyCall", &pb.Empty{}); c.flush(); return id }())
	c.must(c.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
	id := c.call("EmptyCall", &pb.Empty{})
	c.flush()
	f := c.until(func(f http2.Frame) bool { h, ok := f.(*http2.HeadersFrame); return ok && h.StreamID == id })
	if b := f.(*http2.HeadersFrame).HeaderBlockFragment(); b[0] != 0x20 || slices.Contains(b[:3], 0xbe) {
		t.Fatalf("the first block after the change is %x", b)
	}
	c.wantEnd(id)
}
