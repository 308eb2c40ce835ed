package watch

import (
	"bytes"

	"github.com/steledb/stele/internal/base/keys"
)

// intervalTree is a set of ranges that answers which of them contain a key.
//
// It is a search tree over (start, end) in which each node also knows the
// largest end below it:
//
//	          [d, k) max z
//	         /            \
//	[a, f) max f        [p, q) max z
//	                    /          \
//	             [g, z) max z    [t, u) max u
//
// A key descends left only where the largest end is above it, and right only
// where the start is not, so each visited node either contains the key or lies
// on the path to one that does: O(log n) for each range found. The tree is a
// treap; its priorities come from a counter through a mixing function, so that
// the same requests build the same tree.
type intervalTree struct {
	root    *intervalNode
	created uint64 // nodes made so far; seeds the priorities
	size    int
}

type intervalNode struct {
	span        keys.Span
	maxEnd      []byte // largest End in the subtree; meaningless if maxOpen
	maxOpen     bool   // a range in the subtree has no end
	priority    uint64 // not above the parent's
	left, right *intervalNode
	bucket      bucket
}

// bucket returns the bucket of the span, which is made if need be.
func (t *intervalTree) bucket(span keys.Span) *bucket {
	for n := t.root; n != nil; {
		switch c := compareSpans(span, n.span); {
		case c == 0:
			return &n.bucket
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	t.created++
	t.size++
	n := &intervalNode{span: span, priority: mix(t.created)}
	n.update()
	t.root = insertNode(t.root, n)
	return &n.bucket
}

// remove forgets a span.
func (t *intervalTree) remove(span keys.Span) {
	t.root = removeNode(t.root, span)
	t.size--
}

// stab calls fn for the bucket of each range that contains key.
func (t *intervalTree) stab(key []byte, fn func(*bucket)) { t.root.stab(key, fn) }

func (n *intervalNode) stab(key []byte, fn func(*bucket)) {
	for n != nil && n.reaches(key) {
		n.left.stab(key, fn)
		if bytes.Compare(n.span.Key, key) > 0 {
			return
		}
		if n.span.IsOpen() || bytes.Compare(key, n.span.End) < 0 {
			fn(&n.bucket)
		}
		n = n.right
	}
}

// reaches reports whether a range below n ends above key.
func (n *intervalNode) reaches(key []byte) bool {
	return n.maxOpen || bytes.Compare(key, n.maxEnd) < 0
}

// update derives the largest end from the node and its children.
func (n *intervalNode) update() {
	n.maxEnd, n.maxOpen = n.span.End, n.span.IsOpen()
	for _, child := range [...]*intervalNode{n.left, n.right} {
		if child == nil {
			continue
		}
		n.maxOpen = n.maxOpen || child.maxOpen
		if bytes.Compare(child.maxEnd, n.maxEnd) > 0 {
			n.maxEnd = child.maxEnd
		}
	}
}

func insertNode(at, n *intervalNode) *intervalNode {
	if at == nil {
		return n
	}
	if n.priority > at.priority {
		n.left, n.right = splitNodes(at, n.span)
		n.update()
		return n
	}
	if compareSpans(n.span, at.span) < 0 {
		at.left = insertNode(at.left, n)
	} else {
		at.right = insertNode(at.right, n)
	}
	at.update()
	return at
}

// splitNodes parts a subtree into the spans below the given one and the rest.
func splitNodes(at *intervalNode, span keys.Span) (below, rest *intervalNode) {
	if at == nil {
		return nil, nil
	}
	if compareSpans(at.span, span) < 0 {
		at.right, rest = splitNodes(at.right, span)
		at.update()
		return at, rest
	}
	below, at.left = splitNodes(at.left, span)
	at.update()
	return below, at
}

func removeNode(at *intervalNode, span keys.Span) *intervalNode {
	if at == nil {
		panic("watch: removing a range that is not in the tree")
	}
	switch c := compareSpans(span, at.span); {
	case c == 0:
		return mergeNodes(at.left, at.right)
	case c < 0:
		at.left = removeNode(at.left, span)
	default:
		at.right = removeNode(at.right, span)
	}
	at.update()
	return at
}

// mergeNodes joins two subtrees, all of a below all of b.
func mergeNodes(a, b *intervalNode) *intervalNode {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		a.right = mergeNodes(a.right, b)
		a.update()
		return a
	default:
		b.left = mergeNodes(a, b.left)
		b.update()
		return b
	}
}

// compareSpans orders spans by start, then by the bytes of the end. Where an
// open end sorts among the others does not matter, only that equal spans meet.
func compareSpans(a, b keys.Span) int {
	if c := bytes.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return bytes.Compare(a.End, b.End)
}

// mix spreads a counter over 64 bits (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
