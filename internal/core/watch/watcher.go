package watch

import (
	"bytes"
	"errors"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
)

// Request is what a client asks to watch.
type Request struct {
	// Span are the keys. An empty key in it means "\x00", as in the API.
	Span keys.Span
	// Start is the first revision wanted; 0 means the next one to come.
	Start int64
	// ID names the watcher on its stream; 0 lets the stream choose.
	ID int64

	NoPut, NoDelete bool // leave out events of this type
	PrevKV          bool // events carry the value before them
	Fragment        bool // the client can put split responses together
	ProgressNotify  bool // tell the revision now and then while nothing happens
}

// Why a watcher is refused. Users see these texts.
var (
	ErrEmptyRange  = errors.New("mvcc: watcher range is empty")
	ErrDuplicateID = errors.New("mvcc: duplicate watch ID provided on the WatchStream")
	// ErrNegativeStart is refused as compacted: nothing can be before the start.
	ErrNegativeStart = errors.New("etcdserver: mvcc: required revision has been compacted")
)

// state is where a watcher stands.
//
//	          stream full             stream has room
//	inStep -----------------> behind ---------------+
//	   ^                        |  |  batch by batch|
//	   +------------------------+  +<---------------+
//	     cursor meets matched   |
//	                            | history before the cursor is gone
//	                            v
//	                         closing --- cancellation taken ---> gone
//
// A watcher whose start is in the future is in step; it just does not want
// anything before its start.
type state uint8

const (
	inStep state = iota
	behind
	closing // nothing more will be queued; what is queued goes out, then the cancellation
)

// watcher is one watch of one stream. Owned by the hub.
type watcher struct {
	stream *Stream
	id     int64
	span   keys.Span

	noPut, noDelete bool
	prevKV          bool
	fragment        bool
	notify          bool

	state state
	// next is the first revision not yet queued if behind. In step it is the
	// first revision wanted at all, and of no more interest once it has passed.
	next int64
	// start is the first revision that the client asked for; 0 if it left that
	// open.
	start int64
	// compacted is the compact revision that a closing watcher is told.
	compacted int64
	active    bool // events were queued since the last progress notification
	owed      bool // is in stream.notify

	queue      []*Event // not yet taken by the stream's reader
	queueBytes int
	lastRev    int64 // revision of the newest event ever queued
	lastCount  int   // how many events of lastRev are at the end of queue,
	lastBytes  int   // and their bytes

	ready bool // is in stream.ready

	bucket     *bucket // position in the index; nil when closing
	slot       int
	behindSlot int    // position in stream.behind, if behind
	batch      uint64 // the catch-up batch that it takes part in
}

// wants applies the filters.
func (w *watcher) wants(c *mvcc.Change) bool {
	if c.Tombstone {
		return !w.noDelete
	}
	return !w.noPut
}

// enqueue appends an event and has the watcher stand in line on its stream.
func (w *watcher) enqueue(e *Event) {
	size := e.size()
	if e.Rev != w.lastRev {
		w.lastRev, w.lastCount, w.lastBytes = e.Rev, 0, 0
	}
	w.lastCount++
	w.lastBytes += size
	w.queue = append(w.queue, e)
	w.queueBytes += size
	w.stream.bytes += size
	w.active = true
	w.stream.line(w)
}

// dropRevision takes back the events of rev: they did not all fit, and one
// revision is queued whole or not at all. It returns how many they were.
func (w *watcher) dropRevision(rev int64) (dropped int) {
	if w.lastRev != rev || w.lastCount == 0 {
		return 0
	}
	dropped = w.lastCount
	keep := len(w.queue) - dropped
	clear(w.queue[keep:])
	w.queue = w.queue[:keep]
	w.queueBytes -= w.lastBytes
	w.stream.bytes -= w.lastBytes
	w.lastRev, w.lastCount, w.lastBytes = 0, 0, 0
	return dropped
}

// take removes events from the front of the queue: whole revisions up to limit
// bytes, at least one.
func (w *watcher) take(limit int) []*Event {
	if w.queueBytes <= limit {
		out := w.queue
		w.stream.bytes -= w.queueBytes
		w.queue, w.queueBytes = nil, 0
		w.lastCount, w.lastBytes = 0, 0
		return out
	}
	n, size := 0, 0
	for n < len(w.queue) {
		count, bytes := frontRevision(w.queue[n:])
		if n > 0 && size+bytes > limit {
			break
		}
		n, size = n+count, size+bytes
	}
	out := w.queue[:n:n]
	w.queue = w.queue[n:]
	w.queueBytes -= size
	w.stream.bytes -= size
	if len(w.queue) == 0 {
		w.queue, w.lastCount, w.lastBytes = nil, 0, 0
	}
	return out
}

// frontRevision measures the events at the front that share one revision.
func frontRevision(queue []*Event) (count, bytes int) {
	for count < len(queue) && queue[count].Rev == queue[0].Rev {
		bytes += queue[count].size()
		count++
	}
	return count, bytes
}

// Create adds a watcher to s. It is answered by a response in the queue of s,
// whatever becomes of it; the id is the same as there.
func (h *Hub) Create(s *Stream, r Request) (id int64, err error) {
	if len(r.Span.Key) == 0 {
		r.Span.Key = []byte{0}
	}
	if err := s.check(r); err != nil {
		h.Refuse(s, err.Error())
		return NoID, err
	}
	w := s.newWatcher(r)
	s.reply(Response{ID: w.id, Created: true, Rev: h.published})
	h.place(w, r.Start)
	// Progress told after this may not be older than what the new watcher was
	// told, or its client would go back to before it was created.
	s.asked = max(s.asked, h.published)
	h.wake(s)
	return w.id, nil
}

// Refuse answers a create request that may not be tried at all.
func (h *Hub) Refuse(s *Stream, reason string) {
	s.reply(Response{ID: NoID, Created: true, Canceled: true, Reason: reason, Rev: h.published})
	h.wake(s)
}

func (s *Stream) check(r Request) error {
	switch {
	case r.Start < 0:
		return ErrNegativeStart
	case r.Span.IsEmpty():
		return ErrEmptyRange
	case r.ID != 0 && s.watchers[r.ID] != nil:
		return ErrDuplicateID
	}
	return nil
}

// newWatcher names a watcher and puts it on its stream. Chosen ids count up
// from 0 and step over those that clients chose.
func (s *Stream) newWatcher(r Request) *watcher {
	id := r.ID
	if id == 0 {
		for s.watchers[s.nextID] != nil {
			s.nextID++
		}
		id = s.nextID
		s.nextID++
	}
	w := &watcher{
		stream: s, id: id,
		span:  keys.Span{Key: bytes.Clone(r.Span.Key), End: bytes.Clone(r.Span.End)},
		noPut: r.NoPut, noDelete: r.NoDelete,
		prevKV: r.PrevKV, fragment: r.Fragment, notify: r.ProgressNotify,
	}
	s.watchers[id] = w
	return w
}

// place decides where a new watcher stands.
func (h *Hub) place(w *watcher, start int64) {
	h.stats.Watchers++
	h.index.add(w)
	w.start, w.next = start, start
	switch {
	case start == 0:
		w.next = h.published + 1
	case start < h.compacted:
		h.doom(w)
	case start <= h.matched:
		h.fallBehind(w, start)
	}
}

// Cancel removes a watcher at the client's wish, with what was queued for it.
// An id that nobody has is ignored.
func (h *Hub) Cancel(s *Stream, id int64) {
	w := s.watchers[id]
	if w == nil {
		return
	}
	h.remove(w)
	h.unblock(s)
	s.reply(Response{ID: id, Canceled: true, Rev: h.published})
	h.wake(s)
}

// doom ends a watcher that needs history which is gone. What was queued for it
// still goes out; the id stays taken until the cancellation is.
func (h *Hub) doom(w *watcher) {
	if w.state == behind {
		h.catchUpDone(w)
	}
	h.index.remove(w)
	w.state, w.compacted = closing, h.compacted
	w.stream.line(w)
	h.wake(w.stream)
}

// remove forgets a watcher and its queue.
func (h *Hub) remove(w *watcher) {
	if w.state == behind {
		h.catchUpDone(w)
	}
	if w.bucket != nil {
		h.index.remove(w)
	}
	h.stats.Pending -= len(w.take(w.queueBytes))
	w.stream.forget(w)
	w.state = closing
	h.stats.Watchers--
}
