package h2grpc

import (
	"runtime"
	"time"

	"golang.org/x/net/http2"
)

// sender is the sending half of a connection, guarded by conn.mu.
//
// out gathers frames; the writer takes all of it at once. An answer that fits
// goes straight there. One that does not - because a window is closed or out is
// full - waits in its stream's pend, and streams with something to send and a
// window to send it take turns in ready.
type sender struct {
	out, spare []byte
	rest       []byte // of a write that could not be finished without waiting; goes first
	isWriting  bool   // somebody is in a write
	isReading  bool   // the reader works on a batch and will flush after it
	headOut    headWriter

	window       int64 // of the connection
	streamWindow int64 // that new streams begin with
	frameMax     int   // largest payload the client takes

	ready        []*stream
	queued       int64     // bytes in all pend, and on their way there
	waiters      []*stream // calls that wait until queued is below its limit, in order
	stalledSince time.Time // nothing of queued has moved
}

// hasWorkLocked says whether the writer has something to do.
func (c *conn) hasWorkLocked() bool {
	return len(c.rest)+len(c.out) > 0 || (len(c.ready) > 0 && c.sender.window > 0)
}

// wakeWriterLocked is called by whoever has put something into out or ready.
// While the reader works on a batch nobody is woken: it flushes at the end, and
// answers of one batch leave together.
func (c *conn) wakeWriterLocked() {
	if !c.isReading && !c.isWriting {
		c.changed.Broadcast()
	}
}

// writeLoop sends until the connection is closed and nothing is left.
func (c *conn) writeLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for (c.isWriting || c.isReading || !c.hasWorkLocked()) && !c.closed {
			c.changed.Wait()
		}
		if c.closed && (c.isWriting || !c.hasWorkLocked()) {
			if !c.isWriting {
				c.closeWriteLocked()
				return
			}
			c.changed.Wait()
			continue
		}
		// Those whose answers became ready together with the one that woke us
		// get to put theirs in too.
		if !c.closed && len(c.out) < outSoft/2 {
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
			if c.isWriting || c.isReading {
				continue
			}
		}
		if !c.writeLocked() {
			c.closeWriteLocked()
			return
		}
	}
}

// closeWriteLocked wakes a reader that waits for a client which has nothing
// more to say, or for room.
func (c *conn) closeWriteLocked() {
	c.out, c.rest, c.ready = nil, nil, nil
	c.changed.Broadcast()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// writeLocked sends what there is in one write, without mu meanwhile.
func (c *conn) writeLocked() bool {
	c.fillLocked()
	first, buf := c.rest, c.out
	c.rest, c.out, c.spare = nil, c.spare[:0], nil
	c.isWriting, c.writeSince = true, time.Now()
	c.mu.Unlock()
	var err error
	if len(first) > 0 {
		_, err = c.nc.Write(first)
	}
	if err == nil && len(buf) > 0 {
		_, err = c.nc.Write(buf)
	}
	c.mu.Lock()
	c.wroteLocked(buf)
	if err != nil {
		c.closeLocked(err)
		return false
	}
	return true
}

// wroteLocked takes the buffer back and lets those go on who wait for room.
func (c *conn) wroteLocked(buf []byte) {
	c.isWriting, c.writeSince = false, time.Time{}
	if cap(buf) <= 2*outHard {
		c.spare = buf[:0]
	}
	c.wakeSendersLocked()
	c.changed.Broadcast()
}

// flushBatch ends a batch of the reader: what it and others have put into out
// meanwhile leaves now. If the socket takes it at once, nobody is woken for it;
// the reader itself never waits for a client to read, because the client may
// wait for us to do so.
func (c *conn) flushBatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isReading = false
	if c.isWriting || !c.hasWorkLocked() {
		return
	}
	if c.raw == nil || c.closed || len(c.rest) > 0 {
		c.changed.Broadcast()
		return
	}
	c.fillLocked()
	buf := c.out
	c.out, c.spare = c.spare[:0], nil
	c.isWriting = true
	c.mu.Unlock()
	n := c.raw.tryWrite(buf)
	c.mu.Lock()
	if n < len(buf) {
		c.rest, buf = buf[n:], nil
	}
	c.isWriting = false
	if buf != nil {
		c.spare = buf[:0]
	}
	c.wakeSendersLocked()
	if c.hasWorkLocked() || c.closed {
		c.changed.Broadcast()
	}
}

// waitRoom holds the reader up while the client does not take what it asked
// for: no more questions are read before answers leave.
func (c *conn) waitRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out)+len(c.rest) > outHard && !c.closed {
		c.isReading = false
		c.changed.Broadcast()
		c.changed.Wait()
	}
}

// fillLocked moves pending DATA into out as windows and outSoft allow.
func (c *conn) fillLocked() {
	for len(c.ready) > 0 && len(c.out) < outSoft && c.sender.window > 0 {
		s := c.ready[0]
		c.ready[0] = nil
		c.ready = c.ready[1:]
		s.isReady = false
		if s.isOpen {
			c.sendPartLocked(s)
		}
	}
	if len(c.ready) == 0 {
		c.ready = nil
	}
}

// sendPartLocked sends one frame of a stream's pending bytes.
func (c *conn) sendPartLocked(s *stream) {
	n := min(int64(len(s.pend)), int64(c.frameMax), s.sendWindow, c.sender.window)
	if n > 0 {
		c.stalledSince = time.Time{}
		last := int(n) == len(s.pend)
		var flags http2.Flags
		if last && s.end == endData {
			flags = http2.FlagDataEndStream
		}
		c.out = appendFrameHeader(c.out, int(n), http2.FrameData, flags, s.id)
		c.out = append(c.out, s.pend[:n]...)
		s.pend = s.pend[n:]
		s.sendWindow -= n
		c.sender.window -= n
		c.unqueueLocked(n)
		c.spendWindowLocked()
	}
	if len(s.pend) > 0 {
		c.readyLocked(s)
		return
	}
	s.releasePendLocked()
	s.wakeSender()
	c.maybeEndLocked(s)
}

// spendWindowLocked notes that DATA went out, for which the client may ping and
// open windows.
func (c *conn) spendWindowLocked() { c.police.forgive() }

func (c *conn) queuedLocked(n int64) {
	c.queued += n
	c.srv.queued.Add(n)
}

func (c *conn) unqueueLocked(n int64) {
	c.queued -= n
	c.srv.queued.Add(-n)
}

// readyLocked gives a stream its turn if it can send.
func (c *conn) readyLocked(s *stream) {
	if !s.isReady && s.isOpen && len(s.pend) > 0 && s.sendWindow > 0 {
		s.isReady = true
		c.ready = append(c.ready, s)
	}
	if c.stalledSince.IsZero() && len(s.pend) > 0 {
		c.stalledSince = time.Now()
	}
}

// sendMaxLocked is what may be queued before calls wait with encoding.
func (c *conn) sendMaxLocked() int64 {
	l := &c.srv.opt.Limits
	if c.srv.queued.Load() > l.TotalSendBytes {
		return min(connSendShare, l.ConnSendBytes)
	}
	return l.ConnSendBytes
}

// wakeSendersLocked lets waiting calls go on while there is room.
func (c *conn) wakeSendersLocked() {
	if len(c.waiters) == 0 {
		return
	}
	room := c.sendMaxLocked() - c.queued
	for len(c.waiters) > 0 && (room > 0 || c.closed) {
		s := c.waiters[0]
		c.waiters[0] = nil
		c.waiters = c.waiters[1:]
		s.wakeSender()
		room -= connSendShare // it will queue something; not all may come at once
	}
	if len(c.waiters) == 0 {
		c.waiters = nil
	}
}

// addWindow takes a WINDOW_UPDATE or a change of the initial window.
func addWindow(window *int64, n int64) bool {
	*window += n
	return *window <= 1<<31-1
}
