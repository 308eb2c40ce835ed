package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

const dir = "/member/wal"

var meta = []byte("who we are")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// entry is an entry whose data tells its index and term, size bytes long.
func entry(term, index uint64, size int) raftpb.Entry {
	data := bytes.Repeat(fmt.Appendf(nil, "<%d/%d>", index, term), size/4+1)[:size]
	return raftpb.Entry{Term: term, Index: index, Data: data}
}

func entries(term, from, to uint64, size int) (es []raftpb.Entry) {
	for i := from; i < to; i++ {
		es = append(es, entry(term, i, size))
	}
	return es
}

func hard(term, commit uint64) raftpb.HardState {
	return raftpb.HardState{Term: term, Vote: 1, Commit: commit}
}

func create(t *testing.T, fsys files.FS, opt Options) *WAL {
	t.Helper()
	w, err := Create(fsys, dir, meta, opt)
	must(t, err)
	return w
}

func reopen(t *testing.T, fsys files.FS, mark Mark, opt Options) (*WAL, Replay) {
	t.Helper()
	w, replay, err := Open(fsys, dir, mark, opt)
	must(t, err)
	return w, replay
}

func save(t *testing.T, w *WAL, state raftpb.HardState, es ...raftpb.Entry) {
	t.Helper()
	must(t, w.Save(state, es))
	must(t, w.Sync())
}

// wantReplay checks entries by their text, which tells index and term.
func wantReplay(t *testing.T, got Replay, state raftpb.HardState, es []raftpb.Entry) {
	t.Helper()
	if got.HardState != state {
		t.Errorf("hard state is %+v, want %+v", got.HardState, state)
	}
	if !bytes.Equal(got.Metadata, meta) {
		t.Errorf("metadata is %q, want %q", got.Metadata, meta)
	}
	same := slices.EqualFunc(got.Entries, es, func(a, b raftpb.Entry) bool {
		return bytes.Equal(a.Marshal(), b.Marshal())
	})
	if !same {
		t.Errorf("entries are %s, want %s", brief(got.Entries), brief(es))
	}
}

func brief(es []raftpb.Entry) string {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, " %d/%d(%d)", e.Index, e.Term, len(e.Data))
	}
	return b.String()
}

func segments(t *testing.T, fsys files.FS) (names []string) {
	t.Helper()
	l, err := list(fsys, dir)
	must(t, err)
	for _, s := range l.segments {
		names = append(names, s.name)
	}
	return names
}

func TestWhatIsSyncedIsReadBack(t *testing.T) {
	fsys := files.NewMem()
	w := create(t, fsys, Options{})
	save(t, w, hard(1, 2), entries(1, 1, 4, 100)...)
	save(t, w, hard(2, 3))
	save(t, w, raftpb.HardState{}, entry(2, 4, 0))
	must(t, w.Close())
	wantErr(t, w.Close(), ErrClosed)
	wantErr(t, w.Save(hard(9, 9), nil), ErrClosed)

	w, replay := reopen(t, fsys, Mark{}, Options{})
	want := append(entries(1, 1, 4, 100), entry(2, 4, 0))
	wantReplay(t, replay, hard(2, 3), want)

	// The log goes on where it ended.
	save(t, w, hard(2, 5), entry(2, 5, 10))
	must(t, w.Close())
	replay, err := Read(fsys, dir, Mark{})
	must(t, err)
	wantReplay(t, replay, hard(2, 5), append(want, entry(2, 5, 10)))
}

func TestFreshSegmentHasTheBytesOfEtcd(t *testing.T) {
	fsys := files.NewMem()
	must(t, create(t, fsys, Options{}).Close())
	content, err := files.ReadFile(fsys, filepath.Join(dir, "0000000000000000-0000000000000000.wal"))
	must(t, err)
	if len(content) != 64_000_000 {
		t.Errorf("segment is %d bytes long, want 64,000,000", len(content))
	}
	want := "\x04\x00\x00\x00\x00\x00\x00\x84" + "\x08\x04\x10\x00" + "\x00\x00\x00\x00"
	if !strings.HasPrefix(string(content), want) {
		t.Errorf("segment begins % x, want % x", content[:16], want)
	}
}

func TestCommitAloneNeedsNoSync(t *testing.T) {
	w := create(t, files.NewMem(), Options{})
	defer w.Close()
	steps := []struct {
		what    string
		state   raftpb.HardState
		entries []raftpb.Entry
		want    bool
	}{
		{"first vote", hard(1, 0), nil, true},
		{"an entry", raftpb.HardState{}, entries(1, 1, 2, 8), true},
		{"only the commit index", hard(1, 1), nil, false},
		{"nothing", raftpb.HardState{}, nil, false},
		{"a new term", hard(2, 1), nil, true},
	}
	for _, s := range steps {
		must(t, w.Save(s.state, s.entries))
		if got := w.NeedsSync(); got != s.want {
			t.Errorf("after saving %s NeedsSync is %t, want %t", s.what, got, s.want)
		}
		must(t, w.Sync())
	}
}

// A new leader's entries replace the uncommitted end of the log.
func TestLaterEntryReplacesAllFromItsIndex(t *testing.T) {
	fsys := files.NewMem()
	w := create(t, fsys, Options{})
	save(t, w, hard(1, 1), entries(1, 1, 6, 8)...)
	save(t, w, hard(2, 1), entries(2, 3, 5, 8)...)
	must(t, w.Close())
	replay, err := Read(fsys, dir, Mark{})
	must(t, err)
	wantReplay(t, replay, hard(2, 1), append(entries(1, 1, 3, 8), entries(2, 3, 5, 8)...))
	if replay.LastIndex() != 4 {
		t.Errorf("last index is %d, want 4", replay.LastIndex())
	}
}

func TestGapInTheLogIsAnError(t *testing.T) {
	fsys := files.NewMem()
	w := create(t, fsys, Options{})
	save(t, w, hard(1, 1), entry(1, 1, 8), entry(1, 3, 8))
	must(t, w.Close())
	_, _, err := Open(fsys, dir, Mark{}, Options{})
	wantErr(t, err, ErrGap)
	var damage *Damage
	if !errors.As(err, &damage) || damage.Offset == 0 {
		t.Errorf("%v does not tell the place", err)
	}
}

func TestSegmentIsCutWhenFull(t *testing.T) {
	fsys := files.NewMem()
	var created []string
	opt := Options{SegmentBytes: 2000, Events: Events{
		SegmentCreated: func(path string) { created = append(created, filepath.Base(path)) },
	}}
	w := create(t, fsys, opt)
	save(t, w, hard(1, 0), entries(1, 1, 4, 600)...) // 3 * 600 < 2000
	save(t, w, hard(1, 3), entries(1, 4, 6, 600)...) // now it is full
	save(t, w, hard(1, 5), entry(1, 6, 600))
	want := []string{"0000000000000000-0000000000000000.wal", "0000000000000001-0000000000000006.wal"}
	if got := segments(t, fsys); !slices.Equal(got, want) {
		t.Fatalf("segments are %v, want %v", got, want)
	}
	if !slices.Equal(created, want[1:]) {
		t.Errorf("events told of %v, want %v", created, want[1:])
	}
	must(t, w.Close())
	_, replay := reopen(t, fsys, Mark{}, opt)
	wantReplay(t, replay, hard(1, 5), entries(1, 1, 7, 600))

	var types []RecordType
	for rec, err := range Records(fsys, dir, 6) {
		must(t, err)
		types = append(types, rec.Type)
	}
	if want := []RecordType{TypeCRC, TypeMetadata, TypeHardState, TypeEntry, TypeHardState}; !slices.Equal(types, want) {
		t.Errorf("second segment holds %v, want %v", types, want)
	}
}

func TestEntryLargerThanASegmentFits(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 4096}
	w := create(t, fsys, opt)
	big := entry(1, 1, 6<<20)
	save(t, w, hard(1, 1), big)
	save(t, w, raftpb.HardState{}, entry(1, 2, 10))
	must(t, w.Close())
	_, replay := reopen(t, fsys, Mark{}, opt)
	wantReplay(t, replay, hard(1, 1), []raftpb.Entry{big, entry(1, 2, 10)})
}

func TestRestartFromAMarkReadsOnlyWhatFollows(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 1500}
	w := create(t, fsys, opt)
	for i := uint64(1); i < 20; i++ {
		save(t, w, hard(1, i), entry(1, i, 300))
	}
	conf := &raftpb.ConfState{Voters: []uint64{7, 8}}
	must(t, w.SaveMark(Mark{Index: 10, Term: 1, ConfState: conf}))
	must(t, w.Close())

	w, replay := reopen(t, fsys, Mark{Index: 10, Term: 1}, opt)
	defer w.Close()
	wantReplay(t, replay, hard(1, 19), entries(1, 11, 20, 300))
	if got := replay.Mark.ConfState; got == nil || !slices.Equal(got.Voters, conf.Voters) {
		t.Errorf("the mark's conf state is %+v, want %+v", got, conf)
	}
	_, err := Read(fsys, dir, Mark{Index: 10, Term: 2})
	wantErr(t, err, ErrMarkMismatch)
	_, err = Read(fsys, dir, Mark{Index: 11, Term: 1})
	wantErr(t, err, ErrMarkNotFound)
}

// A follower far behind gets a snapshot: its log jumps.
func TestMarkAheadOfTheLogStartsAnewBehindIt(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 1000}
	w := create(t, fsys, opt)
	save(t, w, hard(1, 3), entries(1, 1, 4, 100)...)
	must(t, w.SaveMark(Mark{Index: 100, Term: 2}))
	save(t, w, hard(2, 100))
	save(t, w, hard(2, 103), entries(2, 101, 104, 300)...)
	must(t, w.Close())
	if got := segments(t, fsys); !strings.HasSuffix(got[len(got)-1], "0000000000000068.wal") {
		t.Errorf("last segment is %s, want one that begins at 104 = 0x68", got[len(got)-1])
	}
	_, replay := reopen(t, fsys, Mark{Index: 100, Term: 2}, opt)
	wantReplay(t, replay, hard(2, 103), entries(2, 101, 104, 300))
}

// A mark beyond the commit index was left by a crash before the hard state that
// commits it; a restart must not begin there.
func TestMarksAreUsableUpToTheCommitIndex(t *testing.T) {
	fsys := files.NewMem()
	w := create(t, fsys, Options{})
	save(t, w, hard(1, 4), entries(1, 1, 9, 20)...)
	must(t, w.SaveMark(Mark{Index: 4, Term: 1}))
	must(t, w.SaveMark(Mark{Index: 6, Term: 1}))
	must(t, w.Close())
	marks, err := Marks(fsys, dir)
	must(t, err)
	var got []uint64
	for _, m := range marks {
		got = append(got, m.Index)
	}
	if !slices.Equal(got, []uint64{0, 4}) {
		t.Errorf("usable marks are %v, want 0 and 4", got)
	}
}

func TestReleasedSegmentsArePurgedAndOthersAreNot(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 1000}
	w := create(t, fsys, opt)
	for i := uint64(1); i <= 40; i++ {
		save(t, w, hard(1, i), entry(1, i, 300))
	}
	all := segments(t, fsys)
	removed, err := Purge(fsys, dir, 3)
	must(t, err)
	if len(removed) != 0 {
		t.Fatalf("purge removed %v, which are in use", removed)
	}
	must(t, w.SaveMark(Mark{Index: 30, Term: 1}))
	must(t, w.ReleaseTo(30))
	removed, err = Purge(fsys, dir, 3)
	must(t, err)
	if len(removed) == 0 {
		t.Fatal("purge removed nothing")
	}
	if got := segments(t, fsys); !slices.Equal(got, all[len(removed):]) {
		t.Fatalf("%v are left of %v after removing %d", got, all, len(removed))
	}
	must(t, w.Close())

	marks, err := Marks(fsys, dir)
	must(t, err)
	if len(marks) != 1 || marks[0].Index != 30 {
		t.Errorf("usable marks are %v, want only 30", marks)
	}
	w, replay := reopen(t, fsys, Mark{Index: 30, Term: 1}, opt)
	wantReplay(t, replay, hard(1, 40), entries(1, 31, 41, 300))

	// keep is a floor: unlocked segments within it stay.
	must(t, w.Close())
	left := len(segments(t, fsys))
	removed, err = Purge(fsys, dir, left-1)
	must(t, err)
	if len(removed) != 1 {
		t.Errorf("purge to %d of %d removed %v", left-1, left, removed)
	}
}

func TestALogIsOpenOnce(t *testing.T) {
	fsys := files.NewMem()
	w := create(t, fsys, Options{})
	_, _, err := Open(fsys, dir, Mark{}, Options{})
	wantErr(t, err, files.ErrLocked)
	_, err = Create(fsys, dir, meta, Options{})
	wantErr(t, err, fs.ErrExist)
	must(t, w.Close())
	w, _ = reopen(t, fsys, Mark{}, Options{})
	must(t, w.Close())
}

func TestLogThatIsNotThere(t *testing.T) {
	fsys := files.NewMem()
	exists, err := Exists(fsys, dir)
	must(t, err)
	if exists {
		t.Error("a log exists in an empty file system")
	}
	must(t, fsys.MkdirAll(dir, files.PrivateDir))
	must(t, files.WriteFile(fsys, filepath.Join(dir, "0.tmp"), []byte("x"), files.PrivateFile))
	exists, err = Exists(fsys, dir)
	must(t, err)
	if exists {
		t.Error("a temporary file counts as a log")
	}
	_, err = Marks(fsys, dir)
	wantErr(t, err, ErrFileNotFound)
	_, _, err = Open(fsys, dir, Mark{}, Options{})
	wantErr(t, err, ErrFileNotFound)
}

func TestMissingSegmentIsAnError(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 500}
	w := create(t, fsys, opt)
	for i := uint64(1); i < 6; i++ {
		save(t, w, hard(1, i), entry(1, i, 400))
	}
	must(t, w.Close())
	must(t, fsys.Remove(filepath.Join(dir, segments(t, fsys)[1])))
	_, _, err := Open(fsys, dir, Mark{}, opt)
	wantErr(t, err, ErrFileNotFound)
}

func TestForeignFilesAreReportedAndLeftAlone(t *testing.T) {
	fsys := files.NewMem()
	must(t, create(t, fsys, Options{}).Close())
	for _, name := range []string{"README", "0.tmp", "x.wal.broken"} {
		must(t, files.WriteFile(fsys, filepath.Join(dir, name), []byte("leftover"), files.PrivateFile))
	}
	var ignored []string
	w, _ := reopen(t, fsys, Mark{}, Options{Events: Events{
		Ignored: func(path string) { ignored = append(ignored, filepath.Base(path)) },
	}})
	must(t, w.Close())
	if want := []string{"README", "x.wal.broken"}; !slices.Equal(ignored, want) {
		t.Errorf("ignored %v, want %v", ignored, want)
	}
}

// With Start the next segment is made ahead; its leftovers vanish at Close, and
// a leftover of a crash does not spoil a later segment.
func TestSegmentsArePreparedAhead(t *testing.T) {
	fsys := files.NewMem()
	opt := Options{SegmentBytes: 1000}
	must(t, create(t, fsys, opt).Close())
	for _, name := range []string{"0.tmp", "1.tmp"} {
		junk := bytes.Repeat([]byte("junk"), 300)
		must(t, files.WriteFile(fsys, filepath.Join(dir, name), junk, files.PrivateFile))
	}
	w, _ := reopen(t, fsys, Mark{}, opt)
	w.Start()
	w.Start() // once is enough
	for i := uint64(1); i <= 20; i++ {
		save(t, w, hard(1, i), entry(1, i, 400))
	}
	must(t, w.Close())
	_, replay := reopen(t, fsys, Mark{}, opt)
	wantReplay(t, replay, hard(1, 20), entries(1, 1, 21, 400))
	left, err := fsys.ReadDir(dir)
	must(t, err)
	var tmp int
	for _, e := range left {
		if strings.HasSuffix(e.Name(), ".tmp") {
			tmp++
		}
	}
	if tmp > 1 {
		t.Errorf("%d temporary files are left", tmp)
	}
}

func TestFailedPreparationIsTriedAgainWhenNeeded(t *testing.T) {
	faulty := files.NewFaulty(files.NewMem(), nil)
	opt := Options{SegmentBytes: 1000}
	w := create(t, faulty, opt)
	failed := make(chan struct{})
	faulty.Inject(files.OnPath(".tmp", func(op files.Op) error {
		if op.Kind == files.OpPreallocate {
			faulty.Inject(nil)
			close(failed)
			return files.ErrNoSpace
		}
		return nil
	}))
	w.Start()
	<-failed
	save(t, w, hard(1, 3), entries(1, 1, 4, 400)...)
	save(t, w, hard(1, 6), entries(1, 4, 7, 400)...)
	if got := len(segments(t, faulty)); got != 3 {
		t.Errorf("%d segments, want 3", got)
	}
	must(t, w.Close())
}

// After any failed write or sync the log must not pretend: all later calls
// fail, and what was synced before is still there.
func TestFailureIsRemembered(t *testing.T) {
	broken := errors.New("disk broke")
	for _, kind := range []files.OpKind{files.OpWrite, files.OpDatasync, files.OpTruncate, files.OpPreallocate, files.OpRename, files.OpSyncDir} {
		t.Run(string(kind), func(t *testing.T) {
			faulty := files.NewFaulty(files.NewMem(), nil)
			opt := Options{SegmentBytes: 1000}
			w := create(t, faulty, opt)
			save(t, w, hard(1, 1), entry(1, 1, 100))
			faulty.Inject(files.FailNth(1, broken, kind))
			must(t, w.Save(hard(1, 3), entries(1, 2, 4, 500)))
			wantErr(t, w.Sync(), broken)
			wantErr(t, w.Sync(), broken)
			wantErr(t, w.Save(hard(1, 4), nil), broken)
			wantErr(t, w.SaveMark(Mark{Index: 1, Term: 1}), broken)
			must(t, w.Close())
			_, replay := reopen(t, faulty, Mark{}, opt)
			if len(replay.Entries) == 0 {
				t.Error("the synced entry is gone")
			}
		})
	}
}

func TestEventsTellBytesAndSyncs(t *testing.T) {
	var wrote, syncs int
	w := create(t, files.NewMem(), Options{Events: Events{
		Wrote:  func(n int, _ time.Duration) { wrote += n },
		Synced: func(time.Duration) { syncs++ },
	}})
	defer w.Close()
	save(t, w, hard(1, 1), entries(1, 1, 100, 100)...)
	must(t, w.Sync()) // nothing to do
	if syncs != 1 {
		t.Errorf("%d syncs for one batch, want 1", syncs)
	}
	if wrote < 99*100 {
		t.Errorf("%d bytes written for 99 entries of 100 bytes", wrote)
	}
}
