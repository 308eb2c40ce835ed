package quorum

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Goal: Reached and Tally mean what "a majority" means.
// Method: compare with twins that count heads, over all small sets and random
// opinions.
func TestAgainstNaiveTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		j := Joint{Incoming: randomSet(rnd), Outgoing: randomSet(rnd)}
		come, said := map[uint64]uint64{}, map[uint64]Opinion{}
		for id := uint64(1); id <= 12; id++ {
			come[id], said[id] = rnd.Uint64N(6), Opinion(rnd.IntN(3))
		}
		comeOf := func(id uint64) uint64 { return come[id] }
		saidOf := func(id uint64) Opinion { return said[id] }
		if got, want := j.Reached(comeOf), naiveReached(j, come); got != want {
			t.Fatalf("%v with %v reached %d, want %d", j, come, got, want)
		}
		if got, want := j.Tally(saidOf), naiveTally(j, said); got != want {
			t.Fatalf("%v with %v is %v, want %v", j, said, got, want)
		}
	}
}

func randomSet(rnd *rand.Rand) Set {
	ids := make([]uint64, rnd.IntN(12))
	for i := range ids {
		ids[i] = 1 + rnd.Uint64N(12)
	}
	return Of(ids...)
}

// naiveReached tries all indexes from above.
func naiveReached(j Joint, come map[uint64]uint64) uint64 {
	if len(j.Incoming)+len(j.Outgoing) == 0 {
		return math.MaxUint64
	}
	for index := uint64(6); ; index-- {
		there := func(id uint64) bool { return come[id] >= index }
		if naiveMajority(j.Incoming, there) && naiveMajority(j.Outgoing, there) {
			return index
		}
	}
}

func naiveTally(j Joint, said map[uint64]Opinion) Result {
	yes := func(id uint64) bool { return said[id] == Yes }
	possible := func(id uint64) bool { return said[id] != No }
	switch {
	case naiveMajority(j.Incoming, yes) && naiveMajority(j.Outgoing, yes):
		return Won
	case naiveMajority(j.Incoming, possible) && naiveMajority(j.Outgoing, possible):
		return Pending
	default:
		return Lost
	}
}

func naiveMajority(s Set, of func(uint64) bool) bool {
	n := 0
	for _, id := range s {
		if of(id) {
			n++
		}
	}
	return len(s) == 0 || 2*n > len(s)
}

// Goal: sets behave like sets and are never changed in place.
func TestSets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		s, o := randomSet(rnd), randomSet(rnd)
		before := slices.Clone(s)
		id := 1 + rnd.Uint64N(12)
		with, without := s.With(id), s.Without(id)
		if !with.Has(id) || without.Has(id) || !slices.IsSorted(with) || !slices.IsSorted(without) {
			t.Fatalf("%v with %d is %v, without %v", s, id, with, without)
		}
		if !slices.Equal(s, before) {
			t.Fatalf("%v became %v", before, s)
		}
		distance := 0
		for id := uint64(1); id <= 12; id++ {
			if s.Has(id) != o.Has(id) {
				distance++
			}
		}
		if got := s.Distance(o); got != distance {
			t.Fatalf("distance of %v and %v is %d, want %d", s, o, got, distance)
		}
	}
}

func TestIsOnly(t *testing.T) {
	if !(Joint{Incoming: Of(3)}).IsOnly(3) {
		t.Error("the only voter decides alone")
	}
	if (Joint{Incoming: Of(3), Outgoing: Of(3, 4)}).IsOnly(3) || (Joint{Incoming: Of(3)}).IsOnly(4) {
		t.Error("who needs another voter does not decide alone")
	}
}
