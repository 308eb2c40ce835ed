package mvcc

import (
	"fmt"
	"sync"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// Readers never wait and never see half of anything, while the applier
// publishes, the flusher moves the base along and compactions delete. Every
// revision r writes r into the same ten keys, so a view at r must read exactly
// that, wherever the records happen to lie. Run with -race this also shows
// that sharing blocks, histories and chunks between versions is sound.
func TestViewsUnderConcurrentWritesFlushesAndCompactions(t *testing.T) {
	const last = 1500
	disk := &memDisk{t: t}
	s, err := Open(disk.base(), Options{FinishedCompact: Never, ScheduledCompact: Never})
	if err != nil {
		t.Fatal(err)
	}
	jobs := make(chan *Compaction, last)
	var members sync.WaitGroup
	members.Go(func() {
		defer close(jobs)
		applyMany(t, s, last, jobs)
	})
	members.Go(func() { flushMany(s, disk, last, jobs) })
	for range 3 {
		members.Go(func() { readMany(t, s, last) })
	}
	members.Wait()
	s.Close()
	if n := disk.leaked(); n != 0 {
		t.Errorf("%d snapshots are still held", n)
	}
}

func applyMany(t *testing.T, s *Store, last int64, jobs chan<- *Compaction) {
	for rev := int64(2); rev <= last; rev++ {
		txn := s.Begin()
		for i := range 10 {
			txn.Put(fmt.Appendf(nil, "k%d", i), fmt.Append(nil, rev), 0)
		}
		extra := fmt.Appendf(nil, "extra/%d", rev%300)
		if !txn.Delete(extra) {
			txn.Put(extra, nil, 0)
		}
		txn.Commit()
		if rev%50 == 0 {
			prev := s.CompactRev()
			if err := s.Compact(rev - 20); err != nil {
				t.Error(err)
			}
			s.Publish()
			jobs <- s.NewCompaction(prev, rev-20)
		}
		s.CompactIndex(3)
		if rev%3 == 0 || rev == last {
			s.Publish()
		}
	}
}

func flushMany(s *Store, disk *memDisk, last int64, jobs <-chan *Compaction) {
	var job *Compaction
	for flushed := int64(1); flushed < last || job != nil; {
		v := s.View()
		flushed = v.Rev()
		v.Close()
		disk.commit(s.Buffered(flushed), nil)
		s.Rebase(disk.base(), flushed)
		if job == nil {
			select {
			case job = <-jobs:
			default:
			}
		}
		if job == nil || job.Rev() > flushed {
			continue
		}
		base := disk.base()
		deletes, done := job.Step(base, 100)
		base.Release()
		disk.commit(nil, deletes)
		s.Rebase(disk.base(), flushed)
		if done {
			job = nil
		}
	}
}

func readMany(t *testing.T, s *Store, last int64) {
	for rev := int64(0); rev < last && !t.Failed(); {
		v := s.View()
		rev = v.Rev()
		if rev > 1 {
			checkMoment(t, v, 0, rev)
			if past := max(v.CompactRev(), rev-10, 2); past < rev {
				checkMoment(t, v, past, past)
				checkWhole(t, v, past)
			}
		}
		v.Close()
	}
}

func checkMoment(t *testing.T, v *View, at, want int64) {
	n := 0
	err := v.Scan(keys.Span{Key: []byte("k"), End: []byte("l")}, at, func(h Hit) bool {
		value, err := v.Load(h.Mod)
		kv, perr := parseRecord(value)
		if err != nil || perr != nil || h.Mod.Main != want || string(kv.value) != fmt.Sprint(want) {
			t.Errorf("view %d at %d: %s is %q of %s (%v)", v.Rev(), at, h.Key, kv.value, h.Mod, err)
		}
		n++
		return true
	})
	if err != nil || n != 10 {
		t.Errorf("view %d at %d: %d keys (%v)", v.Rev(), at, n, err)
	}
}

// checkWhole expects the eleven changes of every revision.
func checkWhole(t *testing.T, v *View, from int64) {
	n := int64(0)
	err := v.Changes(from+1, v.Rev()+1, func(c Change) bool {
		if want := (Rev{from + 1 + n/11, n % 11}); c.Mod != want {
			t.Errorf("change %s, want %s", c.Mod, want)
			return false
		}
		n++
		return true
	})
	if err != nil || n != 11*(v.Rev()-from) {
		t.Errorf("%d changes after %d in view %d (%v)", n, from, v.Rev(), err)
	}
}
