package mvcc

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Never is the compact revision of a store that was never compacted.
const Never = -1

// Store is the engine. The applier changes it; everyone else meets it through
// views.
type Store struct {
	// Owned by the applier. The tree is ahead of the published view by the
	// transactions in pending.
	tree    tree
	pending []Record // committed since the last Publish
	dirty   bool     // there is something to publish
	txn     Txn
	inTxn   bool
	trim    trimmer

	// Written by the applier, read by everyone.
	rev           atomic.Int64
	compactRev    atomic.Int64
	bufferedBytes atomic.Int64

	// The published state. Readers take view without a lock; mu makes its two
	// writers, Publish and Rebase, take turns.
	view   atomic.Pointer[View]
	mu     sync.Mutex
	buf    buffered // guarded by mu
	begun  []begun  // guarded by mu; compactions that have no job yet
	hashes hashList
}

// newStore makes a store whose records up to rev are in base and indexed by t.
func newStore(t tree, base Base, rev, compactRev int64) *Store {
	s := &Store{tree: t}
	s.rev.Store(rev)
	s.compactRev.Store(compactRev)
	v := &View{
		root: s.tree.freeze(), rev: rev, compactRev: compactRev,
		base: base, baseRev: rev, hashes: &s.hashes,
	}
	v.refs.Store(1)
	s.view.Store(v)
	return s
}

// Rev is the revision of the newest committed change, published or not.
func (s *Store) Rev() int64 { return s.rev.Load() }

// CompactRev is the newest compact revision, published or not; Never if there
// is none.
func (s *Store) CompactRev() int64 { return s.compactRev.Load() }

// BufferedBytes is the size of the committed records that are not known to be
// on disk. Whoever proposes writes uses it to push back.
func (s *Store) BufferedBytes() int64 { return s.bufferedBytes.Load() }

// FlushedRev is the revision up to which everything is known to be on disk, as
// the last Rebase said.
func (s *Store) FlushedRev() int64 { return s.view.Load().baseRev }

// View acquires the published view. It never waits; the caller must Close it.
func (s *Store) View() *View {
	v, ok := s.TryView()
	if !ok {
		panic("mvcc: View of a closed store")
	}
	return v
}

// TryView is View for those who may come upon a store that was replaced by
// another and closed; ok is false then.
func (s *Store) TryView() (v *View, ok bool) {
	for {
		v := s.view.Load()
		if v == nil {
			return nil, false
		}
		if v.tryRetain() {
			return v, true
		}
		// The view was replaced and given up between the two lines above; the
		// next Load sees its successor.
	}
}

// Close gives up the store's own view, and with it the base once the last
// reader is done. No method may be called afterwards.
func (s *Store) Close() {
	s.mu.Lock()
	v := s.view.Swap(nil)
	s.mu.Unlock()
	v.Close()
}

// Publish makes everything committed visible as one new view. Applier only.
func (s *Store) Publish() {
	s.assertNoTxn("Publish")
	if !s.dirty {
		return
	}
	root := s.tree.freeze()
	s.mu.Lock()
	s.buf.append(s.pending)
	old := s.view.Load()
	old.base.Retain()
	s.replaceLocked(&View{
		root: root, rev: s.rev.Load(), compactRev: s.compactRev.Load(),
		base: old.base, baseRev: old.baseRev,
	})
	s.mu.Unlock()
	old.Close()
	clear(s.pending)
	s.pending = s.pending[:0]
	s.dirty = false
}

// Buffered lists the published records up to revision upTo that are not known
// to be on disk, in order. Flusher only.
func (s *Store) Buffered(upTo int64) []Record {
	v := s.View()
	defer v.Close()
	return v.buf.records(upTo)
}

// Rebase tells that base holds everything up to revision upTo, which must be
// published, and takes over the caller's reference to it. New views read from
// base and the buffer is cut; a view acquired before keeps what it has. Also
// used when base changed by a compaction alone, with the upTo of last time.
// Flusher only.
func (s *Store) Rebase(base Base, upTo int64) {
	s.mu.Lock()
	old := s.view.Load()
	if upTo < old.baseRev || upTo > old.rev {
		s.mu.Unlock()
		panic(fmt.Sprintf("mvcc: rebase to %d outside of [%d, %d]", upTo, old.baseRev, old.rev))
	}
	s.bufferedBytes.Add(-s.buf.dropTo(upTo))
	s.replaceLocked(&View{
		root: old.root, rev: old.rev, compactRev: old.compactRev,
		base: base, baseRev: upTo,
	})
	s.mu.Unlock()
	old.Close()
}

// replaceLocked publishes v. The caller closes the view that was there.
func (s *Store) replaceLocked(v *View) {
	v.buf = s.buf
	v.hashes = &s.hashes
	v.refs.Store(1)
	s.view.Store(v)
}

func (s *Store) assertNoTxn(op string) {
	if s.inTxn {
		panic("mvcc: " + op + " within a transaction")
	}
}
