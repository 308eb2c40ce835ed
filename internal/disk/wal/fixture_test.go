package wal

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/disk/disktest"
)

func isWAL(path string) bool { return strings.HasSuffix(path, ".wal") }

// Every log that etcd 3.4 to 3.7 wrote is read whole: the chain holds over all
// segments, and what was there when the answers were recorded is there.
func TestLogsOfEtcdAreRead(t *testing.T) {
	for _, name := range disktest.Fixtures(t, "v3.*") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var recorded struct {
				Index uint64 `json:"raft_index_when_recorded"`
				Term  uint64 `json:"raft_term_when_recorded"`
			}
			if err := json.Unmarshal(disktest.Expected(t, name), &recorded); err != nil {
				t.Fatal(err)
			}
			fsys, members := disktest.Unpack(t, name, isWAL)
			for _, member := range members {
				checkEtcdLog(t, fsys, filepath.Join(member, "member/wal"), recorded.Index, name)
			}
		})
	}
}

func checkEtcdLog(t *testing.T, fsys *files.Mem, dir string, lastIndex uint64, name string) {
	for rec, err := range AllRecords(fsys, dir) {
		must(t, err)
		checkReencodes(t, fsys, dir, rec, strings.HasPrefix(name, "v3.7"))
	}
	marks, err := Marks(fsys, dir)
	must(t, err)
	newest := marks[len(marks)-1]
	if strings.Contains(name, "raftsnap") && len(marks) < 5 {
		t.Errorf("%s: %d marks, want one per raft snapshot", dir, len(marks))
	}
	w, replay, err := Open(fsys, dir, newest, Options{})
	must(t, err)
	must(t, w.Close())
	switch {
	case strings.Contains(name, "killed") || strings.Contains(name, "midcompact"):
		// Recorded after a restart, which appends entries of its own.
		if replay.LastIndex() < replay.HardState.Commit {
			t.Errorf("%s: last index %d is below the commit index %d", dir, replay.LastIndex(), replay.HardState.Commit)
		}
	case replay.LastIndex() < lastIndex && !strings.Contains(name, "three"):
		t.Errorf("%s: last index is %d, recorded %d", dir, replay.LastIndex(), lastIndex)
	}
	if len(replay.Metadata) == 0 {
		t.Errorf("%s: no metadata", dir)
	}
}

// checkReencodes compares what our encoders make of a record with the bytes on
// disk. 3.7's values must come out the same from the values up, older ones,
// which write zeros too, from the data up.
func checkReencodes(t *testing.T, fsys files.FS, dir string, rec Record, fromValue bool) {
	t.Helper()
	data := rec.Data
	if fromValue {
		data = reencode(t, rec)
	}
	want := make([]byte, rec.Size)
	f, err := files.Open(fsys, filepath.Join(dir, rec.File))
	must(t, err)
	defer f.Close()
	_, err = f.ReadAt(want, rec.Offset)
	must(t, err)
	if got := appendFrame(nil, rec.Type, rec.CRC, data); !bytes.Equal(got, want) {
		t.Fatalf("%s at %d: we write\n %x, etcd\n %x", rec.File, rec.Offset, got, want)
	}
}

func reencode(t *testing.T, rec Record) []byte {
	t.Helper()
	switch rec.Type {
	case TypeEntry:
		var e raftpb.Entry
		must(t, e.Unmarshal(rec.Data))
		if e.Type == raftpb.EntryConfChange {
			var cc raftpb.ConfChange
			must(t, cc.Unmarshal(e.Data))
			e.Data = cc.Marshal()
		}
		return e.Marshal()
	case TypeHardState:
		var h raftpb.HardState
		must(t, h.Unmarshal(rec.Data))
		return h.Marshal()
	case TypeMark:
		m, err := ParseMark(rec.Data)
		must(t, err)
		return m.appendTo(nil)
	}
	return rec.Data
}

// Given the same saves as etcd, we write the same segments: names, headers,
// lengths, every byte.
func TestSegmentsEqualThoseOfEtcd(t *testing.T) {
	for _, name := range disktest.Fixtures(t, "v3.7-single-walsegments") {
		theirs, members := disktest.Unpack(t, name, isWAL)
		theirDir := filepath.Join(members[0], "member/wal")
		ours := files.NewMem()
		replayInto(t, theirs, theirDir, ours)
		listed, err := list(theirs, theirDir)
		must(t, err)
		if got := segments(t, ours); len(got) != len(listed.segments) || len(got) < 2 {
			t.Fatalf("our segments are %v, theirs %v", got, listed.segments)
		}
		for i, name := range segments(t, ours) {
			if name != listed.segments[i].name {
				t.Fatalf("segment %d is %s, theirs %s", i, name, listed.segments[i].name)
			}
			got, err := files.ReadFile(ours, filepath.Join(dir, name))
			must(t, err)
			want, err := files.ReadFile(theirs, filepath.Join(theirDir, name))
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("segment %s differs: %d bytes, theirs %d", name, len(got), len(want))
			}
		}
	}
}

// replayInto saves into a new log what a log holds, record by record, and syncs
// where it moved on to another segment.
func replayInto(t *testing.T, theirs files.FS, theirDir string, ours files.FS) {
	var w *WAL
	var file string
	for rec, err := range AllRecords(theirs, theirDir) {
		must(t, err)
		newSegment := file != "" && rec.File != file
		file = rec.File
		switch {
		case newSegment:
			must(t, w.Sync()) // cuts, and writes crc, metadata and hard state
		case w == nil && rec.Type == TypeMetadata:
			w, err = Create(ours, dir, rec.Data, Options{})
			must(t, err)
		case rec.Type == TypeEntry:
			var e raftpb.Entry
			must(t, e.Unmarshal(rec.Data))
			must(t, w.Save(raftpb.HardState{}, []raftpb.Entry{e}))
		case rec.Type == TypeHardState && rec.Offset > 0x38: // beyond a segment's head
			var h raftpb.HardState
			must(t, h.Unmarshal(rec.Data))
			must(t, w.Save(h, nil))
		}
	}
	must(t, w.Close())
}
