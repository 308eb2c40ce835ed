package utl

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/snap"
	"github.com/steledb/stele/internal/disk/wal"
)

// fixtures is where directories of real servers are, in a full checkout.
const fixtures = "../../../../shared/fixtures"

// ran is what one run of etcdutl did.
type ran struct {
	stdout, stderr string
	code           int
}

func etcdutl(args ...string) ran {
	var stdout, stderr bytes.Buffer
	code := Main(args, IO{Stdout: &stdout, Stderr: &stderr})
	return ran{stdout.String(), stderr.String(), code}
}

func ok(t *testing.T, args ...string) ran {
	t.Helper()
	got := etcdutl(args...)
	if got.code != 0 {
		t.Fatalf("etcdutl %s: %+v", strings.Join(args, " "), got)
	}
	return got
}

// makeDB writes a backend file like that of a member with a short life: three
// keys, one overwritten, one deleted; and one member of some other cluster.
func makeDB(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range bucket.AllNames() {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		record := func(main int64, tombstone bool, kv *mvccpb.KeyValue) bucket.Op {
			v, err := proto.Marshal(kv)
			if err != nil {
				t.Fatal(err)
			}
			return bucket.Put(bucket.Key, mvcc.Rev{Main: main}.AppendKey(nil, tombstone), v)
		}
		return writeOps(tx, []bucket.Op{
			record(2, false, &mvccpb.KeyValue{Key: []byte("a"), CreateRevision: 2, ModRevision: 2, Version: 1, Value: []byte("1")}),
			record(3, false, &mvccpb.KeyValue{Key: []byte("b"), CreateRevision: 3, ModRevision: 3, Version: 1, Value: []byte("2")}),
			record(4, false, &mvccpb.KeyValue{Key: []byte("a"), CreateRevision: 2, ModRevision: 4, Version: 2, Value: []byte("3")}),
			record(5, true, &mvccpb.KeyValue{Key: []byte("b")}),
			bucket.Put(bucket.Meta, []byte(bucket.StorageVersion), []byte("3.7.0")),
			bucket.Put(bucket.Meta, []byte(bucket.ConsistentIndex), []byte{0, 0, 0, 0, 0, 0, 0, 99}),
			bucket.Put(bucket.Meta, []byte(bucket.Term), []byte{0, 0, 0, 0, 0, 0, 0, 7}),
			bucket.Put(bucket.Meta, []byte(bucket.ConfState), []byte(`{"voters":[1],"auto_leave":false}`)),
			bucket.Put(bucket.Members, []byte("1"), []byte(`{"id":1,"peerURLs":["http://old:1"],"name":"old"}`)),
			bucket.Put(bucket.MembersRemoved, []byte("2"), []byte("removed")),
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// makeSnapshot is a backend file with its digest.
func makeSnapshot(t *testing.T, path string) {
	t.Helper()
	whole := path + ".whole" // with room behind the last page, which a snapshot has not
	makeDB(t, whole)
	db, err := openReadOnly(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error { return tx.CopyFile(path, 0o600) }); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pages)
	if err := os.WriteFile(path, append(pages, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// look reads all pairs of some buckets of a file.
func look(t *testing.T, path string, names ...bucket.Name) map[string]string {
	t.Helper()
	db, err := openReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got := map[string]string{}
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range names {
			b, err := bucketOf(tx, name)
			if err != nil {
				return err
			}
			if err := b.ForEach(func(k, v []byte) error { got[string(name)+" "+string(k)] = string(v); return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Goal: status and hashkv tell what is in a file, in every format, and leave
// each of its bytes as it is, so that its digest stays good.
func TestLookingChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snap.db")
	makeSnapshot(t, path)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var st status
	if err := json.Unmarshal([]byte(ok(t, "snapshot", "status", path, "-w", "json").stdout), &st); err != nil {
		t.Fatal(err)
	}
	if st.Revision != 5 || st.TotalKey != 1 || st.TotalSize != int64(len(before)-sha256.Size) || st.Version != "3.7.0" {
		t.Errorf("%+v", st)
	}
	want := fmt.Sprintf("\"Hash\" : %d\n\"Revision\" : 5\n\"Keys\" : 1\n\"Size\" : %d\n\"Version\" : 3.7.0\n", st.Hash, st.TotalSize)
	if got := ok(t, "snapshot", "status", path, "-w", "fields"); got.stdout != want {
		t.Errorf("fields: %s", got.stdout)
	}
	if got := ok(t, "snapshot", "status", path); !strings.HasPrefix(got.stdout, fmt.Sprintf("%x, 5, 1, ", st.Hash)) {
		t.Errorf("simple: %s", got.stdout)
	}
	if got := ok(t, "hashkv", path, "--rev", "4"); !strings.HasSuffix(got.stdout, ", 4, -1\n") {
		t.Errorf("hashkv: %s", got.stdout)
	}
	if got := etcdutl("hashkv", path, "--rev", "6"); got != (ran{"", "Error: mvcc: required revision is a future revision\n", 1}) {
		t.Errorf("hashkv of the future: %+v", got)
	}
	if got := etcdutl("snapshot", "status", path, "-w", "protobuf"); got.code != 4 || got.stderr != "Error: protobuf not supported as output format\n" {
		t.Errorf("protobuf: %+v", got)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

// Goal: a restored directory is that of a new cluster with the old keys. All
// three files must agree on the membership and on the last index. Method: read
// back what the member will read.
func TestRestoreBuildsAMember(t *testing.T) {
	dir := t.TempDir()
	path, data := filepath.Join(dir, "snap.db"), filepath.Join(dir, "m1")
	makeSnapshot(t, path)
	ok(t, "snapshot", "restore", path, "--data-dir", data, "--name", "m1", "--initial-cluster-token", "tok",
		"--initial-cluster", "m1=http://127.0.0.1:2380,m2=http://127.0.0.1:22380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380")

	self, other := ids.Member([]string{"http://127.0.0.1:2380"}, "tok"), ids.Member([]string{"http://127.0.0.1:22380"}, "tok")
	voters := []uint64{min(self, other), max(self, other)}

	got := look(t, dbPath(data), bucket.Members, bucket.MembersRemoved, bucket.Meta)
	for _, id := range voters {
		if got["members "+ids.Text(id)] == "" {
			t.Errorf("member %x is missing: %q", id, got)
		}
	}
	for key, want := range map[string]string{
		"members 1": "", "members_removed 2": "",
		"meta consistent_index": "\x00\x00\x00\x00\x00\x00\x00\x02", "meta term": "\x00\x00\x00\x00\x00\x00\x00\x01",
		"meta confState":      fmt.Sprintf(`{"voters":[%d,%d],"auto_leave":false}`, voters[0], voters[1]),
		"meta storageVersion": "3.7.0", "meta scheduledCompactRev": "",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}

	marks, err := wal.Marks(files.OS, walDir(data))
	if err != nil || len(marks) == 0 {
		t.Fatalf("marks: %v, %v", marks, err)
	}
	last := marks[len(marks)-1]
	for _, m := range marks {
		if m.Index > last.Index {
			last = m
		}
	}
	if last.Index != 2 || last.Term != 1 || last.ConfState == nil || len(last.ConfState.Voters) != 2 {
		t.Errorf("mark: %+v", last)
	}
	replay, err := wal.Read(files.OS, walDir(data), wal.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	var meta pb.Metadata
	if err := proto.Unmarshal(replay.Metadata, &meta); err != nil || meta.GetNodeID() != self || meta.GetClusterID() != ids.Cluster(voters) {
		t.Errorf("metadata: %v, %v", &meta, err)
	}
	if want := (raftpb.HardState{Term: 1, Vote: voters[0], Commit: 2}); replay.HardState != want || len(replay.Entries) != 2 {
		t.Errorf("%+v, %d entries", replay.HardState, len(replay.Entries))
	}
	for i, e := range replay.Entries {
		var cc raftpb.ConfChange
		if err := cc.Unmarshal(e.Data); err != nil || cc.NodeID != voters[i] || e.Index != uint64(i)+1 || e.Type != raftpb.EntryConfChange {
			t.Errorf("entry %d: %+v, %v", i, cc, err)
		}
	}
	s, err := snap.NewStore(files.OS, snapDir(data), snap.Events{}).Newest(func(snap.Ref) bool { return true })
	if err != nil || s.Metadata.Index != 2 || s.Metadata.Term != 1 {
		t.Errorf("snap: %+v, %v", s.Metadata, err)
	}

	// The history is the same, so its hash is.
	if a, b := ok(t, "hashkv", path).stdout, ok(t, "hashkv", dbPath(data)).stdout; a != b {
		t.Errorf("hashes %s and %s", a, b)
	}
	again := etcdutl("snapshot", "restore", path, "--data-dir", data, "--name", "m1",
		"--initial-cluster", "m1=http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380")
	if want := fmt.Sprintf("Error: data-dir %q not empty or could not be read\n", data); again.stderr != want || again.code != 1 {
		t.Errorf("restored over a member: %+v", again)
	}
}

// Goal: bumping makes the revision new and everything before it compacted,
// without making a key.
func TestRestoreBumpsTheRevision(t *testing.T) {
	dir := t.TempDir()
	path, data := filepath.Join(dir, "snap.db"), filepath.Join(dir, "out")
	makeSnapshot(t, path)
	got := ok(t, "snapshot", "restore", path, "--data-dir", data, "--bump-revision", "1000", "--mark-compacted")
	if !strings.Contains(got.stderr, "bumping latest revision\t{\"latest-revision\": 5, \"bump-amount\": 1000, \"new-latest-revision\": 1005}\n") {
		t.Errorf("log: %s", got.stderr)
	}
	db := look(t, dbPath(data), bucket.Key, bucket.Meta)
	bumped := string(mvcc.Rev{Main: 1005}.AppendKey(nil, false))
	if v, there := db["key "+bumped]; !there || v != "" || db["meta scheduledCompactRev"] != bumped {
		t.Errorf("%q", db)
	}
	var st status
	if err := json.Unmarshal([]byte(ok(t, "snapshot", "status", dbPath(data), "-w", "json").stdout), &st); err != nil || st.Revision != 1005 || st.TotalKey != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	for _, half := range [][]string{{"--bump-revision", "1"}, {"--mark-compacted"}} {
		got := etcdutl(append([]string{"snapshot", "restore", path, "--data-dir", filepath.Join(dir, "no")}, half...)...)
		if got != (ran{"", "Error: --mark-compacted required if --revision-bump > 0\n", 128}) {
			t.Errorf("%v: %+v", half, got)
		}
	}
}

// Goal: what does not match its digest is not restored unless told to, and
// flags that contradict each other are refused before anything is written.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "snap.db")
	makeSnapshot(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-sha256.Size-8] ^= 1 // in the unused rest of the last page
	bad, bare := filepath.Join(dir, "bad.db"), filepath.Join(dir, "bare.db")
	if err := os.WriteFile(bad, flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bare, whole[:len(whole)-sha256.Size], 0o600); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		file, want string
		flags      []string
	}{
		{bad, "Error: expected sha256 [", nil},
		{bare, "Error: snapshot missing hash but --skip-hash-check=false\n", nil},
		{filepath.Join(dir, "none.db"), "no such file or directory\n", nil},
		{path, `Error: couldn't find local name "m9" in the initial cluster configuration`, []string{"--name", "m9"}},
		{path, `but missing from --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: "http://localhost:2380" != "http://127.0.0.1:2380")`,
			[]string{"--initial-cluster", "default=http://127.0.0.1:2380"}},
		{path, "Error: URL scheme must be http, https, unix, or unixs: ", []string{"--initial-cluster", "bogus"}},
	} {
		got := etcdutl(append([]string{"snapshot", "restore", c.file, "--data-dir", filepath.Join(dir, fmt.Sprint("out", i))}, c.flags...)...)
		if got.code != 1 || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s %v: %+v", c.file, c.flags, got)
		}
	}
	for i, file := range []string{bad, bare} {
		ok(t, "snapshot", "restore", file, "--skip-hash-check", "--data-dir", filepath.Join(dir, fmt.Sprint("skip", i)))
	}
}

// Goal: defragmenting keeps every pair and frees what is not used; a file in
// use is an error after the lock timeout, not a crash.
func TestDefrag(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(snapDir(data), 0o700); err != nil {
		t.Fatal(err)
	}
	makeDB(t, dbPath(data))
	fill(t, dbPath(data))
	before, err := os.Stat(dbPath(data))
	if err != nil {
		t.Fatal(err)
	}
	want := look(t, dbPath(data), bucket.AllNames()...)
	got := ok(t, "defrag", "--data-dir", data)
	after, err := os.Stat(dbPath(data))
	if err != nil || after.Size() >= before.Size() || after.Mode().Perm() != 0o600 {
		t.Errorf("%d bytes before, %d after, mode %v, %v", before.Size(), after.Size(), after.Mode(), err)
	}
	if now := look(t, dbPath(data), bucket.AllNames()...); fmt.Sprint(now) != fmt.Sprint(want) {
		t.Errorf("contents differ: %q", now)
	}
	if !strings.Contains(got.stderr, "finished defragmenting directory") {
		t.Errorf("log: %s", got.stderr)
	}
	if left, err := filepath.Glob(filepath.Join(snapDir(data), "db.tmp*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	holder, err := bolt.Open(dbPath(data), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if got := etcdutl("defrag", "--data-dir", data, "--timeout", "60ms"); got.code != 1 || !strings.HasSuffix(got.stderr, "timeout)\n") {
		t.Errorf("in use: %+v", got)
	}
}

// fill makes a file bigger than its contents.
func fill(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, del := range []bool{false, true} {
		err := db.Update(func(tx *bolt.Tx) error {
			var ops []bucket.Op
			for i := range 200 {
				ops = append(ops, bucket.Op{Bucket: bucket.Key, Key: fmt.Appendf(nil, "zz%d", i), Value: make([]byte, 1000), Delete: del})
			}
			return writeOps(tx, ops)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Goal: the storage version walks down to 3.5, where it is the absence of a
// record, and back up; not to what nobody knows.
func TestMigrate(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(snapDir(data), 0o700); err != nil {
		t.Fatal(err)
	}
	makeDB(t, dbPath(data))
	version := func() string { return look(t, dbPath(data), bucket.Meta)["meta storageVersion"] }
	for _, step := range []struct{ target, log, stored string }{
		{"3.7", `storage version up-to-date` + "\t" + `{"storage-version": "3.7"}`, "3.7.0"},
		{"3.6", `updated storage version` + "\t" + `{"new-storage-version": "3.6.0"}`, "3.6.0"},
		{"3.5", `updated storage version` + "\t" + `{"new-storage-version": "3.5.0"}`, ""},
		{"3.7", `updated storage version` + "\t" + `{"new-storage-version": "3.7.0"}`, "3.7.0"},
	} {
		if got := ok(t, "migrate", "--data-dir", data, "--target-version", step.target); !strings.Contains(got.stderr, step.log) || version() != step.stored {
			t.Errorf("to %s: stored %q, %s", step.target, version(), got.stderr)
		}
	}
	for target, want := range map[string]string{
		"3.8":   "Error: cannot create migration plan: version \"3.8.0\" is not supported\n",
		"3.4":   "Error: target version \"3.4\" not supported. Minimal \"3.5\"\n",
		"bogus": "Error: wrong target version format, expected \"X.Y\", got \"bogus\"\n",
		"3.6.1": "Error: wrong target version format, expected \"X.Y\", got \"3.6.1\"\n",
	} {
		if got := etcdutl("migrate", "--data-dir", data, "--target-version", target); got.code == 0 || !strings.HasSuffix(got.stderr, want) {
			t.Errorf("to %s: %+v", target, got)
		}
	}
	if version() != "3.7.0" {
		t.Errorf("a refused migration stored %q", version())
	}
}

// Goal: snapshots of real servers hash as their own tools said. 3.4 and 3.5
// count every pair of every bucket as a key; 3.7 and we count keys.
func TestStatusOfRealSnapshots(t *testing.T) {
	for _, v := range []string{"3.4", "3.5", "3.6", "3.7"} {
		text, err := os.ReadFile(filepath.Join(fixtures, "v"+v+"-snapshot.status.json"))
		if os.IsNotExist(err) {
			t.Skip("no fixtures here")
		}
		if err != nil {
			t.Fatal(err)
		}
		var want struct{ JSON status }
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		got, err := readStatus(filepath.Join(fixtures, "v"+v+"-snapshot.db"))
		if err != nil {
			t.Fatal(err)
		}
		if v == "3.4" || v == "3.5" {
			want.JSON.TotalKey = got.TotalKey
		}
		if got != want.JSON {
			t.Errorf("%s: got %+v, want %+v", v, got, want.JSON)
		}
	}
}
