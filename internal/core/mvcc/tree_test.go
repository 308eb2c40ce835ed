package mvcc

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// check verifies what DESIGN.md says of the tree.
func (t *tree) check() error {
	_, err := t.root.check(nil, nil, t.root.kids == nil)
	return err
}

func (n *inner) check(from, to []byte, root bool) (live int64, err error) {
	if len(n.seps.keys)+1 != n.len() || (n.leaves == nil) == (n.kids == nil) || max(len(n.leaves), len(n.kids)) != n.len() {
		return 0, fmt.Errorf("node with %d separators, %d counts, %d kids, %d leaves", len(n.seps.keys), len(n.live), len(n.kids), len(n.leaves))
	}
	if n.len() > fanMax {
		return 0, fmt.Errorf("node has %d children", n.len())
	}
	for i := range n.live {
		lo, hi := from, to
		if i > 0 {
			lo = n.seps.keys[i-1]
		}
		if i < len(n.seps.keys) {
			hi = n.seps.keys[i]
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

// TestTreeAgainstMap grows a tree to three levels, through orders of arrival
// that split it differently, takes changes back, compacts it to nothing, and
// compares it with a sorted map at each turn.
func TestTreeAgainstMap(t *testing.T) {
	const n = 30_000
	orders := map[string]func(i int) string{
		"ascending":  func(i int) string { return fmt.Sprintf("key/%08d", i) },
		"descending": func(i int) string { return fmt.Sprintf("key/%08d", n-i) },
		"scattered":  func(i int) string { return fmt.Sprintf("key/%08x", uint32(i)*2654435761) },
		"long keys":  func(i int) string { return fmt.Sprintf("%04d/%04000d", i*7919%1000, i%1000) },
	}
	for name, key := range orders {
		t.Run(name, func(t *testing.T) {
			size := n
			if name == "long keys" {
				size = 1000
			}
			testTree(t, size, key)
		})
	}
}

func testTree(t *testing.T, n int, key func(i int) string) {
	tr := newTree()
	want := map[string]int64{}
	rev := int64(1)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range n {
		rev++
		k := key(i)
		tr.put([]byte(k), Rev{Main: rev})
		want[k] = rev
		if i%100 == 0 {
			tr.freeze()
		}
		if i%5 == 0 {
			// A put that is taken back leaves nothing, whether or not it split.
			_, u := tr.put([]byte(k+"?"), Rev{Main: rev + 1})
			tr.revert(u)
		}
	}
	compareTree(t, &tr, want)

	frozen, before := tr.freeze(), maps.Clone(want)
	for k := range before {
		if rng.IntN(10) > 0 {
			rev++
			tr.delete([]byte(k), Rev{Main: rev})
			delete(want, k)
		}
	}
	compareTree(t, &tr, want)
	trimAll(&tr, rev)
	compareTree(t, &tr, want)
	compareTree(t, &tree{root: frozen}, before)

	for k := range want {
		rev++
		tr.delete([]byte(k), Rev{Main: rev})
	}
	trimAll(&tr, rev)
	compareTree(t, &tr, nil)
	if l, next := tr.root.leafOf(nil); l.len() != 0 || next != nil || tr.root.leaves == nil {
		t.Errorf("an emptied tree is not a single empty leaf")
	}
}

func trimAll(t *tree, main int64) {
	var next []byte
	for {
		if _, next = t.trimFrom(next, main); next == nil {
			return
		}
	}
}

func compareTree(t *testing.T, tr *tree, want map[string]int64) {
	t.Helper()
	if err := tr.check(); err != nil {
		t.Fatal(err)
	}
	sorted := slices.Sorted(maps.Keys(want))
	i := 0
	tr.root.scan(keys.Span{End: []byte{0}}, newest, func(h Hit) bool {
		if i == len(sorted) || string(h.Key) != sorted[i] || h.Mod.Main != want[sorted[i]] {
			t.Fatalf("key %d is %+v", i, h)
		}
		i++
		return true
	})
	if i != len(sorted) || tr.root.total() != int64(i) {
		t.Fatalf("%d keys, counted %d, want %d", i, tr.root.total(), len(sorted))
	}
	for j := 0; j < len(sorted); j += 1 + len(sorted)/97 {
		if below := tr.root.rank([]byte(sorted[j])); below != int64(j) {
			t.Fatalf("rank of key %d is %d", j, below)
		}
	}
}

// A key with many lives: create revision and version at every revision, before
// and after the oldest part is dropped at any point.
func TestHistoryOfManyLives(t *testing.T) {
	type moment struct {
		create, version int64
		live            bool
	}
	for cut := int64(2); cut < 120; cut++ {
		tr := newTree()
		key, was := []byte("k"), moment{}
		moments := []moment{{}, {}}
		for rev := int64(2); rev < 120; rev++ {
			if rev%7 == 0 {
				tr.delete(key, Rev{Main: rev})
				was = moment{}
			} else {
				tr.put(key, Rev{Main: rev})
				if was.version++; !was.live {
					was = moment{create: rev, version: 1, live: true}
				}
			}
			moments = append(moments, was)
		}
		tr.freeze()
		trimAll(&tr, cut)
		tr.put(key, Rev{Main: 120})
		for rev := cut; rev < 120; rev++ {
			h, ok := tr.root.get(key, rev)
			if want := moments[rev]; ok != want.live || h.Create != want.create || h.Version != want.version {
				t.Fatalf("trimmed at %d: at %d the key is %+v, want %+v", cut, rev, h, want)
			}
		}
		if err := tr.check(); err != nil {
			t.Fatal(err)
		}
	}
}
