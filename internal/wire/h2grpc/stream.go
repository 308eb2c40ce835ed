package h2grpc

import (
	"context"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stream is one call. It is the call's context too, and is not used again
// after the call, because handlers may keep their context.
type stream struct {
	callContext

	id   uint32
	c    *conn
	head *head

	// The request of a unary call once it runs, and whether it runs on the
	// connection's own goroutine; owned by the call.
	request  []byte
	isInline bool

	// The rest is guarded by conn.mu.
	isOpen       bool // in conn.streams: frames for it have a meaning
	isRunning    bool // its handler has been started and has not returned
	remoteClosed bool // the client will send no more DATA

	// Receiving: in[taken:] is not taken by the handler yet; scanned is where
	// the first message begins that is not complete. 0 <= taken <= scanned <= len(in).
	in             []byte
	taken, scanned int
	got            int64     // bytes of DATA altogether
	recvWindow     int64     // what the client may still send
	unacked        int64     // what it may be given back
	loan           int64     // what it was given beyond streamWindow
	recvErr        error     // the next Recv has to fail with
	waitsSince     time.Time // for the rest of a message
	recvWake       chan struct{}

	// Sending.
	pend       []byte // DATA that waits for a window
	pendBuf    *[]byte
	sendWindow int64
	isReady    bool // in conn.ready
	sendWake   chan struct{}
	headSent   bool
	header     metadata.MD
	trailer    metadata.MD
	compress   string // of answers; empty for none
	end        endKind
	endStatus  *status.Status
	refusedBy  int // HTTP status of an answer that is none; 0 for 200
}

// endKind is what follows the last DATA.
type endKind int

const (
	endNot      endKind = iota // the call goes on
	endTrailers                // gRPC's trailers
	endData                    // nothing: END_STREAM on the last DATA (not gRPC)
)

// bufs are for messages too large to be encoded in place. They are owned by
// the stream whose pend they back, and go back when it is sent or ends.
var bufs = sync.Pool{New: func() any { return new([]byte) }}

const bufKeepMax = 256 << 10

func (s *stream) releasePendLocked() {
	s.pend = nil
	if b := s.pendBuf; b != nil {
		s.pendBuf = nil
		if cap(*b) <= bufKeepMax {
			bufs.Put(b)
		}
	}
}

func (s *stream) wakeSender() { wake(s.sendWake) }

// wake lets whoever waits on ch look again. A nil channel has nobody.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// endStreamLocked forgets a stream: answered, reset or cut off.
func (c *conn) endStreamLocked(s *stream, why error) {
	if !s.isOpen {
		return
	}
	s.isOpen = false
	delete(c.streams, s.id)
	c.recent[c.recentAt%len(c.recent)] = s.id
	c.recentAt++
	if len(s.pend) > 0 {
		c.unqueueLocked(int64(len(s.pend)))
		if c.queued == 0 {
			c.stalledSince = time.Time{}
		}
		s.pend = nil // whoever encoded it may still hold pendBuf
	}
	c.unholdLocked(s, int64(len(s.in)-s.taken))
	s.in, s.taken, s.scanned = nil, 0, 0
	c.returnLoanLocked(s, s.loan)
	if !s.isRunning {
		c.active--
	}
	s.cancel(why)
	s.wakeSender()
	wake(s.recvWake)
	if len(c.waiters) > 0 {
		c.wakeSendersLocked()
	}
	c.maybeFinishLocked()
}

// startLocked notes that a handler is about to run.
func (s *stream) startLocked() { s.isRunning, s.waitsSince = true, time.Time{} }

// returnedLocked notes that the handler is through.
func (c *conn) returnedLocked(s *stream) {
	s.isRunning = false
	if !s.isOpen {
		c.active--
	}
}

// resetLocked ends a stream that broke the rules, or that we give up.
func (c *conn) resetLocked(s *stream, code http2.ErrCode) {
	c.out = appendReset(c.out, s.id, code)
	c.endStreamLocked(s, context.Canceled)
	c.wakeWriterLocked()
}

// beginAnswerLocked writes the head of the answer before the first DATA.
func (c *conn) beginAnswerLocked(s *stream) {
	if s.headSent {
		return
	}
	s.headSent = true
	var block [512]byte
	b := c.headOut.appendHead(block[:0])
	if s.compress != "" {
		b = appendField(b, "grpc-encoding", s.compress)
	}
	b = appendMetadata(b, s.header)
	c.out = appendHeaderBlock(c.out, s.id, b, false, c.frameMax)
	c.police.forgive()
}

// finishLocked ends the answer with st, behind what is still pending.
func (c *conn) finishLocked(s *stream, st *status.Status) {
	if !s.isOpen || s.end != endNot {
		return
	}
	s.end, s.endStatus = endTrailers, st
	c.maybeEndLocked(s)
	c.wakeWriterLocked()
}

// maybeEndLocked writes what ends an answer if all before it has been sent.
func (c *conn) maybeEndLocked(s *stream) {
	if s.end == endNot || len(s.pend) > 0 || !s.isOpen {
		return
	}
	if s.end == endTrailers {
		c.trailersLocked(s)
	}
	if !s.remoteClosed { // it need not send the rest (RFC 9113, section 8.1)
		c.out = appendReset(c.out, s.id, http2.ErrCodeNo)
	}
	c.endStreamLocked(s, context.Canceled)
}

// trailersLocked writes the trailers, or an answer of nothing else.
func (c *conn) trailersLocked(s *stream) {
	var block [512]byte
	b := block[:0]
	only := !s.headSent
	if only {
		if s.refusedBy != 0 {
			b = c.headOut.appendRefusal(b, s.refusedBy)
		} else {
			b = c.headOut.appendHead(b)
		}
		b = appendMetadata(b, s.header)
	}
	b = c.headOut.appendStatus(b, s.endStatus, only)
	b = appendMetadata(b, s.trailer)
	c.out = appendHeaderBlock(c.out, s.id, b, true, c.frameMax)
	c.police.forgive()
}
