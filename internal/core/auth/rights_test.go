package auth

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// Goal: merged intervals allow exactly what the permissions allow one by one.
// Method: keys are words of up to two letters out of three, so that all words
// that can lie in a span are listed; a span is covered if each of its words is
// in some permission. The gap between a word and the next longer one is told
// apart by adding a word in between.
func TestRightsAgainstTwin(t *testing.T) {
	words := allWords()
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 4000 {
		permissions := make([]Permission, r.IntN(6))
		for i := range permissions {
			permissions[i] = Permission{Type: Type(r.IntN(4)), Key: word(r, words), End: end(r, words)}
		}
		merged := newRights([]*Role{{Permissions: permissions[:len(permissions)/2]}, {Permissions: permissions[len(permissions)/2:]}})
		checkShape(t, merged.read)
		checkShape(t, merged.write)
		for range 10 {
			span := keys.Span{Key: word(r, words), End: end(r, words)}
			if span.IsEmpty() {
				continue
			}
			if got, want := merged.read.covers(span), covered(words, span, permissions, Read); got != want {
				t.Fatalf("round %d: reading %q of %q: %v, want %v", round, span, permissions, got, want)
			}
			if got, want := merged.write.covers(span), covered(words, span, permissions, Write); got != want {
				t.Fatalf("round %d: writing %q of %q: %v, want %v", round, span, permissions, got, want)
			}
		}
	}
}

// allWords are the words over \x00, a and b up to length three; the last length
// only probes the gaps.
func allWords() [][]byte {
	words := [][]byte{}
	level := []string{""}
	for range 3 {
		var next []string
		for _, w := range level {
			for _, letter := range []string{"\x00", "a", "b"} {
				next = append(next, w+letter)
			}
		}
		for _, w := range next {
			words = append(words, []byte(w))
		}
		level = next
	}
	return words
}

func word(r *rand.Rand, words [][]byte) []byte { return words[r.IntN(12)] } // up to two letters

func end(r *rand.Rand, words [][]byte) []byte {
	switch r.IntN(4) {
	case 0:
		return nil
	case 1:
		return []byte{0}
	}
	return word(r, words)
}

func covered(words [][]byte, span keys.Span, permissions []Permission, want Type) bool {
	probes := words
	if span.IsOpen() {
		probes = append(slices.Clone(words), []byte("zzz")) // beyond every bounded span
	}
	for _, w := range probes {
		if span.Contains(w) && !slices.ContainsFunc(permissions, func(p Permission) bool {
			s := keys.Span{Key: p.Key, End: p.End}
			return (p.Type == want || p.Type == ReadWrite) && !s.IsEmpty() && s.Contains(w)
		}) {
			return false
		}
	}
	return true
}

// checkShape holds intervals against what covers relies on.
func checkShape(t *testing.T, all intervals) {
	t.Helper()
	for i, v := range all {
		if v.end != nil && bytes.Compare(v.begin, v.end) >= 0 {
			t.Fatalf("interval %q is empty", v)
		}
		if i > 0 && compareEnd(all[i-1].end, v.begin) >= 0 {
			t.Fatalf("intervals %q and %q touch", all[i-1], v)
		}
	}
}

// Rights of many roles stay cheap to check.
func BenchmarkCovers(b *testing.B) {
	role := &Role{}
	for i := range 1000 {
		key := fmt.Appendf(nil, "tenant/%04d/", i)
		role.Permissions = append(role.Permissions, Permission{ReadWrite, key, keys.PrefixEnd(key)})
	}
	r := newRights([]*Role{role})
	span := keys.One([]byte("tenant/0500/key"))
	for b.Loop() {
		if !r.read.covers(span) {
			b.Fatal("denied")
		}
	}
}
