package backend

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
)

// image is the bytes of a small file with branches, overflow pages and inline
// buckets.
func image(t testing.TB) []byte {
	path := filepath.Join(t.TempDir(), "db")
	b := open(t, path, Options{MmapSize: 32 << 10})
	batches := newBatches(9)
	for range 12 {
		must(t, b.Commit(batches.next()))
	}
	must(t, b.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

// Damage that can be seen is an error that names the file and the page, before
// bbolt looks at it.
func TestDamageIsRefusedByName(t *testing.T) {
	data := image(t)
	m, err := newestMeta(data)
	must(t, err)
	size := m.pageSize
	write := func(at uint64, b ...byte) func([]byte) []byte {
		return func(d []byte) []byte { copy(d[at:], b); return d }
	}
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   string
	}{
		"both meta pages": {func(d []byte) []byte { clear(d[:2*size]); return d }, "no valid meta page"},
		"garbage":         {func(d []byte) []byte { return []byte("not a database at all") }, "no valid meta page"},
		"cut off":         {func(d []byte) []byte { return d[:4*size] }, "cut off"},
		"root's id":       {write(m.root*size, 99), "says it is page"},
		"root's type":     {write(m.root*size+8, 0x40), "flags 0x40"},
		"root's count":    {write(m.root*size+10, 0xff, 0xff), "do not fit"},
		"root's overflow": {write(m.root*size+12, 0xff, 0xff, 0xff), "are left"},
		"pair's size":     {write(m.root*size+pageHeader+12, 0xff, 0xff, 0xff), "ends outside"},
	} {
		path := filepath.Join(t.TempDir(), "db")
		must(t, os.WriteFile(path, c.damage(append([]byte(nil), data...)), 0o600))
		_, err := Open(path, Options{MmapSize: 1 << 20, LockTimeout: time.Second})
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), path) || name != "cut off" && name != "garbage" && !strings.Contains(err.Error(), "page ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// One meta page may be lost: the other one counts. That is how bbolt survives a
// crash while it writes one.
func TestOneMetaPageIsEnough(t *testing.T) {
	data := image(t)
	for page := range 2 {
		broken := append([]byte(nil), data...)
		clear(broken[page*os.Getpagesize() : (page+1)*os.Getpagesize()])
		path := filepath.Join(t.TempDir(), "db")
		must(t, os.WriteFile(path, broken, 0o600))
		if b, err := Open(path, Options{MmapSize: 1 << 20}); err != nil {
			t.Errorf("without meta page %d: %v", page, err)
		} else {
			must(t, b.Close())
		}
	}
}

// usedPages lists the pages that belong to a tree.
func usedPages(t testing.TB, data []byte) (used []int) {
	m, err := newestMeta(data)
	must(t, err)
	c := checker{data: data, size: m.pageSize, pages: m.pages, seen: make([]bool, m.pages)}
	_, err = c.checkTree(m.root, rootTree)
	must(t, err)
	for id, seen := range c.seen {
		if seen {
			used = append(used, id)
		}
	}
	return used
}

// Whatever bytes change in a file, opening and reading it gives an error or
// not, and the process lives.
func TestRandomDamageNeverKills(t *testing.T) {
	data, r, refused := image(t), rand.New(rand.NewSource(1)), 0
	used := usedPages(t, data)
	path := filepath.Join(t.TempDir(), "db")
	for range 150 {
		broken := append([]byte(nil), data...)
		for range 1 + r.Intn(3) {
			at := used[r.Intn(len(used))] * os.Getpagesize()
			if r.Intn(2) == 0 {
				at += r.Intn(48) // heads of pages are where it hurts
			} else {
				at += r.Intn(os.Getpagesize())
			}
			broken[at] ^= byte(1 + r.Intn(255))
		}
		must(t, os.WriteFile(path, broken, 0o600))
		b, err := Open(path, Options{MmapSize: 1 << 20, LockTimeout: time.Second})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Fatalf("refused without a reason: %v", err)
			}
			refused++
			continue
		}
		_, err = b.Hash(nil)
		must(t, errors.Join(err, b.Close()))
	}
	if refused < 40 {
		t.Errorf("only %d of 150 damaged files were refused", refused)
	}
}

func FuzzCheckPages(f *testing.F) {
	f.Add(image(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := checkPages(data); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// Every db file that an etcd of 3.4 to 3.7 wrote opens, for reading and then for
// writing, and hashes to what etcd said.
func TestFilesOfEtcdOpen(t *testing.T) {
	files, _ := filepath.Glob(fixtures + "*.db")
	if len(files) == 0 {
		t.Skip("no recorded files")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		var status struct{ JSON struct{ Hash uint32 } }
		text, err := os.ReadFile(strings.TrimSuffix(file, ".db") + ".status.json")
		must(t, err)
		must(t, json.Unmarshal(text, &status))

		path := filepath.Join(t.TempDir(), "db")
		must(t, os.WriteFile(path, data[:len(data)-DigestBytes], 0o600))
		mustHoldData(t, filepath.Base(file), path, func(b *Bolt) {
			sum, err := b.Hash(nil)
			must(t, err)
			if sum != status.JSON.Hash {
				t.Errorf("%s: hash %08x, etcd says %08x", filepath.Base(file), sum, status.JSON.Hash)
			}
		})
	}
}

// So do those in recorded data directories, some of them of killed servers.
func TestDataDirectoriesOfEtcdOpen(t *testing.T) {
	files, _ := filepath.Glob(fixtures + "*-single-*.tar.gz")
	if len(files) == 0 {
		t.Skip("no recorded files")
	}
	for _, file := range files {
		path := filepath.Join(t.TempDir(), "db")
		must(t, os.WriteFile(path, dbOf(t, file), 0o600))
		mustHoldData(t, filepath.Base(file), path, func(*Bolt) {})
	}
}

const fixtures = "../../../../shared/fixtures/"

// dbOf takes the db file out of an archive.
func dbOf(t *testing.T, archive string) []byte {
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	gz, err := gzip.NewReader(f)
	must(t, err)
	for in := tar.NewReader(gz); ; {
		h, err := in.Next()
		must(t, err)
		if strings.HasSuffix(h.Name, "snap/db") {
			data, err := io.ReadAll(in)
			must(t, err)
			return data
		}
	}
}

func mustHoldData(t *testing.T, name, path string, alsoReadOnly func(*Bolt)) {
	for _, readOnly := range []bool{true, false} {
		b := open(t, path, Options{ReadOnly: readOnly})
		records := 0
		must(t, b.Load(bucket.Key, func(k, v []byte) error { records++; return nil }))
		index, _, err := Position(b)
		must(t, err)
		if records < 20 || index == 0 {
			t.Errorf("%s: %d records, index %d", name, records, index)
		}
		if readOnly {
			alsoReadOnly(b)
		}
		must(t, b.Close())
	}
}
