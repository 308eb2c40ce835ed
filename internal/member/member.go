// Package member is one member of a cluster at work: the raft loop, the log
// writer, the applier, the flusher and the duties that a member has beside
// serving requests.
//
// It owns the data directory and all goroutines that touch it. What decides is
// in internal/core; here is who calls it, in which order, and what waits for
// what. DESIGN.md tells the flow and the bounds of every queue.
package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/raft"
	"github.com/steledb/stele/internal/disk/backend"
	"github.com/steledb/stele/internal/disk/snap"
	"github.com/steledb/stele/internal/disk/wal"
	"github.com/steledb/stele/internal/member/watching"
)

// Outcomes of a request that say something about the member. Texts are those
// clients of etcd see.
var (
	ErrStopped         = errors.New("etcdserver: server stopped")
	ErrTimeout         = errors.New("etcdserver: request timed out")
	ErrCanceled        = errors.New("etcdserver: request canceled")
	ErrTooManyRequests = errors.New("etcdserver: too many requests")
	ErrTooLarge        = errors.New("etcdserver: request is too large")
	ErrNoLeader        = errors.New("etcdserver: no leader")
)

// Member is a running member. Its methods are safe for concurrent use.
type Member struct {
	opt Options
	log *slog.Logger

	meters    *meters
	id        uint64
	clusterID uint64
	reqIDs    *ids.Generator

	// state guards machine, except for views of the store and except that the
	// applier alone opens transactions on it.
	state   sync.RWMutex
	machine *apply.Machine

	loop      *loop
	writer    *writer
	applier   *applier
	flusher   *flusher
	hub       *watching.Hub
	reads     *reads
	waiters   *waiters
	snapshots *snapshots
	compactor *compactor
	publisher *publisher
	peers     *peers

	wal     *wal.WAL
	backend *currentBackend
	store   atomic.Pointer[mvcc.Store] // that of machine, for readers
	snapsMu sync.Mutex                 // held while a .snap file is written
	snaps   *snap.Store

	applied watermark
	leader  atomic.Uint64
	term    atomic.Uint64
	storage atomic.Pointer[cluster.Version] // version of the backend file

	hashing chan struct{} // slots for hashing passwords
	leading chan struct{} // signals that the leader changed; capacity 1

	stopOnce sync.Once
	stopping chan struct{} // closed when the member begins to stop
	failure  chan error    // why it stops by itself; capacity 1
	running  sync.WaitGroup
}

// start sets the goroutines going. The order does not matter: each waits for
// what it needs.
func (m *Member) start() {
	m.wal.Start()
	m.applied.raise(m.loop.node.raft.Applied())
	m.peers.start()
	for _, run := range []func(stop <-chan struct{}){
		m.loop.run, m.writer.run, m.applier.run, m.flusher.run, m.compactor.run, m.snapshots.run,
		m.leaseDuty, m.autoCompactDuty, m.purgeDuty, m.publisher.run,
	} {
		m.running.Go(func() { run(m.stopping) })
	}
}

// Stop ends the member in order: no new requests, what is applied goes to the
// backend, files are closed. It returns when everything has ended.
func (m *Member) Stop() error {
	m.beginStop()
	m.peers.stop()
	m.running.Wait()
	m.hub.Close()
	var errs []error
	if err := m.flusher.once(); err != nil { // what was applied last
		errs = append(errs, err)
	}
	if err := m.wal.Close(); err != nil {
		errs = append(errs, err)
	}
	m.machine.Store.Close()
	if err := m.backend.Close(); err != nil && !errors.Is(err, backend.ErrReadsOpen) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (m *Member) beginStop() { m.stopOnce.Do(func() { close(m.stopping) }) }

// fail says that the member cannot go on. Whoever runs it (embed) hears of it
// by Failed and stops it.
func (m *Member) fail(err error) {
	select {
	case m.failure <- err:
	default: // the first reason counts
	}
}

// Failed delivers the reason why the member cannot go on.
func (m *Member) Failed() <-chan error { return m.failure }

// Stopping is closed when the member begins to stop.
func (m *Member) Stopping() <-chan struct{} { return m.stopping }

// carry hands the effects of raft to those who carry them out. It runs on the
// loop's goroutine and never waits.
func (m *Member) carry(e raft.Effects) {
	m.peers.send(e.Messages)
	m.peers.prepare(e.NeedSnapshot)
	if e.Token != 0 || len(e.Entries) > 0 || !e.HardState.IsEmpty() {
		m.writer.add(write{snapshot: e.Snapshot, state: e.HardState, entries: e.Entries, token: e.Token})
	}
	if len(e.Committed) > 0 {
		m.applier.add(run{entries: e.Committed})
	}
	for _, s := range e.ReadStates {
		m.reads.answer(s)
	}
	for _, context := range e.DroppedReads {
		m.reads.drop(context)
	}
	if s := e.SoftState; s != nil {
		m.term.Store(s.Term)
		if m.leader.Swap(s.Leader) != s.Leader {
			if s.Leader != 0 {
				m.meters.Server.LeaderChanges.Inc()
			}
			m.leaderChanged()
		}
	}
}

// carryOther deals with what did not get into raft.
func (m *Member) carryOther(o outcome) {
	for _, r := range o.refused {
		err := r.err
		if errors.Is(err, raft.ErrBacklog) {
			err = ErrTooManyRequests
		}
		m.waiters.complete(r.id, apply.Result{Err: err})
	}
	for _, context := range o.noRounds {
		m.reads.drop(context)
	}
	m.peers.discard(o.unwanted)
	for _, err := range o.warnings {
		if errors.Is(err, raft.ErrLogLost) {
			m.fail(err)
		}
		m.log.Warn("failed to process Raft message", "local-member-id", ids.Text(m.id), "error", err)
	}
}

func (m *Member) leaderChanged() {
	select {
	case m.leading <- struct{}{}:
	default:
	}
}

// Propose puts a request through the log and returns what applying it gave.
func (m *Member) Propose(ctx context.Context, r *pb.InternalRaftRequest) (apply.Result, error) {
	if err := m.admitSize(ctx, r); err != nil {
		return apply.Result{}, err
	}
	caller, err := m.Caller(ctx)
	if err != nil {
		return apply.Result{}, err
	}
	return m.proposeAs(ctx, caller, r)
}

// maxApplyGap is how far apply may be behind before new requests are turned
// away: entries, as in etcd.
const maxApplyGap = 5000

// proposeAs is Propose for a caller that is known, or for the member itself.
func (m *Member) proposeAs(ctx context.Context, who auth.Caller, r *pb.InternalRaftRequest) (apply.Result, error) {
	if status := m.loop.raftStatus(); status.Committed > m.applied.load()+maxApplyGap {
		return apply.Result{}, ErrTooManyRequests
	}
	id := m.reqIDs.Next()
	r.Header = &pb.RequestHeader{ID: id, Username: who.User, AuthRevision: who.Revision}
	data, err := proto.Marshal(r)
	if err != nil {
		return apply.Result{}, fmt.Errorf("propose: %w", err)
	}
	if len(data) > m.opt.MaxRequestBytes {
		return apply.Result{}, ErrTooLarge
	}
	done := m.waiters.register(id)
	begun := time.Now()
	if !m.loop.propose(proposal{id, data}) {
		m.waiters.forget(id)
		m.meters.Server.ProposalsFailed.Inc()
		return apply.Result{}, ErrTooManyRequests
	}
	res, err := m.await(ctx, id, done)
	m.meters.answer(opOf(r), time.Since(begun), err)
	return res, err
}

// await waits for the result of request id.
func (m *Member) await(ctx context.Context, id uint64, done <-chan apply.Result) (apply.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, m.opt.RequestTimeout())
	defer cancel()
	select {
	case res := <-done:
		return res, res.Err
	case <-ctx.Done():
		m.waiters.forget(id)
		m.meters.Server.ProposalsFailed.Inc()
		return apply.Result{}, m.timeoutError(ctx, ctx.Err())
	case <-m.stopping:
		m.waiters.forget(id)
		return apply.Result{}, ErrStopped
	}
}

// timeoutError names the end of a context as clients know it.
func (m *Member) timeoutError(_ context.Context, err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout
	case errors.Is(err, context.Canceled):
		return ErrCanceled
	}
	return err
}

// changeMembers proposes a membership change and waits for it.
func (m *Member) changeMembers(ctx context.Context, cc raftpb.ConfChange) error {
	cc.ID = m.reqIDs.Next()
	done := m.waiters.register(cc.ID)
	m.loop.add(func(in *inbox) { in.confChanges = append(in.confChanges, cc) })
	_, err := m.await(ctx, cc.ID, done)
	return err
}

// View is the published state of the store; close it after use.
func (m *Member) View() *mvcc.View {
	for {
		if v, ok := m.store.Load().TryView(); ok {
			return v
		}
		// The store was replaced between the two calls.
	}
}

// Rev is the newest revision that readers see.
func (m *Member) Rev() int64 {
	v := m.View()
	defer v.Close()
	return v.Rev()
}

// Header says what every response header repeats.
func (m *Member) Header() (clusterID, memberID, term uint64) {
	return m.clusterID, m.id, m.term.Load()
}

// ID is this member's id.
func (m *Member) ID() uint64 { return m.id }

// ClusterID is the cluster's id.
func (m *Member) ClusterID() uint64 { return m.clusterID }

// Leader is the member that leads as far as this one knows, 0 if none.
func (m *Member) Leader() uint64 { return m.leader.Load() }

// IsLeader reports whether this member leads.
func (m *Member) IsLeader() bool { return m.leader.Load() == m.id }

// RaftStatus is the protocol's state as of the last turn of the loop.
func (m *Member) RaftStatus() raft.Status { return m.loop.raftStatus() }

// Hub is where watches are served from.
func (m *Member) Hub() *watching.Hub { return m.hub }

// Published is closed once this member has told the cluster its name and URLs.
func (m *Member) Published() <-chan struct{} { return m.publisher.done }

// trimIndex goes on with what a compaction left to do in the index.
func (m *Member) trimIndex(keys int) (done bool) {
	m.state.Lock()
	defer m.state.Unlock()
	begun := time.Now()
	done = m.machine.Store.CompactIndex(keys)
	m.machine.Store.Publish()
	m.meters.MVCC.IndexPause.Observe(milliseconds(time.Since(begun)))
	return done
}

// now is the time leases count in.
func (m *Member) now() time.Time { return time.Now() }
