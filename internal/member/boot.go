package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/alarm"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/lease"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/raft"
	"github.com/steledb/stele/internal/core/watch"
	"github.com/steledb/stele/internal/disk/backend"
	"github.com/steledb/stele/internal/disk/snap"
	"github.com/steledb/stele/internal/disk/wal"
	"github.com/steledb/stele/internal/member/watching"
)

func (o *Options) snapDir() string { return filepath.Join(o.DataDir, "member", "snap") }
func (o *Options) dbPath() string  { return filepath.Join(o.snapDir(), "db") }

func (o *Options) walDir() string {
	if o.WALDir != "" {
		return o.WALDir
	}
	return filepath.Join(o.DataDir, "member", "wal")
}

// Start opens or founds the member in the data directory and sets it going.
//
// What is there decides: a directory with a log is a member that has lived
// before, and the flags about founding a cluster are not looked at.
func Start(opt Options) (*Member, error) {
	b := &boot{opt: opt, log: opt.Log, raftLog: logs.Named(opt.Log, "raft"), meters: newMeters(opt.Metrics)}
	m, err := b.run()
	if err != nil {
		b.undo()
		return nil, err
	}
	m.start()
	m.meters.Disk.BackendQuota.Set(float64(opt.quota()))
	m.meters.OnScrape(m.sample)
	return m, nil
}

// boot builds a member step by step; undo closes what was opened when a step
// fails.
type boot struct {
	opt Options
	log *slog.Logger
	// raftLog takes the lines of the protocol.
	raftLog *slog.Logger
	meters  *meters

	backend backend.Backend
	wal     *wal.WAL
	replay  wal.Replay
	isNew   bool

	id, clusterID uint64
	index, term   uint64 // consistent index of the backend, and its term
	machine       *apply.Machine
	auth          *auth.Store // to load into; nil: a new one
	meta          map[string][]byte
	storage       cluster.Version
	resume        int64 // compaction that was interrupted, mvcc.Never if none
	finished      int64
	authOps       []bucket.Op      // what a new backend is told about auth
	remotes       []cluster.Member // of the running cluster that is joined
}

func (b *boot) undo() {
	if b.wal != nil {
		b.wal.Close()
	}
	if b.machine != nil && b.machine.Store != nil {
		b.machine.Store.Close()
	}
	if b.backend != nil {
		b.backend.Close()
	}
}

func (b *boot) run() (*Member, error) {
	for _, step := range []struct {
		name string // told before; empty for what tells by itself
		take func() error
	}{
		{"", b.directories},
		{"", b.openBackend},
		{"bootstrapping cluster", b.openLog},
		{"bootstrapping storage", b.load},
		{"", b.checkVersions},
	} {
		if step.name != "" {
			b.log.Info(step.name)
		}
		if err := step.take(); err != nil {
			return nil, err
		}
	}
	b.tellLoaded()
	b.log.Info("bootstrapping raft")
	r, err := b.raft()
	if err != nil {
		return nil, err
	}
	b.tellReady(r)
	return b.assemble(r), nil
}

func (b *boot) directories() error {
	for _, dir := range []string{b.opt.DataDir, b.opt.snapDir()} {
		if err := files.MkdirAllSync(b.opt.FS, dir, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if b.opt.WALDir != "" {
		if err := files.MkdirAllSync(b.opt.FS, filepath.Dir(b.opt.WALDir), 0o700); err != nil {
			return fmt.Errorf("wal directory: %w", err)
		}
	}
	return nil
}

func (b *boot) openBackend() error {
	start := time.Now()
	be, err := b.opt.openBackend(b.opt.dbPath(), b.backendOptions())
	if err != nil {
		return err
	}
	b.backend = be
	b.log.Info("opened backend db", "path", b.opt.dbPath(), "took", time.Since(start))
	b.index, b.term, err = backend.Position(be)
	return err
}

// openBackend opens the backend file, or what a test has in its place.
func (o *Options) openBackend(path string, opt backend.Options) (backend.Backend, error) {
	if o.OpenBackend != nil {
		return o.OpenBackend(path, opt)
	}
	return backend.Open(path, opt)
}

// mmapBytes is the address space reserved for the backend file; a file that
// outgrows it has to be copied.
const mmapBytes = 10 << 30

// lockTimeout bounds the wait for another process that has the backend file
// open: long enough for one that is just stopping.
const lockTimeout = 10 * time.Second

func (b *boot) backendOptions() backend.Options {
	o := backend.Options{FreelistType: b.opt.FreelistType, MmapSize: max(mmapBytes, 4*b.opt.quota()), LockTimeout: lockTimeout}
	d := &b.meters.Disk
	o.OnCommit = func(s backend.CommitStats) {
		d.CommitRebalance.Observe(s.Rebalance.Seconds())
		d.CommitSpill.Observe(s.Spill.Seconds())
		d.CommitWrite.Observe(s.Write.Seconds())
		d.BackendCommit.Observe(s.Total.Seconds())
	}
	return o
}

// openLog opens the write-ahead log, or founds one.
func (b *boot) openLog() error {
	there, err := wal.Exists(b.opt.FS, b.opt.walDir())
	if err != nil {
		return err
	}
	if !there {
		b.isNew = true
		return b.foundLog()
	}
	mark, err := b.chooseMark()
	if err != nil {
		return err
	}
	b.wal, b.replay, err = wal.Open(b.opt.FS, b.opt.walDir(), mark, b.walOptions())
	if err != nil {
		return err
	}
	var meta pb.Metadata
	if err := proto.Unmarshal(b.replay.Metadata, &meta); err != nil {
		return fmt.Errorf("%s: metadata: %w", b.opt.walDir(), err)
	}
	b.id, b.clusterID = meta.GetNodeID(), meta.GetClusterID()
	return b.checkReach()
}

// chooseMark picks the snapshot mark to read the log from: the newest that the
// backend has reached. Marks beyond it happen only if the backend was replaced
// or lost; the file of the mark's snapshot then takes its place.
func (b *boot) chooseMark() (wal.Mark, error) {
	marks, err := wal.Marks(b.opt.FS, b.opt.walDir())
	if err != nil {
		return wal.Mark{}, err
	}
	if len(marks) == 0 {
		return wal.Mark{}, nil
	}
	newest := marks[len(marks)-1]
	// A snapshot from the leader whose database has not taken its place yet:
	// the log holds nothing between the backend and it.
	if newest.Index > b.index {
		there, err := files.Exists(b.opt.FS, filepath.Join(b.opt.snapDir(), snap.DBFileName(newest.Index)))
		if err != nil {
			return wal.Mark{}, err
		}
		if there {
			return newest, b.adoptSnapshot(newest)
		}
	}
	for i := len(marks) - 1; i >= 0; i-- {
		if marks[i].Index <= b.index {
			b.log.Info("Skipping snapshot backend", "consistent-index", b.index, "snapshot-index", newest.Index)
			return marks[i], nil
		}
	}
	return newest, b.adoptSnapshot(newest)
}

// adoptSnapshot puts the database that came with a snapshot in the place of
// the backend.
func (b *boot) adoptSnapshot(mark wal.Mark) error {
	path := filepath.Join(b.opt.snapDir(), snap.DBFileName(mark.Index))
	there, err := files.Exists(b.opt.FS, path)
	if err != nil {
		return err
	}
	if !there {
		b.log.Warn("failed to find [SNAPSHOT-INDEX].snap.db", "snapshot-index", mark.Index, "snapshot-file-path", path, "error", errNoSnapshotFile)
		return &PanicError{"failed to recover v3 backend from snapshot", b.opt.dbPath(),
			fmt.Errorf("failed to find database snapshot file (%w): the log begins at index %d, the database is at %d", errNoSnapshotFile, mark.Index, b.index)}
	}
	b.log.Info("Recovering from snapshot backend", "consistent-index", b.index, "snapshot-index", mark.Index)
	if err := b.backend.Close(); err != nil {
		return err
	}
	b.backend = nil
	if err := b.opt.FS.Rename(path, b.opt.dbPath()); err != nil {
		return err
	}
	if err := b.opt.FS.SyncDir(b.opt.snapDir()); err != nil {
		return err
	}
	return b.openBackend()
}

var errNoSnapshotFile = errors.New("snap: snapshot file doesn't exist")

// checkReach refuses a log that ends before what the backend has applied.
func (b *boot) checkReach() error {
	if last := b.replay.LastIndex(); last < b.index {
		return fmt.Errorf("%s ends at index %d, but %s holds the state of index %d: entries of the log are missing",
			b.opt.walDir(), last, b.opt.dbPath(), b.index)
	}
	return nil
}

func (b *boot) walOptions() wal.Options {
	d := &b.meters.Disk
	return wal.Options{Events: wal.Events{
		Wrote: func(bytes int, took time.Duration) {
			d.WALWriteBytes.Add(float64(bytes))
			d.WALWrite.Observe(took.Seconds())
		},
		Synced: func(took time.Duration) { d.WALFsync.Observe(took.Seconds()) },
		SegmentCreated: func(path string) {
			b.log.Info("created a new WAL segment", "path", path)
		},
		Repaired: func(r wal.Repair) {
			b.log.Info("repaired", "path", r.Path, "offset", r.Offset, "copy", r.Broken, "error", r.Cause)
		},
		Ignored: func(path string) {
			b.log.Warn("ignored file in WAL directory", "path", path)
		},
	}}
}

func (b *boot) snapEvents() snap.Events {
	m := &b.meters.Snap
	return snap.Events{
		Saved: func(t snap.SaveTimes) {
			m.SaveMarshalling.Observe(t.Encode.Seconds())
			m.Fsync.Observe(t.Write.Seconds())
			m.SaveTotal.Observe((t.Encode + t.Write).Seconds())
		},
		Broken: func(path string, err error) {
			b.log.Warn("failed to read a snap file", "path", path, "error", err)
		},
	}
}

// foundLog begins the log of a member that has not lived before.
func (b *boot) foundLog() error {
	if b.index > 0 {
		return fmt.Errorf("%s holds the state of log index %d, but there is no log in %s: restore a snapshot into a new directory instead",
			b.opt.dbPath(), b.index, b.opt.walDir())
	}
	members, err := b.firstMembers()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Name == b.opt.Name {
			b.id = m.ID
		}
	}
	metadata, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Metadata{NodeID: &b.id, ClusterID: &b.clusterID})
	if err != nil {
		return err
	}
	b.wal, err = wal.Create(b.opt.FS, b.opt.walDir(), metadata, b.walOptions())
	return err
}

// founders are the members that the flags describe.
func (b *boot) founders() ([]cluster.Member, error) {
	if err := b.opt.Initial.Check(b.opt.Name); err != nil {
		return nil, err
	}
	return b.opt.Initial.Members(b.opt.Token)
}

// load reads the backend into memory.
func (b *boot) load() error {
	b.machine = &apply.Machine{
		Leases:  lease.New(b.leaseOptions(), time.Now()),
		Alarms:  alarm.New(),
		Cluster: cluster.New(b.clusterID, b.opt.MaxLearners),
		Auth:    b.auth,
	}
	if err := b.loadMeta(); err != nil {
		return err
	}
	if err := b.loadBuckets(); err != nil {
		return err
	}
	return b.loadStore()
}

func (b *boot) leaseOptions() lease.Options {
	o := lease.Options{MinTTL: lease.MinTTL(b.opt.ElectionTicks, b.opt.Tick)}
	if b.opt.LeaseCheckpoint {
		o.CheckpointEvery = 5 * time.Minute
	}
	return o
}

func (b *boot) loadMeta() error {
	b.meta = map[string][]byte{}
	return b.backend.Load(bucket.Meta, func(k, v []byte) error {
		b.meta[string(k)] = append([]byte(nil), v...)
		return nil
	})
}

func (b *boot) loadBuckets() error {
	if err := b.backend.Load(bucket.Lease, b.machine.Leases.Load); err != nil {
		return err
	}
	if err := b.backend.Load(bucket.Alarm, func(k, _ []byte) error { return b.machine.Alarms.Load(k) }); err != nil {
		return err
	}
	for _, name := range []bucket.Name{bucket.Members, bucket.MembersRemoved, bucket.Cluster} {
		err := b.backend.Load(name, func(k, v []byte) error { return b.machine.Cluster.Load(name, k, v) })
		if err != nil {
			return err
		}
	}
	return b.loadAuth()
}

func (b *boot) loadStore() error {
	finished, err := b.compactRev(bucket.FinishedCompactRev)
	if err != nil {
		return err
	}
	scheduled, err := b.compactRev(bucket.ScheduledCompactRev)
	if err != nil {
		return err
	}
	b.finished, b.resume = finished, mvcc.Never
	if scheduled > finished {
		b.resume = scheduled
	}
	base, err := b.backend.Base()
	if err != nil {
		return err
	}
	store, err := mvcc.Open(base, mvcc.Options{
		FinishedCompact: finished, ScheduledCompact: scheduled,
		OnLive: func(key []byte, id int64) {
			if !b.machine.Leases.LoadKey(id, key) {
				b.log.Warn("key hangs on a lease that is gone", "lease-id", ids.Text(uint64(id)))
			}
		},
	})
	if err != nil {
		base.Release()
		return fmt.Errorf("%s: %w", b.opt.dbPath(), err)
	}
	b.machine.Store = store
	b.log.Info("kvstore restored", "current-rev", store.Rev())
	return nil
}

func (b *boot) compactRev(key string) (int64, error) {
	text, ok := b.meta[key]
	if !ok {
		return mvcc.Never, nil
	}
	rev, _, err := mvcc.ParseKey(text)
	if err != nil {
		return 0, fmt.Errorf("%s: meta key %s: %w", b.opt.dbPath(), key, err)
	}
	return rev.Main, nil
}

// checkVersions refuses files of a newer version than this one understands.
func (b *boot) checkVersions() error {
	v, err := cluster.StorageVersion(string(b.meta[bucket.StorageVersion]), b.term)
	if err != nil {
		return fmt.Errorf("%s: %w", b.opt.dbPath(), err)
	}
	b.storage = v
	if err := cluster.CheckStorage(v, serverVersion); err != nil {
		return fmt.Errorf("%s: %w", b.opt.dbPath(), err)
	}
	return b.machine.Cluster.CheckServer(serverVersion)
}

// raft makes the protocol state from what the log and the backend say.
func (b *boot) raft() (*raft.Raft, error) {
	conf, err := b.confState()
	if err != nil {
		return nil, err
	}
	from := raft.Restored{
		HardState: b.replay.HardState,
		ConfState: conf,
		Snapshot:  raftpb.SnapshotMetadata{Index: b.replay.Mark.Index, Term: b.replay.Mark.Term},
		Entries:   currentEntries(b.replay),
		Applied:   max(b.index, b.replay.Mark.Index),
	}
	// What is applied was committed, whatever the last unsynced commit index
	// in the log says.
	from.HardState.Commit = max(from.HardState.Commit, from.Applied)
	r, err := raft.New(raft.Config{
		ID: b.id, ElectionTicks: b.opt.ElectionTicks, HeartbeatTicks: 1,
		PreVote: b.opt.PreVote, CheckQuorum: true,
		Rand:   rand.New(rand.NewPCG(b.id, uint64(time.Now().UnixNano()))),
		Events: b.raftEvent,
	}, from)
	if err != nil {
		return nil, err
	}
	return r, b.found(r)
}

// currentEntries are those behind the mark that are part of this log. What a
// snapshot from the leader took the place of may still lie in the file, behind
// the snapshot's index and before its mark. Its term tells: whoever wrote it
// led before the snapshot's last entry was made.
func currentEntries(r wal.Replay) []raftpb.Entry {
	if len(r.Entries) > 0 && r.Entries[0].Term < r.Mark.Term {
		return nil
	}
	return r.Entries
}

// found gives the founders of a new cluster its first entries. A member that
// crashed before they were durable founds again: nobody has heard of it yet.
func (b *boot) found(r *raft.Raft) error {
	empty := len(b.replay.Entries) == 0 && b.replay.HardState.IsEmpty() && b.replay.Mark.Index == 0 && b.index == 0
	if !empty || b.opt.JoinExisting {
		return nil
	}
	members, err := b.founders()
	if err != nil {
		return err
	}
	if got := cluster.ClusterID(members); got != b.clusterID {
		return fmt.Errorf("%s was begun for cluster %s, the flags describe cluster %s", b.opt.walDir(), ids.Text(b.clusterID), ids.Text(got))
	}
	return r.Bootstrap(cluster.Bootstrap(members))
}

// confState is the membership that is in force at the consistent index. etcd
// stores it since 3.5; before that the members bucket says it.
func (b *boot) confState() (raftpb.ConfState, error) {
	text, ok := b.meta[bucket.ConfState]
	if !ok {
		return b.machine.Cluster.ConfState(), nil
	}
	var stored storedConfState
	if err := json.Unmarshal(text, &stored); err != nil {
		return raftpb.ConfState{}, fmt.Errorf("%s: meta key %s: %w", b.opt.dbPath(), bucket.ConfState, err)
	}
	return raftpb.ConfState(stored), nil
}

// raftEvent writes what the protocol reports, under the protocol's own name.
func (b *boot) raftEvent(e raft.Event) {
	level := slog.LevelInfo
	switch {
	case e.IsWarning():
		level = slog.LevelWarn
	case e.IsDebug():
		level = slog.LevelDebug
	}
	if b.raftLog.Enabled(context.Background(), level) {
		b.raftLog.Log(context.Background(), level, e.String())
	}
}

// assemble puts the running parts around the loaded state.
func (b *boot) assemble(r *raft.Raft) *Member {
	m := &Member{
		opt: b.opt, log: b.log, meters: b.meters, id: b.id, clusterID: b.clusterID,
		reqIDs:  ids.NewGenerator(b.id, time.Now()),
		wal:     b.wal,
		snaps:   snap.NewStore(b.opt.FS, b.opt.snapDir(), b.snapEvents()),
		reads:   newReads(),
		waiters: newWaiters(),

		hashing:  make(chan struct{}, hashesAtOnce),
		leading:  make(chan struct{}, 1),
		stopping: make(chan struct{}),
		failure:  make(chan error, 1),
	}
	m.storage.Store(&b.storage)
	m.backend = newCurrentBackend(b.backend)
	m.term.Store(r.Term())
	m.machine = apply.New(*b.machine, apply.Options{PersistCheckpoints: b.opt.PersistCheckpoint, OverQuota: m.isOverQuota})
	m.machine.Keep(b.authOps...)
	store := m.machine.Store
	m.store.Store(store)

	m.applier = newApplier(m)
	m.loop = newLoop(&node{raft: r, startRound: m.reads.start}, b.opt.Tick)
	m.loop.carry, m.loop.other = m.carry, m.carryOther
	m.writer = newWriter(b.wal, func(tokens []uint64) {
		m.loop.add(func(in *inbox) { in.persisted = append(in.persisted, tokens...) })
	}, func(err error) {
		m.loop.add(func(in *inbox) { in.diskFailed = true })
		m.fail(fmt.Errorf("write-ahead log: %w", err))
	})
	m.writer.saveSnap, m.writer.adopted = m.saveSnap, m.applier.install
	m.flusher = newFlusher(m.backend, store, b.opt.FlushInterval, seal{index: b.index, term: b.term, rev: store.Rev()}, m.fail)
	m.hub = watching.Start(store.Rev(), store.CompactRev(), func() watching.History { return m.View() }, watching.Options{
		Hub:     watch.Options{},
		OnError: func(err error) { b.log.Warn("failed to read history for watchers", "error", err) },
	})
	if _, err := m.snaps.RemoveTemporary(); err != nil {
		b.log.Warn("failed to remove temporary files", "path", b.opt.snapDir(), "error", err)
	}
	m.snapshots = newSnapshots(m, b.replay.Mark.Index)
	m.compactor = newCompactor(m)
	m.publisher = &publisher{m: m, done: make(chan struct{})}
	m.peers = newPeers(m, b.remotes)
	b.resumeWork(m)
	if voters := m.machine.Cluster.Voters(); len(voters) == 1 && voters[0].ID == b.id {
		r.Campaign() // nobody to wait for
	}
	return m
}

// resumeWork takes up what a crash or an older version left unfinished.
func (b *boot) resumeWork(m *Member) {
	if b.resume != mvcc.Never {
		m.compactor.add(compactJob{prev: b.finished, rev: b.resume, resumed: true})
		m.applier.trimming = true
	}
	if b.finished != mvcc.Never {
		m.compactor.finish(b.finished)
	}
	if b.term > 0 {
		m.migrateStorage(b.term)
		m.flusher.seal(b.index, b.term, m.machine.Store.Rev(), m.machine.TakeOps())
	}
}
