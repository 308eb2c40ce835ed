package mvcc

import (
	"bytes"
	"fmt"
)

// check verifies what DESIGN.md says of the tree.
func (t *tree) check() error {
	_, err := t.root.check(nil, nil, t.root.kids == nil)
	return err
}

func (n *inner) check(from, to []byte, root bool) (live int64, err error) {
	if len(n.seps)+1 != n.len() || (n.leaves == nil) == (n.kids == nil) || max(len(n.leaves), len(n.kids)) != n.len() {
		return 0, fmt.Errorf("node with %d separators, %d counts, %d kids, %d leaves", len(n.seps), len(n.live), len(n.kids), len(n.leaves))
	}
	if n.len() > fanMax {
		return 0, fmt.Errorf("node has %d children", n.len())
	}
	for i := range n.live {
		lo, hi := from, to
		if i > 0 {
			lo = n.seps[i-1]
		}
		if i < len(n.seps) {
			hi = n.seps[i]
		}
		if lo != nil && hi != nil && bytes.Compare(lo, hi) >= 0 {
			return 0, fmt.Errorf("child %d has bounds [%q,%q)", i, lo, hi)
		}
		var sum int64
		if n.leaves != nil {
			sum, err = n.leaves[i].check(lo, hi, root && n.len() == 1)
		} else {
			sum, err = n.kids[i].check(lo, hi, false)
		}
		if err != nil {
			return 0, err
		}
		if sum != n.live[i] {
			return 0, fmt.Errorf("child %d counts %d live keys, has %d", i, n.live[i], sum)
		}
		live += sum
	}
	return live, nil
}

func (l *leaf) check(from, to []byte, mayBeEmpty bool) (live int64, err error) {
	if l.len() == 0 && !mayBeEmpty || len(l.slots) != l.len() || l.older != nil && len(l.older) != l.len() {
		return 0, fmt.Errorf("leaf with %d keys, %d slots, %d histories", l.len(), len(l.slots), len(l.older))
	}
	if l.len() > leafMax {
		return 0, fmt.Errorf("leaf has %d keys", l.len())
	}
	used := 0
	for i, h := range l.heads {
		key := l.key(i)
		used += len(key)
		if i > 0 && bytes.Compare(l.key(i-1), key) >= 0 {
			return 0, fmt.Errorf("%q after %q", key, l.key(i-1))
		}
		if from != nil && bytes.Compare(key, from) < 0 || to != nil && bytes.Compare(key, to) >= 0 {
			return 0, fmt.Errorf("%q outside of [%q,%q)", key, from, to)
		}
		if err := l.checkHistory(i, h); err != nil {
			return 0, fmt.Errorf("%q: %w", key, err)
		}
		live += int64(liveness(h))
	}
	if live != int64(l.live) || used+l.dead != len(l.block) {
		return 0, fmt.Errorf("leaf says %d live and %d dead bytes; has %d and %d", l.live, l.dead, live, len(l.block)-used)
	}
	return live, nil
}

func (l *leaf) checkHistory(i int, h head) error {
	if h.older == 0 {
		return nil
	}
	hs := l.history(i)
	if hs == nil || int(h.older) > len(hs.revs) {
		return fmt.Errorf("head %+v without its history", h)
	}
	for j := range int(h.older) {
		was, next := hs.head(j), h
		if j+1 < int(h.older) {
			next = hs.head(j + 1)
		}
		if !was.rev().Less(next.rev()) || !was.live() && !next.live() {
			return fmt.Errorf("%+v before %+v", was, next)
		}
		if was.live() && next.live() && (was.create != next.create || was.version+1 != next.version) {
			return fmt.Errorf("%+v before %+v", was, next)
		}
	}
	return nil
}
