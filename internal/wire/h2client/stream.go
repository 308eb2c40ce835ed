package h2client

import (
	"context"
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Stream is one call. Its user sets the callbacks, and may use it again for
// another call after OnEnd, also inside of it.
type Stream struct {
	// OnMessage gets each message of the answer, whose bytes are the
	// connection's: valid until it returns. OnEnd gets the outcome: nil, or a
	// gRPC status error. Both run on the connection's reader and hold up
	// everything else it would read.
	OnMessage func(s *Stream, msg []byte)
	OnEnd     func(s *Stream, err error)

	// Guarded by the connection's mu.
	id       uint32  // 0: not open
	method   *Method // while it waits to be opened
	window   int64   // what we may send
	unsent   []byte  // gRPC frames that no window let through yet; unsent[from:]
	from     int
	blocked  bool // in Conn.blocked
	last     bool // nothing follows unsent
	sentLast bool

	// Owned by the reader.
	begun  bool   // the first header block came
	part   []byte // an incomplete message with its prefix
	unread int64  // bytes received and not yet returned to the peer's window
}

const prefixBytes = 5 // compressed flag (1), length (4)

// Start begins a call with one message; last says that it is the only one. The
// message may be reused at once. If Start returns an error there is no call
// and OnEnd stays quiet. Outside of callbacks, Flush must follow.
func (c *Conn) Start(s *Stream, m *Method, msg []byte, last bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.closedLocked(); err != nil {
		return err
	}
	s.reset(m, last)
	if len(c.streams) >= int(c.streamsMax) || len(c.waiting) > 0 {
		s.unsent = appendMessage(s.unsent, msg)
		c.waiting = append(c.waiting, s)
		return nil
	}
	c.openLocked(s)
	c.sendLocked(s, msg)
	return nil
}

// closedLocked says why no call can begin, if so.
func (c *Conn) closedLocked() error {
	switch {
	case c.err != nil:
		return c.err
	case c.draining:
		return status.Error(codes.Unavailable, errGone.Error())
	case c.nextID > math.MaxInt32:
		return status.Error(codes.Unavailable, "h2client: a connection carries 2^30 calls; this one did")
	}
	return nil
}

func (s *Stream) reset(m *Method, last bool) {
	s.id, s.method, s.window = 0, m, 0
	s.unsent, s.from, s.blocked, s.last, s.sentLast = s.unsent[:0], 0, false, last, false
	s.begun, s.part, s.unread = false, s.part[:0], 0
}

func (c *Conn) openLocked(s *Stream) {
	s.id, s.window = c.nextID, c.windowNew
	c.nextID += 2
	c.streams[s.id] = s
	c.appendHeaders(s.id, c.blocks.request(s.method))
}

// Send adds a message to an open stream. On a stream that ended it does
// nothing: OnEnd has told, or will.
func (c *Conn) Send(s *Stream, msg []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.last || (s.id == 0 && s.method == nil) {
		return
	}
	s.last = last
	if s.id == 0 {
		s.unsent = appendMessage(s.unsent, msg)
		return
	}
	c.sendLocked(s, msg)
}

// sendLocked sends a message at once if nothing is in its way: one frame, no
// copy but that into the write buffer.
func (c *Conn) sendLocked(s *Stream, msg []byte) {
	n := prefixBytes + len(msg)
	if s.from < len(s.unsent) || n > c.frameMax || int64(n) > c.window || int64(n) > s.window {
		s.unsent = appendMessage(s.unsent, msg)
		c.pumpLocked(s)
		return
	}
	c.dataLocked(s, n, s.last)
	c.out = appendMessage(c.out, msg)
}

func appendMessage(b, msg []byte) []byte {
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(msg)))
	return append(b, msg...)
}

// dataLocked accounts for n bytes of data and appends their frame's head.
func (c *Conn) dataLocked(s *Stream, n int, end bool) {
	flags := http2.Flags(0)
	if end {
		flags, s.sentLast = http2.FlagDataEndStream, true
	}
	s.window -= int64(n)
	c.window -= int64(n)
	c.appendFrame(n, http2.FrameData, flags, s.id)
}

// pumpLocked sends as much of s.unsent as the windows allow and remembers s if
// something stays.
func (c *Conn) pumpLocked(s *Stream) {
	for s.from < len(s.unsent) {
		room := min(s.window, c.window, int64(c.frameMax))
		if room <= 0 {
			if !s.blocked {
				s.blocked = true
				c.blocked = append(c.blocked, s)
			}
			return
		}
		n := min(int(room), len(s.unsent)-s.from)
		c.dataLocked(s, n, s.last && s.from+n == len(s.unsent))
		c.out = append(c.out, s.unsent[s.from:s.from+n]...)
		s.from += n
	}
	s.unsent, s.from = s.unsent[:0], 0
}

// pumpBlockedLocked gives everyone who waits for a window another try, in the
// order of their waiting.
func (c *Conn) pumpBlockedLocked() {
	again := c.blocked
	c.blocked = nil
	for _, s := range again {
		s.blocked = false
		if c.streams[s.id] == s {
			c.pumpLocked(s)
		}
	}
}

// Cancel ends a stream from this side. True means that it was alive and OnEnd
// will not be called; an OnMessage under way on the reader may still finish.
func (c *Conn) Cancel(s *Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.id == 0 {
		for i, w := range c.waiting {
			if w == s {
				c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
				s.method = nil
				return true
			}
		}
		return false
	}
	if c.streams[s.id] != s {
		return false
	}
	c.appendReset(s.id, http2.ErrCodeCancel)
	c.forgetLocked(s)
	c.Flush()
	return true
}

// forgetLocked takes s off the books and lets those who wait take its place.
func (c *Conn) forgetLocked(s *Stream) {
	delete(c.streams, s.id)
	s.id, s.method, s.last = 0, nil, true
	c.admitLocked()
}

// admitLocked opens streams that wait for the server's limit.
func (c *Conn) admitLocked() {
	for len(c.waiting) > 0 && len(c.streams) < int(c.streamsMax) && c.closedLocked() == nil {
		s := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.openLocked(s)
		c.pumpLocked(s)
	}
}

// Call is for those who have a goroutine to wait on: one request, one answer.
func (c *Conn) Call(ctx context.Context, m *Method, req []byte) ([]byte, error) {
	var reply []byte
	done := make(chan error, 1)
	s := &Stream{
		OnMessage: func(_ *Stream, msg []byte) { reply = append([]byte(nil), msg...) },
		OnEnd:     func(_ *Stream, err error) { done <- err },
	}
	if err := c.Start(s, m, req, true); err != nil {
		return nil, err
	}
	c.Flush()
	select {
	case err := <-done:
		return reply, err
	case <-ctx.Done():
		if c.Cancel(s) {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		err := <-done // it ended while we gave up
		return reply, err
	}
}
