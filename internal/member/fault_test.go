package member

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/disk/wal"
)

func grantOn(ctx context.Context, m *Member, id int64) error {
	_, err := m.Propose(ctx, &pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: id, TTL: 100_000}})
	return err
}

// mustFail waits until the member says that it cannot go on.
func mustFail(t *testing.T, m *Member, want error) {
	t.Helper()
	select {
	case err := <-m.Failed():
		if !errors.Is(err, want) {
			t.Errorf("failed with %v, want %v", err, want)
		}
	case <-time.After(time.Minute):
		t.Error("the member goes on")
	}
}

// Goal: a backend that fails once does not leave a hole. Method: the commit
// that would carry a lease fails, later ones would succeed; after the stop the
// lease must be in the backend or the log must still be replayed for it.
func TestFailedCommitLeavesNoHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		m := startOn(t, d.options())
		time.Sleep(time.Second) // everything of the start is flushed
		failed := false
		d.failWhen(func(what string) error {
			if what != "commit" || failed {
				return nil
			}
			failed = true
			return files.ErrNoSpace
		})
		if err := grantOn(t.Context(), m, 7); err != nil {
			t.Fatal(err)
		}
		mustFail(t, m, files.ErrNoSpace)
		if _, err := putOn(t.Context(), m, "later", "1", 0); err != nil {
			t.Fatal(err) // it is in the log
		}
		m.Stop() // tells of the failure or not

		d = d.clone()
		m = startOn(t, d.options())
		defer stop(t, m)
		if !m.machine.Leases.Exists(7) {
			t.Error("the lease is gone")
		}
		if got := valueOn(t, m, "later"); got != "1" {
			t.Errorf("later = %q", got)
		}
		sameAsReplayed(t, d, m)
	})
}

// Goal: a log that cannot be written ends the member; nobody is told that a
// write is safe which is not, and what was acknowledged before is there after
// the restart. Method: the disk is full, or a sync fails, from one moment on.
func TestFailedLogEndsTheMember(t *testing.T) {
	for _, kind := range []string{"write", "datasync"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDisk()
				m := startOn(t, d.options())
				if _, err := putOn(t.Context(), m, "before", "1", 0); err != nil {
					t.Fatal(err)
				}
				d.failWhen(func(what string) error {
					if strings.HasPrefix(what, kind) && strings.Contains(what, "/wal/") {
						return files.ErrNoSpace
					}
					return nil
				})
				answered := make(chan error, 1)
				go func() {
					_, err := putOn(context.Background(), m, "after", "1", 0)
					answered <- err
				}()
				mustFail(t, m, files.ErrNoSpace)
				m.Stop()
				if err := <-answered; err == nil {
					t.Error("a write was acknowledged that is in no log")
				}
				d = d.clone()
				m = startOn(t, d.options())
				defer stop(t, m)
				if got := valueOn(t, m, "before"); got != "1" {
					t.Errorf("before = %q", got)
				}
				sameAsReplayed(t, d, m)
			})
		})
	}
}

// Goal: the backend may be ahead of the commit index in the log, which is not
// synced by itself. Method: cut the power right after a flush.
func TestBackendAheadOfCommitIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		opt := d.options()
		m := startOn(t, opt)
		for i := range 10 {
			if _, err := putOn(t.Context(), m, fmt.Sprint("k", i), "1", 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.flusher.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := d.clone()
		read, err := wal.Read(left.mem, opt.walDir(), wal.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		if at := positionOf(t, left.backend); read.HardState.Commit >= at {
			t.Fatalf("commit index %d, backend at %d: this does not test what it should", read.HardState.Commit, at)
		}
		stop(t, m)
		m = startOn(t, left.options())
		defer stop(t, m)
		for i := range 10 {
			if got := valueOn(t, m, fmt.Sprint("k", i)); got != "1" {
				t.Errorf("k%d = %q", i, got)
			}
		}
		sameAsReplayed(t, left, m)
	})
}

// Goal: a snapshot file that no mark names does not confuse the next start.
// Method: cut the power when the file has its name, and again while the start
// after that is under way.
func TestPowerCutBeforeTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		opt := d.options()
		d.cut = make(chan struct{})
		m := startOn(t, opt)
		d.failWhen(func(string) error {
			if left := d.mem.CrashClone(nil); d.image == nil && hasSnapFile(t, left, opt) {
				d.cutLocked()
			}
			return nil
		})
		for i := range 40 {
			if _, err := putOn(t.Context(), m, fmt.Sprint("k", i), "1", 0); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-d.cut:
		case <-time.After(time.Minute):
			t.Fatal("no snapshot was taken")
		}
		stop(t, m)
		left := d.cutNow()
		marks, err := wal.Marks(left.mem, opt.walDir())
		if err != nil || len(marks) != 1 {
			t.Fatalf("marks %v, %v: want that of the empty log only", marks, err)
		}
		for n := 1; n < 12; n++ { // interrupted starts
			left.cutAfter(n, nil, nil)
			m := startOn(t, left.options())
			again := left.cutNow()
			stop(t, m)
			left = again
		}
		m = startOn(t, left.options())
		defer stop(t, m)
		sameAsReplayed(t, left, m)
	})
}

func hasSnapFile(t *testing.T, fsys *files.Mem, opt Options) bool {
	t.Helper()
	names, err := fsys.ReadDir(opt.snapDir())
	if err != nil {
		t.Error(err)
	}
	return slices.ContainsFunc(names, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".snap") })
}

// Goal: a directory whose parts do not belong together is refused, with both
// named. Method: take one part away, or an old one in its place.
func TestPartsThatDoNotBelongTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		opt := d.options()
		m := startOn(t, opt)
		early := d.clone()
		for i := range 60 {
			if _, err := putOn(t.Context(), m, fmt.Sprint("k", i), "1", 0); err != nil {
				t.Fatal(err)
			}
		}
		stop(t, m)

		noLog := d.clone()
		if err := noLog.mem.RemoveAll(opt.walDir()); err != nil {
			t.Fatal(err)
		}
		refused(t, noLog, "there is no log in")

		old := d.clone()
		old.mem = early.mem
		refused(t, old, "entries of the log are missing")

		replay := d.clone()
		replay.backend = newDisk().backend
		m = startOn(t, replay.options())
		defer stop(t, m)
		sameAsReplayed(t, replay, m)
		if got := valueOn(t, m, "k59"); got != "1" {
			t.Errorf("a backend that was lost is not made again from the log: k59 = %q", got)
		}
	})
}

func refused(t *testing.T, d *disk, why string) {
	t.Helper()
	m, err := Start(d.options())
	if err == nil {
		m.Stop()
		t.Errorf("started; want refusal: %s", why)
		return
	}
	if !strings.Contains(err.Error(), why) {
		t.Errorf("refused with %q, want %q", err, why)
	}
}
