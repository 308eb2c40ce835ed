package mvcc

import (
	"encoding/binary"
	"fmt"
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

// ParseKey reads a bucket key back.
func ParseKey(b []byte) (r Rev, tombstone bool, err error) {
	if len(b) != revBytes && (len(b) != tombstoneBytes || b[revBytes] != tombstoneMark) || b[8] != '_' {
		return Rev{}, false, fmt.Errorf("mvcc: %x is not the key of a revision", b)
	}
	return Rev{
		Main: int64(binary.BigEndian.Uint64(b)),
		Sub:  int64(binary.BigEndian.Uint64(b[9:])),
	}, len(b) == tombstoneBytes, nil
}

// Change is one event of the history: a key was put or deleted at Mod.
type Change struct {
	Key       []byte
	Mod       Rev
	Create    int64 // create revision of the key; 0 for a deletion
	Prev      Rev   // where the value that was replaced or deleted was written; zero if there was none
	Tombstone bool
	Record    []byte // encoded mvccpb.KeyValue as stored; shared, never modified
}
