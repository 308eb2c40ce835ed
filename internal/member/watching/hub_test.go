package watching

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/watch"
)

// applier is a member's applier reduced to what watching sees of it.
type applier struct {
	t     testing.TB
	store *mvcc.Store
	hub   *Hub

	failing atomic.Bool // history cannot be read
}

var errDisk = errors.New("disk is gone")

// view is a view whose disk may fail.
type view struct {
	*mvcc.View
	a *applier
}

func (v view) Changes(from, to int64, fn func(mvcc.Change) bool) error {
	if v.a.failing.Load() {
		return errDisk
	}
	return v.View.Changes(from, to, fn)
}

func newApplier(t testing.TB, opt Options) *applier {
	store, err := mvcc.Open(nil, mvcc.Options{FinishedCompact: mvcc.Never})
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{t: t, store: store}
	a.hub = Start(store.Rev(), store.CompactRev(), func() History { return view{store.View(), a} }, opt)
	t.Cleanup(a.hub.Close)
	return a
}

func (a *applier) put(key, value string) int64 {
	txn := a.store.Begin()
	txn.Put([]byte(key), []byte(value), 0)
	changes := txn.Commit()
	a.store.Publish()
	a.hub.Publish(a.store.Rev(), changes)
	return a.store.Rev()
}

func (a *applier) compact(rev int64) {
	if err := a.store.Compact(rev); err != nil {
		a.t.Errorf("compact %d: %v", rev, err)
	}
	a.store.Publish()
	a.hub.Compacted(rev)
}

// takeAll returns what the stream has now, in words.
func takeAll(s *Stream) (out []string) {
	for more := true; more; {
		var responses []watch.Response
		responses, more = s.Take()
		for _, r := range responses {
			out = append(out, say(r))
		}
	}
	return out
}

func say(r watch.Response) string {
	switch {
	case r.Canceled:
		return fmt.Sprintf("%d canceled %d", r.ID, r.Compacted)
	case r.Created:
		return fmt.Sprintf("%d created at %d", r.ID, r.Rev)
	case len(r.Events) == 0:
		return fmt.Sprintf("%d progress %d", r.ID, r.Rev)
	}
	text := fmt.Sprint(r.ID)
	for _, e := range r.Events {
		m := e.Message()
		text += fmt.Sprintf(" %s=%s", m.Kv.Key, m.Kv.Value)
		if m.PrevKv != nil {
			text += fmt.Sprintf("[%s]", m.PrevKv.Value)
		}
	}
	return text
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got  %q\n want %q", what, got, want)
	}
}

func point(key string) watch.Request { return watch.Request{Span: keys.One([]byte(key))} }

// A watch created after a put was answered starts after it, although the loop
// may not have looked at the put yet; a start in the past reads history.
func TestCreateIsOrderedAfterPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplier(t, Options{})
		defer a.hub.Close()
		s := a.hub.Open()
		a.put("k", "old")
		s.Create(point("k"))
		a.put("k", "new")
		synctest.Wait()
		want(t, "created now", takeAll(s), "0 created at 2", "0 k=new")

		past := point("k")
		past.Start, past.PrevKV = 1, true
		s.Create(past)
		s.Progress()
		synctest.Wait()
		want(t, "created in the past", takeAll(s), "1 created at 3", "1 k=old k=new[old]", "-1 progress 3")

		a.compact(3)
		past.Start = 2
		s.Create(past)
		s.Cancel(0)
		synctest.Wait()
		want(t, "created before the compaction", takeAll(s), "2 created at 3", "0 canceled 0", "2 canceled 3")
	})
}

// What the inbox cannot hold is read from history: nothing is lost when the
// applier is far ahead of the loop.
func TestInboxOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApplier(t, Options{Hub: watch.Options{LogBytes: 500}})
		defer a.hub.Close()
		s := a.hub.Open()
		s.Create(point("k"))
		a.hub.mu.Lock() // the loop is busy elsewhere
		wanted := []string{"0 created at 1", "0"}
		for i := range 100 {
			a.put("k", fmt.Sprint(i))
			wanted[1] += fmt.Sprintf(" k=%d", i)
		}
		if n := len(a.hub.inbox.waiting); n > 10 {
			t.Errorf("%d publications in the inbox", n)
		}
		a.hub.mu.Unlock()
		synctest.Wait()
		want(t, "after the overflow", takeAll(s), wanted...)
	})
}

// A disk that cannot be read is reported and tried again; nobody is cancelled
// and nothing is missing afterwards.
func TestHistoryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 0
		a := newApplier(t, Options{
			Hub:     watch.Options{LogBytes: 1},
			OnError: func(err error) { failures++ },
		})
		defer a.hub.Close()
		s := a.hub.Open()
		a.put("k", "1")
		a.put("k", "2")
		a.failing.Store(true)
		past := point("k")
		past.Start = 2
		s.Create(past)
		synctest.Wait()
		want(t, "while the disk is gone", takeAll(s), "0 created at 3")
		select {
		case <-s.Ready():
		default:
		}
		a.failing.Store(false)
		<-s.Ready() // virtual time passes until the next try
		want(t, "when it is back", takeAll(s), "0 k=1 k=2")
		if failures == 0 {
			t.Error("nobody was told")
		}
	})
}

// Writers and readers of all speeds at once, with bounds so small that everyone
// falls behind: each watcher sees every change of its key, in order. Where
// compactions pass it, it is cancelled and starts again at the compact revision.
// The race detector watches.
func TestEverythingAtOnce(t *testing.T) {
	for _, compacting := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacting=%v", compacting), func(t *testing.T) {
			everythingAtOnce(t, compacting)
		})
	}
}

func everythingAtOnce(t *testing.T, compacting bool) {
	const puts, readers, keyCount = 2000, 12, 4
	a := newApplier(t, Options{Hub: watch.Options{StreamBytes: 300, LogBytes: 2000, BatchChanges: 7, StepDeliveries: 5}})
	var wg sync.WaitGroup
	for i := range readers {
		r := reader{
			t: t, s: a.hub.Open(), rnd: rand.New(rand.NewPCG(uint64(i), 1)),
			until: puts / keyCount, holes: compacting, prev: i%2 == 0,
			keys: map[int64]string{}, last: map[string]int{},
		}
		for k := range keyCount {
			r.watch(fmt.Sprint(k), 0, int64(k+1))
		}
		wg.Go(r.run)
	}
	for i := range puts {
		rev := a.put(fmt.Sprint(i%keyCount), fmt.Sprint(i/keyCount+1))
		if compacting && i%100 == 99 {
			a.compact(rev - 40)
		}
	}
	wg.Wait()
	st := a.hub.Stats()
	if st.Streams != 0 || st.Watchers != 0 || st.Pending != 0 {
		t.Errorf("left behind: %+v", st)
	}
	if !compacting && st.Events != puts*readers {
		t.Errorf("%d events for %d puts and %d watchers of each", st.Events, puts, readers)
	}
}

// reader reads one stream until each of its watchers has got the last put of
// its key. The values of a key count up from 1.
type reader struct {
	t     *testing.T
	s     *Stream
	rnd   *rand.Rand
	until int
	holes bool // compactions may take events away
	prev  bool

	nextID int64
	keys   map[int64]string
	last   map[string]int
	done   int
}

func (r *reader) watch(key string, start, id int64) {
	r.nextID = id + 1
	r.keys[id] = key
	req := point(key)
	req.ID, req.Start, req.PrevKV = id, start, r.prev
	r.s.Create(req)
}

func (r *reader) run() {
	defer r.s.Close()
	for r.done < len(r.last) || r.done == 0 {
		<-r.s.Ready()
		if r.rnd.IntN(4) == 0 {
			r.s.Progress()
		}
		for more := true; more; {
			var out []watch.Response
			out, more = r.s.Take()
			for i := range out {
				r.receive(&out[i])
			}
		}
	}
}

func (r *reader) receive(m *watch.Response) {
	key := r.keys[m.ID]
	if m.Canceled {
		if !r.holes {
			r.t.Errorf("watcher %d cancelled: %+v", m.ID, m)
		}
		r.watch(key, m.Compacted, r.nextID)
	}
	if m.Created {
		r.last[key] += 0
	}
	for _, e := range m.Events {
		value := 0
		fmt.Sscan(string(e.Message().Kv.Value), &value)
		if value != r.last[key]+1 && (!r.holes || value <= r.last[key]) {
			r.t.Errorf("watcher %d of %s: %d after %d", m.ID, key, value, r.last[key])
		}
		if r.last[key] = value; value == r.until {
			r.done++
		}
	}
}

// Publishing costs the applier an append, whoever watches.
func BenchmarkPublish(b *testing.B) {
	for _, watchers := range []int{0, 1, 10000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			a := newApplier(b, Options{})
			if watchers > 0 {
				s := a.hub.Open()
				for range watchers {
					s.Create(point("key"))
				}
			}
			changes := []mvcc.Change{{Key: []byte("key"), Record: make([]byte, 300)}}
			rev := int64(1)
			for b.Loop() {
				rev++
				c := slices.Clone(changes)
				c[0].Mod.Main = rev
				a.hub.Publish(rev, c)
			}
		})
	}
}
