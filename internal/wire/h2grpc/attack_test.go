package h2grpc_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/steledb/stele/internal/wire/h2grpc"
)

// The tests of this file attack a running server. After each attack (and in
// the middle of those that hold something) another client is served as usual,
// and when the server has stopped it holds nothing (see serve).

// wantServed says that others are served.
func wantServed(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := dial(t, addr).UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(100_000), ResponseSize: 100_000})
	if err != nil || len(r.Payload.Body) != 100_000 {
		t.Fatal("others are not served:", err)
	}
}

// Goal: a client that sends too many frames that cost it nothing is sent away.
func TestFloods(t *testing.T) {
	addr, _ := serve(t, h2grpc.Options{}, &service{})
	floods := map[string]struct {
		times int
		send  func(c *rawClient) error
	}{
		"settings": {h2grpc.Allowance(h2grpc.NuisanceSettings), func(c *rawClient) error { return c.fr.WriteSettings() }},
		"ping":     {10, func(c *rawClient) error { return c.fr.WritePing(false, [8]byte{}) }},
		"window":   {h2grpc.Allowance(h2grpc.NuisanceWindow) * 2, func(c *rawClient) error { return c.fr.WriteWindowUpdate(0, 1) }},
		"priority": {h2grpc.Allowance(h2grpc.NuisanceOther) * 2, func(c *rawClient) error { return c.fr.WritePriority(1, http2.PriorityParam{}) }},
		"unknown":  {h2grpc.Allowance(h2grpc.NuisanceOther) * 2, func(c *rawClient) error { return c.fr.WriteRawFrame(0xee, 0, 0, nil) }},
		"empty data": {h2grpc.Allowance(h2grpc.NuisanceEmpty) * 2, func(c *rawClient) error {
			if c.id == 1 {
				c.open("StreamingInputCall", false)
			}
			return c.fr.WriteData(1, false, nil)
		}},
		"reset": {h2grpc.Allowance(h2grpc.NuisanceReset) * 2, func(c *rawClient) error {
			return c.fr.WriteRSTStream(c.open("StreamingInputCall", false), http2.ErrCodeCancel)
		}},
		"continuation": {100, func(c *rawClient) error {
			if c.id == 1 {
				c.id = 3
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/x")})
			}
			return c.fr.WriteContinuation(1, false, nil)
		}},
		"large continuation": {10, func(c *rawClient) error {
			if c.id == 1 {
				c.id = 3
				return c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/x")})
			}
			return c.fr.WriteContinuation(1, false, make([]byte, 16384))
		}},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			c := connect(t, addr)
			go func() {
				for range flood.times + 100 {
					if flood.send(c) != nil {
						return
					}
				}
				c.flush()
			}()
			c.wantGoAway(http2.ErrCodeEnhanceYourCalm)
			c.wantCut()
			wantServed(t, addr)
		})
	}
}

// Goal: resetting calls is no way to have more handlers run than streams are
// allowed (rapid reset). Method: handlers that do not end, and a client that
// resets each call it makes.
func TestRapidReset(t *testing.T) {
	var running, most atomic.Int64
	release := make(chan struct{})
	s := &service{block: func(context.Context) error {
		most.Store(max(most.Load(), running.Add(1)))
		<-release
		running.Add(-1)
		return nil
	}}
	const streams = 10
	addr, _ := serve(t, h2grpc.Options{StreamsMax: streams}, s)
	c := connect(t, addr)
	var last uint32
	for range 1000 {
		last = c.call("EmptyCall", &pb.Empty{})
		c.must(c.fr.WriteRSTStream(last, http2.ErrCodeCancel))
	}
	last = c.call("EmptyCall", &pb.Empty{})
	c.flush()
	c.wantReset(last, http2.ErrCodeRefusedStream)
	wantServed(t, addr)
	close(release)
	if most.Load() > streams {
		t.Fatalf("%d handlers ran at a time, allowed are %d", most.Load(), streams)
	}
}

// Goal: a client has no more streams than it may, and may have new ones when
// old ones have ended.
func TestStreamsMax(t *testing.T) {
	addr, _ := serve(t, h2grpc.Options{StreamsMax: 3}, &service{})
	c := connect(t, addr)
	first := c.open("StreamingInputCall", false)
	c.open("StreamingInputCall", false)
	c.open("StreamingInputCall", false)
	refused := c.open("StreamingInputCall", false)
	c.flush()
	c.wantReset(refused, http2.ErrCodeRefusedStream)
	c.must(c.fr.WriteData(first, true, nil))
	c.flush()
	c.wantEnd(first)
	next := c.open("StreamingInputCall", true)
	c.flush()
	c.wantEnd(next)
	wantServed(t, addr)
}

// Goal: a header list that is too large ends its stream, and the table stays
// right for the next one.
func TestLargeHeaders(t *testing.T) {
	addr, _ := serve(t, h2grpc.Options{}, &service{})
	c := connect(t, addr)
	var extra []string
	for range 40 { // one entry of the table, repeated
		extra = append(extra, "x-large", strings.Repeat("x", 3000))
	}
	block := c.block("/grpc.testing.TestService/EmptyCall", extra...)
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
	c.id = 3
	next := c.call("EmptyCall", &pb.Empty{})
	c.flush()
	c.wantReset(1, http2.ErrCodeEnhanceYourCalm)
	c.wantEnd(next)
	wantServed(t, addr)
}

// Goal: a client that does not read its answers costs a bounded amount of
// memory and is cut off, whatever keeps it from reading. Method: far more
// answers than the bound are asked for, with windows that are open or tiny.
func TestSlowReader(t *testing.T) {
	const bound, answer, calls = 1 << 20, 256 << 10, 200
	for name, window := range map[string]uint32{"open": 1<<31 - 1, "tiny": 1, "closed": 0} {
		t.Run(name, func(t *testing.T) {
			opt := h2grpc.Options{StreamsMax: calls}
			opt.Limits.ConnSendBytes, opt.Limits.WriteTimeout = bound, 300*time.Millisecond
			opt.Limits.TotalSendBytes = 2 << 20
			s := &service{plain: true}
			addr, server := serve(t, opt, s)
			c := connect(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			if window > 1<<20 {
				c.must(c.fr.WriteWindowUpdate(0, 1<<30))
			}
			for range calls {
				c.call("UnaryCall", &pb.SimpleRequest{ResponseSize: answer})
			}
			c.flush()
			waitFor(t, "answers pile up", func() bool { _, _, queued := server.Held(); return queued >= bound })
			wantServed(t, addr)
			// One answer may reach over the bound.
			if _, _, queued := server.Held(); queued > bound+answer+1000 {
				t.Fatalf("%d bytes are queued", queued)
			}
			if window > 1<<20 { // the socket is full: the write does not end
				waitFor(t, "the client is cut off", func() bool { _, _, queued := server.Held(); return queued == 0 })
			}
		})
	}
}

// waitFor polls a condition that other goroutines bring about.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come about that", what)
		}
	}
}

// Goal: of the clients whose windows stay closed, all that hold too much
// together are cut off.
func TestManySlowReaders(t *testing.T) {
	opt := h2grpc.Options{}
	opt.Limits.TotalSendBytes, opt.Limits.WriteTimeout = 1<<20, 200*time.Millisecond
	addr, server := serve(t, opt, &service{plain: true})
	for range 20 {
		c := connect(t, addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		c.call("UnaryCall", &pb.SimpleRequest{ResponseSize: 256 << 10})
		c.flush()
	}
	wantServed(t, addr)
	waitFor(t, "the total falls below its bound", func() bool { _, _, queued := server.Held(); return queued <= 1<<20 })
	wantServed(t, addr)
}

// Goal: questions of a client that does not read are not taken in for ever.
// Method: calls that are refused at once, whose answers need no window.
func TestAnswersWithoutWindow(t *testing.T) {
	opt := h2grpc.Options{}
	opt.Limits.WriteTimeout = 300 * time.Millisecond
	addr, _ := serve(t, opt, &service{})
	c := connect(t, addr)
	sent, total := make(chan struct{}), 0
	go func() {
		defer close(sent)
		for range 2_000_000 { // about 100 MB of questions
			id := c.id
			c.id += 2
			if c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block("/no/such"), EndHeaders: true, EndStream: true}) != nil {
				return
			}
			total++
		}
	}()
	wantServed(t, addr)
	<-sent
	if total == 2_000_000 {
		t.Fatal("the server took all questions of a client that reads no answer")
	}
	wantServed(t, addr)
}

// Goal: clients that begin something and do not go on are given up.
func TestSlowWriters(t *testing.T) {
	opt := h2grpc.Options{}
	opt.Limits.HandshakeTimeout, opt.Limits.MessageTimeout = 200*time.Millisecond, 200*time.Millisecond
	addr, _ := serve(t, opt, &service{})
	t.Run("nothing", func(t *testing.T) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.Copy(io.Discard, nc) // ends when the server hangs up
	})
	t.Run("preface byte by byte", func(t *testing.T) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		for i := range http2.ClientPreface {
			if _, err := io.WriteString(nc, http2.ClientPreface[i:i+1]); err != nil {
				return
			}
			_ = nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := io.Copy(io.Discard, nc); err == nil {
				return // hung up
			}
		}
		t.Fatal("the server waited for the whole preface")
	})
	t.Run("frame", func(t *testing.T) {
		c := connect(t, addr)
		_, _ = c.w.Write([]byte{0, 0, 8, 6})
		c.flush()
		c.wantCut()
	})
	t.Run("header block", func(t *testing.T) {
		c := connect(t, addr)
		c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/x")}))
		c.flush()
		c.wantCut()
	})
	t.Run("message", func(t *testing.T) {
		for _, method := range []string{"UnaryCall", "StreamingInputCall"} {
			c := connect(t, addr)
			id := c.open(method, false)
			c.must(c.fr.WriteData(id, false, framed(&pb.SimpleRequest{Payload: payload(1000)})[:500]))
			c.flush()
			c.wantReset(id, http2.ErrCodeCancel)
		}
	})
	t.Run("no message", func(t *testing.T) {
		c := connect(t, addr)
		id := c.open("UnaryCall", false)
		c.flush()
		c.wantReset(id, http2.ErrCodeCancel)
	})
	wantServed(t, addr)
}

// Goal: unfinished requests hold a bounded amount, one connection cannot use
// up the server's, and those that are lent a window come to an end.
func TestUnfinishedRequests(t *testing.T) {
	const bound = 8 << 20
	opt := h2grpc.Options{}
	opt.Limits.ConnRecvBytes = bound
	opt.Limits.MessageTimeout = time.Minute
	addr, server := serve(t, opt, &service{})
	c := connect(t, addr)
	var head [5]byte
	binary.BigEndian.PutUint32(head[1:], 2<<20)
	for range 400 { // 400 x 64 KiB of 2 MiB messages
		id := c.open("UnaryCall", false)
		for _, n := range []int{16379, 16384, 16384, 16383} {
			c.must(c.fr.WriteData(id, false, append(head[:len(head):len(head)], make([]byte, n)...)[:n]))
		}
	}
	go c.flush()
	refused := 0
	for refused < 100 {
		f := c.until(func(f http2.Frame) bool { h, ok := f.(*http2.HeadersFrame); return ok && h.StreamEnded() })
		if f == nil {
			t.Fatal("the connection ended")
		}
		refused++
	}
	if held, loaned, _ := server.Held(); held > bound || loaned > bound/2 {
		t.Fatalf("%d bytes held and %d lent, the bound is %d", held, loaned, bound)
	}
	wantServed(t, addr)
}

// Goal: large messages that come at the same time on one connection wait for
// each other's loans and all arrive.
func TestLoansQueue(t *testing.T) {
	opt := h2grpc.Options{RecvMessageMax: 3 << 20}
	opt.Limits.ConnRecvBytes = 1 // raised to two messages
	addr, _ := serve(t, opt, &service{plain: true})
	c := dial(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var calls sync.WaitGroup
	for range 30 {
		calls.Go(func() {
			if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(2 << 20)}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// Goal: messages above the limit are refused by what they say of themselves.
func TestTooLargeMessage(t *testing.T) {
	addr, _ := serve(t, h2grpc.Options{RecvMessageMax: 1000, SendMessageMax: 1000}, &service{plain: true})
	c := dial(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(100_000)})
	wantStatus(t, err, codes.ResourceExhausted, "grpc: received message larger than max (100008 vs. 1000)")
	_, err = c.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 2000})
	wantStatus(t, err, codes.ResourceExhausted, "grpc: trying to send message larger than max (2006 vs. 1000)")
	stream, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&pb.StreamingInputCallRequest{Payload: payload(100_000)})
	_, err = stream.CloseAndRecv()
	wantStatus(t, err, codes.ResourceExhausted, "grpc: received message larger than max (100008 vs. 1000)")
}
