package mvcc

import (
	"bytes"
	"slices"
)

// Sizes of an inner node.
const (
	fanMax = 64
	fanMin = 16
)

// inner is a node above the leaves. Exactly one of kids and leaves is in use;
// child i holds the keys in [seps.keys[i-1], seps.keys[i]), with no bound at the
// ends.
//
//	len(live) == number of children == len(seps.keys)+1
//	live[i]   == live keys below child i
type inner struct {
	epoch  uint64 // the tree's epoch that may change this node in place
	seps   *fence
	live   []int64
	kids   []*inner
	leaves []*leaf // nil if the children are inner nodes
}

func (n *inner) len() int { return len(n.live) }

// child is the index of the child that holds key.
func (n *inner) child(key []byte) int { return n.seps.upTo(key) }

func (n *inner) clone(epoch uint64) *inner {
	c := *n
	c.epoch = epoch
	c.live = slices.Clone(n.live)
	c.kids = slices.Clone(n.kids)
	c.leaves = slices.Clone(n.leaves)
	return &c
}

// total counts the live keys below n.
func (n *inner) total() (sum int64) {
	for _, l := range n.live {
		sum += l
	}
	return sum
}

// tree maps keys to their histories. It is a B-tree whose published versions
// stay as they are:
//
//   - every node carries the epoch that made it; the tree changes nodes of its
//     current epoch in place and copies older ones, with the path above them;
//   - freeze ends the epoch, so whatever is reachable from the root it returns
//     is never changed again, by anyone.
//
// The tempting simpler way, a copy per change, costs a path copy per put; this
// way the puts between two freezes share theirs. Owned by the applier.
type tree struct {
	root  *inner
	epoch uint64
	path  []step // from the root to the leaf in hand; scratch
}

// step is a node on the way down and the child that was taken.
type step struct {
	node *inner
	i    int
}

func newTree() tree {
	t := tree{epoch: 1}
	t.root = newRoot(t.epoch)
	return t
}

func newRoot(epoch uint64) *inner {
	return &inner{epoch: epoch, seps: noFence, live: []int64{0}, leaves: []*leaf{{epoch: epoch}}}
}

// freeze ends the epoch and returns what has become immutable.
func (t *tree) freeze() *inner {
	t.epoch++
	return t.root
}

// undo is what a key was before a change of it.
type undo struct {
	key     []byte
	existed bool
	head    head
	history *history
}

// put makes a live value at rev the newest change of key and returns its head
// and what was before.
func (t *tree) put(key []byte, rev Rev) (head, undo) {
	l := t.descend(key)
	i, found := l.search(key)
	if !found {
		h := newHead(rev, head{})
		t.insert(i, key, h)
		return h, undo{key: key}
	}
	h := newHead(rev, l.heads[i])
	return h, t.replace(i, key, h)
}

// newHead is the head of a key that is put at rev after it was `was`.
func newHead(rev Rev, was head) head {
	h := head{main: rev.Main, sub: uint32(rev.Sub), create: rev.Main, version: 1}
	if was.live() {
		h.create, h.version = was.create, was.version+1
	}
	return h
}

// delete makes a deletion at rev the newest change of key, if the key lives.
// It looks first, so that nothing is copied for a key that does not.
func (t *tree) delete(key []byte, rev Rev) (undo, bool) {
	if h, _, _ := t.root.find(key); !h.live() {
		return undo{}, false
	}
	i, _ := t.descend(key).search(key)
	return t.replace(i, key, head{main: rev.Main, sub: uint32(rev.Sub)}), true
}

// add makes a change that was read from disk the newest of its key. A put brings
// its create revision and version. Where they do not follow from the change
// before it, a compaction has taken what was between: at the compact revision a
// deletion stays, but not a put that the same transaction put over. No read
// goes back beyond such a gap, so what came before is forgotten.
func (t *tree) add(key []byte, h head) {
	l := t.descend(key)
	i, found := l.search(key)
	switch {
	case !found:
		t.insert(i, key, h)
	case h.live() && h != newHead(h.rev(), l.heads[i]):
		was := liveness(l.heads[i])
		t.ownLeaf(0).reset(i, h, nil)
		t.count(1 - was)
	case h.live() || l.heads[i].live():
		t.replace(i, key, h)
	}
	// A second deletion in a row says nothing new.
}

// insert adds a new key at position i of the leaf that descend found.
func (t *tree) insert(i int, key []byte, h head) {
	l := t.ownLeaf(1)
	l.insert(i, key, h)
	t.count(liveness(h))
	if l.tooBig() {
		t.split(l, i)
	}
}

// replace changes key i of the leaf that descend found.
func (t *tree) replace(i int, key []byte, h head) undo {
	l := t.ownLeaf(0)
	u := undo{key: key, existed: true, head: l.heads[i], history: l.history(i)}
	l.replace(i, h)
	t.count(liveness(h) - liveness(u.head))
	return u
}

// revert takes the newest change of a key back.
func (t *tree) revert(u undo) {
	l := t.descend(u.key)
	i, _ := l.search(u.key)
	l = t.ownLeaf(0)
	was := l.live
	if u.existed {
		l.reset(i, u.head, u.history)
		t.count(l.live - was)
		return
	}
	l.remove(i)
	t.count(l.live - was)
	t.shrunk()
}

// descend walks to the leaf of key, makes every node above it changeable and
// leaves the way in t.path. The leaf itself is not yet changeable.
func (t *tree) descend(key []byte) *leaf {
	t.path = t.path[:0]
	if t.root.epoch != t.epoch {
		t.root = t.root.clone(t.epoch)
	}
	for n := t.root; ; {
		i := n.child(key)
		t.path = append(t.path, step{n, i})
		if n.leaves != nil {
			return n.leaves[i]
		}
		if n.kids[i].epoch != t.epoch {
			n.kids[i] = n.kids[i].clone(t.epoch)
		}
		n = n.kids[i]
	}
}

// ownLeaf makes the leaf at the end of the path changeable, with room for
// extra keys.
func (t *tree) ownLeaf(extra int) *leaf {
	p := t.path[len(t.path)-1]
	l := p.node.leaves[p.i]
	if l.epoch != t.epoch {
		l = l.clone(t.epoch, extra)
		p.node.leaves[p.i] = l
	}
	return l
}

// count tells the path that its leaf has so many more live keys.
func (t *tree) count(delta int) {
	if delta == 0 {
		return
	}
	for _, p := range t.path {
		p.node.live[p.i] += int64(delta)
	}
}

// split cuts the path's leaf l, which a key inserted at position i overfilled.
func (t *tree) split(l *leaf, i int) {
	right := l.split(l.splitPoint(i))
	p := t.path[len(t.path)-1]
	n := p.node
	n.live[p.i] = int64(l.live)
	n.leaves = slices.Insert(n.leaves, p.i+1, right)
	n.live = slices.Insert(n.live, p.i+1, int64(right.live))
	n.insertSep(p.i, separator(l.key(l.len()-1), right.key(0)))
	t.splitInner()
}

// splitInner splits the overfull nodes of the path, from the lowest up.
func (t *tree) splitInner() {
	for d := len(t.path) - 1; d >= 0; d-- {
		n := t.path[d].node
		if n.len() <= fanMax {
			return
		}
		sep, right := n.split(t.splitIndex(n, d))
		if d == 0 {
			t.root = &inner{
				epoch: t.epoch, seps: newFence([][]byte{sep}),
				live: []int64{n.total(), right.total()}, kids: []*inner{n, right},
			}
			return
		}
		up := t.path[d-1]
		up.node.live[up.i] = n.total()
		up.node.kids = slices.Insert(up.node.kids, up.i+1, right)
		up.node.live = slices.Insert(up.node.live, up.i+1, right.total())
		up.node.insertSep(up.i, sep)
	}
}

// splitIndex is the number of children that stay left: all but two when the
// keys come in order, half of them otherwise.
func (t *tree) splitIndex(n *inner, depth int) int {
	if t.path[depth].i >= n.len()-2 {
		return n.len() - 2
	}
	return n.len() / 2
}

func (n *inner) insertSep(i int, sep []byte) {
	n.seps = newFence(slices.Insert(slices.Clone(n.seps.keys), i, sep))
}

func (n *inner) removeSep(i int) {
	n.seps = newFence(slices.Delete(slices.Clone(n.seps.keys), i, i+1))
}

// split keeps the first `at` children and returns the others and what
// separates the two.
func (n *inner) split(at int) (sep []byte, right *inner) {
	right = &inner{
		epoch: n.epoch,
		seps:  newFence(slices.Clone(n.seps.keys[at:])),
		live:  slices.Clone(n.live[at:]),
	}
	sep = n.seps.keys[at-1]
	n.seps = newFence(slices.Clone(n.seps.keys[:at-1]))
	n.live = slices.Clone(n.live[:at])
	if n.leaves != nil {
		right.leaves = slices.Clone(n.leaves[at:])
		n.leaves = slices.Clone(n.leaves[:at])
	} else {
		right.kids = slices.Clone(n.kids[at:])
		n.kids = slices.Clone(n.kids[:at])
	}
	return sep, right
}

// separator is the shortest key that is above left and not above right.
func separator(left, right []byte) []byte {
	return bytes.Clone(right[:commonLen(left, right)+1])
}

// shrunk settles removals from the path's leaf: empty nodes go, small ones
// join a neighbour, a root with one child makes room for it.
func (t *tree) shrunk() {
	for d := len(t.path) - 1; d >= 0; d-- {
		n, i := t.path[d].node, t.path[d].i
		if n.isEmptyChild(i) {
			n.drop(i)
		} else {
			n.mergeChild(i)
		}
	}
	for t.root.len() == 1 && t.root.leaves == nil {
		t.root = t.root.kids[0]
	}
	if t.root.len() == 0 {
		t.root = newRoot(t.epoch)
	}
}

func (n *inner) isEmptyChild(i int) bool {
	if n.leaves != nil {
		return n.leaves[i].len() == 0
	}
	return n.kids[i].len() == 0
}

// drop removes child i; its neighbour takes over its range.
func (n *inner) drop(i int) {
	n.live = slices.Delete(n.live, i, i+1)
	if n.leaves != nil {
		n.leaves = slices.Delete(n.leaves, i, i+1)
	} else {
		n.kids = slices.Delete(n.kids, i, i+1)
	}
	if len(n.seps.keys) > 0 {
		n.removeSep(max(i-1, 0))
	}
}

// mergeChild joins child i with a neighbour if it is small and both together
// are not so large that they would soon split again.
func (n *inner) mergeChild(i int) {
	if n.len() < 2 {
		return
	}
	left := min(i, n.len()-2)
	if n.leaves != nil {
		n.mergeLeaves(i, left)
	} else {
		n.mergeKids(i, left)
	}
}

func (n *inner) mergeLeaves(i, left int) {
	a, b := n.leaves[left], n.leaves[left+1]
	if n.leaves[i].len() >= leafMin || a.len()+b.len() > leafMax*3/4 ||
		len(a.block)+len(b.block) > leafMaxBytes*3/4 {
		return
	}
	joined := a.slice(0, a.len(), n.epoch)
	joined.take(b, 0, b.len())
	n.leaves[left] = joined
	n.joined(left)
}

func (n *inner) mergeKids(i, left int) {
	a, b := n.kids[left], n.kids[left+1]
	if n.kids[i].len() >= fanMin || a.len()+b.len() > fanMax*3/4 {
		return
	}
	n.kids[left] = &inner{
		epoch:  n.epoch,
		seps:   newFence(slices.Concat(a.seps.keys, [][]byte{n.seps.keys[left]}, b.seps.keys)),
		live:   slices.Concat(a.live, b.live),
		kids:   slices.Concat(a.kids, b.kids),
		leaves: slices.Concat(a.leaves, b.leaves),
	}
	n.joined(left)
}

// joined removes the place of child left+1, which child left has absorbed.
func (n *inner) joined(left int) {
	n.live[left] += n.live[left+1]
	n.live = slices.Delete(n.live, left+1, left+2)
	if n.leaves != nil {
		n.leaves = slices.Delete(n.leaves, left+1, left+2)
	} else {
		n.kids = slices.Delete(n.kids, left+1, left+2)
	}
	n.removeSep(left)
}

// trimFrom drops what is surplus at main from the leaf that holds key, and
// returns how many keys it looked at and where the next leaf begins; nil if
// that was the last one.
func (t *tree) trimFrom(key []byte, main int64) (seen int, next []byte) {
	l, next := t.root.leafOf(key)
	seen = l.len()
	if !l.hasSurplus(main) {
		return seen, next
	}
	t.descend(key)
	l = t.ownLeaf(0)
	l.trim(main)
	t.shrunk()
	return seen, next
}
