package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/steledb/stele/internal/base/files"
)

const (
	segmentSuffix = ".wal"
	brokenSuffix  = ".broken"
	tmpSuffix     = ".tmp"
)

// segmentName is <seq>-<index>.wal, each as 16 hex digits. seq grows by one from
// segment to segment; index is that of the first entry the segment may hold.
func segmentName(seq, index uint64) string {
	return fmt.Sprintf("%016x-%016x%s", seq, index, segmentSuffix)
}

func parseSegmentName(name string) (seq, index uint64, ok bool) {
	stem, isSegment := strings.CutSuffix(name, segmentSuffix)
	if !isSegment || len(stem) != 33 || stem[16] != '-' {
		return 0, 0, false
	}
	seq, errSeq := strconv.ParseUint(stem[:16], 16, 64)
	index, errIndex := strconv.ParseUint(stem[17:], 16, 64)
	return seq, index, errSeq == nil && errIndex == nil
}

// segmentRef is a segment known by name only.
type segmentRef struct {
	name       string
	seq, index uint64
}

// listing is what a log directory holds.
type listing struct {
	segments []segmentRef // in sequence order
	ignored  []string     // names that mean nothing here; .tmp files are not among them
}

func list(fsys files.FS, dir string) (listing, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return listing{}, fmt.Errorf("wal: list segments: %w", err)
	}
	var l listing
	for _, entry := range entries { // in name order, which is sequence order
		name := entry.Name()
		seq, index, ok := parseSegmentName(name)
		switch {
		case ok:
			l.segments = append(l.segments, segmentRef{name: name, seq: seq, index: index})
		case !strings.HasSuffix(name, tmpSuffix):
			l.ignored = append(l.ignored, name)
		}
	}
	return l, nil
}

// from keeps the segments needed to read from index on: the last one that may
// hold it and all later ones.
func (l *listing) from(index uint64) ([]segmentRef, error) {
	for i := len(l.segments) - 1; i >= 0; i-- {
		if l.segments[i].index <= index {
			return l.segments[i:], checkContiguous(l.segments[i:])
		}
	}
	return nil, fmt.Errorf("%w: no segment holds index %d", ErrFileNotFound, index)
}

func checkContiguous(segments []segmentRef) error {
	for i := 1; i < len(segments); i++ {
		if segments[i].seq != segments[i-1].seq+1 {
			return fmt.Errorf("%w: nothing between %s and %s", ErrFileNotFound, segments[i-1].name, segments[i].name)
		}
	}
	return nil
}

// Exists reports whether dir holds a log.
func Exists(fsys files.FS, dir string) (bool, error) {
	l, err := list(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(l.segments) > 0, err
}
