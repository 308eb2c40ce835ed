package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/steledb/stele/internal/base/bucket"
)

// pair is a file and its twin, which take the same batches.
type pair struct {
	t testing.TB
	*Bolt
	twin    *Memory
	batches *randomBatches
}

func newPair(t testing.TB, seed int64, commits int) *pair {
	p := &pair{t, openNew(t), NewMemory(), newBatches(seed)}
	p.chunkBytes = 2000
	for range commits {
		p.commit()
	}
	return p
}

func (p *pair) commit() {
	batch := p.batches.next()
	must(p.t, errors.Join(p.Bolt.Commit(batch), p.twin.Commit(batch)))
}

func (p *pair) mustBeEqual(what string) { p.t.Helper(); mustEqual(p.t, what, p.Bolt, p.twin) }

func (p *pair) mustLeaveNothing() {
	p.t.Helper()
	if left, _ := filepath.Glob(p.Path() + tmpInfix + "*"); len(left) > 0 {
		p.t.Errorf("left behind: %v", left)
	}
}

// Goal: a defragmentation loses and doubles nothing, wherever commits fall.
// Method: commit between every two of its steps: puts, deletions of what is
// copied already and of what is not, changes of all buckets.
func TestDefragWithCommitsBetweenItsSteps(t *testing.T) {
	for seed := range int64(4) {
		p := newPair(t, seed, 60)
		steps := map[string]int{}
		p.onStep = func(step string) {
			if steps[step]++; steps[step] <= 40 {
				for range steps[step] % 3 {
					p.commit()
				}
			}
		}
		_, err := p.Defrag(t.Context())
		must(t, err)
		if steps["chunk"] < 10 || steps["swap"] != 1 {
			t.Fatalf("steps %v: the test does not test much", steps)
		}
		p.mustBeEqual("after the defragmentation")
		p.mustLeaveNothing()
		p.onStep = func(string) {}
		p.commit()
		must(t, p.Close())
		mustEqual(t, "opened again", open(t, p.Path(), Options{}), p.twin)
	}
}

// The same with real concurrency: a flusher, readers of bases, snapshots and two
// defragmentations at a time. The race detector looks on.
func TestDefragAmongEveryone(t *testing.T) {
	p := newPair(t, 20, 40)
	var others sync.WaitGroup
	stop := make(chan struct{})
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for range 2 {
		others.Go(func() {
			for running() {
				base, err := p.Base()
				if err != nil {
					t.Error(err)
					return
				}
				base.Ascend(nil, nil, func(k, v []byte) bool {
					if !bytes.Equal(base.Get(k), v) {
						t.Error("a base contradicts itself")
					}
					return true
				})
				base.Release()
			}
		})
	}
	others.Go(func() {
		for running() {
			s, err := p.Snapshot()
			if err != nil {
				t.Error(err)
				return
			}
			var out bytes.Buffer
			if n, err := s.WriteTo(&out); err != nil || n != s.Size() {
				t.Errorf("snapshot of %d bytes, announced %d: %v", n, s.Size(), err)
			}
			if err := errors.Join(s.Close(), checkPages(out.Bytes())); err != nil {
				t.Error(err)
			}
		}
	})
	var defrags sync.WaitGroup
	for range 2 {
		defrags.Go(func() {
			for range 3 {
				if _, err := p.Defrag(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 60 {
		p.commit()
	}
	defrags.Wait()
	close(stop)
	others.Wait()
	p.mustBeEqual("in the end")
	p.mustLeaveNothing()
}

// Goal: a crash at any step leaves a directory that opens with everything that
// was committed.
// Method: at each step copy the whole directory, open the copy, compare.
func TestCrashDuringDefrag(t *testing.T) {
	p := newPair(t, 30, 40)
	dir, n := t.TempDir(), 0
	steps := 0
	crash := func(step string) {
		n++
		copied := filepath.Join(dir, fmt.Sprint(n))
		must(t, os.CopyFS(copied, os.DirFS(filepath.Dir(p.Path()))))
		b := open(t, filepath.Join(copied, "db"), Options{})
		mustEqual(t, fmt.Sprintf("crashed at %s, step %d", step, n), b, p.twin)
		if left, _ := filepath.Glob(filepath.Join(copied, "*")); len(left) != 1 {
			t.Errorf("crashed at %s: left behind %v", step, left)
		}
		must(t, b.Close())
		must(t, os.RemoveAll(copied))
	}
	p.onStep = func(step string) {
		if steps++; step == "chunk" && steps%8 != 0 {
			return
		}
		p.commit()
		crash(step)
	}
	_, err := p.Defrag(t.Context())
	must(t, err)
	crash("end")
	if n < 5 {
		t.Errorf("only %d crashes", n)
	}
}

// Holes go: after most was deleted the file is a fraction of what it was.
func TestDefragShrinks(t *testing.T) {
	b := openNew(t)
	var records []Record
	var deletes [][]byte
	for i := range int64(2000) {
		records = append(records, Record{recordKey(i+2, 0), make([]byte, 500)})
		if i%20 != 0 {
			deletes = append(deletes, recordKey(i+2, 0))
		}
	}
	must(t, errors.Join(b.Commit(Batch{Records: records}), b.Commit(Batch{Deletes: deletes}), b.Commit(Batch{})))
	size, inUse := b.Size(), b.SizeInUse()
	stats, err := b.Defrag(t.Context())
	must(t, err)
	if stats.Before != size || stats.After != b.Size() || b.Size() > inUse+inUse/2 || b.Size() > size/4 {
		t.Errorf("size %d with %d in use became %d (%+v)", size, inUse, b.Size(), stats)
	}
	if stats.Took < stats.Stall || stats.Stall <= 0 {
		t.Errorf("times %+v", stats)
	}
	info, err := os.Stat(b.Path())
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode became %v", info.Mode())
	}
}

// A base and a snapshot taken before outlive the file they read.
func TestReadsOutliveDefrag(t *testing.T) {
	p := newPair(t, 40, 30)
	base, err := p.Base()
	must(t, err)
	snap, err := p.Snapshot()
	must(t, err)
	want := p.twin.Clone()
	_, err = p.Defrag(t.Context())
	must(t, err)
	for range 20 {
		p.commit()
	}
	must(t, want.Load(bucket.Key, func(k, v []byte) error {
		if !bytes.Equal(base.Get(k), v) {
			t.Errorf("record %x changed", k)
		}
		return nil
	}))
	var out bytes.Buffer
	_, err = snap.WriteTo(&out)
	must(t, err)
	base.Release()
	must(t, snap.Close())
	path := filepath.Join(t.TempDir(), "db")
	must(t, os.WriteFile(path, out.Bytes(), 0o600))
	mustEqual(t, "snapshot", open(t, path, Options{}), want)
}

// Without disk room for a copy nothing is tried, and the numbers are told.
func TestDefragNeedsRoom(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "db"), Options{FreeBytes: func(string) (int64, error) { return 1000, nil }})
	_, err := b.Defrag(t.Context())
	if !errors.Is(err, ErrDiskRoom) || !strings.Contains(err.Error(), "1000 are free") || !strings.Contains(err.Error(), b.Path()) {
		t.Errorf("got %v", err)
	}
	must(t, b.Commit(Batch{ConsistentIndex: 1}))
}

// A defragmentation that ends early, for whatever reason, leaves the file as it
// was, commits working, and the next one free to run.
func TestDefragBrokenOff(t *testing.T) {
	var cancel context.CancelFunc
	for name, c := range map[string]struct {
		prepare func(p *pair)
		step    func(p *pair)
		want    error
	}{
		"cancelled": {step: func(*pair) { cancel() }, want: context.Canceled},
		"outrun":    {prepare: func(p *pair) { p.deltaBytesMax = 10 }, step: (*pair).commit, want: errOutrun},
		"name taken": {step: func(p *pair) {
			must(p.t, os.Remove(p.Path()))
			must(p.t, os.Mkdir(p.Path(), 0o700)) // no file can be renamed to this
		}, want: errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 50, 20)
			var ctx context.Context
			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			if c.prepare != nil {
				c.prepare(p)
			}
			once := sync.Once{}
			p.onStep = func(string) { once.Do(func() { c.step(p) }) }
			_, err := p.Defrag(ctx)
			if err == nil || c.want != errors.ErrUnsupported && !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			p.mustLeaveNothing()
			p.commit()
			p.mustBeEqual("after breaking off")
			if name == "name taken" {
				return
			}
			p.onStep = func(string) {}
			_, err = p.Defrag(context.Background())
			must(t, err)
			p.mustBeEqual("after the next one")
		})
	}
}

// Close breaks a defragmentation off and waits for its end.
func TestCloseDuringDefrag(t *testing.T) {
	p := newPair(t, 60, 20)
	inside, closed := make(chan struct{}), make(chan error)
	once := sync.Once{}
	p.onStep = func(string) {
		once.Do(func() {
			close(inside)
			<-p.closing
		})
	}
	go func() {
		<-inside
		closed <- p.Close()
	}()
	if _, err := p.Defrag(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("defrag: %v", err)
	}
	must(t, <-closed)
	p.mustLeaveNothing()
	if _, err := p.Defrag(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("defrag after close: %v", err)
	}
	mustEqual(t, "opened again", open(t, p.Path(), Options{}), p.twin)
}

// Commits that outgrow their map in the middle of a defragmentation move the
// file under its feet; it goes on from the new one.
func TestOutgrowingTheMapDuringDefrag(t *testing.T) {
	p := &pair{t, open(t, filepath.Join(t.TempDir(), "db"), Options{MmapSize: 1 << 20}), NewMemory(), newBatches(70)}
	p.chunkBytes = 3000
	for range 10 {
		p.commit()
	}
	before, moved := p.cur, 0
	p.onStep = func(string) {
		if moved < 60 {
			moved++
			p.commit()
		}
		if p.cur != before {
			moved = 60
		}
	}
	_, err := p.Defrag(t.Context())
	must(t, err)
	if moved != 60 {
		t.Error("the map was not outgrown")
	}
	p.mustBeEqual("in the end")
	p.mustLeaveNothing()
}
