package mvcc

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/steledb/stele/internal/base/keys"
)

// Options tell Open what is not in the key bucket.
type Options struct {
	// FinishedCompact and ScheduledCompact are the compact revisions of the
	// meta bucket; Never if absent. A scheduled one that is newer was
	// interrupted: Open compacts to it, and its job must be run again.
	FinishedCompact  int64
	ScheduledCompact int64
	// OnLive is told, in key order, each live key that has a lease. key is
	// shared, never modified.
	OnLive func(key []byte, lease int64)
}

// Open rebuilds the store from the records in base (nil: there are none) and
// takes over the caller's reference to it; if it fails, the caller keeps it.
//
// The revision after opening is the newest one that anything on disk names. A
// record with an empty value is one such name: `snapshot restore
// --bump-revision` leaves it behind. It counts as a value of the empty key,
// which no request can name, so that compactions keep it and hashes include it
// as etcd's do.
func Open(base Base, opt Options) (*Store, error) {
	if base == nil {
		base = noBase{}
	}
	r := restorer{tree: newTree(), rev: 1, leases: map[string]int64{}}
	base.Ascend([]byte{0}, afterAll, r.add)
	if r.err != nil {
		return nil, r.err
	}
	rev := max(r.rev, opt.FinishedCompact, opt.ScheduledCompact)
	s := newStore(r.tree, base, rev, max(opt.FinishedCompact, Never))
	if opt.OnLive != nil {
		r.tellLeases(opt.OnLive)
	}
	if opt.ScheduledCompact > opt.FinishedCompact {
		s.compact(opt.ScheduledCompact, true)
		s.Publish()
	}
	return s, nil
}

// afterAll is above every key that a record or a damaged key could have.
var afterAll = bytes.Repeat([]byte{0xff}, tombstoneBytes+1)

// restorer takes in the records of a base in revision order.
type restorer struct {
	tree   tree
	rev    int64
	leases map[string]int64 // of the live keys that have one
	err    error
}

func (r *restorer) add(key, value []byte) bool {
	rev, tombstone, err := ParseKey(key)
	if err != nil {
		r.err = fmt.Errorf("mvcc: restore after revision %d: %w", r.rev, err)
		return false
	}
	r.rev = max(r.rev, rev.Main)
	if len(value) == 0 {
		r.tree.add(nil, head{main: rev.Main, sub: uint32(rev.Sub), create: rev.Main, version: 1})
		return true
	}
	if err := r.addChange(rev, tombstone, value); err != nil {
		r.err = fmt.Errorf("mvcc: restore revision %s: %w", rev, err)
		return false
	}
	return true
}

var (
	errNoKey      = errors.New("record has no key")
	errImpossible = errors.New("record has an impossible revision or version")
)

func (r *restorer) addChange(rev Rev, tombstone bool, value []byte) error {
	kv, err := parseRecord(value)
	switch {
	case err != nil:
		return err
	case len(kv.key) == 0:
		return errNoKey
	case !tombstone && (kv.create <= 0 || kv.create > rev.Main || kv.version <= 0):
		return errImpossible
	}
	h := head{main: rev.Main, sub: uint32(rev.Sub)}
	if !tombstone {
		h.create, h.version = kv.create, kv.version
	}
	r.tree.add(kv.key, h)
	r.noteLease(kv.key, kv.lease)
	return nil
}

// noteLease remembers the lease of the newest value; a deletion has none.
func (r *restorer) noteLease(key []byte, lease int64) {
	if lease != 0 {
		r.leases[string(key)] = lease
	} else if len(r.leases) > 0 {
		delete(r.leases, string(key))
	}
}

func (r *restorer) tellLeases(onLive func(key []byte, lease int64)) {
	if len(r.leases) == 0 {
		return
	}
	r.tree.root.scan(keys.Span{End: []byte{0}}, newest, func(h Hit) bool {
		if lease := r.leases[string(h.Key)]; lease != 0 {
			onLive(h.Key, lease)
		}
		return true
	})
}
