package h2grpc

import (
	"context"
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Receiving and its windows.
//
// The connection's window is given back as soon as DATA is read: it never makes
// one call wait for another. What bounds memory is the window of each stream.
// It begins at streamWindow, and what a handler takes is given back. A message
// that does not fit into it gets the missing part as a loan, out of a budget of
// the connection; without room in the budget the message waits, in order,
// until another one has been taken. A message that has its loan can always
// complete, so loans cannot block each other, and one that does not complete in
// time is given up (inspectMessagesLocked).

// loanBook holds what a connection has lent. Guarded by conn.mu.
type loanBook struct {
	budget int64
	lent   int64
	queue  []*stream // wait for a loan, in order; may have ended meanwhile
}

// askLoanLocked sees to it that the client can send n more bytes on s than its
// window allows.
func (c *conn) askLoanLocked(s *stream) {
	if len(c.loans.queue) > 0 || !c.lendLocked(s) {
		c.loans.queue = append(c.loans.queue, s)
	}
}

// lendLocked gives s the loan it needs if the budgets allow it.
func (c *conn) lendLocked(s *stream) bool {
	n := s.missing() - s.recvWindow
	if !s.isOpen || n <= 0 {
		return true
	}
	if c.loans.lent+n > c.loans.budget || c.srv.loaned.Load()+n > c.srv.opt.Limits.TotalRecvBytes/2 {
		return false
	}
	c.loans.lent += n
	c.srv.loaned.Add(n)
	s.loan += n
	s.recvWindow += n
	c.out = appendWindowUpdate(c.out, s.id, n)
	c.wakeWriterLocked()
	return true
}

func (c *conn) returnLoanLocked(s *stream, n int64) {
	if n == 0 {
		return
	}
	s.loan -= n
	c.loans.lent -= n
	c.srv.loaned.Add(-n)
	c.retryLoansLocked()
}

func (c *conn) retryLoansLocked() {
	q := &c.loans.queue
	for len(*q) > 0 && c.lendLocked((*q)[0]) {
		(*q)[0] = nil
		*q = (*q)[1:]
	}
}

// missing is how many bytes the message that is coming in still lacks, as far
// as it has said.
func (s *stream) missing() int64 {
	part := s.in[s.scanned:]
	if len(part) < prefixLen {
		return 0
	}
	return prefixLen + int64(binary.BigEndian.Uint32(part[1:])) - int64(len(part))
}

// prefixLen is the length of what goes before each message:
//
//	compressed (8) | length (32) | message
const prefixLen = 5

// appendInLocked keeps DATA of s until the handler takes it; false if that
// would be more than the connection or the server may hold.
func (c *conn) appendInLocked(s *stream, p []byte) bool {
	n := int64(len(p))
	if s.loan == 0 && (c.held+n > c.srv.opt.Limits.ConnRecvBytes || c.srv.held.Load()+n > c.srv.opt.Limits.TotalRecvBytes) {
		return false
	}
	if len(s.in)+len(p) > cap(s.in) {
		live := s.in[s.taken:]
		grown := make([]byte, len(live), max(2*(len(live)+len(p)), 256))
		copy(grown, live)
		s.in, s.scanned, s.taken = grown, s.scanned-s.taken, 0
	}
	s.in = append(s.in, p...)
	c.held += n
	c.srv.held.Add(n)
	return true
}

func (c *conn) unholdLocked(_ *stream, n int64) {
	c.held -= n
	c.srv.held.Add(-n)
}

// scanLocked finds the messages that are complete now and checks the head of
// the next one.
func (c *conn) scanLocked(s *stream) {
	most := int64(c.srv.opt.RecvMessageMax)
	for {
		part := s.in[s.scanned:]
		if len(part) < prefixLen {
			break
		}
		size := int64(binary.BigEndian.Uint32(part[1:]))
		if size > most {
			s.recvErr = tooLargeError(size, most)
			return
		}
		if int64(len(part)) < prefixLen+size {
			if prefixLen+size-int64(len(part)) > s.recvWindow {
				c.askLoanLocked(s)
			}
			break
		}
		s.scanned += prefixLen + int(size)
		s.waitsSince = time.Time{}
	}
	if s.scanned < len(s.in) && s.waitsSince.IsZero() {
		s.waitsSince = c.now
	}
}

func tooLargeError(size, most int64) error {
	return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", size, most)
}

// takeLocked notes that the handler has taken n bytes and gives the client as
// much window back; small amounts are gathered.
func (c *conn) takeLocked(s *stream, n int) {
	s.taken += n
	c.unholdLocked(s, int64(n))
	back := int64(n)
	if lent := min(back, s.loan); lent > 0 {
		back -= lent
		c.returnLoanLocked(s, lent)
	}
	s.unacked += back
	c.ackLocked(s)
}

func (c *conn) ackLocked(s *stream) {
	if s.unacked < streamWindow/2 || s.remoteClosed || !s.isOpen {
		return
	}
	c.out = appendWindowUpdate(c.out, s.id, s.unacked)
	s.recvWindow += s.unacked
	s.unacked = 0
	c.wakeWriterLocked()
}

// inspectMessagesLocked gives up calls whose request does not come to an end,
// so that what they hold is free for others. A stream of messages may be
// silent between two of them.
func (c *conn) inspectMessagesLocked(now time.Time) {
	limit := c.srv.opt.Limits.MessageTimeout
	if now.Sub(c.messagesSeen) < limit/4 {
		return
	}
	c.messagesSeen = now
	for _, s := range c.streams {
		if s.waitsSince.IsZero() || now.Sub(s.waitsSince) <= limit {
			continue
		}
		c.out = appendReset(c.out, s.id, http2.ErrCodeCancel)
		c.endStreamLocked(s, context.DeadlineExceeded)
		c.wakeWriterLocked()
	}
}
