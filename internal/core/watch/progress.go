package watch

import (
	"cmp"
	"slices"
)

// Progress is a client's wish to know how far the stream has come. It is
// answered on NoID once every event up to the revision published now has been
// taken. A stream without watchers, or with one that starts in the future,
// does not answer.
//
// Etcd drops the request when a watcher lags; here it is remembered. One
// pending request stands for any number of them.
func (h *Hub) Progress(s *Stream) {
	if len(s.watchers) == 0 || s.startsAfter(h.published) {
		return
	}
	if !s.waits {
		s.waits = true
		h.asking = append(h.asking, s)
	}
	s.asked = h.published
	h.wakeAskers()
}

// Notify has the stream tell its revision to the watchers that wish so and got
// nothing since the last call. Those not in step are left out.
func (h *Hub) Notify(s *Stream) {
	for _, w := range s.watchers {
		if w.notify && !w.active && !w.owed && h.isUpToDate(w) {
			w.owed = true
			s.notify = append(s.notify, w)
		}
		w.active = false
	}
	if len(s.notify) > 0 {
		// A map has no order, the same run should have the same answers.
		slices.SortFunc(s.notify, func(a, b *watcher) int { return cmp.Compare(a.id, b.id) })
		h.wake(s)
	}
}

// isUpToDate reports whether w has been given everything up to matched and
// has started by then.
func (h *Hub) isUpToDate(w *watcher) bool {
	return w.state == inStep && w.next <= h.matched+1 && w.start <= h.matched
}

// startsAfter reports whether a watcher of the stream starts after rev.
func (s *Stream) startsAfter(rev int64) bool {
	for _, w := range s.watchers {
		if w.start > rev {
			return true
		}
	}
	return false
}

// canAnswer reports whether a waiting progress request can be answered as soon
// as the queue of s is empty.
func (h *Hub) canAnswer(s *Stream) bool {
	return s.waits && len(s.behind) == 0 && h.matched >= s.asked
}

func (h *Hub) wakeAskers() {
	for _, s := range h.asking {
		if h.canAnswer(s) {
			h.wake(s)
		}
	}
}

func (h *Hub) stopAsking(s *Stream) {
	if s.waits {
		s.waits = false
		h.asking = slices.DeleteFunc(h.asking, func(o *Stream) bool { return o == s })
	}
}

// appendProgress appends what may be said about s when nothing is queued.
func (h *Hub) appendProgress(s *Stream, out []Response) []Response {
	for _, w := range s.notify {
		w.owed = false
		if s.watchers[w.id] == w && !w.active && h.isUpToDate(w) {
			out = append(out, Response{ID: w.id, Rev: h.matched})
		}
	}
	s.notify = nil
	if !h.canAnswer(s) {
		return out
	}
	h.stopAsking(s)
	if len(s.watchers) == 0 || s.startsAfter(h.matched) {
		return out
	}
	return append(out, Response{ID: NoID, Rev: h.matched})
}
