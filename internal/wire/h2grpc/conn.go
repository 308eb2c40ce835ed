package h2grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/peer"
)

// conn is one connection. Two goroutines are its own: the reader, which takes
// frames in and runs quick calls, and the writer, which sends what is gathered
// in out. Handlers on workers put their answers into out as well; whoever puts
// something there sees to it that it leaves (see wakeWriterLocked).
//
//	socket -> reader -> streams -> workers -> out -> writer -> socket
//	                 \-> quick calls --------/  \-> reader at the end of a batch
type conn struct {
	srv  *Server
	nc   net.Conn
	raw  *rawWriter // nil if the connection cannot be written without waiting
	peer *peer.Peer
	born time.Time

	receiver // owned by the reader

	mu      sync.Mutex
	changed sync.Cond // on mu: the writer has work, or the reader may go on

	sender // guarded by mu

	// The rest is guarded by mu.
	streams  map[uint32]*stream
	recent   [32]uint32 // ids of streams that ended lately, a ring
	recentAt int
	lastID   uint32 // highest stream id seen
	active   uint32 // streams open or with a handler that runs
	goAway   goAwayState
	goAwayAt time.Time
	police   pingPolice
	closed   bool  // the connection is of no use any more
	failure  error // why

	loans loanBook

	// Times for inspect; zero: not now.
	began        time.Time // the handshake
	lastRead     time.Time
	pinged       time.Time // a keepalive ping is out
	partialSince time.Time // of a frame or header block
	writeSince   time.Time // a write has been going on
	idleSince    time.Time
	jitter       float64 // of the age limit
}

// goAwayState is how far a graceful end has come.
type goAwayState int

const (
	goAwayNone   goAwayState = iota
	goAwayWarned             // told, with room for calls already on their way
	goAwayFinal              // told which call is the last
)

// drainPing is the data of the ping whose answer says that the client has read
// the warning; keepalivePing asks whether it is there.
var drainPing, keepalivePing = [8]byte{'d', 'r', 'a', 'i', 'n'}, [8]byte{'a', 'l', 'i', 'v', 'e'}

func newConn(s *Server, nc net.Conn) *conn {
	now := time.Now()
	c := &conn{srv: s, nc: nc, born: now, began: now, lastRead: now, streams: map[uint32]*stream{}}
	c.changed.L = &c.mu
	c.jitter = 0.9 + 0.2*rand.Float64()
	c.police = pingPolice{minTime: s.opt.Enforcement.MinTime, withoutStream: s.opt.Enforcement.PermitWithoutStream}
	c.receiver = receiver{headIn: newHeadReader(), window: http2DefaultWindow}
	c.sender = sender{window: http2DefaultWindow, streamWindow: http2DefaultWindow, frameMax: frameMax}
	c.loans.budget = s.opt.Limits.ConnRecvBytes / 2
	return c
}

const http2DefaultWindow = 65535

// setTransport takes the connection as the handshake left it.
func (c *conn) setTransport(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc, c.raw = nc, newRawWriter(nc)
	if c.closed { // Stop came first
		_ = nc.Close()
	}
}

// underTLS finds what a connection is made of; nil if bytes written to it are
// not the bytes on the wire.
func underTLS(nc net.Conn) syscall.Conn {
	for {
		switch x := nc.(type) {
		case *net.TCPConn:
			return x
		case *net.UnixConn:
			return x
		case *tls.Conn:
			return nil
		case interface{ NetConn() net.Conn }:
			nc = x.NetConn()
		default:
			return nil
		}
	}
}

// serve runs the connection until it ends.
func (c *conn) serve() {
	var writer sync.WaitGroup
	c.mu.Lock()
	c.out = c.greetLocked(c.out)
	c.mu.Unlock()
	writer.Go(c.writeLoop)
	err := c.readLoop()
	c.end(err)
	writer.Wait()
	c.linger(err)
	_ = c.nc.Close()
}

// greetLocked writes what a server begins with.
func (c *conn) greetLocked(b []byte) []byte {
	b = appendSettings(b,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.srv.opt.StreamsMax},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: headerListMax},
	)
	b = appendWindowUpdate(b, 0, connWindow-http2DefaultWindow)
	c.receiver.window = connWindow
	return b
}

// end is called by the reader when it will read no more. What is in out, with
// the reason if the client is to blame, still leaves.
func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var fe frameError
	if errors.As(err, &fe) && !c.closed {
		c.out = appendGoAway(c.out, c.lastID, fe.code, fe.why)
	}
	c.closeLocked(err)
}

// closeLocked ends all calls and has the writer send what there is and end.
func (c *conn) closeLocked(err error) {
	if c.closed {
		return
	}
	c.closed, c.failure = true, err
	for _, s := range c.streams {
		c.endStreamLocked(s, context.Canceled)
	}
	c.changed.Broadcast()
}

// abort cuts the connection off.
func (c *conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(net.ErrClosed)
	_ = c.nc.Close()
}

// linger lets the client read why it was sent away: closing a socket with
// unread bytes in it destroys what the client has not read yet.
func (c *conn) linger(err error) {
	var fe frameError
	if !errors.As(err, &fe) {
		return
	}
	if t, ok := underTLS(c.nc).(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
}

const (
	lingerTimeout = 500 * time.Millisecond
	lingerBytes   = 1 << 20
)

// drain begins a graceful end: the client hears that it should go elsewhere,
// and calls that are on their way already are still taken.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drainLocked(time.Now(), "")
}

func (c *conn) drainLocked(now time.Time, why string) {
	if c.closed || c.goAway != goAwayNone {
		return
	}
	c.goAway, c.goAwayAt = goAwayWarned, now
	c.out = appendGoAway(c.out, math.MaxInt32, http2.ErrCodeNo, why)
	c.out = appendPing(c.out, false, drainPing)
	c.wakeWriterLocked()
}

// drainedLocked is called when the client has heard the warning, or has had
// its time to.
func (c *conn) drainedLocked() {
	if c.goAway != goAwayWarned {
		return
	}
	c.goAway = goAwayFinal
	c.out = appendGoAway(c.out, c.lastID, http2.ErrCodeNo, "")
	c.wakeWriterLocked()
	c.maybeFinishLocked()
}

// maybeFinishLocked closes a connection that drains when its last call has
// ended.
func (c *conn) maybeFinishLocked() {
	if c.goAway != goAwayFinal || len(c.streams) > 0 || c.closed {
		return
	}
	c.closeLocked(io.EOF)
	// The reader waits for the client; the writer closes behind the last byte.
}

// inspect looks after time limits. It is called by the server's housekeeper.
func (c *conn) inspect(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why := c.overdueLocked(now); why != nil {
		c.closeLocked(why)
		_ = c.nc.Close()
		return
	}
	c.inspectMessagesLocked(now)
	c.retryLoansLocked()
	c.inspectAgeLocked(now)
	c.keepAliveLocked(now)
}

var (
	errHandshakeSlow = errors.New("http2: the connection did not begin in time")
	errFrameSlow     = errors.New("http2: a frame did not end in time")
	errWriteSlow     = errors.New("http2: the client does not read")
	errNoPong        = errors.New("http2: the client does not answer pings")
	errTooOld        = errors.New("http2: the connection is older than allowed")
)

// overdueLocked says why the connection has to end at once, or nil.
func (c *conn) overdueLocked(now time.Time) error {
	l := &c.srv.opt.Limits
	isOver := func(since time.Time, limit time.Duration) bool { return !since.IsZero() && now.Sub(since) > limit }
	switch {
	case isOver(c.began, l.HandshakeTimeout):
		return errHandshakeSlow
	case isOver(c.partialSince, l.MessageTimeout):
		return errFrameSlow
	case isOver(c.writeSince, l.WriteTimeout):
		return errWriteSlow
	case isOver(c.pinged, c.srv.opt.Keepalive.Timeout) && !c.lastRead.After(c.pinged):
		return errNoPong
	case c.goAway != goAwayNone && isOver(c.goAwayAt, c.srv.opt.Keepalive.MaxConnectionAgeGrace):
		return errTooOld
	case isOver(c.stalledSince, l.WriteTimeout) && c.srv.queued.Load() > l.TotalSendBytes:
		return errWriteSlow
	}
	return nil
}

// inspectAgeLocked ends connections that are idle or old, in order.
func (c *conn) inspectAgeLocked(now time.Time) {
	k := &c.srv.opt.Keepalive
	if c.active > 0 {
		c.idleSince = time.Time{}
	} else if c.idleSince.IsZero() {
		c.idleSince = now
	}
	switch {
	case !c.idleSince.IsZero() && now.Sub(c.idleSince) > k.MaxConnectionIdle:
		c.drainLocked(now, "max_idle")
	case now.Sub(c.born).Seconds() > k.MaxConnectionAge.Seconds()*c.jitter:
		c.drainLocked(now, "max_age")
	}
	if c.goAway == goAwayWarned && now.Sub(c.goAwayAt) > drainTimeout {
		c.drainedLocked()
	}
}

// keepAliveLocked pings a client that has been silent.
func (c *conn) keepAliveLocked(now time.Time) {
	if c.lastRead.After(c.pinged) {
		c.pinged = time.Time{}
	}
	if c.pinged.IsZero() && now.Sub(c.lastRead) > c.srv.opt.Keepalive.Time && !c.closed {
		c.pinged = now
		c.out = appendPing(c.out, false, keepalivePing)
		c.wakeWriterLocked()
	}
}
