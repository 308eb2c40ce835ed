package member

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/backend"
	"github.com/steledb/stele/internal/disk/wal"
)

const testDir = "/data"

// disk is what a member has under it: files in memory and a backend in memory.
// A power cut can be simulated at each operation that changes either.
//
// What a cut leaves is one moment of both: the backend cannot commit while the
// files are cloned.
type disk struct {
	mu      sync.Mutex
	mem     *files.Mem
	backend *backend.Memory // guarded by mu, as far as commits go

	rng    *rand.Rand // guarded by mu
	left   int        // guarded by mu; operations until the cut, 0 for never
	before func()     // called, under mu, before the cut
	image  *disk      // guarded by mu; what the cut left
	cut    chan struct{}

	// fail, if set, is asked under mu before each operation: "datasync <path>",
	// "commit".
	fail func(what string) error
}

func newDisk() *disk { return &disk{mem: files.NewMem(), backend: backend.NewMemory()} }

// cutAfter arms a power cut at the nth operation from now.
func (d *disk) cutAfter(n int, rng *rand.Rand, before func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.rng, d.before, d.cut = n, rng, before, make(chan struct{})
}

// step counts one operation; mu is held.
func (d *disk) stepLocked() {
	if d.left == 0 || d.image != nil {
		return
	}
	if d.left--; d.left == 0 {
		d.cutLocked()
	}
}

func (d *disk) cutLocked() {
	if d.before != nil {
		d.before()
	}
	d.image = &disk{mem: d.mem.CrashClone(d.rng), backend: d.backend.Clone()}
	close(d.cut)
}

// cutNow returns what the cut left; it happens now if it has not yet.
func (d *disk) cutNow() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.image == nil {
		d.cutLocked()
	}
	return d.image
}

// clone is the disk after an orderly power-off: nothing that was written is lost
// but what was never synced.
func (d *disk) clone() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{mem: d.mem.CrashClone(nil), backend: d.backend.Clone()}
}

func (d *disk) failWhen(fail func(what string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

func (d *disk) failure(what string) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(what)
}

// inject is the file system's side of step.
func (d *disk) inject(op files.Op) error {
	switch op.Kind {
	case files.OpWrite, files.OpSync, files.OpDatasync, files.OpSyncDir, files.OpRename, files.OpRemove, files.OpTruncate:
	default:
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.failure(string(op.Kind) + " " + op.Path); err != nil {
		return err
	}
	d.stepLocked()
	return nil
}

// countingBackend is the backend's side: a commit is one moment, with a
// possible cut before and after.
type countingBackend struct {
	*backend.Memory
	d *disk
}

func (b countingBackend) Commit(batch backend.Batch) error {
	b.d.mu.Lock()
	defer b.d.mu.Unlock()
	if err := b.d.failure("commit"); err != nil {
		return err
	}
	b.d.stepLocked()
	err := b.Memory.Commit(batch)
	b.d.stepLocked()
	return err
}

// options start a lone member on d.
func (d *disk) options() Options {
	initial, err := cluster.ParseInitial("m=http://127.0.0.1:2380")
	if err != nil {
		panic(err)
	}
	return Options{
		FS: files.NewFaulty(d.mem, d.inject), DataDir: testDir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Name: "m", ClientURLs: []string{"http://127.0.0.1:2379"}, PeerURLs: []string{"http://127.0.0.1:2380"},
		Initial: initial, Token: "etcd-cluster", Tick: 100 * time.Millisecond, ElectionTicks: 10, PreVote: true,
		SnapshotCount: 20, CatchUpEntries: 5, FlushInterval: 100 * time.Millisecond, MaxRequestBytes: 3 << 19,
		CompactionBatch: 7, CompactionPause: time.Millisecond, StrictReconfig: true,
		Auth: AuthOptions{Token: auth.TokenOptions{}, SimpleTTL: time.Minute, BcryptCost: 4},
		OpenBackend: func(string, backend.Options) (backend.Backend, error) {
			return countingBackend{d.backend, d}, nil
		},
	}
}

// startOn starts a member and waits until it serves. It reports false when a
// failure of the disk keeps it from that.
func startOn(t *testing.T, opt Options) *Member {
	t.Helper()
	m, err := Start(opt)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	select {
	case <-m.Published():
	case err := <-m.Failed():
		t.Fatalf("the member failed: %v", err)
	}
	return m
}

func stop(t *testing.T, m *Member) {
	t.Helper()
	if err := m.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// settled waits until nothing moves in the member any more and returns the
// index that it has applied. Inside a bubble only.
func settled(t *testing.T, m *Member) uint64 {
	t.Helper()
	if err := m.LinearizableRead(t.Context()); err != nil {
		t.Fatalf("read: %v", err)
	}
	synctest.Wait()
	return m.applied.load()
}

// replayed is a machine that was fed the entries of the log in d up to an
// index, and nothing else: the naive twin of the member that wrote the log.
func replayed(t *testing.T, d *disk, opt Options, upTo uint64) (*apply.Machine, *backend.Memory) {
	t.Helper()
	read, err := wal.Read(d.mem, opt.walDir(), wal.Mark{})
	if err != nil {
		t.Fatalf("the log: %v", err)
	}
	empty := backend.NewMemory()
	b := &boot{opt: opt, log: opt.Log, backend: empty, replay: read}
	var meta pb.Metadata
	if err := proto.Unmarshal(read.Metadata, &meta); err != nil {
		t.Fatal(err)
	}
	b.clusterID = meta.GetClusterID()
	if err := b.load(); err != nil {
		t.Fatal(err)
	}
	m := apply.New(*b.machine, apply.Options{PersistCheckpoints: opt.PersistCheckpoint})
	for _, e := range read.Entries {
		if e.Index > upTo {
			break
		}
		feed(t, m, e)
	}
	m.Store.Publish()
	batch := backend.Batch{Ops: m.TakeOps()}
	for _, r := range m.Store.Buffered(m.Store.Rev()) {
		batch.Records = append(batch.Records, backend.Record{Key: r.Key, Value: r.Value})
	}
	if err := empty.Commit(batch); err != nil {
		t.Fatal(err)
	}
	if to := m.Store.CompactRev(); to != mvcc.Never {
		compactAtOnce(t, m.Store, empty, to)
	}
	return m, empty
}

// compactAtOnce deletes what the last compaction made unreachable. Those before
// it deleted nothing else.
func compactAtOnce(t *testing.T, s *mvcc.Store, b *backend.Memory, to int64) {
	t.Helper()
	base, err := b.Base()
	if err != nil {
		t.Fatal(err)
	}
	defer base.Release()
	deletes, done := s.NewCompaction(mvcc.Never, to).Step(base, 1<<30)
	if !done {
		t.Fatal("compaction did not come to its end")
	}
	if err := b.Commit(backend.Batch{Deletes: deletes}); err != nil {
		t.Fatal(err)
	}
}

func feed(t *testing.T, m *apply.Machine, e raftpb.Entry) {
	t.Helper()
	if e.Type == raftpb.EntryConfChange {
		var cc raftpb.ConfChange
		if err := cc.Unmarshal(e.Data); err != nil {
			t.Fatal(err)
		}
		m.ApplyConfChange(cc)
		return
	}
	var r pb.InternalRaftRequest
	if err := proto.Unmarshal(e.Data, &r); err != nil {
		t.Fatal(err)
	}
	if len(e.Data) > 0 {
		m.Apply(apply.Entry{Index: e.Index, Term: e.Term, Now: time.Now()}, &r)
	}
}

// sameAsReplayed compares a quiet member, and what it has on disk, with the
// twin.
func sameAsReplayed(t *testing.T, d *disk, m *Member) {
	t.Helper()
	index := settled(t, m)
	twin, buckets := replayed(t, d, m.opt, index)
	view := twin.Store.View()
	defer view.Close()
	want, err := view.HashKV(0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.HashKV(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Hash != want.Hash || got.HashRevision != want.Rev || got.CompactRevision != want.CompactRev {
		t.Errorf("hash %x at revision %d compacted to %d; the log says %x, %d, %d",
			got.Hash, got.HashRevision, got.CompactRevision, want.Hash, want.Rev, want.CompactRev)
	}
	if err := m.flusher.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := m.compactor.wait(ctx, want.CompactRev); err != nil {
		t.Errorf("the compaction to %d does not end: %v", want.CompactRev, err)
	}
	for _, name := range []bucket.Name{bucket.Key, bucket.Lease, bucket.Alarm, bucket.Members, bucket.Cluster} {
		if got, want := contents(t, m.backend, name), contents(t, buckets, name); got != want {
			t.Errorf("bucket %s holds\n%q while the log says\n%q", name, got, want)
		}
	}
	for _, id := range twin.Leases.List() {
		if got, want := joined(m.machine.Leases.Keys(id)), joined(twin.Leases.Keys(id)); got != want {
			t.Errorf("lease %d has keys %s; the log says %s", id, got, want)
		}
	}
}

func joined(keys [][]byte) string { return string(bytes.Join(keys, []byte(" "))) }

func contents(t *testing.T, b backend.Backend, name bucket.Name) string {
	t.Helper()
	var out bytes.Buffer
	err := b.Load(name, func(k, v []byte) error {
		out.WriteString(string(k) + " = " + string(v) + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func putOn(ctx context.Context, m *Member, key, value string, lease int64) (rev int64, err error) {
	res, err := m.Propose(ctx, &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}})
	if err != nil {
		return 0, err
	}
	return res.Resp.(*pb.PutResponse).Header.Revision, nil
}

// valueOn reads a key linearizably; empty if it is not there.
func valueOn(t *testing.T, m *Member, key string) string {
	t.Helper()
	if err := m.LinearizableRead(t.Context()); err != nil {
		t.Fatalf("read: %v", err)
	}
	v := m.View()
	defer v.Close()
	hit, ok, err := v.Get([]byte(key), 0)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return ""
	}
	record, err := v.Load(hit.Mod)
	if err != nil {
		t.Fatal(err)
	}
	return recordValue(t, record)
}

func positionOf(t *testing.T, b backend.Backend) uint64 {
	t.Helper()
	index, _, err := backend.Position(b)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func lastIndexOf(t *testing.T, d *disk, dir string) uint64 {
	t.Helper()
	read, err := wal.Read(d.mem, dir, wal.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	return read.LastIndex()
}
