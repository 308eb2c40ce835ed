package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// The index finds exactly the watchers whose span contains the key, as going
// through all of them does, whatever was added and removed before.
func TestIndexAgreesWithAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() []byte {
		b := make([]byte, 1+rnd.IntN(3))
		for i := range b {
			b[i] = "\x00\x01ab\xff"[rnd.IntN(5)]
		}
		return b
	}
	x := newIndex()
	var all []*watcher
	for i := range 5000 {
		if rnd.IntN(5) < 3 {
			w := &watcher{id: int64(i), span: keys.Span{Key: word()}}
			if rnd.IntN(3) > 0 {
				w.span.End = word()
			}
			if w.span.IsEmpty() {
				continue
			}
			all = append(all, w)
			x.add(w)
		} else if len(all) > 0 {
			j := rnd.IntN(len(all))
			x.remove(all[j])
			all = slices.Delete(all, j, j+1)
		}
		compareIndex(t, &x, all, word())
	}
	for _, w := range all {
		x.remove(w)
	}
	if len(x.points) != 0 || x.ranges.root != nil || x.ranges.size != 0 {
		t.Errorf("an index without watchers still has %d points and %d ranges", len(x.points), x.ranges.size)
	}
}

func compareIndex(t *testing.T, x *index, all []*watcher, key []byte) {
	t.Helper()
	var got, want []int64
	x.each(key, func(w *watcher) { got = append(got, w.id) })
	for _, w := range all {
		if w.span.Contains(key) {
			want = append(want, w.id)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("watchers of %q: got %v, want %v", key, got, want)
	}
}

// A lookup visits nodes in proportion to what it finds: with 10,000 prefixes
// of which one matches, a few dozen of them.
func TestLookupVisitsLittle(t *testing.T) {
	x := newIndex()
	for i := range 10000 {
		prefix := fmt.Appendf(nil, "p%05d/", i)
		x.add(&watcher{span: keys.Span{Key: prefix, End: keys.PrefixEnd(prefix)}})
	}
	key := []byte("p05000/x")
	visited := 0
	var visit func(n *intervalNode)
	visit = func(n *intervalNode) {
		if n == nil || !n.reaches(key) {
			return
		}
		visited++
		visit(n.left)
		if string(n.span.Key) <= string(key) {
			visit(n.right)
		}
	}
	visit(x.ranges.root)
	if visited > 100 {
		t.Errorf("%d of 10000 nodes visited to find one range", visited)
	}
}
