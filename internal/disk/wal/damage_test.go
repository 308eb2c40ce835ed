package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

// withLog makes a closed log of 50 entries in one small segment and returns the
// path of the segment and its records.
func withLog(t *testing.T, fsys files.FS) (path string, records []Record) {
	t.Helper()
	opt := Options{SegmentBytes: 40_000}
	w := create(t, fsys, opt)
	for i := uint64(1); i <= 50; i++ {
		save(t, w, hard(1, i), entry(1, i, 150))
	}
	must(t, w.Close())
	for rec, err := range AllRecords(fsys, dir) {
		must(t, err)
		rec.Data = bytes.Clone(rec.Data)
		records = append(records, rec)
	}
	return filepath.Join(dir, segmentName(0, 0)), records
}

// edit changes a file in place.
func edit(t *testing.T, fsys files.FS, path string, change func(files.File) error) {
	t.Helper()
	f, err := fsys.OpenFile(path, files.ReadWrite, 0)
	must(t, err)
	must(t, change(f))
	must(t, f.Close())
}

func writeAt(p []byte, off int64) func(files.File) error {
	return func(f files.File) error { _, err := f.WriteAt(p, off); return err }
}

// A file that ends inside its last record was cut by a crash: the record was
// never acknowledged, so it goes, after a copy was kept.
func TestTruncatedTailIsRepaired(t *testing.T) {
	probe := files.NewMem()
	_, records := withLog(t, probe)
	last := records[len(records)-1]
	for cut := last.Offset + 1; cut < last.Offset+last.Size; cut++ {
		t.Run(fmt.Sprint("at ", cut-last.Offset), func(t *testing.T) {
			fsys := files.NewMem()
			path, _ := withLog(t, fsys)
			edit(t, fsys, path, func(f files.File) error { return f.Truncate(cut) })
			torn, err := files.ReadFile(fsys, path)
			must(t, err)

			_, err = Verify(fsys, dir, Mark{})
			if cut-last.Offset >= 8 {
				wantErr(t, err, ErrTorn)
			}
			var repairs []Repair
			w, replay := reopen(t, fsys, Mark{}, Options{SegmentBytes: 40_000, Events: Events{
				Repaired: func(r Repair) { repairs = append(repairs, r) },
			}})
			must(t, w.Close())
			// The record lost is the hard state behind entry 50.
			wantReplay(t, replay, hard(1, 49), entries(1, 1, 51, 150))
			if err == nil {
				return // the piece left was all zeros: nothing to repair
			}
			if len(repairs) != 1 || repairs[0].Offset != last.Offset {
				t.Fatalf("repairs are %+v, want one at %d", repairs, last.Offset)
			}
			kept, err := files.ReadFile(fsys, repairs[0].Broken)
			must(t, err)
			if !bytes.Equal(kept, torn) {
				t.Error("the copy is not what was found")
			}
			w, replay = reopen(t, fsys, Mark{}, Options{SegmentBytes: 40_000})
			must(t, w.Close())
			wantReplay(t, replay, hard(1, 49), entries(1, 1, 51, 150))
		})
	}
}

// A sector that never reached the disk shows as zeros inside a record.
func TestRecordWithALostSectorIsTorn(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 40_000}
	w := create(t, fsys, opt)
	save(t, w, hard(1, 1), entry(1, 1, 100))
	save(t, w, hard(1, 2), entry(1, 2, 5000))
	must(t, w.Close())
	path := filepath.Join(dir, segmentName(0, 0))
	edit(t, fsys, path, writeAt(make([]byte, files.SectorSize), 4*files.SectorSize))

	w, replay := reopen(t, fsys, Mark{}, opt)
	wantReplay(t, replay, hard(1, 1), entries(1, 1, 2, 100))
	// What lay behind the hole must not come back once new records reach it.
	save(t, w, hard(2, 2), entry(2, 2, 1500))
	must(t, w.Close())
	_, replay = reopen(t, fsys, Mark{}, opt)
	wantReplay(t, replay, hard(2, 2), append(entries(1, 1, 2, 100), entry(2, 2, 1500)))
}

// Any other change of a byte that was synced is damage a restart must not hide,
// wherever it is.
func TestChangedByteIsFatal(t *testing.T) {
	fsys := files.NewMem()
	path, records := withLog(t, fsys)
	for _, i := range []int{0, 1, 2, 3, 10, len(records) - 1} {
		rec := records[i]
		at := rec.Offset + lengthBytes + 3
		content, err := files.ReadFile(fsys, path)
		must(t, err)
		edit(t, fsys, path, writeAt([]byte{content[at] ^ 1}, at))
		_, _, err = Open(fsys, dir, Mark{}, Options{})
		var damage *Damage
		if !errors.As(err, &damage) || errors.Is(err, ErrTorn) {
			t.Fatalf("record %d: error is %v, want damage", i, err)
		}
		// A broken crc record shows at the record that is checked against it.
		if damage.Offset != rec.Offset && i != 0 {
			t.Errorf("record %d: damage is placed at %d, want %d", i, damage.Offset, rec.Offset)
		}
		edit(t, fsys, path, writeAt(content[at:at+1], at))
	}
	_, err := Verify(fsys, dir, Mark{})
	must(t, err)
}

func TestCRCMismatchReadsAsInEtcd(t *testing.T) {
	fsys := files.NewMem()
	path, records := withLog(t, fsys)
	fourth := records[3]
	edit(t, fsys, path, writeAt([]byte{'!'}, fourth.Offset+lengthBytes+40))
	_, err := Marks(fsys, dir)
	want := fmt.Sprintf("walpb: crc mismatch: expected: %x computed: ", fourth.CRC)
	place := fmt.Sprintf(": in file '0000000000000000-0000000000000000.wal' at position: %d", fourth.Offset)
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), place) {
		t.Errorf("error is %q, want %s...%s", err, want, place)
	}
}

// Zeros at the end of a record that shares its sector with other data are no
// lost sector.
func TestZeroedEndInASharedSectorIsFatal(t *testing.T) {
	fsys := files.NewMem()
	path, records := withLog(t, fsys)
	for _, rec := range records[4:] {
		end := rec.Offset + rec.Size
		if rec.Type == TypeEntry && rec.Offset/files.SectorSize == end/files.SectorSize {
			edit(t, fsys, path, writeAt(make([]byte, 20), end-20))
			break
		}
	}
	_, _, err := Open(fsys, dir, Mark{}, Options{})
	if err == nil || errors.Is(err, ErrTorn) {
		t.Errorf("error is %v, want damage that is not torn", err)
	}
}

// Damage in an earlier segment was not left by a crash: every segment but the
// last was synced whole.
func TestOnlyTheLastSegmentCanBeTorn(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 2000}
	w := create(t, fsys, opt)
	for i := uint64(1); i < 10; i++ {
		save(t, w, hard(1, i), entry(1, i, 700))
	}
	must(t, w.Close())
	first := filepath.Join(dir, segments(t, fsys)[0])
	info, err := fsys.Stat(first)
	must(t, err)
	edit(t, fsys, first, func(f files.File) error { return f.Truncate(info.Size() - 20) })
	_, _, err = Open(fsys, dir, Mark{}, opt)
	if err == nil || errors.Is(err, ErrTorn) {
		t.Errorf("error is %v, want damage that is not torn", err)
	}

	// Cut exactly between two records nothing looks wrong inside the segment;
	// the chain shows it at the beginning of the next one.
	var boundary int64
	for rec := range AllRecords(fsys, dir) {
		if rec.Type == TypeMark {
			boundary = rec.Offset + rec.Size
			break
		}
	}
	edit(t, fsys, first, func(f files.File) error { return f.Truncate(boundary) })
	_, _, err = Open(fsys, dir, Mark{}, opt)
	wantErr(t, err, errCRC)
}

// A commit index without the entries it speaks of means that the disk lost what
// was synced; starting would elect a leader that forgot acknowledged writes.
func TestCommitBeyondTheLastEntryIsAnError(t *testing.T) {
	fsys := files.NewMem()
	w := create(t, fsys, Options{})
	save(t, w, hard(1, 9), entries(1, 1, 4, 50)...)
	must(t, w.Close())
	_, _, err := Open(fsys, dir, Mark{}, Options{})
	wantErr(t, err, ErrLost)
}

func TestEmptyLastSegmentIsDamage(t *testing.T) {
	fsys := files.NewMem()
	path, _ := withLog(t, fsys)
	edit(t, fsys, path, func(f files.File) error { return f.Truncate(0) })
	_, _, err := Open(fsys, dir, Mark{}, Options{})
	wantErr(t, err, errNoHeader)
}

func TestConflictingMetadataIsAnError(t *testing.T) {
	fsys := files.NewMem()
	path, records := withLog(t, fsys)
	last := records[len(records)-1]
	other := []byte("somebody else")
	edit(t, fsys, path, writeAt(appendFrame(nil, TypeMetadata, updateCRC(last.CRC, other), other), last.Offset+last.Size))
	_, err := Read(fsys, dir, Mark{})
	wantErr(t, err, ErrMetadataConflict)
}

func TestUnknownRecordTypeIsAnError(t *testing.T) {
	fsys := files.NewMem()
	path, records := withLog(t, fsys)
	last := records[len(records)-1]
	edit(t, fsys, path, writeAt(appendFrame(nil, 9, updateCRC(last.CRC, []byte("x")), []byte("x")), last.Offset+last.Size))
	_, err := Read(fsys, dir, Mark{})
	wantErr(t, err, errType)
}

// A disk that runs full in the middle of a write leaves a part of it, which need
// not end at a sector. The log opens all the same, with what was synced before.
func TestWriteCutShort(t *testing.T) {
	for n := 1; n < 1200; n += 37 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			mem := files.NewMem()
			faulty := files.NewFaulty(mem, nil)
			w := create(t, faulty, Options{SegmentBytes: 40_000})
			save(t, w, hard(1, 1), entry(1, 1, 150))
			faulty.Inject(files.FailNth(1, &files.PartialWrite{N: n, Err: files.ErrNoSpace}, files.OpWrite))
			must(t, w.Save(hard(1, 1), entries(1, 2, 4, 400)))
			wantErr(t, w.Sync(), files.ErrNoSpace)
			w.Close() // the log is broken
			_, got := reopen(t, mem, Mark{}, Options{SegmentBytes: 40_000})
			wantReplay(t, got, hard(1, 1), []raftpb.Entry{entry(1, 1, 150)})
		})
	}
}
