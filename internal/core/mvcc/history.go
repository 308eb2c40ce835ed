package mvcc

import (
	"math"
	"sort"
)

// head is the newest change of a key. 32 bytes, no pointers: leaves hold heads
// by the dozen and copy them with every published put.
type head struct {
	main    int64
	create  int64 // create revision; 0 if the newest change is a deletion
	version int64 // puts since the creation; 0 for a deletion
	sub     uint32
	older   uint32 // how many entries of the key's history belong to this head
}

func (h head) live() bool { return h.create != 0 }
func (h head) rev() Rev   { return Rev{Main: h.main, Sub: int64(h.sub)} }

// past is a change that is no longer the newest of its key, 16 bytes. Create
// revision and version are not stored but counted from the first change of
// the same life of the key.
type past struct {
	main  int64
	sub   uint32
	first uint32 // index of the life's first entry in the history; deletion for a tombstone
}

const deletion = math.MaxUint32

// history holds the older changes of one key, oldest first. It is shared by
// every version of the leaf: only the applier appends, and a head tells how
// many entries are its own, so an entry that some view can see is never
// written again. An entry written by an aborted transaction lies beyond every
// head and is overwritten by the next one.
//
// A key's lives are separated by deletions. The first life may have lost its
// beginning to compaction, so the history keeps what its first entry was:
//
//	create, version   of revs[0] (both 0 if it is a deletion)
//	revs[i].first     0 for that first life, else where the life begins:
//	                  create = revs[first].main, version = i - first + 1
type history struct {
	create, version int64
	revs            []past // full length; entries beyond the newest head are unused
}

// push returns the history of a key after the head h is replaced, with h at
// position h.older: old itself, or a larger copy.
func (old *history) push(h head) *history {
	n := h.older
	if n == 0 {
		fresh := &history{create: h.create, version: h.version, revs: make([]past, 1)}
		fresh.set(h)
		return fresh
	}
	if int(n) < len(old.revs) {
		old.set(h)
		return old
	}
	grown := &history{create: old.create, version: old.version, revs: make([]past, grownLen(len(old.revs)))}
	copy(grown.revs, old.revs)
	grown.set(h)
	return grown
}

// grownLen doubles short histories and extends long ones by half.
func grownLen(n int) int {
	if n < 512 {
		return 2 * n
	}
	return n + n/2
}

// set writes h at its position.
func (hs *history) set(h head) {
	n := h.older
	p := past{main: h.main, sub: h.sub}
	switch {
	case !h.live():
		p.first = deletion
	case n == 0:
		p.first = 0
	case hs.revs[n-1].first == deletion:
		p.first = n
	default:
		p.first = hs.revs[n-1].first
	}
	hs.revs[n] = p
}

// upTo counts the first n entries that are not after revision main.
func (hs *history) upTo(main int64, n uint32) int {
	return sort.Search(int(n), func(i int) bool { return hs.revs[i].main > main })
}

// head gives entry i in the form of a head.
func (hs *history) head(i int) head {
	p := hs.revs[i]
	h := head{main: p.main, sub: p.sub, older: uint32(i)}
	switch p.first {
	case deletion:
	case 0:
		h.create, h.version = hs.create, hs.version+int64(i)
	default:
		h.create, h.version = hs.revs[p.first].main, int64(i)-int64(p.first)+1
	}
	return h
}

// without returns a history of entries [cut, n) only.
func (hs *history) without(cut, n uint32) *history {
	if cut == n {
		return nil
	}
	oldest := hs.head(int(cut))
	kept := &history{create: oldest.create, version: oldest.version, revs: make([]past, n-cut)}
	for i := range kept.revs {
		p := hs.revs[int(cut)+i]
		switch {
		case p.first == deletion:
		case p.first <= cut:
			p.first = 0
		default:
			p.first -= cut
		}
		kept.revs[i] = p
	}
	return kept
}
