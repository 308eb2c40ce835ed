package mvcc

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/steledb/stele/internal/base/keys"
)

// What a reader can be told about a revision it asks for.
var (
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
	ErrFutureRev = errors.New("mvcc: required revision is a future revision")
)

// Base is an immutable snapshot of the records on disk, safe for concurrent
// readers. It is counted: whoever keeps it holds a reference, the last Release
// frees it.
type Base interface {
	// Get returns the value of a record by its 17- or 18-byte key, nil if
	// there is none. The bytes stay valid while the base is retained.
	Get(key []byte) []byte
	// Ascend calls fn for the records with keys in [from, to), in order, until
	// fn returns false. k and v are valid inside fn only.
	Ascend(from, to []byte, fn func(k, v []byte) bool)
	Retain()
	Release()
}

// noBase is the disk of a store that has none.
type noBase struct{}

func (noBase) Get([]byte) []byte                            { return nil }
func (noBase) Ascend(_, _ []byte, _ func(k, v []byte) bool) {}
func (noBase) Retain()                                      {}
func (noBase) Release()                                     {}

// Hit is a key that lives at the revision asked for.
type Hit struct {
	Key     []byte // shared, never modified; stays valid as long as it is referenced
	Mod     Rev    // where the value was written; Load(Mod) has it
	Create  int64
	Version int64
}

// View is the store at one moment: every answer of it is the one that moment
// gave, while writes, flushes and compactions go on. Views are shared: each
// call of Store.View is one reference, Close gives it back, and the last one
// lets go of the base. A view held for long keeps what it needs in memory and
// on disk, nothing more.
//
// A record of revision r is in the buffer if r > baseRev and in the base
// otherwise; the base may hold more than that (it is not looked at) and less
// (what compactions up to compactRev deleted).
type View struct {
	refs       atomic.Int64
	root       *inner
	rev        int64
	compactRev int64
	buf        buffered
	base       Base
	baseRev    int64
	hashes     *hashList
}

// tryRetain takes a reference unless the view is already given up.
func (v *View) tryRetain() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Close gives the view back. What Load returned must not be used afterwards.
func (v *View) Close() {
	switch n := v.refs.Add(-1); {
	case n == 0:
		v.base.Release()
	case n < 0:
		panic("mvcc: a view was closed twice")
	}
}

// Rev is the revision of the newest change the view sees.
func (v *View) Rev() int64 { return v.rev }

// CompactRev is the oldest revision that can be read, -1 if nothing was ever
// compacted.
func (v *View) CompactRev() int64 { return v.compactRev }

// Get returns key as it was at revision at; at <= 0 means now. It does not
// allocate.
func (v *View) Get(key []byte, at int64) (Hit, bool, error) {
	main, err := readableAt(at, v.rev, v.compactRev)
	if err != nil {
		return Hit{}, false, err
	}
	hit, ok := v.root.get(key, main)
	return hit, ok, nil
}

// Count counts the keys of span at a revision: in O(log n) now, by a walk at
// older revisions.
func (v *View) Count(span keys.Span, at int64) (int64, error) {
	main, err := readableAt(at, v.rev, v.compactRev)
	if err != nil {
		return 0, err
	}
	return v.root.countAt(span, main), nil
}

// Scan calls fn for the keys of span that live at a revision, in key order,
// until fn returns false.
func (v *View) Scan(span keys.Span, at int64, fn func(Hit) bool) error {
	main, err := readableAt(at, v.rev, v.compactRev)
	if err != nil {
		return err
	}
	v.root.scan(span, main, fn)
	return nil
}

// Load returns the encoded mvccpb.KeyValue of the put at mod, as Get and Scan
// name it. The bytes are shared, never modified, and valid until Close. A
// revision that a compaction has taken since is ErrCompacted.
func (v *View) Load(mod Rev) ([]byte, error) {
	if mod.Main > v.baseRev {
		if r, ok := v.buf.find(mod); ok {
			return r.Value, nil
		}
		return nil, fmt.Errorf("mvcc: load %s: no such record in the buffer, which holds (%d, %d]", mod, v.baseRev, v.rev)
	}
	if value := v.base.Get(mod.AppendKey(make([]byte, 0, revBytes), false)); value != nil {
		return value, nil
	}
	if mod.Main <= v.compactRev {
		return nil, ErrCompacted
	}
	return nil, fmt.Errorf("mvcc: load %s: no such record on disk, which holds (%d, %d]", mod, v.compactRev, v.baseRev)
}

// walk calls fn for every record of the main revisions [from, to), in order,
// until fn returns false. k and v are valid inside fn only.
func (v *View) walk(from, to int64, fn func(k, v []byte) bool) {
	more := true
	if from <= v.baseRev {
		v.base.Ascend(walkKey(from), walkKey(min(to, v.baseRev+1)), func(key, value []byte) bool {
			more = fn(key, value)
			return more
		})
	}
	for i := v.buf.from(from); more && i < v.buf.end; i++ {
		r := v.buf.at(i)
		more = mainOf(r.Key) < to && fn(r.Key, r.Value)
	}
}

func walkKey(main int64) []byte { return Rev{Main: max(main, 0)}.AppendKey(nil, false) }

// readableAt resolves the revision that a read names.
func readableAt(at, rev, compactRev int64) (int64, error) {
	switch {
	case at <= 0 || at == rev:
		return newest, nil
	case at > rev:
		return 0, ErrFutureRev
	case at < compactRev:
		return 0, ErrCompacted
	}
	return at, nil
}

// countAt counts the keys of span that live at main.
func (n *inner) countAt(span keys.Span, main int64) (count int64) {
	if main == newest {
		return n.count(span)
	}
	n.scan(span, main, func(Hit) bool {
		count++
		return true
	})
	return count
}
