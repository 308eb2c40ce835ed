package mvcc

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// A fence answers as a comparison with every key does: keys of few different
// bytes, zeros and the shared front among them, so that marks are often equal
// and one key is often the front of another.
func TestFenceAgainstComparingAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	word := func(front int) []byte {
		b := bytes.Repeat([]byte("/"), front)
		for range rng.IntN(12) {
			b = append(b, []byte{0, 0, 'a', 'b', 0xff}[rng.IntN(5)])
		}
		return b
	}
	for range 3000 {
		front := rng.IntN(4)
		var keys [][]byte
		for range rng.IntN(30) {
			keys = append(keys, word(front))
		}
		slices.SortFunc(keys, bytes.Compare)
		keys = slices.CompactFunc(keys, bytes.Equal)
		f := newFence(keys)
		for range 20 {
			key, want := word(rng.IntN(5)), 0
			for _, k := range keys {
				if bytes.Compare(k, key) <= 0 {
					want++
				}
			}
			if got := f.upTo(key); got != want {
				t.Fatalf("%q: %d keys of %q are not above %q, want %d", f.prefix, got, keys, key, want)
			}
		}
	}
}
