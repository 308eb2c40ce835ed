package mvcc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Rev is a position in the store's history: Main is raised by each request or
// transaction that changes something, Sub counts the single changes within it
// from 0. The zero value is before every change.
type Rev struct {
	Main int64
	Sub  int64
}

// Less orders revisions as they happened.
func (r Rev) Less(o Rev) bool {
	return r.Main < o.Main || r.Main == o.Main && r.Sub < o.Sub
}

func (r Rev) String() string { return fmt.Sprintf("%d.%d", r.Main, r.Sub) }

// Sizes of a revision as a key of the key bucket (docs/formats/backend.md):
// 8 bytes main, '_', 8 bytes sub, and 't' after it for a deletion.
const (
	revBytes       = 17
	tombstoneBytes = 18
	tombstoneMark  = 't'
)

// maxSub bounds the changes of one transaction: the index keeps sub revisions
// in 32 bits. A transaction of four billion changes cannot exist in memory.
const maxSub = math.MaxUint32 - 1

// AppendKey appends the bucket key of r to b.
func (r Rev) AppendKey(b []byte, tombstone bool) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.Main))
	b = append(b, '_')
	b = binary.BigEndian.AppendUint64(b, uint64(r.Sub))
	if tombstone {
		b = append(b, tombstoneMark)
	}
	return b
}

// ParseKey reads a bucket key back. Revisions outside what a store can have
// written (negative, or with more changes than a transaction holds) are errors.
func ParseKey(b []byte) (r Rev, tombstone bool, err error) {
	if len(b) != revBytes && (len(b) != tombstoneBytes || b[revBytes] != tombstoneMark) || b[8] != '_' {
		return Rev{}, false, fmt.Errorf("mvcc: %x is not the key of a revision", b)
	}
	r = Rev{
		Main: int64(binary.BigEndian.Uint64(b)),
		Sub:  int64(binary.BigEndian.Uint64(b[9:])),
	}
	if r.Main < 0 || r.Main == math.MaxInt64 || r.Sub < 0 || r.Sub > maxSub {
		return Rev{}, false, fmt.Errorf("mvcc: %x is the key of an impossible revision", b)
	}
	return r, len(b) == tombstoneBytes, nil
}

// mainOf is the main revision in a well-formed bucket key.
func mainOf(key []byte) int64 { return int64(binary.BigEndian.Uint64(key)) }

// revOf is the revision in a well-formed bucket key.
func revOf(key []byte) Rev {
	return Rev{Main: mainOf(key), Sub: int64(binary.BigEndian.Uint64(key[9:]))}
}

// Change is one event of the history: a key was put or deleted at Mod.
type Change struct {
	Key       []byte // shared, never modified
	Mod       Rev
	Create    int64 // create revision of the key; 0 for a deletion
	Prev      Rev   // where the value that the key had before revision Mod.Main was written; zero if it had none
	Tombstone bool
	Record    []byte // encoded mvccpb.KeyValue as stored; shared, never modified
}
