// Package raftlog is a member's log as its Raft core sees it: the entries, and
// the marks that say how far they have been written, agreed on and applied.
//
//	  base      applied   delivered   committed
//	   |           |          |           |
//	---+-----------+----------+-----------+-----------+---
//	   | first                     |           |      | last
//	                            durable      handed
//
// base is the last entry that was dropped; its index and term stay known.
// applied <= delivered <= committed <= last and durable <= handed <= last;
// delivered <= durable, because an entry is handed to the state machine only
// once a crash of this member cannot take it back.
//
// All entries behind base live in memory. Slices given out share the log's
// array and are never written to again: what is cut off is copied away from.
package raftlog

import (
	"fmt"

	"github.com/steledb/stele/internal/base/raftpb"
)

// entryOverhead bounds the encoded size of an entry beyond its data: type 2
// bytes, term and index up to 11 each, tag and length of the data 6.
const entryOverhead = 30

// Size bounds the encoded size of an entry from above.
func Size(e *raftpb.Entry) uint64 { return uint64(len(e.Data)) + entryOverhead }

// Position names an entry.
type Position struct{ Index, Term uint64 }

func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Term, p.Index) }

// Log is owned by the Raft core. The zero value is the empty log.
type Log struct {
	base    Position
	entries []raftpb.Entry // entries[i].Index == base.Index+1+i
	wasted  int            // entries dropped from the front that the array still holds

	durable   uint64
	handed    uint64
	committed uint64
	delivered uint64
	applied   uint64
}

// New returns the log of a member that starts again: everything in it is on
// disk already.
func New(base Position, entries []raftpb.Entry) (*Log, error) {
	for i := range entries {
		if want := base.Index + 1 + uint64(i); entries[i].Index != want {
			return nil, fmt.Errorf("raftlog: entry %d stands where %d belongs", entries[i].Index, want)
		}
	}
	l := &Log{base: base, entries: entries[:len(entries):len(entries)]}
	l.durable, l.handed = l.Last().Index, l.Last().Index
	l.committed, l.delivered, l.applied = base.Index, base.Index, base.Index
	return l, nil
}

// Base returns the position that the log starts behind.
func (l *Log) Base() Position { return l.base }

// FirstIndex returns the index of the first entry kept, or of the next one.
func (l *Log) FirstIndex() uint64 { return l.base.Index + 1 }

// LastIndex returns the index of the newest entry.
func (l *Log) LastIndex() uint64 { return l.base.Index + uint64(len(l.entries)) }

// Last returns the position of the newest entry.
func (l *Log) Last() Position {
	if n := len(l.entries); n > 0 {
		return Position{l.entries[n-1].Index, l.entries[n-1].Term}
	}
	return l.base
}

// The marks; see the package comment.
func (l *Log) Durable() uint64   { return l.durable }
func (l *Log) Handed() uint64    { return l.handed }
func (l *Log) Committed() uint64 { return l.committed }
func (l *Log) Delivered() uint64 { return l.delivered }
func (l *Log) Applied() uint64   { return l.applied }

// Term returns the term of the entry at index; false if it was dropped or is
// not there yet.
func (l *Log) Term(index uint64) (uint64, bool) {
	if index == l.base.Index {
		return l.base.Term, true
	}
	if index < l.base.Index || index > l.LastIndex() {
		return 0, false
	}
	return l.at(index).Term, true
}

// Matches reports whether the log has the entry p. Two logs that share a
// position agree on everything before it (log matching, Raft paper 5.3).
func (l *Log) Matches(p Position) bool {
	term, ok := l.Term(p.Index)
	return ok && term == p.Term
}

// IsUpToDate reports whether a log that ends at p may lead this one (Raft paper
// 5.4.1).
func (l *Log) IsUpToDate(p Position) bool {
	last := l.Last()
	return p.Term > last.Term || p.Term == last.Term && p.Index >= last.Index
}

// Guess returns the last position at or before index whose term is not above
// term: the place where another log, known to hold term at index, may agree with
// this one. A term of 0 says that nothing is known that far back.
func (l *Log) Guess(index, term uint64) Position {
	for index = min(index, l.LastIndex()); index > 0; index-- {
		ours, ok := l.Term(index)
		if !ok {
			return Position{Index: index}
		}
		if ours <= term {
			return Position{index, ours}
		}
	}
	return Position{}
}

func (l *Log) at(index uint64) *raftpb.Entry { return &l.entries[index-l.base.Index-1] }

// Slice returns the entries in [from, to) as far as maxBytes allows, but at
// least one if there is one. The result is shared and must not be changed.
func (l *Log) Slice(from, to, maxBytes uint64) (entries []raftpb.Entry, bytes uint64) {
	if from >= to {
		return nil, 0
	}
	l.mustHold(from, to-1)
	all := l.entries[from-l.base.Index-1 : to-l.base.Index-1]
	n := 0
	for ; n < len(all); n++ {
		size := Size(&all[n])
		if n > 0 && bytes+size > maxBytes {
			break
		}
		bytes += size
	}
	return all[:n:n], bytes
}

// Append adds a new entry at the end and returns its index.
func (l *Log) Append(e raftpb.Entry) uint64 {
	e.Index = l.LastIndex() + 1
	l.entries = append(l.entries, e)
	return e.Index
}

// Merge adds what is new in entries, which follow a position that the log has.
// Entries that disagree with older ones replace them and all behind them; those
// are returned. Present entries stay: a late message must not cut off what a
// newer one brought.
func (l *Log) Merge(entries []raftpb.Entry) (replaced []raftpb.Entry) {
	for i := range entries {
		e := &entries[i]
		if l.Matches(Position{e.Index, e.Term}) {
			continue
		}
		if e.Index <= l.LastIndex() {
			replaced = l.cut(e.Index)
		}
		l.entries = append(l.entries, entries[i:]...)
		return replaced
	}
	return nil
}

// cut drops the entries from index on. What was handed out keeps its array.
func (l *Log) cut(index uint64) (dropped []raftpb.Entry) {
	if index <= l.committed {
		panic(fmt.Sprintf("raftlog: entry %d is committed (up to %d) and cannot be replaced", index, l.committed))
	}
	keep := int(index - l.base.Index - 1)
	dropped = l.entries[keep:]
	kept := make([]raftpb.Entry, keep, keep+16)
	copy(kept, l.entries)
	l.entries, l.wasted = kept, 0
	l.durable, l.handed = min(l.durable, index-1), min(l.handed, index-1)
	return dropped
}

// Unwritten returns the entries that nobody has been told to write.
func (l *Log) Unwritten() []raftpb.Entry {
	n := len(l.entries)
	return l.entries[l.handed-l.base.Index : n : n]
}

// HandOut notes that everything up to the end is being written.
func (l *Log) HandOut() { l.handed = l.LastIndex() }

// DurableTo notes that everything up to index is on disk for good.
func (l *Log) DurableTo(index uint64) {
	if index > l.handed {
		panic(fmt.Sprintf("raftlog: entry %d durable before it was written (up to %d)", index, l.handed))
	}
	l.durable = max(l.durable, index)
}

// CommitTo notes that everything up to index is agreed on, and reports whether
// that was news.
func (l *Log) CommitTo(index uint64) bool {
	if index <= l.committed {
		return false
	}
	if index > l.LastIndex() {
		panic(fmt.Sprintf("raftlog: commit %d beyond the end of the log at %d", index, l.LastIndex()))
	}
	l.committed = index
	return true
}

// DeliverableTo returns the last entry that may go to the state machine.
func (l *Log) DeliverableTo() uint64 { return min(l.committed, l.durable) }

// DeliverTo notes that entries up to index went to the state machine.
func (l *Log) DeliverTo(index uint64) {
	if index < l.delivered || index > l.DeliverableTo() {
		panic(fmt.Sprintf("raftlog: delivery to %d outside of [%d, %d]", index, l.delivered, l.DeliverableTo()))
	}
	l.delivered = index
}

// AppliedTo notes that the state machine has come to index.
func (l *Log) AppliedTo(index uint64) {
	if index < l.applied || index > l.delivered {
		panic(fmt.Sprintf("raftlog: applied %d outside of [%d, %d]", index, l.applied, l.delivered))
	}
	l.applied = index
}

// HasConfChange reports whether a membership change lies in (from, to].
func (l *Log) HasConfChange(from, to uint64) bool {
	for i := max(from, l.base.Index) + 1; i <= to; i++ {
		if l.at(i).Type != raftpb.EntryNormal {
			return true
		}
	}
	return false
}

// Compact drops the entries up to index, which must be applied.
func (l *Log) Compact(index uint64) {
	if index <= l.base.Index {
		return
	}
	if index > l.applied {
		panic(fmt.Sprintf("raftlog: compaction to %d beyond applied %d", index, l.applied))
	}
	term, _ := l.Term(index)
	drop := int(index - l.base.Index)
	l.base = Position{index, term}
	l.entries = l.entries[drop:]
	// Copying each time would cost O(log) per call, never copying would hold
	// dropped data for long: copy when at least half of the array is waste. The
	// new array has room for as much as was dropped, so that a log which is
	// compacted regularly does not grow its array in between.
	if l.wasted += drop; l.wasted >= len(l.entries) {
		kept := make([]raftpb.Entry, len(l.entries), len(l.entries)+l.wasted)
		copy(kept, l.entries)
		l.entries, l.wasted = kept, 0
	}
}

// Restore replaces the log by a snapshot that ends at p. The snapshot counts as
// handed to the state machine when it is installed, see Installed.
func (l *Log) Restore(p Position) {
	if p.Index <= l.committed {
		panic(fmt.Sprintf("raftlog: snapshot at %v behind commit %d", p, l.committed))
	}
	l.base, l.entries, l.wasted = p, nil, 0
	l.durable, l.handed, l.committed = p.Index, p.Index, p.Index
}

// Installed notes that the state machine now stands at the snapshot at index.
func (l *Log) Installed(index uint64) { l.delivered, l.applied = index, index }

// StartAt sets the marks of a member that starts again.
func (l *Log) StartAt(committed, applied uint64) error {
	if committed < l.base.Index || committed > l.LastIndex() || applied > committed {
		return fmt.Errorf("raftlog: commit %d and applied %d do not fit a log of (%d, %d]",
			committed, applied, l.base.Index, l.LastIndex())
	}
	l.committed = committed
	l.delivered = max(applied, l.base.Index)
	l.applied = l.delivered
	return nil
}

func (l *Log) mustHold(from, to uint64) {
	if from <= l.base.Index || to > l.LastIndex() {
		panic(fmt.Sprintf("raftlog: [%d, %d] outside of (%d, %d]", from, to, l.base.Index, l.LastIndex()))
	}
}

// Check asserts the order of the marks. While a snapshot waits to be installed
// applied and delivered lie behind base.
func (l *Log) Check() {
	switch {
	case l.applied > l.delivered, l.delivered > l.committed, l.committed > l.LastIndex(),
		l.durable > l.handed, l.handed > l.LastIndex(), l.durable < l.base.Index, l.delivered > l.durable:
		panic(fmt.Sprintf("raftlog: marks out of order: %v", l))
	}
}

func (l *Log) String() string {
	return fmt.Sprintf("log (%d, %d] durable=%d handed=%d committed=%d delivered=%d applied=%d",
		l.base.Index, l.LastIndex(), l.durable, l.handed, l.committed, l.delivered, l.applied)
}
