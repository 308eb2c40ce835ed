package h2client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// read is the reader: one frame after the other until the connection ends,
// then the end of every stream that is left.
func (c *Conn) read() {
	defer c.left.Done()
	for {
		f, err := c.fr.ReadFrame()
		if err == nil {
			err = c.handle(f)
		}
		if err != nil {
			var se http2.StreamError
			if errors.As(err, &se) {
				c.giveUp(c.stream(se.StreamID), se.Code, status.Errorf(codes.Internal, "h2client: %v", se))
				continue
			}
			c.fail(status.Errorf(codes.Unavailable, "h2client: read: %v", err))
			c.endAll()
			return
		}
	}
}

// endAll ends what is left with the connection's error.
func (c *Conn) endAll() {
	c.mu.Lock()
	err := c.err
	left := c.waiting
	c.waiting, c.blocked = nil, nil
	for _, s := range c.streams {
		left = append(left, s)
	}
	clear(c.streams)
	for _, s := range left {
		s.id, s.method, s.last = 0, nil, true
	}
	c.mu.Unlock()
	for _, s := range left {
		s.OnEnd(s, err)
	}
}

func (c *Conn) stream(id uint32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// handle does one frame. An error other than http2.StreamError ends the
// connection.
func (c *Conn) handle(f http2.Frame) error {
	if _, ok := f.(*http2.SettingsFrame); !ok && !c.greeted {
		return fmt.Errorf("the server begins with %v instead of SETTINGS", f.Header().Type)
	}
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.handleData(f)
	case *http2.HeadersFrame:
		c.ans = answer{}
		c.block, c.blockFor, c.blockEnd = 0, f.StreamID, f.StreamEnded()
		return c.handleBlock(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return c.handleBlock(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.SettingsFrame:
		return c.handleSettings(f)
	case *http2.WindowUpdateFrame:
		return c.handleWindowUpdate(f)
	case *http2.RSTStreamFrame:
		c.handleReset(f)
	case *http2.PingFrame:
		return c.handlePing(f)
	case *http2.GoAwayFrame:
		c.handleGoAway(f)
	case *http2.PushPromiseFrame:
		return errors.New("the server pushes, though told not to")
	}
	return nil
}

// handleData passes the messages of a DATA frame on. Padding and data of
// streams that are gone count in the connection's window like all others.
func (c *Conn) handleData(f *http2.DataFrame) error {
	n := int64(f.Length)
	c.unread += n
	if c.unread > connWindow {
		return errors.New("the server sends more than the connection's window")
	}
	if c.unread >= connWindow/2 {
		c.mu.Lock()
		c.appendWindowUpdate(0, c.unread)
		c.mu.Unlock()
		c.unread = 0
	}
	s := c.stream(f.StreamID)
	if s == nil {
		return c.checkID(f.StreamID)
	}
	s.unread += n
	switch {
	case s.unread > streamWindow:
		c.giveUp(s, http2.ErrCodeFlowControl, status.Error(codes.Internal, "h2client: the server sends more than the stream's window"))
		return nil
	case !s.begun:
		c.giveUp(s, http2.ErrCodeProtocol, status.Error(codes.Internal, "h2client: data before headers"))
		return nil
	}
	if err := c.messages(s, f.Data()); err != nil {
		c.giveUp(s, http2.ErrCodeCancel, err)
		return nil
	}
	if f.StreamEnded() {
		c.end(s, status.Error(codes.Internal, "h2client: the stream ended without a status"))
		return nil
	}
	if s.unread >= streamWindow/2 {
		c.mu.Lock()
		if c.streams[f.StreamID] == s { // not cancelled meanwhile
			c.appendWindowUpdate(f.StreamID, s.unread)
		}
		c.mu.Unlock()
		s.unread = 0
	}
	return nil
}

// messages cuts data into messages. One that came in one piece is passed on
// where it lies; of others only what really came is kept, whatever length the
// prefix claims.
func (c *Conn) messages(s *Stream, data []byte) error {
	if len(s.part) > 0 {
		var err error
		if data, err = c.complete(s, data); err != nil || len(s.part) > 0 {
			return err
		}
	}
	for len(data) >= prefixBytes {
		n, err := c.messageBytes(data)
		if err != nil {
			return err
		}
		if len(data) < prefixBytes+n {
			break
		}
		s.message(data[prefixBytes : prefixBytes+n])
		data = data[prefixBytes+n:]
	}
	s.part = append(s.part, data...)
	return nil
}

// complete moves data to the message under way until that is whole, and
// returns the rest.
func (c *Conn) complete(s *Stream, data []byte) ([]byte, error) {
	if short := prefixBytes - len(s.part); short > 0 {
		n := min(short, len(data))
		s.part, data = append(s.part, data[:n]...), data[n:]
		if n < short {
			return nil, nil
		}
	}
	size, err := c.messageBytes(s.part)
	if err != nil {
		return nil, err
	}
	n := min(prefixBytes+size-len(s.part), len(data))
	s.part, data = append(s.part, data[:n]...), data[n:]
	if len(s.part) == prefixBytes+size {
		s.message(s.part[prefixBytes:])
		s.part = s.part[:0]
	}
	return data, nil
}

func (c *Conn) messageBytes(prefix []byte) (int, error) {
	if prefix[0] != 0 {
		return 0, status.Error(codes.Internal, "h2client: the server compresses, though not asked to")
	}
	n := binary.BigEndian.Uint32(prefix[1:])
	if uint64(n) > uint64(c.opt.MaxReplyBytes) {
		return 0, status.Errorf(codes.ResourceExhausted, "h2client: a message of %d bytes, the limit is %d", n, c.opt.MaxReplyBytes)
	}
	return int(n), nil
}

func (s *Stream) message(msg []byte) {
	if s.OnMessage != nil {
		s.OnMessage(s, msg)
	}
}

// handleBlock takes a part of a header block. Blocks of streams that are gone
// are decoded as well: they change the table all later ones refer to.
func (c *Conn) handleBlock(fragment []byte, whole bool) error {
	if c.block += len(fragment); c.block > headerBlockMax {
		return fmt.Errorf("a header block of more than %d bytes", headerBlockMax)
	}
	if _, err := c.dec.Write(fragment); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	if !whole {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	s := c.stream(c.blockFor)
	if s == nil {
		return c.checkID(c.blockFor)
	}
	c.handleHeaders(s)
	return nil
}

// handleHeaders does a whole block: the first is the head of the answer, one
// that ends the stream has the status, and one may be both.
func (c *Conn) handleHeaders(s *Stream) {
	first := !s.begun
	s.begun = true
	switch {
	case first && !c.blockEnd:
		if err := c.ans.refused(); err != nil {
			c.giveUp(s, http2.ErrCodeCancel, err)
		}
	case first && c.ans.refused() != nil:
		c.end(s, c.ans.refused())
	case c.blockEnd && len(s.part) > 0:
		c.end(s, status.Error(codes.Internal, "h2client: the stream ended inside a message"))
	case c.blockEnd:
		c.end(s, c.ans.err())
	default:
		c.giveUp(s, http2.ErrCodeProtocol, status.Error(codes.Internal, "h2client: headers in the middle of a stream"))
	}
}

// end finishes a stream the server ended. If we were not done sending, the
// server must hear that nothing follows.
func (c *Conn) end(s *Stream, err error) {
	c.mu.Lock()
	if s.id == 0 || c.streams[s.id] != s { // cancelled a moment ago
		c.mu.Unlock()
		return
	}
	if !s.sentLast {
		c.appendReset(s.id, http2.ErrCodeCancel)
	}
	c.forgetLocked(s)
	drained := c.draining && len(c.streams) == 0
	c.mu.Unlock()
	s.OnEnd(s, err)
	if drained {
		c.fail(status.Error(codes.Unavailable, errGone.Error()))
	}
}

// giveUp finishes a stream from our side because of what the server sent.
func (c *Conn) giveUp(s *Stream, code http2.ErrCode, err error) {
	if s == nil {
		return
	}
	c.mu.Lock()
	if s.id != 0 && c.streams[s.id] == s {
		c.appendReset(s.id, code)
		s.sentLast = true
	}
	c.mu.Unlock()
	c.end(s, err)
}

// checkID tells a stream that is gone from one that never was.
func (c *Conn) checkID(id uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id%2 == 0 || id >= c.nextID {
		return fmt.Errorf("the server uses stream %d, which was never opened", id)
	}
	return nil
}

func (c *Conn) handleSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.greeted {
		c.streamsMax = math.MaxUint32 // unless this frame says otherwise: RFC 9113 6.5.2
	}
	if err := f.ForeachSetting(c.settingLocked); err != nil {
		return err
	}
	if err := c.obligeLocked(); err != nil {
		return err
	}
	c.appendFrame(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	if !c.greeted {
		c.greeted = true
		close(c.ready)
	}
	c.pumpBlockedLocked()
	c.admitLocked()
	return nil
}

func (c *Conn) settingLocked(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.blocks.setTableMax(s.Val)
	case http2.SettingMaxConcurrentStreams:
		c.streamsMax = s.Val
	case http2.SettingMaxFrameSize:
		c.frameMax = int(s.Val)
	case http2.SettingInitialWindowSize: // RFC 9113 6.9.2: open streams move by the difference
		d := int64(s.Val) - c.windowNew
		c.windowNew = int64(s.Val)
		for _, st := range c.streams {
			if st.window += d; st.window > math.MaxInt32 {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
	}
	return nil
}

// obligeLocked counts an answer we owe.
func (c *Conn) obligeLocked() error {
	if c.obliged++; c.obliged > obligedMax {
		return fmt.Errorf("the server wants more than %d answers while it does not read", obligedMax)
	}
	return nil
}

func (c *Conn) handlePing(f *http2.PingFrame) error {
	if f.IsAck() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.obligeLocked(); err != nil {
		return err
	}
	c.appendFrame(len(f.Data), http2.FramePing, http2.FlagPingAck, 0)
	c.out = append(c.out, f.Data[:]...)
	return nil
}

func (c *Conn) handleWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > math.MaxInt32 {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.pumpBlockedLocked()
		return nil
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	if s.window += int64(f.Increment); s.window > math.MaxInt32 {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	c.pumpLocked(s)
	return nil
}

func (c *Conn) handleReset(f *http2.RSTStreamFrame) {
	s := c.stream(f.StreamID)
	if s == nil {
		return
	}
	c.mu.Lock()
	s.sentLast = true // a reset stream needs no reset from us
	c.mu.Unlock()
	c.end(s, status.Errorf(codeOfReset(f.ErrCode), "h2client: the server reset the stream: %v", f.ErrCode))
}

func codeOfReset(e http2.ErrCode) codes.Code {
	switch e {
	case http2.ErrCodeRefusedStream:
		return codes.Unavailable
	case http2.ErrCodeCancel:
		return codes.Canceled
	case http2.ErrCodeEnhanceYourCalm:
		return codes.ResourceExhausted
	}
	return codes.Internal
}

// handleGoAway ends the streams the server did not take; the others run on.
func (c *Conn) handleGoAway(f *http2.GoAwayFrame) {
	err := status.Errorf(codes.Unavailable, "%v (%v)", errGone, f.ErrCode)
	c.mu.Lock()
	c.draining = true
	gone := c.waiting
	c.waiting = nil
	for id, s := range c.streams {
		if id > f.LastStreamID {
			gone = append(gone, s)
			delete(c.streams, id)
		}
	}
	for _, s := range gone {
		s.id, s.method, s.last = 0, nil, true
	}
	drained := len(c.streams) == 0
	c.mu.Unlock()
	for _, s := range gone {
		s.OnEnd(s, err)
	}
	if drained {
		c.fail(err)
	}
}
