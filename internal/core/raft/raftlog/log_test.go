package raftlog

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
)

func entry(term, index uint64, data string) raftpb.Entry {
	return raftpb.Entry{Term: term, Index: index, Data: []byte(data)}
}

// logOf makes a log with entries of the given terms from index 1.
func logOf(t *testing.T, terms ...uint64) *Log {
	t.Helper()
	var entries []raftpb.Entry
	for i, term := range terms {
		entries = append(entries, entry(term, uint64(i+1), "x"))
	}
	l, err := New(Position{}, entries)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func terms(l *Log) (terms []uint64) {
	for _, e := range l.entries {
		terms = append(terms, e.Term)
	}
	return terms
}

// Goal: a member finds out on restart that its log has a hole.
func TestNewRefusesHoles(t *testing.T) {
	if _, err := New(Position{Index: 3, Term: 1}, []raftpb.Entry{entry(1, 5, "")}); err == nil {
		t.Error("entry 5 behind 3 was taken")
	}
}

// Goal: merging keeps what agrees, replaces from the first disagreement on, and
// does not let an old message shorten the log.
func TestMerge(t *testing.T) {
	for _, c := range []struct {
		story    string
		have     []uint64
		from     uint64 // index of the first entry that comes
		come     []uint64
		want     []uint64
		replaced int
		durable  uint64
	}{
		{"new ones behind the end", []uint64{1, 1}, 3, []uint64{2, 2}, []uint64{1, 1, 2, 2}, 0, 2},
		{"some known, some new", []uint64{1, 1}, 2, []uint64{1, 2}, []uint64{1, 1, 2}, 0, 2},
		{"all known, from an old message", []uint64{1, 1, 2, 2}, 2, []uint64{1, 2}, []uint64{1, 1, 2, 2}, 0, 4},
		{"a conflict in the middle", []uint64{1, 1, 1, 1}, 2, []uint64{1, 3}, []uint64{1, 1, 3}, 2, 2},
		{"a conflict at the start", []uint64{1, 1}, 1, []uint64{2}, []uint64{2}, 2, 0},
		{"nothing", []uint64{1}, 2, nil, []uint64{1}, 0, 1},
	} {
		l := logOf(t, c.have...)
		var come []raftpb.Entry
		for i, term := range c.come {
			come = append(come, entry(term, c.from+uint64(i), "y"))
		}
		replaced := l.Merge(come)
		if got := terms(l); !reflect.DeepEqual(got, c.want) || len(replaced) != c.replaced || l.Durable() != c.durable {
			t.Errorf("%s: %v, %d replaced, durable %d; want %v, %d, %d",
				c.story, got, len(replaced), l.Durable(), c.want, c.replaced, c.durable)
		}
		l.Check()
	}
}

// Goal: the guess leaps to where logs may agree; the rows are the pictures in
// appendRejected and its mirror image.
func TestGuess(t *testing.T) {
	for _, c := range []struct {
		have        []uint64
		index, term uint64
		want        Position
	}{
		{[]uint64{1, 3, 3, 3, 5, 5, 5, 5, 5}, 6, 2, Position{1, 1}},
		{[]uint64{1, 3, 3, 4, 4, 5, 5, 5, 6}, 8, 3, Position{3, 3}},
		{[]uint64{1, 1, 1}, 9, 5, Position{3, 1}},
		{[]uint64{4, 4}, 2, 3, Position{}},
		{nil, 7, 3, Position{}},
	} {
		if got := logOf(t, c.have...).Guess(c.index, c.term); got != c.want {
			t.Errorf("%v from %d in term %d: %v, want %v", c.have, c.index, c.term, got, c.want)
		}
	}
	l := logOf(t, 1, 2, 3)
	l.applyTo(2)
	l.Compact(2)
	if got := l.Guess(2, 1); got != (Position{Index: 1}) {
		t.Errorf("behind a compaction nothing is known: %v", got)
	}
}

func (l *Log) applyTo(index uint64) {
	l.CommitTo(index)
	l.DeliverTo(index)
	l.AppliedTo(index)
}

// Goal: a slice is bounded in bytes but never empty without need, and what was
// given out stays what it was whatever happens to the log.
func TestSlicesAreBoundedAndStay(t *testing.T) {
	l := logOf(t, 1, 1, 1, 1)
	one := Size(&l.entries[0])
	for _, c := range []struct {
		max  uint64
		want int
	}{{0, 1}, {one, 1}, {2 * one, 2}, {2*one + 1, 2}, {1 << 40, 4}} {
		if got, bytes := l.Slice(1, 5, c.max); len(got) != c.want || bytes != uint64(c.want)*one {
			t.Errorf("limit %d: %d entries of %d bytes, want %d", c.max, len(got), bytes, c.want)
		}
	}
	given, _ := l.Slice(1, 5, 1<<40)
	before := fmt.Sprint(given)
	l.Merge([]raftpb.Entry{entry(2, 2, "new"), entry(2, 3, "new")})
	l.Append(entry(2, 0, "more"))
	l.HandOut()
	l.DurableTo(4)
	l.applyTo(3)
	l.Compact(3)
	l.Append(entry(2, 0, "more"))
	if after := fmt.Sprint(given); after != before {
		t.Errorf("given %s, now %s", before, after)
	}
}

// Goal: what is impossible is noticed at once.
func TestImpossibleThingsPanic(t *testing.T) {
	for story, do := range map[string]func(*Log){
		"replacing a committed entry":  func(l *Log) { l.CommitTo(2); l.Merge([]raftpb.Entry{entry(9, 2, "")}) },
		"committing what is not there": func(l *Log) { l.CommitTo(9) },
		"delivering beyond the commit": func(l *Log) { l.DeliverTo(1) },
		"applying what was not given":  func(l *Log) { l.CommitTo(2); l.AppliedTo(1) },
		"compacting what is needed":    func(l *Log) { l.CommitTo(2); l.DeliverTo(2); l.Compact(1) },
		"durable before written":       func(l *Log) { l.Append(entry(1, 0, "")); l.DurableTo(4) },
		"a snapshot of the past":       func(l *Log) { l.CommitTo(2); l.Restore(Position{2, 1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s went through", story)
				}
			}()
			do(logOf(t, 1, 1, 1))
		}()
	}
}

// Goal: the log behaves like a plain list of entries.
// Method: random operations on both.
func TestAgainstPlainList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		l := &Log{}
		plain := map[uint64]uint64{0: 0} // index -> term
		last, term := uint64(0), uint64(1)
		for range 200 {
			switch rnd.IntN(7) {
			case 0, 1:
				last++
				l.Append(raftpb.Entry{Term: term})
				plain[last] = term
			case 2: // another leader replaces a tail
				from := l.Committed() + 1 + rnd.Uint64N(last-l.Committed()+1)
				term++
				l.Merge([]raftpb.Entry{{Term: term, Index: from}})
				plain[from], last = term, from
			case 3:
				l.HandOut()
			case 4:
				l.DurableTo(l.Durable() + rnd.Uint64N(l.Handed()-l.Durable()+1))
			case 5:
				l.CommitTo(l.Committed() + rnd.Uint64N(last-l.Committed()+1))
				if to := l.DeliverableTo(); to > l.Delivered() {
					l.DeliverTo(to)
					l.AppliedTo(to)
				}
			case 6:
				if rnd.IntN(4) == 0 {
					l.Compact(l.Base().Index + rnd.Uint64N(l.Applied()-l.Base().Index+1))
				}
			}
			l.Check()
			if l.LastIndex() != last {
				t.Fatalf("ends at %d, want %d", l.LastIndex(), last)
			}
			for i := l.Base().Index; i <= last; i++ {
				if got, ok := l.Term(i); !ok || got != plain[i] {
					t.Fatalf("term of %d is %d, %v; want %d", i, got, ok, plain[i])
				}
			}
			if got := uint64(len(l.Unwritten())); got != last-l.Handed() {
				t.Fatalf("%d unwritten, want %d", got, last-l.Handed())
			}
		}
	}
}
