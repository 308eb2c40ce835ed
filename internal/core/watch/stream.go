package watch

import "slices"

// NoID is the watch id of answers that concern no watcher.
const NoID = -1

// Response is one message to a client, short of the header's other fields.
type Response struct {
	ID       int64
	Rev      int64 // of the header
	Created  bool
	Canceled bool   // with Created: the request was refused
	Reason   string // why, if refused
	// Compacted is the compact revision that cancelled the watcher.
	Compacted int64
	// Events are those of whole revisions. A response with neither events nor
	// a flag reports progress: nothing at or below Rev is still to come.
	Events   []*Event
	Fragment bool // the client accepts this response in pieces
}

// Stream is the watching of one client stream: its watchers and what waits to
// be sent to it. Owned by the hub.
type Stream struct {
	watchers map[int64]*watcher
	nextID   int64

	// control are answers to requests, which go before all events. The reader
	// of requests bounds it: it stops reading while Controls is large.
	control []Response
	// ready are the watchers with events, or a cancellation, to be taken, in
	// the order they got there. Each stands in it once.
	ready []*watcher
	// bytes is what is queued for all watchers, at most StreamBytes and one
	// revision of one watcher.
	bytes int

	behind []*watcher // in no order
	// blocked says that the queue was full, or an event did not fit, and too
	// little has been taken since: trying again would be in vain.
	blocked bool

	// asked is set while a progress request waits for an answer, to the
	// revision that the answer must have reached.
	asked  int64
	waits  bool       // asked is set
	notify []*watcher // owed a progress notification

	woken bool
	slot  int // position in hub.catching.streams; -1 if not in it
}

// Open adds a stream.
func (h *Hub) Open() *Stream {
	s := &Stream{watchers: map[int64]*watcher{}, slot: -1}
	h.streams[s] = struct{}{}
	return s
}

// Close removes a stream and all its watchers.
func (h *Hub) Close(s *Stream) {
	for _, w := range s.watchers {
		h.remove(w)
	}
	delete(h.streams, s)
	h.stopAsking(s)
	*s = Stream{slot: -1}
}

// Controls returns how many answers to requests wait to be taken.
func (s *Stream) Controls() int { return len(s.control) }

// Behind returns how many of the stream's watchers are not in step.
func (s *Stream) Behind() int { return len(s.behind) }

// Watchers returns how many watchers the stream has.
func (s *Stream) Watchers() int { return len(s.watchers) }

func (s *Stream) reply(r Response) { s.control = append(s.control, r) }

// line has w stand in line for being taken.
func (s *Stream) line(w *watcher) {
	if !w.ready {
		w.ready = true
		s.ready = append(s.ready, w)
	}
}

// forget takes w off the stream. It may still stand in ready, emptied; Drain
// steps over it.
func (s *Stream) forget(w *watcher) {
	if s.watchers[w.id] == w {
		delete(s.watchers, w.id)
	}
}

// admits reports whether e may be queued for w: the stream has room, or
// nothing but the revision that e belongs to is queued. The second keeps a
// revision larger than the bound from never being sent.
func (h *Hub) admits(w *watcher, e *Event) bool {
	if !h.isFull(w.stream) {
		return true
	}
	return w.lastRev == e.Rev && w.lastCount > 0 && w.stream.bytes == w.lastBytes
}

func (h *Hub) isFull(s *Stream) bool { return s.bytes >= h.opt.StreamBytes }

// hasRoom says when a stream that was full is worth catching up again. Half of
// the bound is free then, so that a batch is not broken off at once.
func (h *Hub) hasRoom(s *Stream) bool { return s.bytes <= h.opt.StreamBytes/2 }

// Drain takes output from s: answers first, then about limit bytes of events,
// at last progress. It reports whether there is more to take at once.
func (h *Hub) Drain(s *Stream, limit int) (out []Response, more bool) {
	out, s.control = slices.Grow(s.control, min(len(s.ready), limit/eventOverheadBytes+1)), nil
	for len(s.ready) > 0 && limit > 0 {
		w := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		w.ready = false
		var bytes int
		out, bytes = h.takeFrom(w, out)
		limit -= bytes
	}
	h.unblock(s)
	if len(s.ready) > 0 {
		return out, true
	}
	s.ready = nil
	return h.appendProgress(s, out), false
}

// takeFrom appends one response of a watcher and returns its size. A watcher
// with more to say goes to the end of the line, so that it does not hold up
// the others.
func (h *Hub) takeFrom(w *watcher, out []Response) (_ []Response, bytes int) {
	if len(w.queue) > 0 {
		bytes = w.queueBytes
		events := w.take(h.opt.ResponseBytes)
		bytes -= w.queueBytes
		h.stats.Pending -= len(events)
		out = append(out, Response{ID: w.id, Rev: h.published, Fragment: w.fragment, Events: events})
	}
	switch {
	case len(w.queue) > 0:
		w.stream.line(w)
	case w.state == closing && w.stream.watchers[w.id] == w:
		out = append(out, Response{ID: w.id, Canceled: true, Compacted: w.compacted})
		h.remove(w)
	}
	return out, bytes
}
