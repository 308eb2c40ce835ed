package mvcc

import (
	"fmt"
	"slices"
)

// begun is a compaction that was decided: the frozen index answers what lives
// at rev, whatever happens to the tree before the job is done.
type begun struct {
	rev     int64
	root    *inner
	resumed bool
}

// begunMax bounds the compactions that wait for their job. Beyond it the
// oldest loses its frozen index, and with it its hash.
const begunMax = 16

// Compact makes rev the compact revision: at once for the applier, with the
// next Publish for readers. Nothing is deleted yet; the index is trimmed by
// CompactIndex, the disk by the job of NewCompaction. Applier only.
func (s *Store) Compact(rev int64) error {
	s.assertNoTxn("Compact")
	switch {
	case rev <= s.CompactRev():
		return ErrCompacted
	case rev > s.Rev():
		return ErrFutureRev
	}
	s.compact(rev, false)
	return nil
}

func (s *Store) compact(rev int64, resumed bool) {
	s.compactRev.Store(rev)
	s.dirty = true
	s.trim = trimmer{rev: rev, active: true}
	root := s.tree.freeze()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.begun) == begunMax {
		s.begun = slices.Delete(s.begun, 0, 1)
	}
	s.begun = append(s.begun, begun{rev: rev, root: root, resumed: resumed})
}

// trimmer walks the index after a compaction. Owned by the applier.
type trimmer struct {
	rev    int64
	next   []byte // leaves before this key are done
	active bool
}

// CompactIndex drops what the newest compaction made unreachable from about
// budgetKeys keys of the index, and reports whether nothing is left to do. A
// compaction that arrives meanwhile starts the walk again. Applier only.
func (s *Store) CompactIndex(budgetKeys int) (done bool) {
	s.assertNoTxn("CompactIndex")
	for s.trim.active && budgetKeys > 0 {
		seen, next := s.tree.trimFrom(s.trim.next, s.trim.rev)
		budgetKeys -= max(seen, 1)
		s.trim.next, s.trim.active = next, next != nil
		s.dirty = true
	}
	return !s.trim.active
}

// Compaction plans the deletions of one compaction over the records on disk,
// and computes its hash on the way. It holds the index as it was when the
// compaction was decided, so it needs no set of revisions in memory. Owned by
// whoever runs it.
type Compaction struct {
	prev, rev int64
	root      *inner
	hash      recordHash
	hashable  bool
	next      []byte // records before this key are done
	done      bool
	err       error
}

// NewCompaction makes the job of the compaction to rev, prev being the compact
// revision before it. Call it once per successful Compact (and once after an
// Open that had a compaction to resume), after the Publish that followed; run
// jobs one after another in that order.
func (s *Store) NewCompaction(prev, rev int64) *Compaction {
	root, exact := s.takeBegun(rev)
	c := &Compaction{prev: prev, rev: rev, root: root, hashable: exact, next: walkKey(0)}
	c.hash = newRecordHash(prev, root, rev)
	return c
}

// takeBegun hands out the index that was frozen for the compaction to rev, and
// whether a hash over it will be that of the compaction. Without one (the
// caller asks twice, or far too late) the published index serves: it knows all
// that is still reachable, so no record that anyone may read is deleted.
func (s *Store) takeBegun(rev int64) (root *inner, exact bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.begun {
		if b.rev == rev {
			s.begun = slices.Delete(s.begun, i, i+1)
			return b.root, !b.resumed
		}
	}
	return s.view.Load().root, false
}

// Step looks at the next n records of base and returns the keys of those to be
// deleted; done tells that this was the end. base must hold everything up to
// the compaction's revision, so FlushedRev() >= Rev() comes first; from call to
// call it may differ by deletions that were returned and by newer records.
func (c *Compaction) Step(base Base, n int) (deletes [][]byte, done bool) {
	if c.done {
		return nil, true
	}
	seen := 0
	c.done = true
	base.Ascend(c.next, walkKey(c.rev+1), func(k, v []byte) bool {
		if seen == n {
			c.done = false
			c.next = append(c.next[:0], k...)
			return false
		}
		seen++
		obsolete, err := c.look(k, v)
		if err != nil {
			c.err = fmt.Errorf("mvcc: compact to %d: %w", c.rev, err)
			return false
		}
		if obsolete {
			deletes = append(deletes, append([]byte(nil), k...))
		}
		return true
	})
	return deletes, c.done
}

// look hashes a record and tells whether it is to be deleted: it is unless it
// is the newest of its key at rev. A deletion at rev itself stays until the
// next compaction, since a watcher may start there.
func (c *Compaction) look(k, v []byte) (obsolete bool, err error) {
	rev, tombstone, err := ParseKey(k)
	if err != nil {
		return false, err
	}
	kept, err := isNewest(c.root, rev, v, c.rev)
	if err != nil {
		return false, err
	}
	c.hash.add(k, v, rev.Main, tombstone, kept)
	return !kept && !(tombstone && rev.Main == c.rev), nil
}

// isNewest reports whether the record of revision rev is the value its key has
// at revision main.
func isNewest(root *inner, rev Rev, value []byte, main int64) (bool, error) {
	var key []byte // of a record without a value, see Open
	if len(value) > 0 {
		kv, err := parseRecord(value)
		if err != nil {
			return false, fmt.Errorf("revision %s: %w", rev, err)
		}
		key = kv.key
	}
	hit, ok := root.get(key, main)
	return ok && hit.Mod == rev, nil
}

// Rev is the compaction's revision.
func (c *Compaction) Rev() int64 { return c.rev }

// Err is why the job ended early, nil if it did not: a record that was damaged
// after Open read it.
func (c *Compaction) Err() error { return c.err }

// Hash is the hash of the compaction, to be kept with KeepHash once the
// deletions are on disk. There is none before the end, and none if the
// compaction was resumed after a crash, because the records are not all there
// any more.
func (c *Compaction) Hash() (KeyHash, bool) {
	h := KeyHash{Hash: c.hash.sum, Rev: c.rev, CompactRev: c.prev}
	return h, c.done && c.hashable && c.err == nil
}
