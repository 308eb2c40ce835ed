package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

func TestFramesAreAlignedAndReadBack(t *testing.T) {
	for n := range 40 {
		data := bytes.Repeat([]byte{7}, n)
		frame := appendFrame(nil, TypeEntry, 0xdeadbeef, data)
		if len(frame)%8 != 0 {
			t.Fatalf("frame of %d data bytes is %d bytes long", n, len(frame))
		}
		length, pad := splitLength(binary.LittleEndian.Uint64(frame))
		if int(lengthBytes+length+pad) != len(frame) {
			t.Fatalf("length word says %d+%d, frame is %d bytes long", length, pad, len(frame))
		}
		kind, crc, got, err := parseRecord(frame[lengthBytes : lengthBytes+length])
		if err != nil || kind != TypeEntry || crc != 0xdeadbeef || !bytes.Equal(got, data) {
			t.Fatalf("%d data bytes read back as %d %x %x, %v", n, kind, crc, got, err)
		}
	}
}

func TestMarkBytes(t *testing.T) {
	conf := &raftpb.ConfState{Voters: []uint64{5}}
	for _, c := range []struct {
		mark Mark
		want string
	}{
		{Mark{}, "\x08\x00\x10\x00"},
		{Mark{Index: 0x65, Term: 2}, "\x08\x65\x10\x02"},
		{Mark{Index: 0x65, Term: 2, ConfState: conf}, "\x08\x65\x10\x02\x1a\x04\x08\x05\x28\x00"},
	} {
		got := c.mark.appendTo(nil)
		if string(got) != c.want {
			t.Errorf("%+v encodes as %x, want %x", c.mark, got, c.want)
		}
		back, err := ParseMark(got)
		if err != nil || !reflect.DeepEqual(back, c.mark) {
			t.Errorf("%x decodes to %+v, %v", got, back, err)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	name := segmentName(3, 0xabc)
	if name != "0000000000000003-0000000000000abc.wal" {
		t.Errorf("segment is named %s", name)
	}
	seq, index, ok := parseSegmentName(name)
	if seq != 3 || index != 0xabc || !ok {
		t.Errorf("%s parses as %d, %d, %t", name, seq, index, ok)
	}
	for _, bad := range []string{"", "0.tmp", name + ".broken", "3-abc.wal", "000000000000000g-0000000000000abc.wal", "0000000000000003_0000000000000abc.wal"} {
		if _, _, ok := parseSegmentName(bad); ok {
			t.Errorf("%q passes for a segment", bad)
		}
	}
}

func TestLostSectorsAreSeen(t *testing.T) {
	full := bytes.Repeat([]byte{1}, 2000)
	zeroed := func(from, to int) []byte {
		b := bytes.Clone(full)
		clear(b[from:to])
		return b
	}
	for _, c := range []struct {
		what string
		b    []byte
		off  int64
		want bool
	}{
		{"no zeros", full, 100, false},
		{"a whole sector", zeroed(412, 924), 100, true},
		{"a sector less one byte", zeroed(412, 923), 100, false},
		{"the share of the first sector", zeroed(0, 412), 100, true},
		{"the share of the last sector", zeroed(1948, 2000), 100, true},
		{"a sector's length across two", zeroed(500, 1012), 100, false},
	} {
		if got := hasLostSector(c.b, c.off); got != c.want {
			t.Errorf("%s: lost sector %t, want %t", c.what, got, c.want)
		}
	}
}

// segmentOf is a directory with one segment of the given bytes.
func segmentOf(t testing.TB, content []byte) files.FS {
	fsys := files.NewMem()
	if err := fsys.MkdirAll(dir, files.PrivateDir); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteFile(fsys, filepath.Join(dir, segmentName(0, 0)), content, files.PrivateFile); err != nil {
		t.Fatal(err)
	}
	return fsys
}

func validSegment() []byte {
	mark := (&Mark{}).appendTo(nil)
	e := (&raftpb.Entry{Term: 1, Index: 1, Data: []byte("data")}).Marshal()
	state := (&raftpb.HardState{Term: 1, Commit: 1}).Marshal()
	var b []byte
	crc := uint32(0)
	b = appendFrame(b, TypeCRC, crc, nil)
	for _, r := range []struct {
		kind RecordType
		data []byte
	}{{TypeMetadata, meta}, {TypeMark, mark}, {TypeEntry, e}, {TypeHardState, state}} {
		crc = updateCRC(crc, r.data)
		b = appendFrame(b, r.kind, crc, r.data)
	}
	return append(b, make([]byte, 64)...)
}

// Whatever a segment holds, opening it ends in an error or in a log that takes
// new entries and shows them again, and what was readable before stays.
func FuzzSegment(f *testing.F) {
	f.Add(validSegment())
	f.Add(validSegment()[:100])
	f.Add(append(validSegment()[:80], 1, 2, 3))
	f.Fuzz(func(t *testing.T, content []byte) {
		fsys := segmentOf(t, content)
		before, errBefore := Read(fsys, dir, Mark{})
		w, replay, err := Open(fsys, dir, Mark{}, Options{SegmentBytes: 4096})
		if err != nil {
			return
		}
		if errBefore != nil || !reflect.DeepEqual(before, replay) {
			t.Fatalf("Read gave %+v, %v; Open gave %+v", before, errBefore, replay)
		}
		next := replay.LastIndex() + 1
		if next == 0 { // the last index there is
			return
		}
		must(t, w.Save(raftpb.HardState{Term: 1}, []raftpb.Entry{{Term: 1, Index: next}}))
		must(t, w.Close())
		after, err := Read(fsys, dir, Mark{})
		must(t, err)
		if after.LastIndex() != next {
			t.Fatalf("last index is %d after saving %d", after.LastIndex(), next)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(appendFrame(nil, TypeEntry, 7, []byte("x"))[lengthBytes:])
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, crc, data, err := parseRecord(b)
		if err != nil {
			return
		}
		frame := appendFrame(nil, kind, crc, data)
		length, _ := splitLength(binary.LittleEndian.Uint64(frame))
		kind2, crc2, data2, err := parseRecord(frame[lengthBytes : lengthBytes+length])
		if err != nil || kind2 != kind || crc2 != crc || !bytes.Equal(data, data2) {
			t.Fatalf("%d %x %x became %d %x %x, %v", kind, crc, data, kind2, crc2, data2, err)
		}
	})
}

func FuzzMark(f *testing.F) {
	f.Add((&Mark{Index: 1, Term: 2, ConfState: &raftpb.ConfState{Voters: []uint64{5}}}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMark(b)
		if err != nil {
			return
		}
		again, err := ParseMark(m.appendTo(nil))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

// Any sector of an unsynced write may be missing. Whatever is, the reader stops
// at a record boundary before it and calls the rest torn or ended, never bad.
func TestAnyLostSectorsReadAsTheEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	head := validSegment()
	head = head[:len(head)-64]
	for range 300 {
		content := bytes.Clone(head)
		crc := lastCRC(t, head)
		for range 6 {
			data := make([]byte, rng.IntN(1500))
			for i := range data {
				data[i] = byte(rng.IntN(256))
			}
			e := raftpb.Entry{Term: 1, Index: 2, Data: data}
			crc = updateCRC(crc, e.Marshal())
			content = appendFrame(content, TypeEntry, crc, e.Marshal())
		}
		content = append(content, make([]byte, 1024)...)
		for s := int64(0); s < int64(len(content)); s += files.SectorSize {
			if rng.IntN(3) == 0 {
				from, to := max(s, int64(len(head))), min(s+files.SectorSize, int64(len(content)))
				clear(content[min(from, to):to])
			}
		}
		for _, err := range AllRecords(segmentOf(t, content), dir) {
			if err != nil && !errors.Is(err, ErrTorn) && err != io.EOF {
				t.Fatalf("lost sectors read as %v", err)
			}
		}
	}
}

func lastCRC(t *testing.T, segment []byte) (crc uint32) {
	for rec, err := range AllRecords(segmentOf(t, segment), dir) {
		must(t, err)
		crc = rec.CRC
	}
	return crc
}

func BenchmarkSave(b *testing.B) {
	w, err := Create(files.OS, filepath.Join(b.TempDir(), "wal"), meta, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	w.Start()
	batch := make([]raftpb.Entry, 32)
	data := make([]byte, 300)
	index := uint64(0)
	b.SetBytes(int64(len(batch) * len(data)))
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			index++
			batch[i] = raftpb.Entry{Term: 1, Index: index, Data: data}
		}
		if err := errors.Join(w.Save(hard(1, index), batch), w.Sync()); err != nil {
			b.Fatal(err)
		}
	}
}
