package mvcc

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// world drives a store and its twin with the same operations, in an order that
// a source of choices decides: a seed in the property test, the input in the
// fuzz test. Flushes, compaction jobs, index trimming, restarts and views held
// for long interleave as they please.
type world struct {
	t      testing.TB
	choose func(n int) int // in [0, n)
	keys   int             // how many different keys there are
	store  *Store
	disk   *memDisk
	twin   *twin

	published int64 // newest published revision
	flushed   int64
	finished  int64 // compact revisions as the meta bucket would hold them
	scheduled int64
	jobs      []*Compaction
	held      []heldView
}

// heldView is a view and what it must go on answering.
type heldView struct {
	view            *View
	rev, compactRev int64
}

func newWorld(t testing.TB, keys int, choose func(int) int) *world {
	w := &world{
		t: t, choose: choose, keys: keys, disk: &memDisk{t: t}, twin: newTwin(t),
		finished: Never, scheduled: Never, published: 1, flushed: 1,
	}
	w.open()
	return w
}

func (w *world) open() {
	leases := map[string]int64{}
	store, err := Open(w.disk.base(), Options{
		FinishedCompact: w.finished, ScheduledCompact: w.scheduled,
		OnLive: func(key []byte, lease int64) { leases[string(key)] = lease },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	want := map[string]int64{}
	for key, k := range w.twin.states[w.twin.rev] {
		if k.lease != 0 {
			want[key] = k.lease
		}
	}
	if !maps.Equal(leases, want) {
		w.t.Fatalf("restored leases %v, want %v", leases, want)
	}
	if store.Rev() != w.twin.rev || store.CompactRev() != w.twin.compactRev {
		w.t.Fatalf("restored to %d, compacted %d; want %d, %d", store.Rev(), store.CompactRev(), w.twin.rev, w.twin.compactRev)
	}
	w.store = store
}

func (w *world) step() {
	switch n := w.choose(100); {
	case n < 40:
		w.transact()
	case n < 55:
		w.publish()
	case n < 62:
		w.hold()
	case n < 67:
		w.release()
	case n < 78:
		w.checkSome()
	case n < 84:
		w.flush()
	case n < 87:
		w.compact()
	case n < 93:
		w.store.CompactIndex(1 + w.choose(200))
	case n < 98:
		w.runJob()
	default:
		w.restart()
	}
}

func (w *world) key() string {
	return fmt.Sprintf("key/%03x", w.choose(w.keys))
}

// transact runs a transaction of a few changes and sometimes takes it back.
// Keys repeat within one, as they can in a delete range and a put.
func (w *world) transact() {
	txn := w.store.Begin()
	state := maps.Clone(w.twin.states[w.twin.rev])
	var changes []twinChange
	for range w.choose(6) {
		c := twinChange{key: w.key(), tombstone: w.choose(3) == 0}
		mod := Rev{w.twin.rev + 1, int64(len(changes))}
		if c.tombstone {
			_, lives := state[c.key]
			if txn.Delete([]byte(c.key)) != lives {
				w.t.Fatalf("delete of %q in a txn after %d: want deleted %v", c.key, w.twin.rev, lives)
			}
			if !lives {
				continue
			}
			delete(state, c.key)
		} else {
			c.kv = twinKey{value: fmt.Sprintf("v%d", mod), lease: int64(max(0, w.choose(5)-2))}
			if got := txn.Put([]byte(c.key), []byte(c.kv.value), c.kv.lease); got != mod {
				w.t.Fatalf("put at %v, want %v", got, mod)
			}
			was := state[c.key]
			kv := c.kv
			kv.mod, kv.version, kv.create = mod, was.version+1, was.create
			if was.create == 0 {
				kv.create = mod.Main
			}
			state[c.key] = kv
		}
		changes = append(changes, c)
	}
	w.checkTxn(txn, state, len(changes) > 0)
	if w.choose(5) == 0 {
		txn.Abort()
		return
	}
	w.twin.commit(changes)
	got := txn.Commit()
	for i, c := range w.twin.history[len(w.twin.history)-len(changes):] {
		w.twin.checkChange(got[i], c, Never)
	}
	if len(got) != len(changes) || w.store.Rev() != w.twin.rev {
		w.t.Fatalf("commit of %d changes at %d, want %d at %d", len(got), w.store.Rev(), len(changes), w.twin.rev)
	}
}

// checkTxn reads through a transaction: its own state, and an older one.
func (w *world) checkTxn(txn *Txn, state twinState, changed bool) {
	if rev := txn.Rev(); changed != (rev > w.twin.rev) {
		w.t.Fatalf("a transaction after %d with changes (%v) has revision %d", w.twin.rev, changed, rev)
	}
	w.twin.check(txn, state, w.span(), 0, 0)
	w.twin.check(txn, state, w.span(), txn.Rev(), w.choose(4))
	w.twin.checkGet(txn, state, w.key(), 0)
	if w.twin.rev >= max(1, w.twin.compactRev) {
		w.twin.check(txn, w.twin.states[w.twin.rev], w.span(), w.twin.rev, 0)
	}
	if _, _, err := txn.Get([]byte("x"), txn.Rev()+1); !errors.Is(err, ErrFutureRev) {
		w.t.Fatalf("get in the future: %v", err)
	}
}

func (w *world) span() keys.Span {
	a, b := []byte(w.key()), []byte(w.key())
	switch w.choose(5) {
	case 0:
		return keys.All()
	case 1:
		return keys.One(a)
	case 2:
		return keys.Span{Key: a, End: []byte{0}}
	case 3:
		return keys.Span{Key: []byte("key/"), End: b}
	}
	return keys.Span{Key: a, End: b}
}

func (w *world) publish() {
	w.store.Publish()
	w.published = w.twin.rev
}

func (w *world) hold() {
	v := w.store.View()
	w.held = append(w.held, heldView{v, v.Rev(), v.CompactRev()})
	if v.Rev() != w.published {
		w.t.Fatalf("view of %d, published is %d", v.Rev(), w.published)
	}
}

func (w *world) release() {
	if len(w.held) == 0 {
		return
	}
	i := w.choose(len(w.held))
	w.held[i].view.Close()
	w.held = slices.Delete(w.held, i, i+1)
}

// checkSome asks a view, most often an old one, some questions.
func (w *world) checkSome() {
	w.hold()
	h := w.held[w.choose(len(w.held))]
	v := h.view
	if v.Rev() != h.rev || v.CompactRev() != h.compactRev {
		w.t.Fatalf("a view changed from %d/%d to %d/%d", h.rev, h.compactRev, v.Rev(), v.CompactRev())
	}
	w.twin.check(v, w.twin.states[v.Rev()], w.span(), 0, 0)
	at := w.readable(v)
	w.twin.check(v, w.twin.states[at], w.span(), at, w.choose(5))
	w.twin.checkGet(v, w.twin.states[at], w.key(), at)
	w.checkErrors(v)
	from := w.readable(v)
	w.twin.checkChanges(v, from, from+int64(w.choose(20)))
	w.checkHash(v, w.readable(v))
	w.release()
}

// readable chooses a revision that the view still answers.
func (w *world) readable(v *View) int64 {
	oldest := max(1, v.CompactRev())
	return oldest + int64(w.choose(int(v.Rev()-oldest)+1))
}

func (w *world) checkErrors(v *View) {
	if _, err := v.Count(keys.All(), v.Rev()+1); !errors.Is(err, ErrFutureRev) {
		w.t.Fatalf("count in the future: %v", err)
	}
	if v.CompactRev() <= 1 {
		return
	}
	if err := v.Scan(keys.All(), v.CompactRev()-1, func(Hit) bool { return true }); !errors.Is(err, ErrCompacted) {
		w.t.Fatalf("scan in the compacted past: %v", err)
	}
	if err := v.Changes(v.CompactRev()-1, v.Rev(), func(Change) bool { return true }); !errors.Is(err, ErrCompacted) {
		w.t.Fatalf("changes of the compacted past: %v", err)
	}
}

func (w *world) checkHash(v *View, rev int64) {
	got, err := v.HashKV(rev)
	if err != nil {
		w.t.Fatal(err)
	}
	if got.Rev != rev || got.Hash != w.twin.hash(rev, got.CompactRev) {
		w.t.Fatalf("hash at %d of view %d: %+v, want %d", rev, v.Rev(), got, w.twin.hash(rev, got.CompactRev))
	}
}

// flush moves part of the published buffer to disk.
func (w *world) flush() {
	w.flushTo(w.flushed + int64(w.choose(int(w.published-w.flushed)+1)))
}

func (w *world) flushTo(rev int64) {
	w.disk.commit(w.store.Buffered(rev), nil)
	w.flushed = rev
	w.store.Rebase(w.disk.base(), rev)
}

func (w *world) compact() {
	rev := w.twin.compactRev + int64(w.choose(int(w.twin.rev-w.twin.compactRev)+2))
	err := w.store.Compact(rev)
	switch {
	case rev <= w.twin.compactRev:
		if !errors.Is(err, ErrCompacted) {
			w.t.Fatalf("compact to %d again: %v", rev, err)
		}
	case rev > w.twin.rev:
		if !errors.Is(err, ErrFutureRev) {
			w.t.Fatalf("compact to %d in the future: %v", rev, err)
		}
	default:
		if err != nil {
			w.t.Fatal(err)
		}
		prev := w.twin.compactRev
		w.twin.compactRev, w.scheduled = rev, rev
		// The rest of the applied run comes before the publish.
		for range w.choose(3) {
			w.transact()
			w.store.CompactIndex(1 + w.choose(50))
		}
		w.publish()
		w.jobs = append(w.jobs, w.store.NewCompaction(prev, rev))
	}
}

// runJob takes the oldest compaction a few records further.
func (w *world) runJob() {
	if len(w.jobs) == 0 {
		return
	}
	c := w.jobs[0]
	if w.flushed < c.Rev() {
		w.flushTo(w.published)
	}
	base := w.disk.base()
	deletes, done := c.Step(base, 1+w.choose(30))
	base.Release()
	w.disk.commit(nil, deletes)
	w.store.Rebase(w.disk.base(), w.flushed)
	if !done {
		return
	}
	if c.Err() != nil {
		w.t.Fatal(c.Err())
	}
	w.finished = c.Rev()
	w.jobs = w.jobs[1:]
	if h, ok := c.Hash(); ok {
		if want := w.twin.hash(h.Rev, h.CompactRev); h.Hash != want {
			w.t.Fatalf("hash of the compaction from %d to %d is %d, want %d", h.CompactRev, h.Rev, h.Hash, want)
		}
		w.store.KeepHash(h)
	}
}

// restart stops the member with everything flushed and opens it again. Jobs
// that had not finished are lost; the last one is resumed.
func (w *world) restart() {
	w.publish()
	w.flushTo(w.published)
	w.closeAll()
	prev := w.finished
	w.open()
	w.jobs = nil
	if w.scheduled > w.finished {
		w.jobs = []*Compaction{w.store.NewCompaction(prev, w.scheduled)}
	}
}

func (w *world) closeAll() {
	for len(w.held) > 0 {
		w.release()
	}
	w.store.Close()
	if n := w.disk.leaked(); n != 0 {
		w.t.Fatalf("%d snapshots of the disk are held after everything was closed", n)
	}
}

// TestTwin lets random worlds run against the naive twin: few keys with long
// histories, and many keys so that the tree splits and merges.
func TestTwin(t *testing.T) {
	worlds := 30
	if testing.Short() {
		worlds = 6
	}
	for seed := range uint64(worlds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, []int{3, 12, 400}[seed%3], rng.IntN)
		for range 600 {
			w.step()
			if err := w.store.tree.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		w.closeAll()
	}
}
