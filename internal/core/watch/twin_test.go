package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
)

// The twin of the hub is a list: for each watcher, all changes ever made, cut
// at its start and filtered by its keys. Whatever the bounds, the interleaving
// and the compactions, what a watcher has received is a prefix of that list,
// ends at a whole revision, and is all of it once everything has settled,
// unless the watcher was cancelled.
//
// Bounds are so small here that watchers fall behind all the time.
func TestHubAgreesWithList(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			run := newTwinRun(t, seed)
			for range 400 {
				run.step()
			}
			run.finish()
		})
	}
}

type twinRun struct {
	t   *testing.T
	rnd *rand.Rand
	// Even seeds change a key twice in one revision, odd ones compact. Not
	// both: of two changes of a key at the compact revision itself the first
	// is gone, as it is for readers.
	compacts bool
	world    *world
	hub      *Hub
	all      []fact // every change ever made
	known    map[string]*mvccpb.KeyValue

	streams []*twinStream
	// heard is the newest compact revision told to the hub.
	heard int64
}

// fact is a change as the twin remembers it.
type fact struct {
	rev  int64
	key  string
	del  bool
	kv   *mvccpb.KeyValue
	prev *mvccpb.KeyValue // before the whole revision; nil for a creation
}

type twinStream struct {
	s        *Stream
	watchers map[int64]*twinWatcher
	requests []Request // creates that are not answered yet
	startAt  []int64   // and the revision published at that time

}

type twinWatcher struct {
	req     Request
	from    int64
	got     int   // how many facts it has consumed of want
	lastRev int64 // revision of its last event
}

func newTwinRun(t *testing.T, seed uint64) *twinRun {
	rnd := rand.New(rand.NewPCG(seed, 7))
	opt := Options{
		StreamBytes:    1 + rnd.IntN(400),
		ResponseBytes:  1 + rnd.IntN(300),
		LogBytes:       1 + rnd.IntN(2000),
		BatchChanges:   1 + rnd.IntN(6),
		StepDeliveries: 1 + rnd.IntN(6),
	}
	return &twinRun{t: t, compacts: seed%2 == 1, rnd: rnd, world: newWorld(), hub: New(1, -1, opt), known: map[string]*mvccpb.KeyValue{}, heard: -1}
}

func (r *twinRun) key() string { return string(rune('a' + r.rnd.IntN(5))) }

func (r *twinRun) step() {
	switch n := r.rnd.IntN(100); {
	case n < 25:
		r.change()
	case n < 40:
		if r.rnd.IntN(20) == 0 {
			r.world.pending = nil // lost on the way
		}
		r.world.publish(r.hub)
	case n < 60:
		r.hub.Advance(r.world)
	case n < 68:
		r.world.scan(r.hub)
	case n < 80:
		r.drain(r.stream())
	case n < 88:
		r.create(r.stream())
	case n < 91:
		r.cancel(r.stream())
	case n < 93:
		if r.compacts {
			r.compact()
		}
	case n < 96:
		r.hub.Progress(r.stream().s)
	case n < 98:
		r.hub.Notify(r.stream().s)
	case len(r.streams) > 2:
		i := r.rnd.IntN(len(r.streams))
		r.hub.Close(r.streams[i].s)
		r.streams = append(r.streams[:i], r.streams[i+1:]...)
	}
	checkInvariants(r.t, r.hub)
}

func (r *twinRun) stream() *twinStream {
	if len(r.streams) < 3 {
		s := &twinStream{s: r.hub.Open(), watchers: map[int64]*twinWatcher{}}
		r.streams = append(r.streams, s)
		return s
	}
	return r.streams[r.rnd.IntN(len(r.streams))]
}

// change makes one revision of a few changes, a key twice in it now and then.
func (r *twinRun) change() {
	var ops []op
	for range 1 + r.rnd.IntN(3) {
		o := op{key: r.key()}
		if r.compacts && slices.ContainsFunc(ops, func(p op) bool { return p.key == o.key }) {
			continue
		}
		if r.rnd.IntN(4) > 0 {
			o.value = make([]byte, r.rnd.IntN(40)+1)
		}
		ops = append(ops, o)
	}
	before := map[string]*mvccpb.KeyValue{}
	for k, v := range r.world.live {
		before[k] = v
	}
	n := len(r.world.history)
	r.world.txn(ops...)
	for _, c := range r.world.history[n:] {
		f := fact{rev: c.Mod.Main, key: string(c.Key), del: c.Tombstone, kv: &mvccpb.KeyValue{}}
		if err := proto.Unmarshal(c.Record, f.kv); err != nil {
			r.t.Fatal(err)
		}
		if f.del {
			f.kv.ModRevision = f.rev
		}
		if f.del || f.kv.CreateRevision != f.rev {
			f.prev = before[f.key]
		}
		r.all = append(r.all, f)
	}
}

func (r *twinRun) create(s *twinStream) {
	req := Request{
		Span:  keys.One([]byte(r.key())),
		NoPut: r.rnd.IntN(8) == 0, NoDelete: r.rnd.IntN(8) == 0,
		PrevKV: r.rnd.IntN(2) == 0, ProgressNotify: r.rnd.IntN(2) == 0,
	}
	switch r.rnd.IntN(3) {
	case 0:
		req.Span.End = []byte(r.key())
	case 1:
		req.Span.End = []byte{0}
	}
	if r.rnd.IntN(2) == 0 {
		req.Start = r.rnd.Int64N(r.world.rev + 3)
	}
	if r.rnd.IntN(4) == 0 {
		req.ID = int64(r.rnd.IntN(6))
	}
	s.requests = append(s.requests, req)
	s.startAt = append(s.startAt, r.hub.Rev())
	r.hub.Create(s.s, req)
}

func (r *twinRun) cancel(s *twinStream) {
	for id := range s.s.watchers {
		r.hub.Cancel(s.s, id)
		return
	}
}

func (r *twinRun) compact() {
	rev := r.world.rev - r.rnd.Int64N(8)
	if rev > r.hub.Rev() {
		return // a compaction is applied after what it compacts was published
	}
	r.world.compact(rev)
	if rev > 0 {
		r.heard = max(r.heard, rev)
		r.hub.Compacted(rev)
	}
}

func (r *twinRun) drain(s *twinStream) {
	out, _ := r.hub.Drain(s.s, 1+r.rnd.IntN(500))
	for i := range out {
		r.receive(s, &out[i])
	}
}

func (r *twinRun) receive(s *twinStream, m *Response) {
	if m.Created {
		r.receiveCreated(s, m)
		return
	}
	if m.ID == NoID {
		for id, w := range s.watchers {
			r.checkProgress(id, w, m.Rev)
		}
		return
	}
	w := s.watchers[m.ID]
	switch {
	case w == nil:
		r.t.Fatalf("a response for watcher %d, which does not exist: %s", m.ID, describe(*m))
	case m.Canceled:
		r.receiveCanceled(s, m, w)
	case len(m.Events) == 0:
		r.checkProgress(m.ID, w, m.Rev)
	default:
		r.receiveEvents(m, w)
	}
}

func (r *twinRun) receiveCreated(s *twinStream, m *Response) {
	req, at := s.requests[0], s.startAt[0]
	s.requests, s.startAt = s.requests[1:], s.startAt[1:]
	if m.Canceled {
		return
	}
	if m.Rev != at {
		r.t.Fatalf("created at revision %d says %d", at, m.Rev)
	}
	if s.watchers[m.ID] != nil {
		r.t.Fatalf("id %d given twice", m.ID)
	}
	w := &twinWatcher{req: req, from: req.Start}
	if w.from == 0 {
		w.from = at + 1
	}
	s.watchers[m.ID] = w
}

func (r *twinRun) receiveCanceled(s *twinStream, m *Response, w *twinWatcher) {
	if m.Compacted != 0 {
		// It may only be ended if it lacked history: its first missing event,
		// or its start, is before the compact revision.
		if m.Compacted > r.heard || m.Rev != 0 {
			r.t.Fatalf("cancelled by compaction %d, the newest is %d", m.Compacted, r.heard)
		}
		if max(w.from, w.lastRev+1) >= m.Compacted {
			r.t.Fatalf("cancelled at %d by compaction %d", max(w.from, w.lastRev+1), m.Compacted)
		}
	}
	delete(s.watchers, m.ID)
}

// receiveEvents compares with the list from where the watcher stands.
func (r *twinRun) receiveEvents(m *Response, w *twinWatcher) {
	if m.Events[0].Rev == w.lastRev {
		r.t.Fatalf("revision %d in two responses", w.lastRev)
	}
	for _, e := range m.Events {
		f := r.following(w)
		if f == nil {
			r.t.Fatalf("watcher %d got %s, there is nothing more", m.ID, describeEvent(e.Message()))
		}
		r.compare(w, f, e)
		w.lastRev = f.rev
	}
	if f := r.peek(w); f != nil && f.rev == w.lastRev {
		r.t.Fatalf("revision %d is cut: %s is missing", f.rev, f.key)
	}
	if m.Rev < w.lastRev {
		r.t.Fatalf("header %d is behind event %d", m.Rev, w.lastRev)
	}
}

func (r *twinRun) compare(w *twinWatcher, f *fact, e *Event) {
	got := e.Message()
	want := &mvccpb.Event{Kv: f.kv}
	if f.del {
		want.Type = mvccpb.Event_DELETE
	}
	if w.req.PrevKV {
		want.PrevKv = f.prev
		if got.PrevKv == nil && r.heard >= f.rev {
			want.PrevKv = nil // what was before is gone, or may be
		}
		if got.PrevKv == nil && f.prev != nil && f.prev.ModRevision < r.heard {
			want.PrevKv = nil
		}
	}
	if e.Rev != f.rev || !proto.Equal(got, want) {
		r.t.Fatalf("got  %s\nwant %s", describeEvent(got), describeEvent(want))
	}
}

// following takes the next fact of the watcher off the list; peek only looks.
func (r *twinRun) following(w *twinWatcher) *fact {
	f := r.peek(w)
	if f != nil {
		w.got++
	}
	return f
}

func (r *twinRun) peek(w *twinWatcher) *fact {
	for ; w.got < len(r.all); w.got++ {
		f := &r.all[w.got]
		filtered := f.del && w.req.NoDelete || !f.del && w.req.NoPut
		if f.rev >= w.from && !filtered && w.req.Span.Contains([]byte(f.key)) {
			return f
		}
	}
	return nil
}

func (r *twinRun) checkProgress(id int64, w *twinWatcher, rev int64) {
	if f := r.peek(w); f != nil && f.rev <= rev {
		r.t.Fatalf("progress to %d, but watcher %d lacks %d", rev, id, f.rev)
	}
	if w.from > rev+1 {
		r.t.Fatalf("progress to %d for watcher %d, which starts at %d", rev, id, w.from)
	}
}

// finish lets everything settle; then nothing may be missing.
func (r *twinRun) finish() {
	r.world.publish(r.hub)
	for busy := true; busy; {
		r.world.settle(r.hub)
		busy = false
		for _, s := range r.streams {
			out, more := r.hub.Drain(s.s, 1000)
			for i := range out {
				r.receive(s, &out[i])
			}
			busy = busy || more || len(out) > 0
		}
		checkInvariants(r.t, r.hub)
	}
	for _, s := range r.streams {
		for id, w := range s.watchers {
			if f := r.peek(w); f != nil {
				r.t.Errorf("watcher %d lacks revision %d at the end", id, f.rev)
			}
		}
	}
	if st := r.hub.Stats(); st.Behind != 0 || st.Pending != 0 {
		r.t.Errorf("not settled: %+v", st)
	}
	for _, s := range r.streams {
		r.hub.Close(s.s)
	}
	if st := r.hub.Stats(); st.Watchers != 0 || st.Streams != 0 || r.hub.index.ranges.root != nil || len(r.hub.index.points) != 0 {
		r.t.Errorf("left behind after closing: %+v", st)
	}
}

// checkInvariants asserts what the fields' comments promise.
func checkInvariants(t *testing.T, h *Hub) {
	t.Helper()
	pending, behindAll, watchers := 0, 0, 0
	for s := range h.streams {
		bytes, largest := 0, 0
		for _, w := range s.watchers {
			watchers++
			size := 0
			for _, e := range w.queue {
				size += e.size()
			}
			if size != w.queueBytes {
				t.Fatalf("watcher %d counts %d bytes queued, has %d", w.id, w.queueBytes, size)
			}
			if w.state == behind && (w.next > h.matched || s.behind[w.behindSlot] != w) {
				t.Fatalf("watcher %d is behind at %d, others at %d", w.id, w.next, h.matched)
			}
			bytes += size
			pending += len(w.queue)
			for rest := w.queue; len(rest) > 0; {
				n, size := frontRevision(rest)
				rest, largest = rest[n:], max(largest, size)
			}
		}
		behindAll += len(s.behind)
		if bytes != s.bytes || bytes >= h.opt.StreamBytes+max(largest, 1) {
			t.Fatalf("stream counts %d bytes, has %d, the bound is %d", s.bytes, bytes, h.opt.StreamBytes)
		}
	}
	if st := h.stats; st.Pending != pending || st.Behind != behindAll || st.Watchers != watchers {
		t.Fatalf("stats %+v, but %d pending, %d behind, %d watchers", st, pending, behindAll, watchers)
	}
	size := 0
	for _, r := range h.log.revs[h.log.start:] {
		size += r.bytes
	}
	if size != h.log.bytes || h.log.end() != h.published+1 || h.log.first > h.matched+1 {
		t.Fatalf("log [%d, %d) of %d bytes counts %d; published %d", h.log.first, h.log.end(), size, h.log.bytes, h.published)
	}
	for i, s := range h.catching.streams {
		if s.slot != i || len(s.behind) == 0 {
			t.Fatalf("stream in the wrong place to catch up")
		}
	}
}

// Everyone behind who has room gets a turn: with n different lags, each is
// served within n batches, however long the others' history is.
func TestTurnsAreFair(t *testing.T) {
	w := newWorld()
	h := New(1, -1, Options{LogBytes: 1, BatchChanges: 3})
	for range 300 {
		w.txn(op{"a", []byte("v")})
	}
	w.pending = nil
	h.Skip(w.rev)
	starts := []int64{2, 50, 100, 200, 290}
	streams := map[*Stream]int64{}
	for _, at := range starts {
		s := h.Open()
		h.Create(s, Request{Span: keys.One([]byte("a")), Start: at})
		streams[s] = at
	}
	for range starts {
		w.scan(h)
	}
	for s, at := range streams {
		if out, _ := h.Drain(s, 1<<20); len(out) < 2 {
			t.Errorf("the watcher from %d had no turn in %d batches", at, len(starts))
		}
	}
}

// Ten thousand watchers that are behind at the same place cost one scan.
func TestManyShareOneScan(t *testing.T) {
	w := newWorld()
	h := New(1, -1, Options{LogBytes: 1, StreamBytes: 1 << 30})
	for range 100 {
		w.txn(op{"a", []byte("v")})
	}
	w.pending = nil
	h.Skip(w.rev)
	s := h.Open()
	for range 10000 {
		h.Create(s, Request{Span: keys.One([]byte("a")), Start: 2, PrevKV: true})
	}
	w.settle(h)
	if w.scans != 1 || w.loads != 99 {
		t.Errorf("%d scans and %d loads, want 1 and 99", w.scans, w.loads)
	}
	if st := h.Stats(); st.Events != 10000*100 || st.Behind != 0 {
		t.Errorf("%+v", st)
	}
	var first []*Event
	out, _ := h.Drain(s, 1<<40)
	for _, r := range out {
		if len(r.Events) == 0 {
			continue
		}
		if first == nil {
			first = r.Events
		}
		if len(r.Events) != 100 || r.Events[7] != first[7] {
			t.Fatalf("watcher %d does not share the events", r.ID)
		}
	}
}

var _ Values = (*world)(nil)
