// Package quorum answers the two questions consensus asks of a set of voters:
// how far have enough of them come, and have enough of them said yes.
//
// Enough means a majority, and during a membership change a majority of the old
// set and one of the new set (joint consensus, Raft thesis section 4.3). The
// package holds no state: sets are values, opinions are asked for by id.
package quorum

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Set is a set of member ids in rising order. The zero value is empty. Sets are
// shared freely and never changed in place.
type Set []uint64

// Of makes a set from ids in any order.
func Of(ids ...uint64) Set {
	s := slices.Clone(Set(ids))
	slices.Sort(s)
	return slices.Compact(s)
}

// Has reports whether id is in the set.
func (s Set) Has(id uint64) bool {
	_, found := slices.BinarySearch(s, id)
	return found
}

// With returns the set with id in it.
func (s Set) With(id uint64) Set {
	at, found := slices.BinarySearch(s, id)
	if found {
		return s
	}
	return slices.Insert(slices.Clip(s), at, id)
}

// Without returns the set with id taken out.
func (s Set) Without(id uint64) Set {
	at, found := slices.BinarySearch(s, id)
	if !found {
		return s
	}
	return slices.Concat(s[:at], s[at+1:])
}

// Distance counts the ids that are in only one of the two sets.
func (s Set) Distance(o Set) int {
	common := 0
	for _, id := range s {
		if o.Has(id) {
			common++
		}
	}
	return len(s) + len(o) - 2*common
}

func (s Set) String() string {
	var b strings.Builder
	b.WriteByte('(')
	for i, id := range s {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d", id)
	}
	b.WriteByte(')')
	return b.String()
}

// Result is the outcome of a vote as far as it is known.
type Result uint8

// The outcomes.
const (
	Pending Result = iota // enough voters are still silent to turn it either way
	Won
	Lost
)

func (r Result) String() string { return [...]string{"pending", "won", "lost"}[r] }

// Opinion is what a voter said.
type Opinion uint8

// The opinions.
const (
	Silent Opinion = iota
	Yes
	No
)

// Reached returns the highest index that a majority of s has come to. An empty
// set holds nobody back, which makes a half-empty Joint act like its other half.
func (s Set) Reached(come func(id uint64) uint64) uint64 {
	switch len(s) {
	case 0:
		return math.MaxUint64
	case 1:
		return come(s[0])
	}
	// Clusters have up to seven voters or so: keep their indexes off the heap.
	var few [9]uint64
	at := few[:0]
	for _, id := range s {
		at = append(at, come(id))
	}
	slices.Sort(at)
	// In rising order the members from position p on, len-p many, have come to
	// at[p]. A majority is len/2+1, so p = len - (len/2+1).
	return at[len(at)-(len(at)/2+1)]
}

// Tally returns the outcome of a vote of s. An empty set is won, for the reason
// given at Reached.
func (s Set) Tally(said func(id uint64) Opinion) Result {
	if len(s) == 0 {
		return Won
	}
	yes, silent := 0, 0
	for _, id := range s {
		switch said(id) {
		case Yes:
			yes++
		case Silent:
			silent++
		}
	}
	majority := len(s)/2 + 1
	switch {
	case yes >= majority:
		return Won
	case yes+silent >= majority:
		return Pending
	default:
		return Lost
	}
}

// Joint is the set of voters that is in force. Outgoing is empty except while a
// membership change is under way; then both halves must agree.
type Joint struct {
	Incoming Set
	Outgoing Set
}

// Has reports whether id votes in either half.
func (j Joint) Has(id uint64) bool { return j.Incoming.Has(id) || j.Outgoing.Has(id) }

// All returns the voters of both halves.
func (j Joint) All() Set {
	if len(j.Outgoing) == 0 {
		return j.Incoming
	}
	return Of(slices.Concat(j.Incoming, j.Outgoing)...)
}

// IsOnly reports whether id is the only voter there is.
func (j Joint) IsOnly(id uint64) bool {
	return len(j.Outgoing) == 0 && len(j.Incoming) == 1 && j.Incoming[0] == id
}

// Reached returns the highest index that a majority of each half has come to.
func (j Joint) Reached(come func(id uint64) uint64) uint64 {
	return min(j.Incoming.Reached(come), j.Outgoing.Reached(come))
}

// Tally returns the outcome of a vote of both halves: lost as soon as one of
// them is lost, won when both are won.
func (j Joint) Tally(said func(id uint64) Opinion) Result {
	in, out := j.Incoming.Tally(said), j.Outgoing.Tally(said)
	switch {
	case in == Lost || out == Lost:
		return Lost
	case in == Won && out == Won:
		return Won
	default:
		return Pending
	}
}

func (j Joint) String() string {
	if len(j.Outgoing) == 0 {
		return j.Incoming.String()
	}
	return j.Incoming.String() + "&&" + j.Outgoing.String()
}
