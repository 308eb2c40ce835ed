package h2grpc_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/steledb/stele/internal/wire/h2grpc"
)

// The cost of one small unary call, server and client together, with the same
// lean client against this server and against grpc-go's. cpu-ns/op is the
// processor time of both sides; the client's part is the same in all.
func BenchmarkUnary(b *testing.B) {
	for _, inFlight := range []int{1, 100} {
		name := map[int]string{1: "one", 100: "hundred"}[inFlight]
		b.Run(name+"/quick", func(b *testing.B) {
			s := &service{plain: true}
			addr, _ := serve(b, h2grpc.Options{Quick: quickEmpty(s)}, s)
			benchUnary(b, addr, inFlight)
		})
		b.Run(name+"/workers", func(b *testing.B) {
			addr, _ := serve(b, h2grpc.Options{}, &service{plain: true})
			benchUnary(b, addr, inFlight)
		})
		b.Run(name+"/grpc-go", func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			g := grpc.NewServer()
			pb.RegisterTestServiceServer(g, &service{plain: true})
			go func() { _ = g.Serve(l) }()
			defer g.Stop()
			benchUnary(b, l.Addr().String(), inFlight)
		})
	}
}

// benchUnary sends inFlight calls in one write and reads until all are
// answered, over and over.
func benchUnary(b *testing.B, addr string, inFlight int) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	c := newLeanClient(b, nc)
	b.ReportAllocs()
	began := cpuTime()
	for n := 0; n < b.N; n += inFlight {
		c.round(min(inFlight, b.N-n))
	}
	b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// leanClient sends copies of one prepared call.
type leanClient struct {
	b    *testing.B
	nc   net.Conn
	r    *bufio.Reader
	id   uint32
	call []byte // HEADERS and DATA, to be numbered
	out  []byte
}

func newLeanClient(b *testing.B, nc net.Conn) *leanClient {
	var hello, hb bytes.Buffer
	fr := http2.NewFramer(&hello, nil)
	hello.WriteString(http2.ClientPreface)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	_ = fr.WriteWindowUpdate(0, 1<<31-1-65535)
	c := &leanClient{b: b, nc: nc, r: bufio.NewReaderSize(nc, 64<<10), id: 1}

	enc := hpack.NewEncoder(&hb)
	var call bytes.Buffer
	cf := http2.NewFramer(&call, nil)
	for range 2 { // the first fills the table, the second refers to it
		hb.Reset()
		call.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/grpc.testing.TestService/UnaryCall"},
			{":authority", "bench"}, {"content-type", "application/grpc"}, {"user-agent", "bench"}, {"te", "trailers"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		_ = cf.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndHeaders: true})
		_ = cf.WriteData(1, true, framed(&pb.SimpleRequest{ResponseSize: 16, Payload: payload(32)}))
		if c.call == nil {
			hello.Write(call.Bytes())
		}
		c.call = bytes.Clone(call.Bytes())
	}
	if _, err := nc.Write(hello.Bytes()); err != nil {
		b.Fatal(err)
	}
	c.id = 3
	c.read(1)
	return c
}

// round sends n calls and reads their answers.
func (c *leanClient) round(n int) {
	c.out = c.out[:0]
	headers := 9 + int(c.call[0])<<16 + int(c.call[1])<<8 + int(c.call[2])
	for range n {
		at := len(c.out)
		c.out = append(c.out, c.call...)
		binary.BigEndian.PutUint32(c.out[at+5:], c.id)
		binary.BigEndian.PutUint32(c.out[at+headers+5:], c.id)
		c.id += 2
	}
	if _, err := c.nc.Write(c.out); err != nil {
		c.b.Fatal(err)
	}
	c.read(n)
}

// read takes frames until n streams have ended. It answers grpc-go's pings.
func (c *leanClient) read(n int) {
	for n > 0 {
		h, err := c.r.Peek(9)
		if err != nil {
			c.b.Fatal(err)
		}
		size, kind, flags := int(h[0])<<16|int(h[1])<<8|int(h[2]), http2.FrameType(h[3]), http2.Flags(h[4])
		if kind == http2.FrameHeaders && flags.Has(http2.FlagHeadersEndStream) {
			n--
		}
		if kind == http2.FrameGoAway || kind == http2.FrameRSTStream {
			c.b.Fatal("the server refuses")
		}
		if kind == http2.FramePing && flags == 0 {
			p, _ := c.r.Peek(17)
			ack := append([]byte{0, 0, 8, 6, 1, 0, 0, 0, 0}, p[9:17]...)
			if _, err := c.nc.Write(ack); err != nil {
				c.b.Fatal(err)
			}
		}
		if _, err := c.r.Discard(9 + size); err != nil && err != io.EOF {
			c.b.Fatal(err)
		}
	}
}
