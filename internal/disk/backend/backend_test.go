package backend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/steledb/stele/internal/base/bucket"
)

func open(t testing.TB, path string, opt Options) *Bolt {
	t.Helper()
	if opt.MmapSize == 0 {
		opt.MmapSize = 16 << 20 // so that the file grows by doubling, not by 16 MiB
	}
	opt.LockTimeout = time.Second
	b, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func openNew(t testing.TB) *Bolt { return open(t, filepath.Join(t.TempDir(), "db"), Options{}) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func recordKey(main, sub int64) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(main))
	return binary.BigEndian.AppendUint64(append(b, '_'), uint64(sub))
}

// dump reads a whole backend into text, one line for each pair.
func dump(t testing.TB, b Backend) string {
	t.Helper()
	var s strings.Builder
	for _, name := range bucket.AllNames() {
		must(t, b.Load(name, func(k, v []byte) error {
			fmt.Fprintf(&s, "%s %x = %x\n", name, k, v)
			return nil
		}))
	}
	return s.String()
}

func mustEqual(t testing.TB, what string, got, want Backend) {
	t.Helper()
	if g, w := dump(t, got), dump(t, want); g != w {
		t.Fatalf("%s differs from its twin:\n%s", what, firstDiff(g, w))
	}
	g, err := got.Hash(nil)
	must(t, err)
	w, err := want.Hash(nil)
	must(t, err)
	if g != w {
		t.Fatalf("%s: hash %08x, twin's %08x", what, g, w)
	}
}

func firstDiff(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got %.200s\nwant %.200s", i, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}

// randomBatches makes batches as a flusher would: records of rising revisions,
// deletions of old ones, changes of small buckets, a rising index.
type randomBatches struct {
	*rand.Rand
	main, index int64
	live        [][]byte
}

func newBatches(seed int64) *randomBatches {
	return &randomBatches{Rand: rand.New(rand.NewSource(seed)), main: 1}
}

func (r *randomBatches) next() Batch {
	r.index++
	b := Batch{ConsistentIndex: uint64(r.index), Term: uint64(1 + r.index/10)}
	for range r.Intn(20) {
		r.main++
		for sub := range int64(1 + r.Intn(2)) {
			k := recordKey(r.main, sub)
			b.Records = append(b.Records, Record{Key: k, Value: r.value()})
			r.live = append(r.live, k)
		}
	}
	for range r.Intn(10) {
		if len(r.live) == 0 {
			break
		}
		i := r.Intn(len(r.live))
		b.Deletes = append(b.Deletes, r.live[i])
		r.live = append(r.live[:i:i], r.live[i+1:]...)
	}
	for range r.Intn(4) {
		name := []bucket.Name{bucket.Lease, bucket.AuthUsers, bucket.Members, bucket.Meta}[r.Intn(4)]
		key := fmt.Appendf(nil, "k%d", r.Intn(6))
		if r.Intn(3) == 0 {
			b.Ops = append(b.Ops, bucket.Drop(name, key))
		} else {
			b.Ops = append(b.Ops, bucket.Put(name, key, r.value()))
		}
	}
	return b
}

func (r *randomBatches) value() []byte {
	size := r.Intn(100)
	if r.Intn(20) == 0 {
		size = r.Intn(20_000) // more than a page
	}
	v := make([]byte, size)
	r.Read(v)
	return v
}

// A new file has every bucket, nothing in it, and the mode of etcd's.
func TestNewFileIsEmptyAndPrivate(t *testing.T) {
	b := openNew(t)
	mustEqual(t, "new file", b, NewMemory())
	info, err := os.Stat(b.Path())
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	index, term, err := Position(b)
	if index != 0 || term != 0 || err != nil {
		t.Errorf("position %d/%d %v, want none", index, term, err)
	}
}

// The file and the memory twin take the same random batches; whatever can be
// read of them stays equal, also after the file is opened again.
func TestFileEqualsMemoryTwin(t *testing.T) {
	for seed := range int64(5) {
		path := filepath.Join(t.TempDir(), "db")
		b, twin, batches := open(t, path, Options{}), NewMemory(), newBatches(seed)
		for i := range 60 {
			batch := batches.next()
			must(t, b.Commit(batch))
			must(t, twin.Commit(batch))
			if i%20 == 19 {
				must(t, b.Close())
				b = open(t, path, Options{FreelistType: []string{"map", "array"}[i/20%2]})
			}
			if i%5 == 4 {
				mustEqual(t, fmt.Sprintf("seed %d, batch %d", seed, i), b, twin)
			}
		}
		index, term, err := Position(b)
		if index != 60 || term != 7 || err != nil {
			t.Errorf("position %d/%d %v, want 60/7", index, term, err)
		}
	}
}

// A batch that cannot be applied leaves nothing behind.
func TestCommitIsAllOrNothing(t *testing.T) {
	for name, b := range map[string]Backend{"bolt": openNew(t), "memory": NewMemory()} {
		before := dump(t, b)
		err := b.Commit(Batch{
			Records: []Record{{Key: recordKey(2, 0), Value: []byte("v")}},
			Ops:     []bucket.Op{bucket.Put("nosuch", []byte("k"), nil)},
		})
		if err == nil || !strings.Contains(err.Error(), `no bucket "nosuch"`) {
			t.Errorf("%s: got %v, want an error that names the bucket", name, err)
		}
		if after := dump(t, b); after != before {
			t.Errorf("%s: half of a batch was kept:\n%s", name, after)
		}
		must(t, b.Commit(Batch{ConsistentIndex: 1}))
	}
}

// A base shows the moment it was taken at, however much is committed later, and
// is given back by its last user.
func TestBaseStaysAsItWas(t *testing.T) {
	for name, b := range map[string]Backend{"bolt": openNew(t), "memory": NewMemory()} {
		must(t, b.Commit(Batch{Records: []Record{{recordKey(2, 0), []byte("two")}, {recordKey(3, 0), []byte{}}}}))
		base, err := b.Base()
		must(t, err)
		base.Retain()
		must(t, b.Commit(Batch{
			Records: []Record{{recordKey(4, 0), []byte("four")}},
			Deletes: [][]byte{recordKey(2, 0)},
		}))
		base.Release()
		if v := base.Get(recordKey(2, 0)); string(v) != "two" {
			t.Errorf("%s: deleted later, but was %q", name, v)
		}
		if v := base.Get(recordKey(3, 0)); v == nil || len(v) != 0 {
			t.Errorf("%s: empty value is %#v", name, v)
		}
		if v := base.Get(recordKey(4, 0)); v != nil {
			t.Errorf("%s: sees %q of the future", name, v)
		}
		var seen []string
		base.Ascend(recordKey(2, 0), recordKey(3, 0), func(k, v []byte) bool { seen = append(seen, string(v)); return true })
		base.Ascend(recordKey(2, 1), nil, func(k, v []byte) bool { seen = append(seen, string(v)); return true })
		base.Ascend(nil, nil, func(k, v []byte) bool { seen = append(seen, "first"); return false })
		if got := strings.Join(seen, ","); got != "two,,first" {
			t.Errorf("%s: ascended over %s", name, got)
		}
		if n := b.OpenReads(); n != 1 {
			t.Errorf("%s: %d open reads, want 1", name, n)
		}
		base.Release()
		if n := b.OpenReads(); n != 0 {
			t.Errorf("%s: %d open reads after release", name, n)
		}
		must(t, b.Close())
	}
}

// Close while a base is in use says so, and the base goes on working.
func TestCloseUnderABase(t *testing.T) {
	b := openNew(t)
	must(t, b.Commit(Batch{Records: []Record{{recordKey(2, 0), []byte("v")}}}))
	base, err := b.Base()
	must(t, err)
	if err := b.Close(); !errors.Is(err, ErrReadsOpen) {
		t.Errorf("close: %v, want ErrReadsOpen", err)
	}
	if v := base.Get(recordKey(2, 0)); string(v) != "v" {
		t.Errorf("after close the base has %q", v)
	}
	base.Release()
	if err := b.Commit(Batch{}); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
	if _, err := b.Base(); !errors.Is(err, ErrClosed) {
		t.Errorf("base after close: %v", err)
	}
	must(t, open(t, b.Path(), Options{}).Close()) // the lock is free again
}

// A second process that opens the file waits, or gives up in time.
func TestSecondOpenIsLockedOut(t *testing.T) {
	b := openNew(t)
	_, err := Open(b.Path(), Options{LockTimeout: time.Millisecond, MmapSize: 1 << 20})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), b.Path()) {
		t.Errorf("got %v, want ErrLocked with the path", err)
	}
}

// Tools open the file for reading only: no lock against each other, no change.
func TestReadOnly(t *testing.T) {
	b, batches, twin := openNew(t), newBatches(1), NewMemory()
	for range 10 {
		batch := batches.next()
		must(t, errors.Join(b.Commit(batch), twin.Commit(batch)))
	}
	must(t, b.Close())
	before, err := os.ReadFile(b.Path())
	must(t, err)
	one, two := open(t, b.Path(), Options{ReadOnly: true}), open(t, b.Path(), Options{ReadOnly: true})
	mustEqual(t, "read-only file", one, twin)
	if err := two.Commit(Batch{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("commit: %v", err)
	}
	if _, err := two.Defrag(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("defrag: %v", err)
	}
	must(t, errors.Join(one.Close(), two.Close()))
	after, err := os.ReadFile(b.Path())
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "db"), Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// Commit tells how long it took.
func TestOnCommit(t *testing.T) {
	var got []CommitStats
	b := open(t, filepath.Join(t.TempDir(), "db"), Options{OnCommit: func(s CommitStats) { got = append(got, s) }})
	must(t, b.Commit(newBatches(2).next()))
	if len(got) != 1 || got[0].Total <= 0 || got[0].Write <= 0 || got[0].Total < got[0].Write+got[0].Spill {
		t.Errorf("got %+v", got)
	}
}

// A copy of the file made between any two commits opens and holds exactly what
// was committed before: what a crash of the machine leaves behind.
func TestCrashCopyOpens(t *testing.T) {
	b, twin, batches := openNew(t), NewMemory(), newBatches(3)
	dir := t.TempDir()
	for i := range 12 {
		batch := batches.next()
		must(t, errors.Join(b.Commit(batch), twin.Commit(batch)))
		image, err := os.ReadFile(b.Path())
		must(t, err)
		copied := filepath.Join(dir, fmt.Sprint("db", i))
		must(t, os.WriteFile(copied, image, 0o600))
		c := open(t, copied, Options{})
		mustEqual(t, fmt.Sprintf("copy after commit %d", i), c, twin)
		must(t, c.Close())
	}
}

// A streamed snapshot has the announced length, opens, and equals the moment it
// was taken at although commits went on.
func TestSnapshotStream(t *testing.T) {
	b, twin, batches := openNew(t), NewMemory(), newBatches(4)
	for range 20 {
		batch := batches.next()
		must(t, errors.Join(b.Commit(batch), twin.Commit(batch)))
	}
	s, err := b.Snapshot()
	must(t, err)
	for range 20 {
		must(t, b.Commit(batches.next()))
	}
	var out bytes.Buffer
	n, err := WriteSigned(&out, s)
	must(t, err)
	if n != s.Size()+DigestBytes || n != int64(out.Len()) || n%512 != DigestBytes {
		t.Errorf("wrote %d bytes, announced %d", n, s.Size())
	}
	must(t, errors.Join(s.Close(), s.Close()))
	if b.OpenReads() != 0 {
		t.Errorf("%d reads open", b.OpenReads())
	}
	path := filepath.Join(t.TempDir(), "db")
	must(t, os.WriteFile(path, out.Bytes()[:s.Size()], 0o600))
	mustEqual(t, "snapshot", open(t, path, Options{}), twin)
}

// The memory twin's snapshot brings all of it back.
func TestMemorySnapshot(t *testing.T) {
	m, batches := NewMemory(), newBatches(5)
	for range 20 {
		must(t, m.Commit(batches.next()))
	}
	s, err := m.Snapshot()
	must(t, err)
	var out bytes.Buffer
	_, err = s.WriteTo(&out)
	must(t, errors.Join(err, s.Close()))
	back, err := OpenMemory(&out)
	must(t, err)
	mustEqual(t, "restored memory", back, m)
	if back.Size() != m.Size() {
		t.Errorf("size %d, was %d", back.Size(), m.Size())
	}
}

func FuzzOpenMemory(f *testing.F) {
	f.Add(NewMemory().state.appendTo(nil))
	m := NewMemory()
	_ = m.Commit(newBatches(6).next())
	f.Add(m.state.appendTo(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := OpenMemory(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := OpenMemory(bytes.NewReader(m.state.appendTo(nil)))
		must(t, err)
		mustEqual(t, "second reading", again, m)
	})
}

// While the map is too small for what comes, commits move to a larger one and
// go on although a base pins the old one. Without the move this test hangs:
// bbolt would wait for the base, and the base for us.
func TestOutgrowingTheMap(t *testing.T) {
	b, twin, batches := open(t, filepath.Join(t.TempDir(), "db"), Options{MmapSize: 1 << 20}), NewMemory(), newBatches(7)
	var bases []Base
	first := b.cur.mapped
	for i := range 150 {
		batch := batches.next()
		must(t, errors.Join(b.Commit(batch), twin.Commit(batch)))
		if i%30 == 0 {
			base, err := b.Base()
			must(t, err)
			bases = append(bases, base)
		}
	}
	if b.cur.mapped == first {
		t.Fatalf("the map of %d bytes was never outgrown by %d", first, b.Size())
	}
	mustEqual(t, "after moves", b, twin)
	for _, base := range bases {
		n := 0
		base.Ascend(nil, nil, func(k, v []byte) bool { n++; return true })
		base.Release()
	}
	must(t, b.Close())
	if left, _ := filepath.Glob(b.Path() + tmpInfix + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// bbolt itself, with its own consistency check, agrees with the file.
func TestFilePassesBboltsCheck(t *testing.T) {
	b, batches := openNew(t), newBatches(8)
	for range 40 {
		must(t, b.Commit(batches.next()))
	}
	_, err := b.Defrag(t.Context())
	must(t, err)
	must(t, b.Close())
	db, err := bbolt.Open(b.Path(), 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	must(t, err)
	defer db.Close()
	must(t, db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}))
}
