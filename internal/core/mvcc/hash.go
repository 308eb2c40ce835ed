package mvcc

import (
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/keys"
)

// KeyHash is the hash of the records up to Rev, as members compare it.
// CompactRev is the compact revision it was computed under.
type KeyHash struct {
	Hash       uint32
	Rev        int64
	CompactRev int64
}

// hashesKept is how many hashes of compactions are remembered.
const hashesKept = 10

// hashList remembers the newest hashes of compactions, oldest first. Shared by
// the store and its views.
type hashList struct {
	mu   sync.Mutex
	list []KeyHash // guarded by mu, at most hashesKept
}

func (l *hashList) add(h KeyHash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == hashesKept {
		l.list = append(l.list[:0], l.list[1:]...)
	}
	l.list = append(l.list, h)
}

func (l *hashList) find(rev int64) (KeyHash, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.list {
		if h.Rev == rev {
			return h, true
		}
	}
	return KeyHash{}, false
}

// KeepHash remembers the hash of a finished compaction.
func (s *Store) KeepHash(h KeyHash) { s.hashes.add(h) }

// KeptHashes lists the remembered hashes, oldest first.
func (s *Store) KeptHashes() []KeyHash {
	s.hashes.mu.Lock()
	defer s.hashes.mu.Unlock()
	return append([]KeyHash(nil), s.hashes.list...)
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	emptyHash  = crc32.Checksum([]byte(bucket.Key), castagnoli) // of no record at all
)

// recordHash is CRC-32C over the bucket's name and then key and value of each
// record that counts (docs/formats/backend.md). What counts is chosen so that
// a compaction under way, or not yet begun, does not show:
//
//	main > compactRev   every record
//	main <= compactRev  those that are the newest of their key at rev
//	main == compactRev  no deletions
//
// Observed etcd behaviour dictates an exception: if no key lives at rev, the
// second rule does not apply and whatever a finished compaction leaves on disk
// is hashed.
type recordHash struct {
	sum        uint32
	compactRev int64
	anyLive    bool // some key lives at the revision that is hashed
}

func newRecordHash(compactRev int64, root *inner, rev int64) recordHash {
	h := recordHash{compactRev: compactRev, sum: emptyHash}
	root.scan(keys.Span{End: []byte{0}}, rev, func(Hit) bool {
		h.anyLive = true
		return false
	})
	return h
}

// add takes in a record; kept tells whether it is the newest of its key at the
// revision that is hashed.
func (h *recordHash) add(k, v []byte, main int64, tombstone, kept bool) {
	if main <= h.compactRev && h.anyLive && !kept || tombstone && main == h.compactRev {
		return
	}
	h.sum = crc32.Update(h.sum, castagnoli, k)
	h.sum = crc32.Update(h.sum, castagnoli, v)
}

// HashKV hashes the records up to revision rev; 0 means the view's own one, a
// negative one hashes nothing. A revision named as such to which the store was
// compacted answers with the hash that the compaction left. It walks all
// records, in bounded memory.
func (v *View) HashKV(rev int64) (KeyHash, error) {
	if h, ok := v.hashes.find(rev); ok && rev > 0 {
		return h, nil
	}
	switch {
	case rev < 0:
		return KeyHash{Hash: emptyHash, Rev: rev, CompactRev: v.compactRev}, nil
	case rev == 0:
		rev = v.rev
	case rev > v.rev:
		return KeyHash{}, ErrFutureRev
	case rev < v.compactRev:
		return KeyHash{}, ErrCompacted
	}
	return v.hash(rev)
}

func (v *View) hash(rev int64) (KeyHash, error) {
	h := newRecordHash(v.compactRev, v.root, rev)
	var failed error
	v.walk(0, rev+1, func(key, value []byte) bool {
		at, tombstone, err := ParseKey(key)
		kept, gone := false, false
		if err == nil && at.Main <= v.compactRev {
			kept, gone, err = v.fate(at, tombstone, value, rev)
		}
		if err != nil {
			failed = fmt.Errorf("mvcc: hash up to %d: %w", rev, err)
			return false
		}
		if !gone {
			h.add(key, value, at.Main, tombstone, kept)
		}
		return true
	})
	return KeyHash{Hash: h.sum, Rev: rev, CompactRev: v.compactRev}, failed
}

// fate tells of a record within the compacted past whether it is the newest of
// its key at revision rev, and whether the compaction deletes it, or has.
func (v *View) fate(at Rev, tombstone bool, value []byte, rev int64) (kept, gone bool, err error) {
	if kept, err = isNewest(v.root, at, value, rev); err != nil || kept {
		return kept, false, err
	}
	survives, err := isNewest(v.root, at, value, v.compactRev)
	return false, !survives && !(tombstone && at.Main == v.compactRev), err
}
