package h2client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// The windows we grant. A stream's is large enough that a list of 50k keys
	// needs a handful of updates; the connection's is that of a thousand calls
	// whose answers are all large, and is returned in halves.
	streamWindow = 16 << 20
	connWindow   = 1 << 30

	// The peer's header blocks: gRPC's carry a status and a sentence.
	headerBlockMax = 64 << 10

	// Frames we must answer (PING, SETTINGS) that may wait for the writer. A
	// peer that sends more while it does not read is not served.
	obligedMax = 1000

	readBufferBytes = 256 << 10
	keptBufferBytes = 1 << 20 // a write buffer above this is given back after its write

	defaultMaxReplyBytes = 1 << 30
)

// Options say how to talk on a connection.
type Options struct {
	TLS           *tls.Config // nil: cleartext HTTP/2 with prior knowledge
	Authority     string      // the :authority header; empty: the address
	Token         string      // etcd's auth token, sent with every call; empty: none
	MaxReplyBytes int         // bound of one message; 0: 1 GiB
}

// Conn is one connection. Its methods are safe for concurrent use.
type Conn struct {
	nc  net.Conn
	opt Options

	wake     chan struct{} // to the writer: out has something
	ready    chan struct{} // closed at the server's first SETTINGS
	finished chan struct{} // closed when both goroutines are gone
	left     sync.WaitGroup

	mu         sync.Mutex
	out        []byte             // frames for the writer
	spare      []byte             // the writer's other buffer, while it does not need it
	obliged    int                // answers to PING and SETTINGS in out
	streams    map[uint32]*Stream // open ones
	waiting    []*Stream          // accepted, but the server's limit is reached; FIFO
	blocked    []*Stream          // have unsent bytes and wait for a window; FIFO
	nextID     uint32
	streamsMax uint32 // the server's limit
	frameMax   int    // the server's largest frame
	window     int64  // what we may send on all streams together
	windowNew  int64  // what a new stream may send
	blocks     *blocks
	draining   bool // GOAWAY came
	err        error

	// Owned by the reader.
	fr       *http2.Framer
	dec      *hpack.Decoder
	ans      answer
	unread   int64 // bytes received and not yet returned to the peer's window
	block    int   // bytes of the header block under way
	blockFor uint32
	blockEnd bool // it carries END_STREAM
	greeted  bool // the first SETTINGS came
}

// Dial connects and waits for the server's first word, so that the server's
// limits are known before the first call.
func Dial(ctx context.Context, network, addr string, opt Options) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("h2client: %w", err)
	}
	if opt.Authority == "" {
		opt.Authority = addr
		if network == "unix" {
			opt.Authority = "localhost"
		}
	}
	if opt.TLS != nil {
		tc, err := handshake(ctx, nc, addr, opt.TLS)
		if err != nil {
			nc.Close()
			return nil, fmt.Errorf("h2client: TLS with %s: %w", addr, err)
		}
		nc = tc
	}
	c := New(nc, opt)
	select {
	case <-c.ready:
		return c, nil
	case <-c.finished:
		return nil, fmt.Errorf("h2client: %s: %w", addr, c.Err())
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("h2client: %s does not speak HTTP/2: %w", addr, ctx.Err())
	}
}

func handshake(ctx context.Context, nc net.Conn, addr string, cfg *tls.Config) (net.Conn, error) {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2"}
	if cfg.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			cfg.ServerName = host
		}
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if p := tc.ConnectionState().NegotiatedProtocol; p != "h2" {
		return nil, fmt.Errorf("the server chose protocol %q, not h2", p)
	}
	return tc, nil
}

// New talks over a connection that exists. Calls started before the server's
// first word are held to HTTP/2's defaults.
func New(nc net.Conn, opt Options) *Conn {
	if opt.MaxReplyBytes <= 0 {
		opt.MaxReplyBytes = defaultMaxReplyBytes
	}
	scheme := "http"
	if opt.TLS != nil {
		scheme = "https"
	}
	c := &Conn{
		nc: nc, opt: opt,
		wake: make(chan struct{}, 1), ready: make(chan struct{}), finished: make(chan struct{}),
		streams: map[uint32]*Stream{}, nextID: 1,
		streamsMax: 100, frameMax: 16384, window: 65535, windowNew: 65535,
		blocks: newBlocks(scheme, opt.Authority, opt.Token),
	}
	c.dec = hpack.NewDecoder(4096, c.ans.add)
	c.dec.SetMaxStringLength(headerBlockMax)
	c.fr = http2.NewFramer(nil, bufio.NewReaderSize(flushingReader{c}, readBufferBytes))
	c.fr.SetReuseFrames()
	c.greet()
	c.left.Add(2)
	go c.write()
	go c.read()
	go func() { c.left.Wait(); close(c.finished) }()
	return c
}

// Err is why the connection is of no use any more; nil while it is.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and every stream on it, and waits for the last
// callback. It must not be called from one.
func (c *Conn) Close() error {
	c.fail(status.Error(codes.Canceled, "h2client: the connection was closed"))
	<-c.finished
	return nil
}

// fail makes err the end of the connection: the first one counts. Streams are
// ended by the reader, on its way out, so that callbacks stay on one goroutine.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.nc.Close()
	c.Flush()
}

// Flush wakes the writer. Only a user that started streams outside of
// callbacks needs it.
func (c *Conn) Flush() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write is the writer: it takes what gathered and sends it in one piece.
func (c *Conn) write() {
	defer c.left.Done()
	for range c.wake {
		c.mu.Lock()
		buf, dead := c.out, c.err != nil
		c.out, c.spare, c.obliged = c.spare[:0], nil, 0
		c.mu.Unlock()
		if dead {
			return
		}
		if len(buf) > 0 {
			if _, err := c.nc.Write(buf); err != nil {
				c.fail(status.Errorf(codes.Unavailable, "h2client: write: %v", err))
				return
			}
		}
		if cap(buf) <= keptBufferBytes {
			c.mu.Lock()
			c.spare = buf
			c.mu.Unlock()
		}
	}
}

// flushingReader sits between the socket and the reader's buffer. The buffer
// asks it only when everything received so far has been handled: that is the
// moment to send what the callbacks started.
type flushingReader struct{ c *Conn }

func (r flushingReader) Read(p []byte) (int, error) {
	r.c.mu.Lock()
	some := len(r.c.out) > 0
	r.c.mu.Unlock()
	if some {
		r.c.Flush()
	}
	return r.c.nc.Read(p)
}

var errGone = errors.New("h2client: the server is going away")
