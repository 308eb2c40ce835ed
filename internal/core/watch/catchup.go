package watch

import (
	"github.com/steledb/stele/internal/core/mvcc"
)

// catchUp is who is behind and who of them had the last turn.
//
// Turns go round the cursors, not the watchers: a batch starts at one cursor,
// serves all the cursors it passes, and the next batch starts at the next
// higher cursor that it did not reach, or at the lowest again. So a watcher
// that lags by ten revisions waits for at most one batch of each other lag,
// not for one that replays everything, and watchers that meet go on together.
type catchUp struct {
	// streams have a watcher that is behind and, when they were last looked at,
	// room. Blocked streams are not in it and cost nothing until they are drained.
	streams []*Stream
	last    int64  // cursor at which the last batch ended
	batch   uint64 // number of the last batch
}

// Scan is a piece of history that the hub wants: the changes of the revisions
// [From, To]. It may be answered in part, but by whole revisions from From on.
type Scan struct {
	From, To int64
	// Where either is reached, the answer ends with that revision.
	MaxChanges, MaxBytes int
}

// fallBehind takes a watcher out of step; rev is the first revision it lacks.
func (h *Hub) fallBehind(w *watcher, rev int64) {
	w.next = rev
	w.batch = 0
	if w.state == behind {
		return
	}
	s := w.stream
	w.state, w.behindSlot = behind, len(s.behind)
	s.behind = append(s.behind, w)
	h.stats.Behind++
	h.resume(s)
}

// catchUpDone takes a watcher off the list of those behind.
func (h *Hub) catchUpDone(w *watcher) {
	s := w.stream
	last := len(s.behind) - 1
	s.behind[w.behindSlot] = s.behind[last]
	s.behind[w.behindSlot].behindSlot = w.behindSlot
	s.behind[last] = nil
	s.behind = s.behind[:last]
	h.stats.Behind--
	if last == 0 {
		h.pause(s)
	}
}

// unblock is called when something was taken from s.
func (h *Hub) unblock(s *Stream) {
	if h.hasRoom(s) {
		s.blocked = false
	}
	h.resume(s)
}

// resume has s take part in catching up, if it can.
func (h *Hub) resume(s *Stream) {
	if s.slot < 0 && len(s.behind) > 0 && !s.blocked {
		s.slot = len(h.catching.streams)
		h.catching.streams = append(h.catching.streams, s)
	}
}

// pause has s not take part.
func (h *Hub) pause(s *Stream) {
	if s.slot < 0 {
		return
	}
	list := h.catching.streams
	last := len(list) - 1
	list[s.slot] = list[last]
	list[s.slot].slot = s.slot
	list[last] = nil
	h.catching.streams, s.slot = list[:last], -1
}

// nextCursor chooses where the next batch starts. On the way it ends the
// watchers whose history is gone and lets go of streams that are blocked.
func (h *Hub) nextCursor() (from int64, ok bool) {
	h.reviewCatching()
	lowest, above := int64(0), int64(0)
	for _, s := range h.catching.streams {
		for _, w := range s.behind {
			if lowest == 0 || w.next < lowest {
				lowest = w.next
			}
			if w.next > h.catching.last && (above == 0 || w.next < above) {
				above = w.next
			}
		}
	}
	if above != 0 {
		return above, true
	}
	return lowest, lowest != 0
}

func (h *Hub) reviewCatching() {
	for i := len(h.catching.streams) - 1; i >= 0; i-- {
		s := h.catching.streams[i]
		s.blocked = s.blocked || h.isFull(s)
		if s.blocked {
			h.pause(s)
			continue
		}
		for j := len(s.behind) - 1; j >= 0; j-- {
			if w := s.behind[j]; w.next < h.compacted && !h.log.has(w.next) {
				h.doom(w)
			}
		}
	}
}

func (h *Hub) canCatchUpFromLog() bool {
	from, ok := h.nextCursor()
	return ok && h.log.has(from)
}

// NextScan returns the piece of history to be fed next, if one is needed.
func (h *Hub) NextScan() (Scan, bool) {
	from, ok := h.nextCursor()
	if !ok || h.log.has(from) {
		return Scan{}, false
	}
	return Scan{From: from, To: h.matched, MaxChanges: h.opt.BatchChanges, MaxBytes: h.opt.StreamBytes}, true
}

// Feed gives the changes of the revisions [from, to] to those behind, up to
// the revision that it returns: when much has been queued it stops early, and
// the caller feeds the rest after letting others at the hub.
func (h *Hub) Feed(from, to int64, changes []mvcc.Change, values Values) (last int64) {
	to = min(to, h.matched)
	batch := h.beginBatch(from, to)
	for len(changes) > 0 && changes[0].Mod.Main <= to && batch.left > 0 {
		n := revisionLen(changes)
		r := &revision{rev: changes[0].Mod.Main, changes: changes[:n:n]}
		h.feedRevision(&batch, r, values)
		if changes = changes[n:]; h.stats.Events >= batch.until {
			to = r.rev
		}
	}
	h.endBatch(to)
	return to
}

// ScanFailed tells the hub that a scan could not be answered. Those who need
// another part of history have their turn first.
func (h *Hub) ScanFailed(s Scan) { h.catching.last = s.From }

// catchUpFromLog does one batch of the log, if it is the log's turn.
func (h *Hub) catchUpFromLog(values Values) {
	from, ok := h.nextCursor()
	if !ok || !h.log.has(from) {
		return
	}
	batch := h.beginBatch(from, h.matched)
	rev, changes := from, 0
	for ; rev <= h.matched && batch.left > 0; rev++ {
		if changes >= h.opt.BatchChanges || h.stats.Events >= batch.until {
			break
		}
		r := h.log.at(rev)
		changes += len(r.changes)
		h.feedRevision(&batch, r, values)
	}
	h.endBatch(rev - 1)
}

// batch is one turn of catching up.
type batch struct {
	left  int    // watchers that take part and have not stopped
	until uint64 // count of queued events at which to stop
}

// beginBatch marks who takes part: everyone with a cursor in [from, to] whose
// stream has room.
func (h *Hub) beginBatch(from, to int64) batch {
	h.catching.batch++
	b := batch{until: h.stats.Events + uint64(h.opt.StepDeliveries)}
	for _, s := range h.catching.streams {
		if s.blocked {
			continue
		}
		for _, w := range s.behind {
			if from <= w.next && w.next <= to {
				w.batch = h.catching.batch
				b.left++
			}
		}
	}
	return b
}

// feedRevision gives one revision to those who take part.
func (h *Hub) feedRevision(b *batch, r *revision, values Values) {
	for i := range r.changes {
		c := &r.changes[i]
		h.index.each(c.Key, func(w *watcher) {
			if w.state != behind || w.batch != h.catching.batch || w.next > r.rev || !w.wants(c) {
				return
			}
			h.deliver(w, h.caughtUpEvent(r, i, w.prevKV, values))
			if w.batch != h.catching.batch {
				b.left--
			}
		})
	}
}

// caughtUpEvent is event for a watcher that reads history. A value from before
// the compact revision counts as gone even where it is still stored, so that
// the answer does not depend on how far the compaction has come.
func (h *Hub) caughtUpEvent(r *revision, i int, withPrev bool, values Values) *Event {
	if r.rev-1 < h.compacted {
		withPrev = false
	}
	return h.event(r, i, withPrev, values)
}

// endBatch moves the cursors of those who got through to the last revision
// and puts in step whoever has met the others. A cursor beyond it was not
// reached and stays.
func (h *Hub) endBatch(last int64) {
	h.catching.last = last + 1
	for i := len(h.catching.streams) - 1; i >= 0; i-- {
		s := h.catching.streams[i]
		for j := len(s.behind) - 1; j >= 0; j-- {
			if w := s.behind[j]; w.batch == h.catching.batch && w.next <= last {
				w.next = last + 1
				h.maybeJoin(w)
			}
		}
	}
	h.wakeAskers()
}

func (h *Hub) maybeJoin(w *watcher) {
	if w.next > h.matched {
		h.catchUpDone(w)
		w.state = inStep
	}
}
