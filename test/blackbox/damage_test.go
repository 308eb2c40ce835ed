package blackbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/steledb/stele/test/rig"
)

// used is a server's directory with some history, after an orderly stop.
func used(t *testing.T, args ...string) *rig.Server {
	t.Helper()
	s, c := start(t, args...)
	for i := range 100 {
		put(t, c, fmt.Sprintf("k%02d", i), strings.Repeat("v", 500))
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return s
}

// segment is the only segment of the log, and where its records end.
func segment(t *testing.T, s *rig.Server) (path string, content []byte, end int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.Dir, "member", "wal", "*.wal"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("segments: %v %v", paths, err)
	}
	content, err = os.ReadFile(paths[0])
	check(t, "read", err)
	for end = len(content); end > 0 && content[end-1] == 0; end-- {
	}
	return paths[0], content, (end + 7) &^ 7
}

func db(s *rig.Server) string { return filepath.Join(s.Dir, "member", "snap", "db") }

// refuses starts a server on what is left of s and wants it to end by itself
// with a failure that says all of why.
func refuses(t *testing.T, s *rig.Server, why ...string) {
	t.Helper()
	again := rig.Launch(t, rig.Options{Dir: s.Dir, ClientURL: s.ClientURL, PeerURL: s.PeerURL})
	code, err := again.Wait(25 * time.Second)
	check(t, "wait", err)
	if code <= 0 {
		t.Errorf("exit code %d, want a failure", code)
	}
	last := lastWord(again)
	for _, text := range why {
		if ok, err := regexp.MatchString(text, last); err != nil || !ok {
			t.Errorf("nothing says %q:\n%s", text, last)
		}
	}
	if strings.Contains(again.Log(), "goroutine ") {
		t.Errorf("it ended with a panic:\n%s", again.LogTail(30))
	}
}

// lastWord is the log line with which a server gives up.
func lastWord(s *rig.Server) string {
	for _, line := range strings.Split(s.Log(), "\n") {
		if strings.Contains(line, `"level":"panic"`) || strings.Contains(line, `"level":"fatal"`) {
			return line
		}
	}
	return s.LogTail(5)
}

// opens starts a server on what is left of s.
func opens(t *testing.T, s *rig.Server) (*rig.Server, *clientv3.Client) {
	t.Helper()
	again := rig.Start(t, rig.Options{Dir: s.Dir, ClientURL: s.ClientURL, PeerURL: s.PeerURL})
	c := connect(t, again)
	resp, err := c.Get(limited(t), "k", clientv3.WithPrefix())
	check(t, "get", err)
	same(t, "keys", resp.Count, 100)
	return again, c
}

func write64(b []byte, n uint64) []byte {
	for i := range 8 {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

// Goal: one changed byte in the middle of the log is found, and where it is, is
// said. Nothing is cut off and nothing is changed: an operator may have a copy.
func TestLogDamagedInTheMiddle(t *testing.T) {
	s := used(t)
	path, content, end := segment(t, s)
	content[end/2] ^= 0x10
	check(t, "write", os.WriteFile(path, content, 0o600))
	refuses(t, s, `crc mismatch`, filepath.Base(path), `position: \d+`)
	after, err := os.ReadFile(path)
	check(t, "read", err)
	same(t, "the file is as it was", string(after) == string(content), true)
}

// Goal: a last record of which only a part reached the disk is cut off, as
// nobody was told of it.
func TestTornLastRecord(t *testing.T) {
	s := used(t)
	path, content, end := segment(t, s)
	torn := append(write64(content[:end:end], 200), 0x08, 0x02, 0x10, 0x55, 0xaa)
	check(t, "write", os.WriteFile(path, torn, 0o600))
	again, c := opens(t, s)
	if len(again.LogRecords("repaired")) != 1 {
		t.Error("the log does not say that it was repaired")
	}
	put(t, c, "after", "1")
	again.Kill()
	_, c = opens(t, again)
	same(t, "a write after the repair", text(t, c, "after"), "after=1")
}

// Goal: a damaged page of the backend is found at start and named.
func TestDamagedPage(t *testing.T) {
	s := used(t)
	content, err := os.ReadFile(db(s))
	check(t, "read", err)
	page := os.Getpagesize()
	for at := 4 * page; at+page <= len(content); at += page { // whatever is on them
		copy(content[at:], strings.Repeat("\xa5", 64))
	}
	check(t, "write", os.WriteFile(db(s), content, 0o600))
	refuses(t, s, regexp.QuoteMeta(db(s)), `page \d+`)

	check(t, "write", os.WriteFile(db(s), content[:page], 0o600)) // cut short
	refuses(t, s, regexp.QuoteMeta(db(s)))
	check(t, "write", os.WriteFile(db(s), []byte(strings.Repeat("no database", 10000)), 0o600))
	refuses(t, s, regexp.QuoteMeta(db(s)))
}

// Goal: a backend whose log is gone is refused: entries may be missing that were
// acknowledged.
func TestLogMissing(t *testing.T) {
	s := used(t)
	check(t, "remove", os.RemoveAll(filepath.Join(s.Dir, "member", "wal")))
	refuses(t, s, "there is no log in")
}

// Goal: a backend that is gone is made again from the log, if the log goes back
// to the beginning.
func TestBackendMissing(t *testing.T) {
	s := used(t)
	check(t, "remove", os.Remove(db(s)))
	_, c := opens(t, s)
	put(t, c, "after", "1")
}

// Goal: if the log does not go back that far, it is refused.
func TestBackendMissingAfterSnapshot(t *testing.T) {
	s := used(t, "--snapshot-count", "20")
	check(t, "remove", os.Remove(db(s)))
	path, content, _ := segment(t, s)
	// The log as it is after its first segment was removed: it begins later.
	check(t, "write", os.WriteFile(filepath.Join(filepath.Dir(path), "0000000000000001-0000000000000030.wal"), content, 0o600))
	check(t, "remove", os.Remove(path))
	refuses(t, s, `wal|snapshot`)
}

// Goal: a file of a version from the future is not touched.
func TestUnknownStorageVersion(t *testing.T) {
	s := used(t)
	f, err := bbolt.Open(db(s), 0o600, &bbolt.Options{Timeout: 5 * time.Second})
	check(t, "open", err)
	check(t, "update", f.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("storageVersion"), []byte("4.2.0"))
	}))
	check(t, "close", f.Close())
	refuses(t, s, regexp.QuoteMeta(db(s)), `4\.2\.0`)
}

// Goal: a second server on the same directory is refused in bounded time, and
// the first does not notice.
func TestDirectoryInUse(t *testing.T) {
	s, c := start(t)
	put(t, c, "k", "v")
	second := rig.Launch(t, rig.Options{Dir: s.Dir})
	code, err := second.Wait(25 * time.Second)
	check(t, "wait", err)
	if last := lastWord(second); code <= 0 || !strings.Contains(last, db(s)) || !strings.Contains(last, "in use by another process") {
		t.Errorf("exit code %d:\n%s", code, last)
	}
	put(t, c, "k", "v2")
}

// Goal: when no file can grow any more, writes fail and the server ends in
// order; what it acknowledged is there when there is room again. Method: a limit
// on the size of files, which a full disk looks like to those who write.
func TestNoRoomForFiles(t *testing.T) {
	t.Skip("open fault: about half of the restarts are refused with a CRC mismatch where the write was cut; docs/plan.md")
	s, c := start(t)
	put(t, c, "k", "0")
	_, _, end := segment(t, s)
	limit := unix.Rlimit{Cur: uint64(end + 64<<10), Max: uint64(end + 64<<10)}
	check(t, "limit", unix.Prlimit(s.Pid(), unix.RLIMIT_FSIZE, &limit, nil))
	acked, value := 0, strings.Repeat("v", 1<<10)
	for n := 1; n < 1000; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err := c.Put(ctx, "k", fmt.Sprint(n, " ", value))
		cancel()
		if err != nil {
			break
		}
		acked = n
	}
	if acked == 0 || acked > 500 {
		t.Errorf("%d writes of 1 KiB were acknowledged in 64 KiB of room", acked)
	}
	if code, err := s.Wait(20 * time.Second); err != nil || code <= 0 {
		t.Errorf("the server ends with %d, %v", code, err)
	}
	if strings.Contains(s.Log(), "goroutine ") {
		t.Errorf("it ended with a panic:\n%s", s.LogTail(20))
	}
	s = restart(t, s, true)
	var got int
	if _, err := fmt.Sscanf(text(t, connect(t, s), "k"), "k=%d ", &got); err != nil || got < acked {
		t.Errorf("k holds %d, %v; acknowledged was %d", got, err, acked)
	}
}
