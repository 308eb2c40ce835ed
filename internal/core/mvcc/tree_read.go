package mvcc

import (
	"bytes"
	"math"

	"github.com/steledb/stele/internal/base/keys"
)

// newest asks a tree for the state after everything it holds.
const newest = math.MaxInt64

// leafOf walks to the leaf of key and tells where the next leaf begins, nil if
// there is none.
func (n *inner) leafOf(key []byte) (l *leaf, next []byte) {
	for {
		i := n.child(key)
		if i < len(n.seps.keys) {
			next = n.seps.keys[i]
		}
		if n.leaves != nil {
			return n.leaves[i], next
		}
		n = n.kids[i]
	}
}

// find returns the newest change of key; the zero head if there is none.
func (n *inner) find(key []byte) (h head, l *leaf, i int) {
	l, _ = n.leafOf(key)
	i, found := l.search(key)
	if !found {
		return head{}, l, i
	}
	return l.heads[i], l, i
}

// get returns key as it was at revision main.
func (n *inner) get(key []byte, main int64) (Hit, bool) {
	l, _ := n.leafOf(key)
	i, found := l.search(key)
	if !found {
		return Hit{}, false
	}
	h, ok := l.at(i, main)
	if !ok {
		return Hit{}, false
	}
	return l.hit(i, h), true
}

// rank counts the live keys below key in the newest state.
func (n *inner) rank(key []byte) (below int64) {
	for {
		i := n.child(key)
		for _, live := range n.live[:i] {
			below += live
		}
		if n.leaves != nil {
			return below + n.leaves[i].rank(key)
		}
		n = n.kids[i]
	}
}

func (l *leaf) rank(key []byte) (below int64) {
	end, _ := l.search(key)
	for _, h := range l.heads[:end] {
		below += int64(liveness(h))
	}
	return below
}

// count counts the live keys of span in the newest state.
func (n *inner) count(span keys.Span) int64 {
	switch {
	case span.IsPoint():
		h, _, _ := n.find(span.Key)
		return int64(liveness(h))
	case span.IsOpen():
		return n.total() - n.rank(span.Key)
	case span.IsEmpty():
		return 0
	}
	return n.rank(span.End) - n.rank(span.Key)
}

// scan calls fn for the keys of span that live at revision main, in key order,
// until fn returns false.
func (n *inner) scan(span keys.Span, main int64, fn func(Hit) bool) {
	switch {
	case span.IsPoint():
		if hit, ok := n.get(span.Key, main); ok {
			fn(hit)
		}
	case span.IsEmpty():
	case span.IsOpen():
		n.ascend(span.Key, nil, main, fn)
	default:
		n.ascend(span.Key, span.End, main, fn)
	}
}

// ascend walks the keys in [from, to), without an upper bound if to is nil.
func (n *inner) ascend(from, to []byte, main int64, fn func(Hit) bool) bool {
	for i := n.child(from); i < n.len(); i++ {
		if i > 0 && to != nil && bytes.Compare(n.seps.keys[i-1], to) >= 0 {
			return true
		}
		more := false
		if n.leaves != nil {
			more = n.leaves[i].ascend(from, to, main, fn)
		} else {
			more = n.kids[i].ascend(from, to, main, fn)
		}
		if !more {
			return false
		}
	}
	return true
}

func (l *leaf) ascend(from, to []byte, main int64, fn func(Hit) bool) bool {
	if l.len() == 0 {
		return true
	}
	first, _ := l.search(from)
	last := l.len()
	if to != nil && bytes.Compare(l.key(last-1), to) >= 0 {
		last, _ = l.search(to)
	}
	for i := first; i < last; i++ {
		if h, ok := l.at(i, main); ok && !fn(l.hit(i, h)) {
			return false
		}
	}
	return true
}
