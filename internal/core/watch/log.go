package watch

import (
	"fmt"

	"github.com/steledb/stele/internal/core/mvcc"
)

// revision is all that changed at one main revision, with the events built
// from it so far.
type revision struct {
	rev     int64
	changes []mvcc.Change
	events  []eventForms // nil until someone wants an event
	bytes   int          // what the log counts for it
}

// eventForms are the forms in which watchers get one change.
type eventForms struct {
	plain, withPrev *Event
}

// changeOverheadBytes is what a change costs in memory beside key and record.
const changeOverheadBytes = 128

func (r *revision) sizeBytes() int {
	n := 0
	for i := range r.changes {
		n += len(r.changes[i].Key) + len(r.changes[i].Record) + changeOverheadBytes
	}
	return n
}

// event returns the form of the i-th change that a watcher asked for, and by
// how many bytes the revision has grown.
func (r *revision) event(i int, withPrev bool, load func(mvcc.Rev) []byte) (e *Event, grown int) {
	if r.events == nil {
		r.events = make([]eventForms, len(r.changes))
	}
	forms := &r.events[i]
	if withPrev {
		if forms.withPrev == nil {
			forms.withPrev, grown = r.buildWithPrev(i, load)
			r.bytes += grown
		}
		return forms.withPrev, grown
	}
	if forms.plain == nil {
		forms.plain = newEvent(&r.changes[i], nil)
		grown = forms.plain.size()
		r.bytes += grown
	}
	return forms.plain, grown
}

// buildWithPrev shares the plain form when there is nothing before.
func (r *revision) buildWithPrev(i int, load func(mvcc.Rev) []byte) (e *Event, grown int) {
	if rev, ok := r.prevOf(i); ok {
		if prev := load(rev); prev != nil {
			e = newEvent(&r.changes[i], prev)
			return e, e.size()
		}
	}
	forms := &r.events[i]
	if forms.plain == nil {
		forms.plain = newEvent(&r.changes[i], nil)
		grown = forms.plain.size()
	}
	return forms.plain, grown
}

// prevOf returns where the value before the i-th change was written: before
// the whole revision, as mvcc tells it. A put that creates its key has nothing
// before it, even where the same transaction has just deleted the key.
func (r *revision) prevOf(i int) (mvcc.Rev, bool) {
	c := &r.changes[i]
	if !c.Tombstone && c.Create == c.Mod.Main {
		return mvcc.Rev{}, false
	}
	return c.Prev, c.Prev != mvcc.Rev{} && c.Prev.Main < r.rev
}

// revisionLen returns how many changes at the front share one main revision.
func revisionLen(changes []mvcc.Change) int {
	n := 1
	for n < len(changes) && changes[n].Mod.Main == changes[0].Mod.Main {
		n++
	}
	return n
}

// contiguous reports whether changes hold every revision of [from, to], and
// nothing else, in order.
func contiguous(from, to int64, changes []mvcc.Change) bool {
	next := from
	for i := range changes {
		switch main := changes[i].Mod.Main; {
		case main == next:
			next++
		case main != next-1 || i == 0:
			return false
		}
	}
	return next == to+1
}

// revLog holds the newest revisions without a gap, from first to the newest
// published. It is a ring in the plainest form: a slice with a moving start.
type revLog struct {
	first int64 // revision of revs[start]; next to be appended if empty
	start int
	revs  []*revision
	bytes int
}

func newRevLog(first int64) revLog { return revLog{first: first} }

func (l *revLog) end() int64 { return l.first + int64(len(l.revs)-l.start) }

func (l *revLog) append(r *revision) {
	if r.rev != l.end() {
		panic(fmt.Sprintf("watch: revision %d appended to a log that ends before %d", r.rev, l.end()))
	}
	r.bytes = r.sizeBytes()
	l.bytes += r.bytes
	l.revs = append(l.revs, r)
}

// at returns the revision rev, which must be in [first, end).
func (l *revLog) at(rev int64) *revision { return l.revs[l.start+int(rev-l.first)] }

func (l *revLog) has(rev int64) bool { return l.first <= rev && rev < l.end() }

func (l *revLog) holds(r *revision) bool { return l.has(r.rev) && l.at(r.rev) == r }

// trim forgets the oldest revisions beyond limit bytes. The newest one stays
// however large it is, since the applier holds it in memory at that moment too.
func (l *revLog) trim(limit int) {
	for l.bytes > limit && len(l.revs)-l.start > 1 {
		l.bytes -= l.revs[l.start].bytes
		l.revs[l.start] = nil
		l.start++
		l.first++
	}
	if l.start > 64 && l.start > len(l.revs)/2 {
		n := copy(l.revs, l.revs[l.start:])
		clear(l.revs[n:])
		l.revs, l.start = l.revs[:n], 0
	}
}
