package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

// Replay is what the log says from a mark on.
type Replay struct {
	Metadata  []byte
	Mark      Mark // the mark as stored, with its conf state if it has one
	HardState raftpb.HardState
	Entries   []raftpb.Entry // Entries[i].Index == Mark.Index+1+i
}

// LastIndex is the index of the last entry, or of the mark if there is none.
func (r *Replay) LastIndex() uint64 { return r.Mark.Index + uint64(len(r.Entries)) }

// Read replays the log in dir from mark without locking or changing anything. A
// torn tail is passed over; other damage is an error.
func Read(fsys files.FS, dir string, mark Mark) (Replay, error) {
	l, err := list(fsys, dir)
	if err != nil {
		return Replay{}, err
	}
	segments, err := l.from(mark.Index)
	if err != nil {
		return Replay{}, err
	}
	r := newReader(fsys, dir, segments)
	defer r.close()
	c := collector{start: mark}
	if err := c.drain(r); err != nil && !errors.Is(err, ErrTorn) {
		return Replay{}, err
	}
	return c.result()
}

// Verify reads the log in dir from mark on, as Open would, and reports what it
// would fail with, a torn tail included.
func Verify(fsys files.FS, dir string, mark Mark) (raftpb.HardState, error) {
	for _, err := range Records(fsys, dir, mark.Index) {
		if err != nil {
			return raftpb.HardState{}, err
		}
	}
	replay, err := Read(fsys, dir, mark)
	return replay.HardState, err
}

// Marks lists the marks a restart may begin at, oldest first: those not beyond
// what the last hard state says is committed. A crash can leave a mark without
// that hard state. A torn tail ends the list without an error.
func Marks(fsys files.FS, dir string) ([]Mark, error) {
	r, err := readerOfAll(fsys, dir)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var marks []Mark
	var state raftpb.HardState
	for {
		rec, err := r.next()
		if err == io.EOF || errors.Is(err, ErrTorn) {
			return usable(marks, state.Commit), nil
		}
		if err != nil {
			return nil, err
		}
		switch rec.Type {
		case TypeMark:
			var m Mark
			m, err = ParseMark(rec.Data)
			marks = append(marks, m)
		case TypeHardState:
			err = state.Unmarshal(rec.Data)
		}
		if err != nil {
			return nil, &Damage{File: rec.File, Offset: rec.Offset, Err: err}
		}
	}
}

func usable(marks []Mark, commit uint64) []Mark {
	kept := marks[:0]
	for _, m := range marks {
		if m.Index <= commit {
			kept = append(kept, m)
		}
	}
	return kept
}

// collector turns records into a Replay.
type collector struct {
	start  Mark
	replay Replay
	found  bool // the start mark was seen
	// last is the highest index that entries and marks speak of so far, in the
	// order of the records: what the next segment's name is made from.
	last uint64
}

// drain takes all records of r. On an error the collector holds what came
// before it.
func (c *collector) drain(r *reader) error {
	for {
		rec, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.take(&rec); err != nil {
			return &Damage{File: rec.File, Offset: rec.Offset, Err: err}
		}
	}
}

func (c *collector) take(rec *Record) error {
	switch rec.Type {
	case TypeCRC:
		return nil
	case TypeMetadata:
		return c.takeMetadata(rec.Data)
	case TypeEntry:
		return c.takeEntry(rec.Data)
	case TypeHardState:
		return c.replay.HardState.Unmarshal(rec.Data)
	case TypeMark:
		return c.takeMark(rec.Data)
	}
	return fmt.Errorf("%w %d", errType, rec.Type)
}

func (c *collector) takeMetadata(data []byte) error {
	if c.replay.Metadata != nil && !bytes.Equal(c.replay.Metadata, data) {
		return ErrMetadataConflict
	}
	c.replay.Metadata = append([]byte{}, data...)
	return nil
}

// takeEntry puts an entry at its place. A new leader may have replaced the
// uncommitted end of the log: an entry drops whatever stood at its index and
// behind.
func (c *collector) takeEntry(data []byte) error {
	var e raftpb.Entry
	if err := e.Unmarshal(data); err != nil {
		return err
	}
	c.last = e.Index
	if e.Index <= c.start.Index {
		return nil
	}
	at := e.Index - c.start.Index - 1
	if at > uint64(len(c.replay.Entries)) {
		return fmt.Errorf("%w: entry %d follows %d", ErrGap, e.Index, c.start.Index+uint64(len(c.replay.Entries)))
	}
	e.Data = bytes.Clone(e.Data) // it lies in the reader's buffer
	c.replay.Entries = append(c.replay.Entries[:at], e)
	return nil
}

func (c *collector) takeMark(data []byte) error {
	m, err := ParseMark(data)
	if err != nil {
		return err
	}
	c.last = max(c.last, m.Index)
	if m.Index != c.start.Index {
		return nil
	}
	if m.Term != c.start.Term {
		return fmt.Errorf("%w: index %d has term %d, want %d", ErrMarkMismatch, m.Index, m.Term, c.start.Term)
	}
	c.found, c.replay.Mark = true, m
	return nil
}

func (c *collector) result() (Replay, error) {
	if !c.found {
		return Replay{}, fmt.Errorf("%w: index %d, term %d", ErrMarkNotFound, c.start.Index, c.start.Term)
	}
	// A commit index is saved behind the entries it commits, so whatever tail a
	// crash takes, it never outlives them. If it did, synced records went bad in
	// a way that looks like the end of the log.
	if last := c.replay.LastIndex(); c.replay.HardState.Commit > last {
		return Replay{}, fmt.Errorf("%w: commit index is %d, last entry %d", ErrLost, c.replay.HardState.Commit, last)
	}
	return c.replay, nil
}
