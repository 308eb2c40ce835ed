package mvcc

import (
	"bytes"
	"slices"
)

// Sizes of a leaf. A published leaf is copied by the first put that lands in
// it, so a leaf is as large as a copy is cheap: 32 heads are 1 KiB. Keys can be
// long; a leaf of long keys splits by bytes.
const (
	leafMax      = 32
	leafMin      = 8
	leafMaxBytes = 32 << 10
)

// slot is where a key lies in its leaf's block.
type slot struct{ off, len uint32 }

// leaf holds adjacent keys in order. The keys themselves lie in one block, in
// the order of their arrival, so a leaf is a handful of objects for the
// garbage collector and a key that never changes is never copied:
//
//	block   |apple|pear|fig|...      appended to, never rewritten
//	slots    apple fig pear          sorted, offsets into block
//	heads    (40,3,1) (50,..) ..     newest change of the key in that slot
//	older    nil | *history          earlier changes; nil while no key has any
//
// Versions of a leaf share a block: bytes within a published leaf's block
// length are never written again, and only the newest version appends. Splits
// and merges start fresh blocks, so no two leaves append to the same one.
//
// len(slots) == len(heads), and == len(older) unless older is nil.
type leaf struct {
	epoch       uint64 // the tree's epoch that may change this leaf in place
	block       []byte
	slots       []slot
	heads       []head
	older       []*history
	live        int  // heads that are not deletions
	dead        int  // bytes of block that no slot refers to
	sharedSlots bool // slots belongs to a published leaf too: clone before changing
	sharedOlder bool // so does older
}

func (l *leaf) len() int { return len(l.heads) }

// key returns key i, shared.
func (l *leaf) key(i int) []byte {
	s := l.slots[i]
	return l.block[s.off : s.off+s.len : s.off+s.len]
}

// search finds the first key that is not below key.
func (l *leaf) search(key []byte) (i int, found bool) {
	lo, hi := 0, len(l.slots)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		s := l.slots[mid]
		c := bytes.Compare(l.block[s.off:s.off+s.len], key)
		switch {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

func (l *leaf) tooBig() bool {
	return len(l.heads) > leafMax || len(l.heads) > 1 && len(l.block)-l.dead > leafMaxBytes
}

// clone returns a copy that epoch may change, with room for extra heads.
func (l *leaf) clone(epoch uint64, extra int) *leaf {
	c := *l
	c.epoch = epoch
	c.heads = append(make([]head, 0, len(l.heads)+extra), l.heads...)
	c.sharedSlots, c.sharedOlder = true, true
	return &c
}

func (l *leaf) ownSlots(extra int) {
	if l.sharedSlots {
		l.slots = append(make([]slot, 0, len(l.slots)+extra), l.slots...)
		l.sharedSlots = false
	}
}

func (l *leaf) ownOlder(extra int) {
	if l.sharedOlder && l.older != nil {
		l.older = append(make([]*history, 0, len(l.older)+extra), l.older...)
	}
	l.sharedOlder = false
}

// history returns the history of key i, nil if it has none.
func (l *leaf) history(i int) *history {
	if l.older == nil {
		return nil
	}
	return l.older[i]
}

func (l *leaf) setHistory(i int, hs *history) {
	if l.history(i) == hs {
		return
	}
	l.ownOlder(0)
	if l.older == nil {
		l.older = make([]*history, len(l.heads))
	}
	l.older[i] = hs
}

// replace puts h in front of what key i was.
func (l *leaf) replace(i int, h head) {
	was := l.heads[i]
	l.setHistory(i, l.history(i).push(was))
	h.older = was.older + 1
	l.heads[i] = h
	l.live += liveness(h) - liveness(was)
}

// reset makes key i what it was before.
func (l *leaf) reset(i int, h head, hs *history) {
	l.live += liveness(h) - liveness(l.heads[i])
	l.heads[i] = h
	l.setHistory(i, hs)
}

func liveness(h head) int {
	if h.live() {
		return 1
	}
	return 0
}

// insert adds a key that the leaf does not have at position i.
func (l *leaf) insert(i int, key []byte, h head) {
	l.ownSlots(4)
	at := l.appendKey(key)
	l.slots = slices.Insert(roomFor(l.slots), i, at)
	l.heads = slices.Insert(roomFor(l.heads), i, h)
	if l.older != nil {
		l.ownOlder(4)
		l.older = slices.Insert(roomFor(l.older), i, nil)
	}
	l.live += liveness(h)
}

// appendKey copies key to the end of the block.
func (l *leaf) appendKey(key []byte) slot {
	if need := len(l.block) + len(key); need > cap(l.block) {
		l.block = append(make([]byte, 0, need+need/8), l.block...)
	}
	at := slot{off: uint32(len(l.block)), len: uint32(len(key))}
	l.block = append(l.block, key...)
	return at
}

// roomFor gives s room for another element, sparingly: most leaves stay as
// they are for long, and append would double them.
func roomFor[T any](s []T) []T {
	if len(s) < cap(s) {
		return s
	}
	return append(make([]T, 0, len(s)+1+len(s)/8), s...)
}

// remove forgets key i.
func (l *leaf) remove(i int) {
	l.live -= liveness(l.heads[i])
	l.dead += int(l.slots[i].len)
	l.ownSlots(0)
	l.slots = slices.Delete(l.slots, i, i+1)
	l.heads = slices.Delete(l.heads, i, i+1)
	if l.older != nil {
		l.ownOlder(0)
		l.older = slices.Delete(l.older, i, i+1)
	}
	if l.dead > len(l.block)/2 {
		l.repack()
	}
}

// repack moves the keys to a block without holes.
func (l *leaf) repack() {
	packed := l.slice(0, l.len(), l.epoch)
	*l = *packed
}

// slice returns a leaf of keys [from, to) alone, sharing nothing.
func (l *leaf) slice(from, to int, epoch uint64) *leaf {
	s := &leaf{epoch: epoch}
	s.take(l, from, to)
	return s
}

// take appends keys [from, to) of o, which follow the keys of l.
func (l *leaf) take(o *leaf, from, to int) {
	size := 0
	for _, s := range o.slots[from:to] {
		size += int(s.len)
	}
	l.block = append(make([]byte, 0, len(l.block)+size), l.block...)
	l.slots = append(make([]slot, 0, len(l.slots)+to-from), l.slots...)
	l.heads = append(make([]head, 0, len(l.heads)+to-from), l.heads...)
	had := len(l.heads)
	for i := from; i < to; i++ {
		l.slots = append(l.slots, l.appendKey(o.key(i)))
		l.heads = append(l.heads, o.heads[i])
		l.live += liveness(o.heads[i])
	}
	if o.hasHistory(from, to) || l.older != nil {
		l.older = append(make([]*history, 0, len(l.heads)), l.older...)
		l.older = append(l.older, make([]*history, len(l.heads)-len(l.older))...)
		for i := from; i < to; i++ {
			l.older[had+i-from] = o.history(i)
		}
	}
}

func (l *leaf) hasHistory(from, to int) bool {
	return l.older != nil && slices.ContainsFunc(l.older[from:to], func(h *history) bool { return h != nil })
}

// split keeps keys [0, at) and returns a leaf of the others.
func (l *leaf) split(at int) *leaf {
	right := l.slice(at, l.len(), l.epoch)
	*l = *l.slice(0, at, l.epoch)
	return right
}

// splitPoint is where a leaf that grew by an insertion at position i is cut.
// Keys that arrive in order would leave half-empty leaves behind if cut in the
// middle, so an insertion at the end begins the new leaf.
func (l *leaf) splitPoint(i int) int {
	if i == l.len()-1 {
		return i
	}
	if len(l.heads) > leafMax {
		return l.len() / 2
	}
	half := (len(l.block) - l.dead) / 2
	for at, size := 1, int(l.slots[0].len); ; at++ {
		if size >= half || at == l.len()-1 {
			return at
		}
		size += int(l.slots[at].len)
	}
}

// at finds what key i was at revision main: its head, a past change as a head,
// or nothing.
func (l *leaf) at(i int, main int64) (head, bool) {
	h := l.heads[i]
	if h.main <= main {
		return h, h.live()
	}
	if h.older == 0 {
		return head{}, false
	}
	n := l.older[i].upTo(main, h.older)
	if n == 0 {
		return head{}, false
	}
	h = l.older[i].head(n - 1)
	return h, h.live()
}

// hit describes key i as it was when h was its newest change.
func (l *leaf) hit(i int, h head) Hit {
	return Hit{Key: l.key(i), Mod: h.rev(), Create: h.create, Version: h.version}
}

// surplus counts the oldest changes of key i that nobody can ask for once
// revisions below main are compacted: all before the newest one at main, and
// that one too if it is a deletion.
func (l *leaf) surplus(i int, main int64) uint32 {
	h := l.heads[i]
	if h.main <= main {
		if !h.live() {
			return h.older + 1
		}
		return h.older
	}
	if h.older == 0 {
		return 0
	}
	n := l.older[i].upTo(main, h.older)
	if n == 0 {
		return 0
	}
	if l.older[i].revs[n-1].first == deletion {
		return uint32(n)
	}
	return uint32(n) - 1
}

// hasSurplus reports whether trim(main) would change anything.
func (l *leaf) hasSurplus(main int64) bool {
	if l.older == nil && l.live == len(l.heads) {
		return false
	}
	for i := range l.heads {
		if l.surplus(i, main) > 0 {
			return true
		}
	}
	return false
}

// trim drops the surplus of every key, and keys that are nothing else.
func (l *leaf) trim(main int64) {
	for i := l.len() - 1; i >= 0; i-- {
		cut := l.surplus(i, main)
		switch h := &l.heads[i]; {
		case cut == 0:
		case cut > h.older:
			l.remove(i)
		default:
			l.setHistory(i, l.older[i].without(cut, h.older))
			h.older -= cut
		}
	}
	if !l.hasHistory(0, l.len()) {
		l.older, l.sharedOlder = nil, false
	}
}
