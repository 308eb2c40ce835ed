package h2grpc_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// rawClient speaks HTTP/2 frame by frame, so that a test can say exactly what
// a client does, good or bad.
type rawClient struct {
	t   testing.TB
	nc  net.Conn
	fr  *http2.Framer
	w   *bufio.Writer
	enc *hpack.Encoder
	hb  bytes.Buffer
	id  uint32
}

// connect begins a connection with settings and waits until the server's have
// come.
func connect(t testing.TB, addr string, settings ...http2.Setting) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	c := &rawClient{t: t, nc: nc, w: bufio.NewWriterSize(nc, 1<<20), id: 1}
	c.fr = http2.NewFramer(c.w, bufio.NewReaderSize(nc, 64<<10))
	c.fr.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.hb)
	_, _ = io.WriteString(c.w, http2.ClientPreface)
	c.must(c.fr.WriteSettings(settings...))
	c.flush()
	c.until(func(f http2.Frame) bool { _, ok := f.(*http2.SettingsFrame); return ok })
	c.must(c.fr.WriteSettingsAck())
	c.flush()
	return c
}

func (c *rawClient) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) flush() { _ = c.w.Flush() } // a server that hung up is seen by reading

// until reads frames until one is wanted; nil if the connection ends first.
func (c *rawClient) until(want func(http2.Frame) bool) http2.Frame {
	c.t.Helper()
	c.must(c.nc.SetReadDeadline(time.Now().Add(20 * time.Second)))
	for {
		f, err := c.fr.ReadFrame()
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.t.Fatal("the server does not answer")
		}
		if err != nil {
			return nil
		}
		if want(f) {
			return f
		}
	}
}

func (c *rawClient) block(path string, extra ...string) []byte {
	c.hb.Reset()
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "test",
		"content-type", "application/grpc", "te", "trailers"}, extra...)
	for i := 0; i < len(fields); i += 2 {
		c.must(c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(c.hb.Bytes())
}

// open begins a call of a method of the test service.
func (c *rawClient) open(method string, end bool) uint32 {
	id := c.id
	c.id += 2
	c.must(c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block("/grpc.testing.TestService/" + method), EndHeaders: true, EndStream: end}))
	return id
}

// framed is a message with its prefix.
func framed(m proto.Message) []byte {
	b := make([]byte, 5)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	return b
}

// call sends a whole unary call.
func (c *rawClient) call(method string, m proto.Message) uint32 {
	id := c.open(method, false)
	c.must(c.fr.WriteData(id, true, framed(m)))
	return id
}

// wantGoAway reads until the server sends the client away with code, or cuts
// it off.
func (c *rawClient) wantGoAway(code http2.ErrCode) {
	c.t.Helper()
	f := c.until(func(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok })
	if f == nil {
		c.t.Fatal("the connection ended without GOAWAY")
	}
	if got := f.(*http2.GoAwayFrame).ErrCode; got != code {
		c.t.Fatalf("GOAWAY with %v, want %v", got, code)
	}
}

// wantReset reads until the server resets a stream.
func (c *rawClient) wantReset(id uint32, code http2.ErrCode) {
	c.t.Helper()
	f := c.until(func(f http2.Frame) bool {
		r, ok := f.(*http2.RSTStreamFrame)
		return ok && r.StreamID == id
	})
	if f == nil {
		c.t.Fatal("the connection ended")
	}
	if got := f.(*http2.RSTStreamFrame).ErrCode; got != code {
		c.t.Fatalf("reset with %v, want %v", got, code)
	}
}

// wantEnd reads until a stream has been answered.
func (c *rawClient) wantEnd(id uint32) {
	c.t.Helper()
	if c.until(func(f http2.Frame) bool {
		h, ok := f.(*http2.HeadersFrame)
		return ok && h.StreamID == id && h.StreamEnded()
	}) == nil {
		c.t.Fatal("the connection ended")
	}
}

// wantCut reads until the connection ends.
func (c *rawClient) wantCut() {
	c.t.Helper()
	c.until(func(http2.Frame) bool { return false })
}
