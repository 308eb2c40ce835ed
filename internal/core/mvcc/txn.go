package mvcc

import (
	"fmt"

	"github.com/steledb/stele/internal/base/keys"
)

// Txn is a run of reads and changes that become one main revision, or nothing.
// It sees its own changes. Applier only, one at a time; it must end in Commit
// or Abort.
type Txn struct {
	s       *Store
	begun   int64 // revision before the first change
	pending int   // length of the store's pending records before it
	changes []Change
	undos   []undo
	view    *View // acquired by the first Load that needs it
}

// Begin starts a transaction.
func (s *Store) Begin() *Txn {
	s.assertNoTxn("Begin")
	s.inTxn = true
	s.txn.s, s.txn.begun, s.txn.pending = s, s.rev.Load(), len(s.pending)
	return &s.txn
}

// Rev is the revision reads see: the one before the transaction until the
// first change, the transaction's own one from then on.
func (t *Txn) Rev() int64 {
	if len(t.changes) == 0 {
		return t.begun
	}
	return t.begun + 1
}

// CompactRev is the oldest revision that can be read, Never if all can.
func (t *Txn) CompactRev() int64 { return t.s.CompactRev() }

// Get returns key as it was at revision at; at <= 0 means now.
func (t *Txn) Get(key []byte, at int64) (Hit, bool, error) {
	main, err := readableAt(at, t.Rev(), t.CompactRev())
	if err != nil {
		return Hit{}, false, err
	}
	hit, ok := t.s.tree.root.get(key, main)
	return hit, ok, nil
}

// Count counts the keys of span at a revision: in O(log n) now, by a walk at
// older revisions.
func (t *Txn) Count(span keys.Span, at int64) (int64, error) {
	main, err := readableAt(at, t.Rev(), t.CompactRev())
	if err != nil {
		return 0, err
	}
	return t.s.tree.root.countAt(span, main), nil
}

// Scan calls fn for the keys of span that live at a revision, in key order,
// until fn returns false. fn must not change the transaction; the keys it is
// given stay valid, so they can be collected and changed afterwards.
func (t *Txn) Scan(span keys.Span, at int64, fn func(Hit) bool) error {
	main, err := readableAt(at, t.Rev(), t.CompactRev())
	if err != nil {
		return err
	}
	t.s.tree.root.scan(span, main, fn)
	return nil
}

// Load returns the encoded mvccpb.KeyValue of the put at mod, as Get and Scan
// name it. The bytes are shared, never modified, and valid until the
// transaction ends.
func (t *Txn) Load(mod Rev) ([]byte, error) {
	if mod.Main > t.begun {
		if mod.Main > t.begun+1 || mod.Sub >= int64(len(t.changes)) {
			return nil, fmt.Errorf("mvcc: load %s: the transaction has not come to that", mod)
		}
		return t.changes[mod.Sub].Record, nil
	}
	if t.view == nil {
		t.view = t.s.View()
	}
	if mod.Main <= t.view.rev {
		return t.view.Load(mod)
	}
	if r, ok := t.s.findPending(mod); ok {
		return r.Value, nil
	}
	return nil, fmt.Errorf("mvcc: load %s: no such record in (%d, %d]", mod, t.view.rev, t.begun)
}

// findPending finds a record that is committed and not yet published.
func (s *Store) findPending(mod Rev) (Record, bool) {
	lo, hi := 0, len(s.pending)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s.pending[mid].Rev().Less(mod) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(s.pending) || s.pending[lo].Rev() != mod {
		return Record{}, false
	}
	return s.pending[lo], true
}

// Put sets key and returns the revision of the change. key and value are
// copied.
func (t *Txn) Put(key, value []byte, lease int64) Rev {
	rev := t.next()
	h, was := t.s.tree.put(key, rev)
	record := newPutRecord(rev, keyValue{
		key: key, create: h.create, mod: rev.Main, version: h.version, value: value, lease: lease,
	})
	t.changed(record, h.create, was)
	return rev
}

// Delete removes key and reports whether it lived.
func (t *Txn) Delete(key []byte) (deleted bool) {
	rev := t.next()
	was, deleted := t.s.tree.delete(key, rev)
	if deleted {
		t.changed(newTombstoneRecord(rev, key), 0, was)
	}
	return deleted
}

// next is the revision of the next change.
func (t *Txn) next() Rev {
	if len(t.changes) > maxSub {
		panic("mvcc: a transaction of more changes than sub revisions")
	}
	return Rev{Main: t.begun + 1, Sub: int64(len(t.changes))}
}

// changed notes a change that the tree has taken in.
func (t *Txn) changed(record Record, create int64, was undo) {
	was.key = keyOf(record.Value)
	t.undos = append(t.undos, was)
	t.s.pending = append(t.s.pending, record)
	t.changes = append(t.changes, Change{
		Key: was.key, Mod: record.Rev(), Create: create, Prev: t.prev(was),
		Tombstone: record.Tombstone(), Record: record.Value,
	})
}

// prev is where the value that a key had before the transaction was written.
func (t *Txn) prev(was undo) Rev {
	h := was.head
	if was.existed && h.main > t.begun {
		// Changed a second time: the answer is further back.
		i := was.history.upTo(t.begun, h.older)
		if i == 0 {
			return Rev{}
		}
		h = was.history.head(i - 1)
	}
	if !h.live() {
		return Rev{}
	}
	return h.rev()
}

// Commit ends the transaction and returns its changes in order; the caller
// owns the slice. Without a change the revision stays as it was.
func (t *Txn) Commit() []Change {
	s, changes := t.s, t.changes
	if len(changes) > 0 {
		s.rev.Store(t.begun + 1)
		s.dirty = true
	}
	size := int64(0)
	for _, r := range s.pending[t.pending:] {
		size += r.sizeBytes()
	}
	s.bufferedBytes.Add(size)
	t.changes = nil
	t.end()
	return changes
}

// Abort ends the transaction as if it had not been.
func (t *Txn) Abort() {
	for i := len(t.undos) - 1; i >= 0; i-- {
		t.s.tree.revert(t.undos[i])
	}
	clear(t.s.pending[t.pending:])
	t.s.pending = t.s.pending[:t.pending]
	clear(t.changes)
	t.changes = t.changes[:0]
	t.end()
}

func (t *Txn) end() {
	clear(t.undos)
	t.undos = t.undos[:0]
	if t.view != nil {
		t.view.Close()
		t.view = nil
	}
	t.s.inTxn = false
}
