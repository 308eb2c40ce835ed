package h2grpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"golang.org/x/net/http2"
)

// run serves the call, on a worker or on the connection's own goroutine.
func (s *stream) run() {
	switch m := s.head.target; {
	case m == nil:
		s.serveHTTP()
	case m.unary != nil:
		s.serveUnary()
	default:
		err := s.c.srv.callStream(m, (*serverStream)(s))
		s.finish(statusOf(err))
	}
}

// statusOf is the status that an error of a handler means, as grpc-go has it.
func statusOf(err error) *status.Status {
	if err == nil {
		return statusOK
	}
	if st, ok := status.FromError(err); ok {
		return st
	}
	return status.FromContextError(err)
}

var statusOK = status.New(codes.OK, "")

// finish ends a call whose handler has returned.
func (s *stream) finish(st *status.Status) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishLocked(s, st)
	c.returnedLocked(s)
}

func (s *stream) serveUnary() {
	resp, err := s.c.srv.callUnary(s, s.decodeRequest)
	s.request = nil
	if err != nil {
		s.finish(statusOf(err))
		return
	}
	if err := s.reply(resp); err != nil {
		s.finish(statusOf(err))
	}
}

func (s *stream) decodeRequest(v any) error {
	if err := s.decode(s.request, v); err != nil {
		if _, ok := status.FromError(err); ok {
			return err
		}
		return status.Errorf(codes.Internal, "grpc: error unmarshalling request: %v", err)
	}
	return nil
}

// decode reads one message with its prefix into v.
func (s *stream) decode(framed []byte, v any) error {
	p := framed[prefixLen:]
	switch framed[0] {
	case 0:
	case 1:
		var err error
		if p, err = decompress(s.head.encoding, p, s.c.srv.opt.RecvMessageMax); err != nil {
			return err
		}
	default:
		return status.Errorf(codes.Internal, "grpc: received unexpected payload format %d", framed[0])
	}
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("proto: not a message: %T", v)
	}
	if count := s.c.srv.opt.Received; count != nil {
		count(len(p))
	}
	return proto.Unmarshal(p, m)
}

// marshal reuses the size that was computed to find out where to encode to.
var marshal = proto.MarshalOptions{UseCachedSize: true}

func (s *stream) sizeOf(v any) (proto.Message, int, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, 0, status.Errorf(codes.Internal, "grpc: error while marshaling: not a message: %T", v)
	}
	size := proto.Size(m)
	if most := s.c.srv.opt.SendMessageMax; size > most {
		return nil, 0, status.Errorf(codes.ResourceExhausted, "grpc: trying to send message larger than max (%d vs. %d)", size, most)
	}
	if count := s.c.srv.opt.Sent; count != nil {
		count(size)
	}
	return m, size, nil
}

// reply answers a unary call and finishes it.
func (s *stream) reply(v any) error {
	m, size, err := s.sizeOf(v)
	if err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isDirectLocked(s, size) {
		err = c.sendDirectLocked(s, m, size)
	} else {
		err = s.unlocked(func() error { return s.sendQueued(m, size) })
	}
	if err != nil {
		return err
	}
	c.finishLocked(s, statusOK)
	c.returnedLocked(s)
	return nil
}

// unlocked calls f without mu.
func (s *stream) unlocked(f func() error) error {
	s.c.mu.Unlock()
	defer s.c.mu.Lock()
	return f()
}

// isDirectLocked says whether a message can go into out now, in one frame.
func (c *conn) isDirectLocked(s *stream, size int) bool {
	n := int64(prefixLen + size)
	return size <= directMax && s.compress == "" && s.isOpen && len(s.pend) == 0 && len(c.ready) == 0 &&
		len(c.out) < outSoft && n <= s.sendWindow && n <= c.sender.window
}

// sendDirectLocked encodes a message straight into out. What fails to encode
// leaves no trace there but the head of the answer.
func (c *conn) sendDirectLocked(s *stream, m proto.Message, size int) error {
	c.beginAnswerLocked(s)
	at := len(c.out)
	b := appendFrameHeader(c.out, prefixLen+size, http2.FrameData, 0, s.id)
	b = append(b, 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	start := len(b)
	b, err := marshal.MarshalAppend(b, m)
	if err != nil || len(b)-start != size {
		c.out = c.out[:at]
		return marshalError(err)
	}
	c.out = b
	s.sendWindow -= int64(prefixLen + size)
	c.sender.window -= int64(prefixLen + size)
	return nil
}

func marshalError(err error) error {
	if err == nil {
		err = errors.New("the message changed meanwhile")
	}
	return status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err)
}

// sendQueued encodes a message into a buffer of its own and leaves it to the
// writer to send it as windows allow. It waits with encoding while the
// connection holds too many answers that its client does not take.
func (s *stream) sendQueued(m proto.Message, size int) error {
	reserved := prefixLen + size
	if err := s.waitSend(reserved); err != nil {
		return err
	}
	buf, b, err := s.encode(m, size)
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unqueueLocked(int64(reserved))
	if err == nil && !s.isOpen {
		err = s.endedError()
	}
	if err != nil {
		c.wakeSendersLocked() // there is room after all
		return err
	}
	c.beginAnswerLocked(s)
	c.queueLocked(s, b)
	s.pendBuf = buf
	return nil
}

// queueLocked leaves b to the writer.
func (c *conn) queueLocked(s *stream, b []byte) {
	s.pend = b
	c.queuedLocked(int64(len(b)))
	c.readyLocked(s)
	c.wakeWriterLocked()
}

// waitSend waits until nothing of s is pending and the connection has room,
// and counts n bytes as queued: of those who wait together only as many go on
// as there is room for. A call on the connection's own goroutine cannot wait:
// only that goroutine hears of open windows.
func (s *stream) waitSend(n int) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case !s.isOpen:
			return s.endedError()
		case len(s.pend) == 0 && (s.isInline || c.queued == 0 || c.queued < c.sendMaxLocked()):
			c.queuedLocked(int64(n))
			return nil
		case len(s.pend) == 0:
			c.waiters = append(c.waiters, s)
		}
		if s.sendWake == nil {
			s.sendWake = make(chan struct{}, 1)
		}
		c.wakeWriterLocked()
		c.mu.Unlock()
		select {
		case <-s.sendWake:
		case <-s.Done():
		}
		c.mu.Lock()
		if s.Err() != nil {
			return s.endedError()
		}
	}
}

// endedError is what a handler hears that talks to a call which has ended.
func (s *stream) endedError() error {
	err := s.Err()
	if err == nil {
		err = context.Canceled
	}
	return status.FromContextError(err).Err()
}

// encode writes a message with its prefix into a buffer from the pool.
func (s *stream) encode(m proto.Message, size int) (*[]byte, []byte, error) {
	buf := bufs.Get().(*[]byte)
	b := append((*buf)[:0], 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	if cap(b) < prefixLen+size {
		b = append(make([]byte, 0, prefixLen+size), b...)
	}
	b, err := marshal.MarshalAppend(b, m)
	if err != nil || len(b) != prefixLen+size {
		return nil, nil, marshalError(err)
	}
	if s.compress != "" && size > 0 {
		if b, err = compress(s.compress, b); err != nil {
			return nil, nil, err
		}
	}
	*buf = b
	return buf, b, nil
}

// unaryStream and serverStream are the stream as grpc's interfaces want to see
// it; SetTrailer differs between them.
type (
	unaryStream  stream
	serverStream stream
)

var (
	_ grpc.ServerTransportStream = (*unaryStream)(nil)
	_ grpc.ServerStream          = (*serverStream)(nil)
)

func (u *unaryStream) Method() string                 { return u.head.path }
func (u *unaryStream) SetHeader(md metadata.MD) error { return (*stream)(u).setHeader(md) }
func (u *unaryStream) SendHeader(md metadata.MD) error {
	return (*stream)(u).sendHeader(md)
}
func (u *unaryStream) SetTrailer(md metadata.MD) error { return (*stream)(u).setTrailer(md) }

var (
	errHeadSent  = status.Error(codes.Internal, "transport: SendHeader called multiple times")
	errCallEnded = status.Error(codes.Internal, "transport: the call has ended")
)

func (s *stream) setHeader(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.headSent || s.end != endNot {
		return errHeadSent
	}
	s.header = metadata.Join(s.header, md)
	return nil
}

func (s *stream) sendHeader(md metadata.MD) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.headSent:
		return errHeadSent
	case !s.isOpen:
		return s.endedError()
	}
	s.header = metadata.Join(s.header, md)
	c.beginAnswerLocked(s)
	c.wakeWriterLocked()
	return nil
}

func (s *stream) setTrailer(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.end != endNot {
		return errCallEnded
	}
	s.trailer = metadata.Join(s.trailer, md)
	return nil
}

func (ss *serverStream) Context() context.Context        { return (*stream)(ss) }
func (ss *serverStream) SetHeader(md metadata.MD) error  { return (*stream)(ss).setHeader(md) }
func (ss *serverStream) SendHeader(md metadata.MD) error { return (*stream)(ss).sendHeader(md) }
func (ss *serverStream) SetTrailer(md metadata.MD)       { _ = (*stream)(ss).setTrailer(md) }

// SendMsg sends one message. It returns once the message is on its way or
// waits for a window; the next one waits for it.
func (ss *serverStream) SendMsg(v any) error {
	s := (*stream)(ss)
	m, size, err := s.sizeOf(v)
	if err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	if c.isDirectLocked(s, size) {
		err := c.sendDirectLocked(s, m, size)
		c.police.forgive()
		c.wakeWriterLocked()
		c.mu.Unlock()
		return err
	}
	c.mu.Unlock()
	return s.sendQueued(m, size)
}

// RecvMsg waits for the next message; io.EOF after the last.
func (ss *serverStream) RecvMsg(v any) error {
	s := (*stream)(ss)
	framed, err := s.nextMessage()
	if err != nil {
		return err
	}
	err = s.decode(framed, v)
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.isOpen {
		c.takeLocked(s, len(framed))
		if !s.head.target.stream.ClientStreams && s.taken < len(s.in) {
			return status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC")
		}
	}
	if err != nil {
		if _, ok := status.FromError(err); !ok {
			err = status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
		}
	}
	return err
}

// nextMessage waits for a complete message. It stays where it is, in s.in or
// what s.in was before it grew, until it is taken.
func (s *stream) nextMessage() ([]byte, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.taken == len(s.in) && s.taken > 0 { // all was taken: begin at the front again
		s.in, s.taken, s.scanned = s.in[:0], 0, 0
	}
	for {
		switch {
		case s.isOpen && s.scanned > s.taken:
			n := messageLen(s.in[s.taken:])
			return s.in[s.taken : s.taken+n : s.taken+n], nil
		case s.recvErr != nil:
			return nil, s.recvErr
		case !s.isOpen:
			return nil, s.endedError()
		case s.remoteClosed && s.taken < len(s.in):
			return nil, status.Error(codes.Internal, io.ErrUnexpectedEOF.Error())
		case s.remoteClosed && s.got == 0 && !s.head.target.stream.ClientStreams:
			return nil, status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")
		case s.remoteClosed:
			return nil, io.EOF
		}
		c.mu.Unlock()
		select {
		case <-s.recvWake:
		case <-s.Done():
		}
		c.mu.Lock()
		if s.isOpen && s.Err() != nil {
			return nil, s.endedError()
		}
	}
}
