package mvcc

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/keys"
)

const fixturesDir = "../../../../shared/fixtures"

// expected is what a server answers from a recorded data directory.
type expected struct {
	Revision   int64 `json:"revision"`
	CompactRev int64 `json:"compact_revision"`
	HashKV     struct {
		Hash uint32 `json:"hash"`
	} `json:"hashkv"`
	AfterRestart map[string]struct {
		Hash       uint32 `json:"hash"`
		CompactRev int64  `json:"compact_revision"`
	} `json:"hashkv_by_revision_after_restart"`
	Leases []struct {
		ID   int64    `json:"id"`
		Keys []string `json:"keys"`
	} `json:"leases"`
	GetAll struct {
		Count int64 `json:"count"`
		KVs   []struct {
			Key         []byte `json:"key"`
			Value       []byte `json:"value"`
			ValueLength int    `json:"value_length"`
			Create      int64  `json:"create_revision"`
			Mod         int64  `json:"mod_revision"`
			Version     int64  `json:"version"`
			Lease       int64  `json:"lease"`
		} `json:"kvs"`
	} `json:"get_all"`
}

// TestFixtures opens the key buckets that etcd 3.4 to 3.7 wrote and expects
// the answers those servers gave: every key, and HashKV at every recorded
// revision. A db that is behind its WAL (the server was killed) is opened only.
func TestFixtures(t *testing.T) {
	archives, _ := filepath.Glob(filepath.Join(fixturesDir, "v3.*.tar.gz"))
	if len(archives) == 0 {
		t.Skip("no recorded data directories here")
	}
	compared := 0
	for _, archive := range archives {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			want := readExpected(t, strings.TrimSuffix(archive, ".tar.gz")+".expected.json")
			for _, db := range extractDBs(t, archive) {
				if compareFixture(t, db, want) {
					compared++
				}
			}
		})
	}
	if compared < 20 {
		t.Errorf("only %d databases were up to date and compared", compared)
	}
}

func compareFixture(t *testing.T, db string, want expected) (compared bool) {
	disk, opt := loadDB(t, db)
	leases := map[string]int64{}
	opt.OnLive = func(key []byte, lease int64) { leases[string(key)] = lease }
	s, err := Open(disk.base(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Rev() != want.Revision {
		t.Logf("db at revision %d is behind the WAL at %d", s.Rev(), want.Revision)
		return false
	}
	if s.CompactRev() != want.CompactRev {
		t.Errorf("compact revision %d, want %d", s.CompactRev(), want.CompactRev)
	}
	for !s.CompactIndex(10) {
	}
	s.Publish()
	v := s.View()
	defer v.Close()
	compareKeys(t, v, want)
	compareHashes(t, v, want)
	n := 0
	for _, l := range want.Leases {
		n += len(l.Keys)
		for _, key := range l.Keys {
			if leases[key] != l.ID {
				t.Errorf("%q has lease %d, want %d", key, leases[key], l.ID)
			}
		}
	}
	if n != len(leases) {
		t.Errorf("%d keys have leases, want %d", len(leases), n)
	}
	return true
}

func compareKeys(t *testing.T, v *View, want expected) {
	if n, err := v.Count(keys.All(), 0); err != nil || n != want.GetAll.Count {
		t.Errorf("count %d (%v), want %d", n, err, want.GetAll.Count)
	}
	i := 0
	err := v.Scan(keys.All(), 0, func(h Hit) bool {
		w := want.GetAll.KVs[i]
		i++
		b, err := v.Load(h.Mod)
		if err != nil {
			t.Fatal(err)
		}
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(b, &kv); err != nil {
			t.Fatal(err)
		}
		if w.ValueLength > 0 {
			w.Value = bytes.Repeat([]byte("N"), w.ValueLength)
		}
		if !bytes.Equal(h.Key, w.Key) || h.Create != w.Create || h.Mod.Main != w.Mod || h.Version != w.Version ||
			!bytes.Equal(kv.Key, w.Key) || !bytes.Equal(kv.Value, w.Value) || kv.Lease != w.Lease ||
			kv.CreateRevision != w.Create || kv.ModRevision != w.Mod || kv.Version != w.Version {
			t.Errorf("hit %+v with record %+v, want %+v", h, &kv, w)
		}
		return true
	})
	if err != nil || i != len(want.GetAll.KVs) {
		t.Errorf("scanned %d keys (%v), want %d", i, err, len(want.GetAll.KVs))
	}
}

func compareHashes(t *testing.T, v *View, want expected) {
	if h, err := v.HashKV(0); err != nil || h.Hash != want.HashKV.Hash {
		t.Errorf("hash %+v (%v), want %d", h, err, want.HashKV.Hash)
	}
	for at, w := range want.AfterRestart {
		rev, _ := strconv.ParseInt(at, 10, 64)
		if h, err := v.HashKV(rev); err != nil || h.Hash != w.Hash || h.CompactRev != w.CompactRev || h.Rev != rev {
			t.Errorf("hash at %d: %+v (%v), want %+v", rev, h, err, w)
		}
	}
}

func readExpected(t *testing.T, file string) (want expected) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

// extractDBs unpacks the backend files of an archive: three of a cluster, one of
// a single member. What follows the last one, mostly WAL, is not read.
func extractDBs(t *testing.T, archive string) (files []string) {
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	if strings.Contains(archive, "-three") {
		want = 3
	}
	for r := tar.NewReader(z); ; {
		if len(files) == want {
			return files
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, "member/snap/db") {
			continue
		}
		file := filepath.Join(t.TempDir(), "db")
		out, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(out, r)
		if err := errors.Join(err, out.Close()); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
}

// loadDB reads what Open needs from a backend file.
func loadDB(t *testing.T, file string) (*memDisk, Options) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	disk, opt := &memDisk{t: t}, Options{FinishedCompact: Never, ScheduledCompact: Never}
	err = db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte(bucket.Meta))
		if b := meta.Get([]byte(bucket.FinishedCompactRev)); b != nil {
			opt.FinishedCompact = mainOf(b)
		}
		if b := meta.Get([]byte(bucket.ScheduledCompactRev)); b != nil {
			opt.ScheduledCompact = mainOf(b)
		}
		return tx.Bucket([]byte(bucket.Key)).ForEach(func(k, v []byte) error {
			disk.recs = append(disk.recs, Record{Key: bytes.Clone(k), Value: bytes.Clone(v)})
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return disk, opt
}

// TestResumedCompactionLeavesTheSame runs the interrupted compaction of a
// recorded directory to its end and expects the hashes of the server that did.
func TestResumedCompactionLeavesTheSame(t *testing.T) {
	archive := filepath.Join(fixturesDir, "v3.7-single-midcompact.tar.gz")
	if _, err := os.Stat(archive); err != nil {
		t.Skip("no recorded data directories here")
	}
	want := readExpected(t, strings.TrimSuffix(archive, ".tar.gz")+".expected.json")
	disk, opt := loadDB(t, extractDBs(t, archive)[0])
	s, err := Open(disk.base(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := s.NewCompaction(opt.FinishedCompact, opt.ScheduledCompact)
	deleted := 0
	for done := false; !done; {
		var deletes [][]byte
		base := disk.base()
		deletes, done = c.Step(base, 100)
		base.Release()
		deleted += len(deletes)
		disk.commit(nil, deletes)
		s.Rebase(disk.base(), s.Rev())
	}
	if _, ok := c.Hash(); ok || deleted == 0 || c.Err() != nil {
		t.Errorf("the resumed compaction deleted %d records (%v) and has a hash: %v", deleted, c.Err(), ok)
	}
	v := s.View()
	defer v.Close()
	compareKeys(t, v, want)
	compareHashes(t, v, want)
}
