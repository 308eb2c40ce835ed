package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/raft"
	"github.com/steledb/stele/internal/disk/backend"
	"github.com/steledb/stele/internal/disk/wal"
)

// newNode is the node of a member that votes alone, or with two that never
// answer.
func newNode(t *testing.T, voters ...uint64) *node {
	t.Helper()
	r, err := raft.New(raft.Config{
		ID: 1, ElectionTicks: 10, HeartbeatTicks: 1, CheckQuorum: true, Rand: rand.New(rand.NewPCG(1, 2)),
	}, raft.Restored{ConfState: raftpb.ConfState{Voters: voters}})
	if err != nil {
		t.Fatal(err)
	}
	return &node{raft: r, startRound: func() []byte { return nil }}
}

// turns turns the node until it rests, with a disk that is done at once, and
// returns the entries that were committed and what was refused.
func turns(n *node, in inbox) (committed []raftpb.Entry, refused []refusal) {
	for {
		out, more := n.turn(in)
		in = inbox{}
		refused = append(refused, out.refused...)
		for _, e := range out.effects {
			if e.Token != 0 {
				in.persisted = append(in.persisted, e.Token)
			}
			for _, c := range e.Committed {
				committed = append(committed, c)
				in.applied = c.Index
			}
		}
		if !more && len(in.persisted) == 0 && in.applied == 0 {
			return committed, refused
		}
	}
}

func datas(entries []raftpb.Entry) string {
	var out [][]byte
	for _, e := range entries {
		if len(e.Data) > 0 {
			out = append(out, e.Data)
		}
	}
	return string(bytes.Join(out, []byte(" ")))
}

// Goal: what is proposed while there is no leader waits for one, and then goes
// in before what comes later.
func TestProposalsWaitForALeader(t *testing.T) {
	n := newNode(t, 1)
	if got, refused := turns(n, inbox{proposals: []proposal{{1, []byte("a")}, {2, []byte("b")}}}); len(got) > 0 || len(refused) > 0 {
		t.Fatalf("without a leader: committed %s, refused %v", datas(got), refused)
	}
	if len(n.held) != 2 {
		t.Fatalf("%d proposals are held, want 2", len(n.held))
	}
	got, refused := turns(n, inbox{campaign: true, proposals: []proposal{{3, []byte("c")}}})
	more, _ := turns(n, inbox{proposals: []proposal{{4, []byte("d")}}})
	if all := datas(append(got, more...)); all != "a b c d" || len(refused) > 0 || len(n.held) > 0 {
		t.Errorf("committed %q, refused %v, held %d", all, refused, len(n.held))
	}
}

// Goal: proposals that gathered are one append and one write.
func TestOneTurnIsOneWrite(t *testing.T) {
	n := newNode(t, 1)
	turns(n, inbox{campaign: true})
	var ps []proposal
	for i := range uint64(100) {
		ps = append(ps, proposal{i + 1, fmt.Append(nil, i)})
	}
	out, _ := n.turn(inbox{proposals: ps})
	writes, entries := 0, 0
	for _, e := range out.effects {
		if e.Token != 0 {
			writes++
		}
		entries += len(e.Entries)
		if len(e.Committed) > 0 {
			t.Error("entries are committed that no disk has")
		}
	}
	if writes != 1 || entries != 100 {
		t.Errorf("%d entries in %d writes", entries, writes)
	}
}

// Goal: held proposals are bounded, the oldest stay.
func TestHeldProposalsAreBounded(t *testing.T) {
	n := newNode(t, 1, 2, 3)
	half := make([]byte, maxProposalBytes/2)
	_, refused := turns(n, inbox{proposals: []proposal{{1, half}, {2, half}}})
	if len(refused) > 0 {
		t.Fatalf("refused %d within the bound", len(refused))
	}
	_, refused = turns(n, inbox{proposals: []proposal{{3, []byte("one more")}}})
	if len(refused) != 1 || refused[0].id != 3 || !errors.Is(refused[0].err, raft.ErrBacklog) || len(n.held) != 2 {
		t.Errorf("refused %v, held %d", refused, len(n.held))
	}
}

// Goal: after a failed disk the node commits nothing.
func TestFailedDiskCommitsNothing(t *testing.T) {
	n := newNode(t, 1)
	turns(n, inbox{campaign: true})
	n.turn(inbox{proposals: []proposal{{1, []byte("a")}}}) // written, never durable
	got, _ := turns(n, inbox{diskFailed: true, ticks: 50, proposals: []proposal{{2, []byte("b")}}})
	if len(got) > 0 {
		t.Errorf("committed %s", datas(got))
	}
}

// Goal: readers that come before a round is asked share it; those that come
// after get the next; a lost one is asked again and the bound holds.
func TestRounds(t *testing.T) {
	r := newReads()
	a, first := r.join()
	b, second := r.join()
	if a != b || !first || second {
		t.Fatalf("two readers: same round %v, asked by %v and %v", a == b, first, second)
	}
	one := r.start()
	c, first := r.join()
	if c == a || !first {
		t.Error("a reader joined a round that was asked already: its index may be too old")
	}
	two := r.start()
	if r.start() != nil {
		t.Error("a round without readers")
	}
	r.answer(raft.ReadState{Index: 7, Context: two})
	r.drop(one)
	r.answer(raft.ReadState{Index: 9, Context: one}) // too late
	r.answer(raft.ReadState{Index: 9, Context: []byte("of another")})
	<-a.done
	<-c.done
	if !a.lost || c.lost || c.index != 7 {
		t.Errorf("first lost %v, second lost %v at %d", a.lost, c.lost, c.index)
	}

	old, _ := r.join()
	r.start()
	for range maxFlyingRounds {
		r.join()
		r.start()
	}
	if <-old.done; !old.lost || len(r.flying) != maxFlyingRounds {
		t.Errorf("%d rounds are flying, the oldest was given up: %v", len(r.flying), old.lost)
	}
}

// Goal: whoever waits is woken when the mark gets there and not before; those
// who give up leave nothing behind.
func TestWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w watermark
		var mu sync.Mutex
		var woken []uint64
		stop := make(chan struct{})
		var all sync.WaitGroup
		for i := uint64(1); i <= 5; i++ {
			all.Go(func() {
				if err := w.wait(t.Context(), stop, i); err == nil {
					mu.Lock()
					woken = append(woken, i)
					mu.Unlock()
				} else if !errors.Is(err, ErrStopped) {
					t.Error(err)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.wait(ctx, stop, 9); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		w.raise(3)
		w.raise(2) // never back
		synctest.Wait()
		if len(woken) != 3 || w.load() != 3 || len(w.waiting) != 2 {
			t.Errorf("at %d: woken %v, %d wait", w.load(), woken, len(w.waiting))
		}
		if err := w.wait(t.Context(), stop, 3); err != nil {
			t.Errorf("at the mark: %v", err)
		}
		close(stop)
		all.Wait()
		if len(w.waiting) != 0 {
			t.Errorf("%d still wait", len(w.waiting))
		}
	})
}

// Goal: a result reaches its waiter once, whatever happens meanwhile; nobody's
// result is dropped silently.
func TestWaiters(t *testing.T) {
	w := newWaiters()
	ch := w.register(65) // 1 and 65 share a shard
	other := w.register(1)
	if !w.isWaiting(65) || w.isWaiting(2) {
		t.Error("who waits is not known")
	}
	if !w.complete(65, apply.Result{Err: ErrTimeout}) || w.complete(65, apply.Result{}) {
		t.Error("a result was taken twice or never")
	}
	if res := <-ch; res.Err != ErrTimeout {
		t.Errorf("got %v", res.Err)
	}
	w.forget(1)
	if w.complete(1, apply.Result{}) {
		t.Error("somebody waited who had given up")
	}
	select {
	case <-other:
		t.Error("a result for one who had given up")
	default:
	}
}

// slowLog is a log whose syncs take a second.
type slowLog struct {
	mu    sync.Mutex
	saved []uint64 // hard state commits, as names of the writes
	syncs []int    // how many were saved before each sync
	marks int
	err   error
}

func (l *slowLog) Save(s raftpb.HardState, _ []raftpb.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = append(l.saved, s.Commit)
	return nil
}

func (l *slowLog) Sync() error {
	l.mu.Lock()
	l.syncs = append(l.syncs, len(l.saved))
	err := l.err
	l.mu.Unlock()
	time.Sleep(time.Second)
	return err
}

func (l *slowLog) SaveMark(wal.Mark) error { l.marks++; return nil }

func (l *slowLog) ReleaseTo(uint64) error { return nil }

// Goal: what comes during a sync shares the next one; tokens are reported in
// order and never before the sync that covers them; after a failure nothing is.
func TestWriterGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{}
		var mu sync.Mutex
		var persisted [][]uint64
		var failed error
		w := &writer{log: log, wake: make(chan struct{}, 1)}
		w.persisted = func(tokens []uint64) {
			mu.Lock()
			defer mu.Unlock()
			persisted = append(persisted, tokens)
		}
		w.failed = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = err
		}
		reported := func() string {
			mu.Lock()
			defer mu.Unlock()
			log.mu.Lock()
			defer log.mu.Unlock()
			return fmt.Sprint(persisted, log.syncs, log.saved, failed)
		}
		stop := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { w.run(stop) })
		add := func(tokens ...uint64) {
			for _, n := range tokens {
				w.add(write{state: raftpb.HardState{Commit: n}, token: n})
			}
		}
		add(1)
		synctest.Wait() // the first sync is under way
		add(2, 3, 4)
		done := make(chan error, 1)
		w.add(write{mark: &wal.Mark{Index: 1}, done: done})
		w.add(write{state: raftpb.HardState{Commit: 5}}) // nobody waits
		synctest.Wait()
		if got := reported(); got != "[] [1] [1] <nil>" {
			t.Errorf("during the first sync: %s", got)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := reported(); got != "[[1] [2 3 4]] [1 5] [1 2 3 4 5] <nil>" {
			t.Errorf("reported, syncs, saved: %s", got)
		}
		if err := <-done; err != nil || log.marks != 1 {
			t.Errorf("mark: %v", err)
		}
		log.mu.Lock()
		log.err = wal.ErrClosed
		log.mu.Unlock()
		add(6)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		add(7)
		synctest.Wait()
		if got := reported(); got != "[[1] [2 3 4]] [1 5 6] [1 2 3 4 5 6] wal: closed" {
			t.Errorf("after a failure: %s", got)
		}
		close(stop)
		running.Wait()
	})
}

// heldBackend commits when it is let.
type heldBackend struct {
	*backend.Memory
	let chan struct{}
}

func (b *heldBackend) Commit(batch backend.Batch) error {
	<-b.let
	return b.Memory.Commit(batch)
}

// Goal: when the file cannot keep up, apply waits at the bound, goes on after
// the next commit, and is not held when the member stops.
func TestFlusherHoldsApplyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &heldBackend{backend.NewMemory(), make(chan struct{})}
		base, err := b.Base()
		if err != nil {
			t.Fatal(err)
		}
		store, err := mvcc.Open(base, mvcc.Options{FinishedCompact: mvcc.Never, ScheduledCompact: mvcc.Never})
		if err != nil {
			t.Fatal(err)
		}
		f := newTestFlusher(b, store)
		stop := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { f.run(stop) })
		value := make([]byte, 1<<20)
		index := uint64(0)
		apply := func() {
			index++
			txn := store.Begin()
			txn.Put(fmt.Append(nil, "k", index), value, 0)
			txn.Commit()
			store.Publish()
			f.seal(index, 1, store.Rev(), nil)
			f.room(stop)
		}
		fill := func() (blocked chan struct{}) {
			blocked = make(chan struct{})
			go func() {
				defer close(blocked)
				for range 2 * flushMaxBytes >> 20 {
					apply()
				}
			}()
			return blocked
		}
		rest := fill()
		synctest.Wait()
		if held := store.BufferedBytes(); held < flushMaxBytes || held > flushMaxBytes+2<<20 {
			t.Errorf("apply went on to %d bytes, the bound is %d", held, flushMaxBytes)
		}
		at := index
		b.let <- struct{}{}
		synctest.Wait()
		if index <= at {
			t.Error("apply does not go on after a commit")
		}
		close(b.let)
		<-rest
		if err := f.flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := positionOf(t, b.Memory); got != index {
			t.Errorf("flushed to %d of %d", got, index)
		}
		close(stop)
		running.Wait()
		if err := f.flushTo(t.Context(), index+1); !errors.Is(err, ErrStopped) {
			t.Errorf("flushing after the stop: %v", err)
		}
		store.Close()
	})
}

// Goal: what each mode compacts to, round by round.
func TestAutoCompactorDecides(t *testing.T) {
	type round struct {
		rev  int64
		want int64
		fail bool // the compaction asked for does not succeed
	}
	for name, tc := range map[string]struct {
		auto   AutoCompact
		rounds []round
	}{
		"revisions": {AutoCompact{Revisions: 100}, []round{
			{rev: 50}, {rev: 100}, {rev: 101, want: 1}, {rev: 101}, {rev: 250, want: 150},
			{rev: 300, want: 200, fail: true}, {rev: 300, want: 200}, {rev: 200},
		}},
		// Ten rounds make the period; the first compaction goes to the revision
		// of the first round, ten rounds later.
		"period": {AutoCompact{Period: 10 * time.Minute}, []round{
			{rev: 10}, {rev: 20}, {rev: 30}, {rev: 40}, {rev: 50}, {rev: 60}, {rev: 70}, {rev: 80}, {rev: 90}, {rev: 100},
			{rev: 110, want: 10},
			{rev: 120}, {rev: 130}, {rev: 140}, {rev: 150}, {rev: 160}, {rev: 170}, {rev: 180}, {rev: 190}, {rev: 200},
			{rev: 210, want: 110, fail: true},
			{rev: 220, want: 120},
		}},
		"nothing written": {AutoCompact{Period: 10 * time.Minute}, []round{
			{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
		}},
	} {
		auto := autoCompactor{AutoCompact: tc.auto}
		for i, r := range tc.rounds {
			got := auto.decide(r.rev)
			if got != r.want {
				t.Errorf("%s, round %d at revision %d: compact to %d, want %d", name, i, r.rev, got, r.want)
			}
			if got > 0 && !r.fail {
				auto.done(got)
			}
		}
	}
	if got := (AutoCompact{Period: 5 * time.Hour}).round(); got != 6*time.Minute {
		t.Errorf("a period above an hour is looked at every %v", got)
	}
}

func newTestFlusher(b backend.Backend, s *mvcc.Store) *flusher {
	return newFlusher(b, s, time.Hour, seal{rev: s.Rev()}, func(error) {})
}
