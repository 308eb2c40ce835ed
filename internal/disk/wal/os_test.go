package wal

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

// The same life on a real disk: one goroutine saves, another takes snapshots and
// purges, as in a member, with segments prepared in the background.
func TestWriterAndSnapshotterOnARealDisk(t *testing.T) {
	const last = 300
	dir := filepath.Join(t.TempDir(), "member", "wal")
	opt := Options{SegmentBytes: 8 << 10}
	w, err := Create(files.OS, dir, meta, opt)
	must(t, err)
	w.Start()

	synced := make(chan uint64, last)
	var snapshotter sync.WaitGroup
	snapshotter.Go(func() {
		for index := range synced {
			if index%40 != 0 {
				continue
			}
			if err := w.SaveMark(Mark{Index: index, Term: 1}); err != nil {
				t.Errorf("mark %d: %v", index, err)
			}
			if err := w.ReleaseTo(index); err != nil {
				t.Errorf("release to %d: %v", index, err)
			}
			if _, err := Purge(files.OS, dir, 2); err != nil {
				t.Errorf("purge: %v", err)
			}
		}
	})
	for i := uint64(1); i <= last; i++ {
		must(t, w.Save(hard(1, i), []raftpb.Entry{entry(1, i, 300)}))
		must(t, w.Sync())
		synced <- i
	}
	close(synced)
	snapshotter.Wait()
	_, _, err = Open(files.OS, dir, Mark{Index: 280, Term: 1}, opt)
	wantErr(t, err, files.ErrLocked)
	must(t, w.Close())

	marks, err := Marks(files.OS, dir)
	must(t, err)
	newest := marks[len(marks)-1]
	if newest.Index != 280 {
		t.Errorf("newest mark is %d, want 280", newest.Index)
	}
	w, replay, err := Open(files.OS, dir, newest, opt)
	must(t, err)
	must(t, w.Close())
	wantReplay(t, replay, hard(1, last), entries(1, 281, last+1, 300))
	l, err := list(files.OS, dir)
	must(t, err)
	if first := l.segments[0]; first.seq == 0 {
		t.Error("nothing was purged")
	}
}
