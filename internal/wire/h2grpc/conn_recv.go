package h2grpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// receiver is the receiving half of a connection. Owned by the reader, except
// for held and messagesSeen, which conn.mu guards.
type receiver struct {
	buf    []byte // buf[r:w] is read and not handled
	r, w   int
	now    time.Time // of the current batch
	headIn *headReader
	flood  floodGuard

	window  int64 // of the connection: what the client may send
	unacked int64 // of it, what it may be given back

	// A header block that CONTINUATION frames go on with; blockStream is 0 when
	// there is none.
	block       []byte
	blockStream uint32
	blockEnd    bool // END_STREAM
	blockSelf   bool // the stream depends on itself
	blockParts  int
	blockAt     time.Time
	greeted     bool // the first SETTINGS have come

	held         int64 // bytes in the in of all streams
	messagesSeen time.Time
}

// readLoop handles frames until the connection ends. A batch is what one read
// brought; after it answers are flushed.
func (c *conn) readLoop() error {
	c.buf = make([]byte, readBufferMin)
	if err := c.readPreface(); err != nil {
		return err
	}
	for {
		c.beginBatch()
		err := c.handleBatch()
		c.noteProgress()
		c.flushBatch()
		if err != nil {
			return err
		}
		c.waitRoom()
		if err := c.readMore(); err != nil {
			return err
		}
	}
}

func (c *conn) beginBatch() {
	c.now = time.Now()
	c.mu.Lock()
	c.isReading = true
	c.lastRead = c.now
	c.mu.Unlock()
}

// noteProgress tells inspect whether the reader is in the middle of something.
func (c *conn) noteProgress() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.greeted {
		c.began = time.Time{}
	}
	switch {
	case c.blockStream != 0:
		c.partialSince = c.blockAt
	case c.r == c.w:
		c.partialSince = time.Time{}
	case c.r > 0 || c.partialSince.IsZero(): // a new frame begins
		c.partialSince = c.now
	}
}

// readPreface expects what every client begins with.
func (c *conn) readPreface() error {
	for c.w < len(http2.ClientPreface) {
		if err := c.readMore(); err != nil {
			return err
		}
		n := min(c.w, len(http2.ClientPreface))
		if string(c.buf[:n]) != http2.ClientPreface[:n] {
			return protocolError("not HTTP/2")
		}
	}
	c.r = len(http2.ClientPreface)
	return nil
}

// readMore reads at least one byte. The buffer grows with a client that fills
// it.
func (c *conn) readMore() error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		c.growBuffer()
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		if c.w == len(c.buf) && len(c.buf) < readBufferMax {
			c.growBuffer()
		}
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// growBuffer doubles the buffer. A frame and its head always fit into the
// largest one.
func (c *conn) growBuffer() {
	grown := make([]byte, min(2*len(c.buf), readBufferMax))
	copy(grown, c.buf[:c.w])
	c.buf = grown
}

// handleBatch handles the frames that have been read.
func (c *conn) handleBatch() error {
	for {
		f, n, err := parseFrame(c.buf[c.r:c.w])
		if err != nil || n == 0 {
			return err
		}
		c.r += n
		if err := c.handle(&f); err != nil {
			return err
		}
	}
}

// handle hands a frame to the handler of its kind.
func (c *conn) handle(f *frame) error {
	if c.blockStream != 0 && (f.kind != http2.FrameContinuation || f.stream != c.blockStream) {
		return protocolError("a frame inside a header block")
	}
	if !c.greeted {
		if f.kind != http2.FrameSettings || f.has(http2.FlagSettingsAck) {
			return protocolError("the first frame is not SETTINGS")
		}
		c.greeted = true
	}
	switch f.kind {
	case http2.FrameData:
		return c.handleData(f)
	case http2.FrameHeaders:
		return c.handleHeaders(f)
	case http2.FrameContinuation:
		return c.handleContinuation(f)
	case http2.FramePriority:
		return c.handlePriority(f)
	case http2.FrameRSTStream:
		return c.handleReset(f)
	case http2.FrameSettings:
		return c.handleSettings(f)
	case http2.FramePushPromise:
		return protocolError("PUSH_PROMISE from a client")
	case http2.FramePing:
		return c.handlePing(f)
	case http2.FrameGoAway:
		return c.handleGoAway(f)
	case http2.FrameWindowUpdate:
		return c.handleWindowUpdate(f)
	}
	return c.spend(nuisanceOther) // unknown kinds are to be ignored
}

func (c *conn) spend(kind nuisance) error {
	if !c.flood.spend(kind, c.now) {
		return calmDown("too_many_frames")
	}
	return nil
}

// reset ends one stream, known or not.
func (c *conn) reset(id uint32, code http2.ErrCode) error {
	if err := c.spend(nuisanceOther); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		c.resetLocked(s, code)
	} else {
		c.out = appendReset(c.out, id, code)
	}
	return nil
}

func (c *conn) handleData(f *frame) error {
	if f.stream == 0 {
		return protocolError("DATA on stream 0")
	}
	size := int64(len(f.payload))
	c.receiver.window -= size
	if c.receiver.window < 0 {
		return frameError{http2.ErrCodeFlowControl, "DATA beyond the connection's window"}
	}
	c.unacked += size
	if err := unpad(f); err != nil {
		return err
	}
	end := f.has(http2.FlagDataEndStream)
	if len(f.payload) == 0 && !end {
		if err := c.spend(nuisanceEmpty); err != nil {
			return err
		}
	}
	c.mu.Lock()
	if c.unacked >= connWindow/2 {
		c.out = appendWindowUpdate(c.out, 0, c.unacked)
		c.receiver.window += c.unacked
		c.unacked = 0
	}
	s := c.streams[f.stream]
	switch {
	case s == nil && f.stream > c.lastID:
		c.mu.Unlock()
		return protocolError("DATA on an idle stream")
	case s == nil || s.remoteClosed:
		c.mu.Unlock()
		return c.reset(f.stream, http2.ErrCodeStreamClosed)
	}
	s.recvWindow -= size
	if s.recvWindow < 0 {
		c.mu.Unlock()
		return c.reset(f.stream, http2.ErrCodeFlowControl)
	}
	s.got += int64(len(f.payload))
	if s.head.length >= 0 && (s.got > s.head.length || end && s.got != s.head.length) {
		c.mu.Unlock()
		return c.reset(f.stream, http2.ErrCodeProtocol) // RFC 9113, section 8.1.1
	}
	if padding := size - int64(len(f.payload)); padding > 0 {
		s.unacked += padding
		c.ackLocked(s)
	}
	s.remoteClosed = end
	c.sink(s, f.payload, end)
	return nil
}

// sink brings DATA to its call. It is called with mu held and releases it.
func (c *conn) sink(s *stream, p []byte, end bool) {
	m := s.head.target
	if m != nil && m.unary != nil && !s.isRunning {
		c.sinkUnary(s, p, end)
		return
	}
	defer c.mu.Unlock()
	if s.recvErr != nil {
		return // the handler has not heard of it yet
	}
	if !c.appendInLocked(s, p) {
		s.recvErr = errTooMuchHeld
	} else if m != nil {
		c.scanLocked(s)
	} else {
		s.scanned = len(s.in)
	}
	wake(s.recvWake)
}

var errTooMuchHeld = status.Error(codes.ResourceExhausted, "grpc: too many bytes of requests on the connection")

// sinkUnary gathers the one message of a unary call and runs the call when it
// is there. A message that came in one frame is not copied for a quick call.
func (c *conn) sinkUnary(s *stream, p []byte, end bool) {
	if len(s.in) == 0 && end && isWhole(p) && len(p)-prefixLen <= c.srv.opt.RecvMessageMax {
		s.startLocked()
		c.mu.Unlock()
		c.dispatch(s, p, true)
		return
	}
	ok := c.appendInLocked(s, p)
	if ok {
		c.scanLocked(s)
	}
	if s.waitsSince.IsZero() {
		s.waitsSince = c.now // for the end, if it has not come
	}
	switch {
	case !ok:
		c.refuseLocked(s, errTooMuchHeld)
	case s.recvErr != nil:
		c.refuseLocked(s, s.recvErr)
	case end && s.scanned == 0:
		c.refuseLocked(s, status.Error(codes.Internal, io.ErrUnexpectedEOF.Error()))
	case s.scanned > 0 && s.scanned < len(s.in), s.scanned > 0 && !isWhole(s.in):
		c.refuseLocked(s, status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC"))
	case end:
		s.startLocked()
		c.mu.Unlock()
		c.dispatch(s, s.in, false)
		return
	}
	c.mu.Unlock()
}

// refuseLocked ends a call before its handler has begun.
func (c *conn) refuseLocked(s *stream, err error) {
	c.finishLocked(s, status.Convert(err))
}

// isWhole reports whether p is exactly one message.
func isWhole(p []byte) bool {
	return len(p) >= prefixLen && int64(len(p)) == prefixLen+int64(binary.BigEndian.Uint32(p[1:]))
}

// dispatch runs a unary call, here if it is quick. shared says that request is
// in the read buffer.
func (c *conn) dispatch(s *stream, request []byte, shared bool) {
	s.request = request
	if q := s.head.target.quick; q != nil && request[0] == 0 && c.hasRoom() && q(request[prefixLen:]) {
		s.isInline = true
		s.run()
		return
	}
	if shared {
		s.request = append(make([]byte, 0, len(request)), request...)
	}
	c.srv.workers.run(s)
}

// hasRoom reports whether an answer can be made now without waiting.
func (c *conn) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued < c.sendMaxLocked() && len(c.out) < outHard
}

func (c *conn) handleHeaders(f *frame) error {
	if f.stream == 0 || f.stream%2 == 0 {
		return protocolError("HEADERS on a stream that is not the client's")
	}
	if err := unpad(f); err != nil {
		return err
	}
	self, err := stripPriority(f)
	if err != nil {
		return err
	}
	c.blockSelf, c.blockEnd = self, f.has(http2.FlagHeadersEndStream)
	if f.has(http2.FlagHeadersEndHeaders) {
		return c.handleBlock(f.stream, f.payload)
	}
	c.block, c.blockStream, c.blockParts, c.blockAt = append(c.block[:0], f.payload...), f.stream, 0, c.now
	return nil
}

func (c *conn) handleContinuation(f *frame) error {
	if c.blockStream == 0 {
		return protocolError("CONTINUATION of nothing")
	}
	c.blockParts++
	if len(c.block)+len(f.payload) > headerBlockMax || c.blockParts > continuationsMax {
		return calmDown("header block too large")
	}
	c.block = append(c.block, f.payload...)
	if !f.has(http2.FlagContinuationEndHeaders) {
		return nil
	}
	id := c.blockStream
	c.blockStream = 0
	return c.handleBlock(id, c.block)
}

// handleBlock takes a complete header block. It is decoded whatever becomes of
// the stream, because it changes the table.
func (c *conn) handleBlock(id uint32, block []byte) error {
	h, err := c.headIn.read(block)
	tooLarge := errors.Is(err, errHeadTooLarge)
	if err != nil && !tooLarge {
		return frameError{http2.ErrCodeCompression, err.Error()}
	}
	c.mu.Lock()
	known := c.streams[id]
	isOld, isRecent := id <= c.lastID, slices.Contains(c.recent[:], id)
	c.mu.Unlock()
	switch {
	case known != nil:
		return c.handleTrailers(known, h)
	case isRecent:
		return frameError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	case isOld:
		return protocolError("stream id lower than one before")
	}
	if !h.checked && !tooLarge {
		h.complete()
		h.target = c.srv.methods[h.path]
		if !h.isGRPC() {
			h.target = nil
		}
	}
	return c.open(id, h, tooLarge)
}

// handleTrailers takes a second header block, which has to end the request.
func (c *conn) handleTrailers(s *stream, h *head) error {
	c.mu.Lock()
	closed := s.remoteClosed
	c.mu.Unlock()
	switch {
	case closed:
		return c.reset(s.id, http2.ErrCodeStreamClosed)
	case !c.blockEnd, h.method+h.path+h.scheme+h.authority != "", h.malformed != "":
		return c.reset(s.id, http2.ErrCodeProtocol)
	}
	c.mu.Lock()
	s.remoteClosed = true
	if s.head.length >= 0 && s.got != s.head.length {
		c.resetLocked(s, http2.ErrCodeProtocol)
		c.mu.Unlock()
		return nil
	}
	c.sink(s, nil, true)
	return nil
}

// open begins a stream, or refuses it.
func (c *conn) open(id uint32, h *head, tooLarge bool) error {
	c.mu.Lock()
	if c.goAway == goAwayFinal || c.closed {
		c.mu.Unlock()
		return nil // the client knows which call was the last
	}
	c.lastID = id
	code := http2.ErrCodeNo
	switch {
	case c.blockSelf, !tooLarge && h.malformed != "":
		code = http2.ErrCodeProtocol
	case tooLarge:
		code = http2.ErrCodeEnhanceYourCalm
	case c.active >= c.srv.opt.StreamsMax:
		code = http2.ErrCodeRefusedStream
	}
	if code != http2.ErrCodeNo {
		c.mu.Unlock()
		return c.reset(id, code)
	}
	s := &stream{
		id: id, c: c, head: h, isOpen: true, remoteClosed: c.blockEnd,
		recvWindow: streamWindow, sendWindow: c.streamWindow,
	}
	if h.timeout >= 0 {
		s.deadline = c.now.Add(h.timeout)
	}
	c.streams[id] = s
	c.active++
	c.start(s)
	return nil
}

// start looks at what a new stream asks for. It is called with mu held and
// releases it.
func (c *conn) start(s *stream) {
	h := s.head
	switch {
	case s.remoteClosed && h.length > 0:
		c.resetLocked(s, http2.ErrCodeProtocol)
	case !h.isGRPC() && c.srv.opt.HTTP != nil:
		s.recvWake, s.sendWake = make(chan struct{}, 1), make(chan struct{}, 1)
		s.startLocked()
		c.mu.Unlock()
		c.srv.workers.run(s)
		return
	case !h.isGRPC():
		s.refusedBy = 415
		c.finishLocked(s, status.Newf(codes.InvalidArgument, "invalid gRPC request content-type %q", h.contentType))
	case h.refusal != nil:
		s.refusedBy = h.refusedBy
		c.finishLocked(s, h.refusal)
	case h.timeout == 0:
		c.finishLocked(s, status.New(codes.DeadlineExceeded, context.DeadlineExceeded.Error()))
	case h.target == nil:
		c.finishLocked(s, c.srv.unknown(h.path))
	case !isKnownEncoding(h.encoding):
		c.finishLocked(s, status.Newf(codes.Unimplemented, "grpc: Decompressor is not installed for grpc-encoding %q", h.encoding))
	case h.target.stream != nil:
		s.compress = answerEncoding(h.encoding)
		s.recvWake, s.sendWake = make(chan struct{}, 1), make(chan struct{}, 1)
		s.startLocked()
		c.mu.Unlock()
		c.srv.workers.run(s)
		return
	case s.remoteClosed: // a unary call without its message
		c.refuseLocked(s, status.Error(codes.Internal, io.ErrUnexpectedEOF.Error()))
	default:
		s.compress, s.waitsSince = answerEncoding(h.encoding), c.now
	}
	c.mu.Unlock()
}

func (c *conn) handlePriority(f *frame) error {
	switch {
	case f.stream == 0:
		return protocolError("PRIORITY on stream 0")
	case len(f.payload) != 5:
		return c.reset(f.stream, http2.ErrCodeFrameSize)
	case binary.BigEndian.Uint32(f.payload)&^(1<<31) == f.stream:
		return c.reset(f.stream, http2.ErrCodeProtocol)
	}
	return c.spend(nuisanceOther)
}

// handleReset cancels a call. Its handler counts as active until it returns,
// so that resetting is no way to have more than StreamsMax of them.
func (c *conn) handleReset(f *frame) error {
	if len(f.payload) != 4 {
		return sizeError("RST_STREAM of a wrong size")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 || f.stream > c.lastID {
		return protocolError("RST_STREAM on an idle stream")
	}
	if s := c.streams[f.stream]; s != nil {
		c.endStreamLocked(s, context.Canceled)
	}
	return c.spend(nuisanceReset)
}

func (c *conn) handleSettings(f *frame) error {
	switch {
	case f.stream != 0:
		return protocolError("SETTINGS on a stream")
	case f.has(http2.FlagSettingsAck) && len(f.payload) != 0, len(f.payload)%6 != 0:
		return sizeError("SETTINGS of a wrong size")
	case f.has(http2.FlagSettingsAck):
		return c.spend(nuisanceSettings)
	}
	if err := c.spend(nuisanceSettings); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		if err := c.settingLocked(http2.SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.out = appendSettingsAck(c.out)
	c.wakeWriterLocked()
	return nil
}

func (c *conn) settingLocked(id http2.SettingID, v uint32) error {
	if err := (http2.Setting{ID: id, Val: v}).Valid(); err != nil {
		code := http2.ErrCodeProtocol
		if id == http2.SettingInitialWindowSize {
			code = http2.ErrCodeFlowControl
		}
		return frameError{code, "SETTINGS value out of range"}
	}
	switch id {
	case http2.SettingInitialWindowSize:
		return c.streamWindowLocked(int64(v))
	case http2.SettingMaxFrameSize:
		c.frameMax = min(int(v), outSoft/2)
	case http2.SettingHeaderTableSize:
		if v < 4096 {
			c.headOut.dropTable()
		}
	}
	return nil
}

// streamWindowLocked changes the initial window, and with it the windows of
// all streams (RFC 9113, section 6.9.2).
func (c *conn) streamWindowLocked(v int64) error {
	delta := v - c.streamWindow
	c.streamWindow = v
	for _, s := range c.streams {
		if !addWindow(&s.sendWindow, delta) {
			return frameError{http2.ErrCodeFlowControl, "a stream's window overflows"}
		}
		c.readyLocked(s)
	}
	return nil
}

func (c *conn) handlePing(f *frame) error {
	switch {
	case f.stream != 0:
		return protocolError("PING on a stream")
	case len(f.payload) != 8:
		return sizeError("PING of a wrong size")
	}
	data := [8]byte(f.payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.has(http2.FlagPingAck) {
		if data == drainPing {
			c.drainedLocked()
		}
		return nil
	}
	if c.police.isTooMany(c.now, c.active > 0) {
		return calmDown("too_many_pings")
	}
	c.out = appendPing(c.out, true, data)
	c.wakeWriterLocked()
	return c.spend(nuisancePing)
}

// handleGoAway is told that the client opens no more streams; it closes the
// connection when it has its answers.
func (c *conn) handleGoAway(f *frame) error {
	if f.stream != 0 {
		return protocolError("GOAWAY on a stream")
	}
	if len(f.payload) < 8 {
		return sizeError("GOAWAY of a wrong size")
	}
	return c.spend(nuisanceOther)
}

func (c *conn) handleWindowUpdate(f *frame) error {
	if len(f.payload) != 4 {
		return sizeError("WINDOW_UPDATE of a wrong size")
	}
	if err := c.spend(nuisanceWindow); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		if n == 0 {
			return protocolError("WINDOW_UPDATE of nothing")
		}
		if !addWindow(&c.sender.window, n) {
			return frameError{http2.ErrCodeFlowControl, "the connection's window overflows"}
		}
		c.wakeWriterLocked()
		return nil
	}
	if f.stream > c.lastID {
		return protocolError("WINDOW_UPDATE on an idle stream")
	}
	s := c.streams[f.stream]
	switch {
	case s == nil:
		return nil // it has ended meanwhile
	case n == 0:
		c.resetLocked(s, http2.ErrCodeProtocol)
	case !addWindow(&s.sendWindow, n):
		c.resetLocked(s, http2.ErrCodeFlowControl)
	default:
		c.readyLocked(s)
		c.wakeWriterLocked()
	}
	return nil
}
