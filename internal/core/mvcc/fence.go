package mvcc

import (
	"bytes"
	"encoding/binary"
)

// fence is the sorted list of keys that separate the children of a node. It is
// built whole and never changed, so versions of a node share it.
//
// Keys of one neighbourhood begin alike, and reading a key is a cache miss or
// two. So the fence cuts off what all keys have in common and keeps the next
// eight bytes of each as a number, the marks, side by side. A search compares
// the common part once and numbers from then on; it reads a whole key only
// where marks are equal.
//
//	keys    /pods/a/17  /pods/a/4  /pods/b/0
//	prefix  /pods/
//	marks   "a/17\0\0\0\0"  "a/4\0\0\0\0\0"  "b/0\0\0\0\0\0"
//
// Padding with zeros keeps the order: a < b means mark(a) <= mark(b).
type fence struct {
	keys   [][]byte
	prefix []byte
	marks  []uint64
}

var noFence = &fence{}

// newFence takes over keys.
func newFence(keys [][]byte) *fence {
	if len(keys) == 0 {
		return noFence
	}
	first, last := keys[0], keys[len(keys)-1]
	f := &fence{keys: keys, prefix: first[:commonLen(first, last)], marks: make([]uint64, len(keys))}
	for i, key := range keys {
		f.marks[i] = markOf(key[len(f.prefix):])
	}
	return f
}

// commonLen is how many bytes a and b have in common at their front.
func commonLen(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// markOf is the first eight bytes of b as a number, padded with zeros.
func markOf(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var padded [8]byte
	copy(padded[:], b)
	return binary.BigEndian.Uint64(padded[:])
}

// upTo counts the keys that are not above key.
func (f *fence) upTo(key []byte) int {
	if len(f.keys) == 0 {
		return 0
	}
	switch bytes.Compare(key[:min(len(key), len(f.prefix))], f.prefix) {
	case -1:
		return 0
	case 1:
		return len(f.keys)
	}
	mark := markOf(key[len(f.prefix):])
	lo, hi := 0, len(f.marks)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if f.marks[mid] < mark {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for lo < len(f.marks) && f.marks[lo] == mark && bytes.Compare(f.keys[lo], key) <= 0 {
		lo++
	}
	return lo
}
