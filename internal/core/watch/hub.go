// Package watch decides which watcher gets which event.
//
// It owns the watchers of all streams, the index that finds them by key, a
// bounded log of the newest revisions and the queue of each stream. It promises
// each watcher the events of its keys in revision order, none missing and none
// twice, and all events of one revision together; how far it may lag is bounded
// in bytes, not in time. It leaves to others: goroutines and locks (package
// member/watching), the history on disk (package mvcc) and the wire (package
// front/rpc).
//
// The model. Everybody who watches is a cursor into the same history:
//
//	compacted          log starts        matched        published
//	    |                   |               |               |
//	----+-------------------+---------------+---------------+----> revision
//	     history, by a scan    log, in memory   not looked at yet
//
// Watchers that are in step share one cursor, matched: Advance takes the next
// published revision, finds by the index who wants it and appends to their
// streams' queues. A watcher whose stream has no room is taken out of step: it
// is behind and has a cursor of its own, a single number. Those behind are
// caught up in bounded batches, from the log where it reaches back far enough
// and else by a scan of the history that the caller makes outside every lock
// (NextScan, Feed). One batch serves everyone whose cursor lies in it. When a
// cursor meets matched, its watcher is in step again.
//
// The simpler way, a channel per watcher filled by whoever commits, makes the
// committer pay for the slowest reader or lose events; here a commit costs one
// append, and a reader that sleeps for an hour costs one number.
//
// See DESIGN.md for what bounds each queue.
package watch

import (
	"github.com/steledb/stele/internal/core/mvcc"
)

// Options are the bounds of a hub. Zero values mean the defaults.
type Options struct {
	// StreamBytes bounds what is queued for one stream. One revision of one
	// watcher is always admitted to an empty queue, however large it is.
	StreamBytes int
	// ResponseBytes is where the events of several revisions are cut into
	// separate responses. A single revision is never cut here.
	ResponseBytes int
	// LogBytes bounds the log of the newest revisions.
	LogBytes int
	// BatchChanges is how many changes one catch-up batch looks at, and
	// StepDeliveries after how many queued events Advance and Feed return, at
	// the end of a revision. Both bound how long a caller holds its lock around
	// the hub.
	BatchChanges   int
	StepDeliveries int
}

// Defaults: 1000 streams that stand still hold 8 GiB at the very worst, when
// all of them have different large events queued; the usual case is that they
// share the events and hold 8 bytes for each.
const (
	DefaultStreamBytes    = 8 << 20
	DefaultResponseBytes  = 1 << 20
	DefaultLogBytes       = 16 << 20
	DefaultBatchChanges   = 2000
	DefaultStepDeliveries = 10000
)

func (o Options) withDefaults() Options {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&o.StreamBytes, DefaultStreamBytes)
	set(&o.ResponseBytes, DefaultResponseBytes)
	set(&o.LogBytes, DefaultLogBytes)
	set(&o.BatchChanges, DefaultBatchChanges)
	set(&o.StepDeliveries, DefaultStepDeliveries)
	return o
}

// Values reads what was stored at a revision, for prev_kv. A value that is
// gone, because it was compacted, is nil.
type Values interface {
	Load(rev mvcc.Rev) ([]byte, error)
}

// Hub is the state of all watching of one member. It is not safe for
// concurrent use; its streams belong to it and are not either.
//
// Invariants: compacted, matched <= published; a watcher in step has been
// given everything <= matched; a watcher behind has next <= matched.
type Hub struct {
	opt Options

	published int64 // newest revision handed in by Publish
	matched   int64 // newest revision that was given to the watchers in step
	compacted int64 // newest compact revision heard of; -1 before any

	log      revLog
	index    index
	streams  map[*Stream]struct{}
	catching catchUp

	asking []*Stream // streams that wait for the answer to a progress request
	woken  []*Stream // streams that got output since TakeWoken
	stats  Stats
}

// Stats are the hub's counts. All but Events are of the moment.
type Stats struct {
	Streams  int
	Watchers int
	Behind   int    // watchers that are not in step
	Events   uint64 // events queued so far
	Pending  int    // events queued and not taken
	LogBytes int
}

// New returns a hub without watchers over a store at revision rev.
func New(rev, compacted int64, opt Options) *Hub {
	return &Hub{
		opt:       opt.withDefaults(),
		published: rev,
		matched:   rev,
		compacted: compacted,
		log:       newRevLog(rev + 1),
		index:     newIndex(),
		streams:   map[*Stream]struct{}{},
	}
}

// Rev returns the newest revision published.
func (h *Hub) Rev() int64 { return h.published }

// Stats returns the counts of the moment.
func (h *Hub) Stats() Stats {
	s := h.stats
	s.Streams = len(h.streams)
	s.LogBytes = h.log.bytes
	return s
}

// Publish tells the hub that the store is now at rev. The changes are those of
// all revisions since the one published before, in order; the hub keeps the
// slice. If they are not all there, after a snapshot from another member for
// example, the watchers find them by a scan.
func (h *Hub) Publish(rev int64, changes []mvcc.Change) {
	if rev <= h.published {
		return
	}
	if !contiguous(h.published+1, rev, changes) {
		h.Skip(rev)
		return
	}
	for len(changes) > 0 {
		n := revisionLen(changes)
		h.log.append(&revision{rev: changes[0].Mod.Main, changes: changes[:n:n]})
		changes = changes[n:]
	}
	h.published = rev
	h.log.trim(h.opt.LogBytes)
	if h.log.first > h.matched+1 {
		h.loseStep()
	}
}

// Skip tells the hub that the store is now at rev without saying how it came
// there. Everyone who was in step is behind then.
func (h *Hub) Skip(rev int64) {
	if rev <= h.published {
		return
	}
	h.published = rev
	h.log = newRevLog(rev + 1)
	h.loseStep()
}

// Compacted tells the hub that history below rev is going away.
func (h *Hub) Compacted(rev int64) { h.compacted = max(h.compacted, rev) }

// Advance does a bounded piece of the work that needs no history: it gives
// published revisions to the watchers in step, then one batch of the log to
// those behind. It reports whether there is more of either to do at once.
func (h *Hub) Advance(values Values) (more bool) {
	h.match(values)
	h.catchUpFromLog(values)
	h.wakeAskers()
	return h.matched < h.published || h.canCatchUpFromLog()
}

// match gives the next published revisions to the watchers in step.
func (h *Hub) match(values Values) {
	until := h.stats.Events + uint64(h.opt.StepDeliveries)
	for h.matched < h.published && h.stats.Events < until {
		r := h.log.at(h.matched + 1)
		for i := range r.changes {
			h.matchChange(r, i, values)
		}
		h.matched = r.rev
	}
	h.log.trim(h.opt.LogBytes)
}

func (h *Hub) matchChange(r *revision, i int, values Values) {
	c := &r.changes[i]
	h.index.each(c.Key, func(w *watcher) {
		if w.state == inStep && w.next <= r.rev && w.wants(c) {
			h.deliver(w, h.event(r, i, w.prevKV, values))
		}
	})
}

// event returns the i-th event of r in the form the watcher asked for. It is
// built when the first watcher needs it and shared by all of them.
func (h *Hub) event(r *revision, i int, withPrev bool, values Values) *Event {
	e, grown := r.event(i, withPrev, func(rev mvcc.Rev) []byte {
		if values == nil {
			return nil
		}
		// A value that cannot be read is a value that is gone: prev_kv is a
		// courtesy that compaction takes away at any moment.
		b, err := values.Load(rev)
		if err != nil {
			return nil
		}
		return b
	})
	if grown > 0 && h.log.holds(r) {
		h.log.bytes += grown
	}
	return e
}

// deliver queues one event for a watcher, or takes the watcher out of step at
// this revision if its stream has no room.
func (h *Hub) deliver(w *watcher, e *Event) {
	if !h.admits(w, e) {
		dropped := w.dropRevision(e.Rev)
		h.stats.Pending -= dropped
		h.stats.Events -= uint64(dropped)
		w.stream.blocked = true
		h.fallBehind(w, e.Rev)
		return
	}
	w.enqueue(e)
	h.stats.Events++
	h.stats.Pending++
	h.wake(w.stream)
}

// loseStep takes everyone out of step who needs a revision between matched and
// published: the log does not have it any more.
func (h *Hub) loseStep() {
	from, to := h.matched+1, h.published
	h.matched = h.published
	for s := range h.streams {
		for _, w := range s.watchers {
			if w.state == inStep && w.next <= to {
				h.fallBehind(w, max(w.next, from))
			}
		}
	}
}

// wake notes that s has output.
func (h *Hub) wake(s *Stream) {
	if !s.woken {
		s.woken = true
		h.woken = append(h.woken, s)
	}
}

// TakeWoken calls fn for each stream that got output since the last call.
func (h *Hub) TakeWoken(fn func(*Stream)) {
	for i, s := range h.woken {
		s.woken = false
		h.woken[i] = nil
		fn(s)
	}
	h.woken = h.woken[:0]
}
