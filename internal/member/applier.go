package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/mvcc"
)

// applier carries committed entries into the machine, run by run, and tells
// everyone who waits. One goroutine, run, is the only one that changes the
// machine by entries.
//
// Order within a run: apply all entries, publish one view, seal for the
// flusher, then tell watchers, then waiters, then raise the applied mark. So
// whoever hears of a write can read it.
//
// The queue is bounded by raft, which delivers only so many bytes beyond what
// was reported as applied.
type applier struct {
	m *Member

	mu    sync.Mutex
	queue []run // guarded by mu
	wake  chan struct{}

	// Owned by run.
	finished []finished
	changes  []mvcc.Change
	trimming bool // the index still holds what a compaction dropped
	tally    tally
	spent    time.Duration // since the run began, up to the entry before
}

// run is what raft hands over at once: entries, or a snapshot that takes the
// place of everything before.
type run struct {
	entries  []raftpb.Entry
	snapshot *raftpb.Snapshot
}

// finished is a result that waits for its run to be published.
type finished struct {
	id  uint64
	res apply.Result
}

// runEntriesMax bounds how many entries become visible at once: a long run
// (after a restart, say) must not keep readers from what is done.
const runEntriesMax = 4096

// trimKeys is how many keys of the index are looked at between two runs while
// a compaction is being carried out in memory.
const trimKeys = 2000

func newApplier(m *Member) *applier {
	return &applier{m: m, wake: make(chan struct{}, 1)}
}

func (a *applier) add(r run) {
	a.mu.Lock()
	a.queue = append(a.queue, r)
	a.mu.Unlock()
	a.poke()
}

func (a *applier) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *applier) take() []run {
	a.mu.Lock()
	defer a.mu.Unlock()
	runs := a.queue
	a.queue = nil
	return runs
}

func (a *applier) run(stop <-chan struct{}) {
	for {
		if a.trimming {
			a.trimming = !a.m.trimIndex(trimKeys)
			if a.trimming {
				a.poke() // go on after what has come meanwhile
			}
		}
		select {
		case <-a.wake:
		case <-stop:
			return
		}
		for _, r := range a.take() {
			if r.snapshot != nil {
				if err := a.replace(r.snapshot); err != nil {
					a.m.fail(fmt.Errorf("install snapshot at index %d: %w", r.snapshot.Metadata.Index, err))
					return
				}
				continue
			}
			entries := r.entries
			for len(entries) > 0 {
				n := min(len(entries), runEntriesMax)
				if !a.apply(entries[:n], stop) {
					return
				}
				entries = entries[n:]
			}
		}
	}
}

// apply carries out one run; false when the member is stopping.
func (a *applier) apply(entries []raftpb.Entry, stop <-chan struct{}) bool {
	m := a.m
	start := time.Now()
	a.spent = 0
	last := entries[len(entries)-1]
	m.state.Lock()
	for i := range entries {
		if !a.entry(&entries[i], start, stop) {
			m.state.Unlock()
			return false
		}
	}
	m.machine.Store.Publish()
	rev := m.machine.Store.Rev()
	m.flusher.seal(last.Index, last.Term, rev, m.machine.TakeOps())
	m.state.Unlock()

	if len(a.changes) > 0 {
		m.hub.Publish(rev, a.changes)
		a.changes = nil // the hub's from here on
	}
	for _, f := range a.finished {
		m.waiters.complete(f.id, f.res)
	}
	clear(a.finished)
	a.finished = a.finished[:0]
	m.applied.raise(last.Index)
	a.tally.flush(m.meters)
	alone := m.Leader() == 0 && m.isAlone()
	m.loop.add(func(in *inbox) {
		in.applied = max(in.applied, last.Index)
		in.campaign = in.campaign || alone // there is nobody to wait for
	})
	m.snapshots.consider(last.Index, last.Term)
	m.flusher.room(stop)
	return true
}

// isAlone reports whether this member is the only one that votes. Applier only.
func (m *Member) isAlone() bool {
	voters := m.machine.Cluster.Voters()
	return len(voters) == 1 && voters[0].ID == m.id
}

// entry carries out one entry. The state lock is held.
func (a *applier) entry(e *raftpb.Entry, now time.Time, stop <-chan struct{}) bool {
	m := a.m
	switch {
	case e.Type == raftpb.EntryConfChange:
		return a.confChange(e, stop)
	case e.Type != raftpb.EntryNormal:
		m.fail(fmt.Errorf("apply: entry %d has type %d, which no version of etcd writes", e.Index, e.Type))
		return false
	case len(e.Data) == 0:
		return true // a new leader's first entry
	}
	var r pb.InternalRaftRequest
	if v2, ok := cluster.ParseV2(e.Data); ok {
		if err := m.machine.ApplyV2(v2); err != nil {
			m.log.Warn("failed to apply request", "error", err, "index", e.Index)
		}
		return true
	}
	if err := proto.Unmarshal(e.Data, &r); err != nil {
		m.fail(fmt.Errorf("apply: entry %d cannot be decoded: %w", e.Index, err))
		return false
	}
	id := r.Header.GetID()
	if id == 0 {
		id = r.ID
	}
	waited := m.waiters.isWaiting(id)
	res := m.machine.Apply(apply.Entry{Index: e.Index, Term: e.Term, Now: now, Answer: waited}, &r)
	a.measure(&r, &res, now)
	a.changes = append(a.changes, res.Changes...)
	res.Changes = nil
	if res.Compact != nil {
		a.trimming = true
		m.hub.Compacted(res.Compact.Rev)
		m.compactor.add(compactJob{prev: res.Compact.Prev, rev: res.Compact.Rev, index: e.Index})
	}
	if r.ClusterVersionSet != nil && res.Err == nil {
		m.versionChanged(e.Term)
	}
	if waited {
		if errors.Is(res.Err, apply.ErrNoSpace) && !m.machine.Alarms.Has(pb.AlarmType_NOSPACE) {
			// There was room when it was proposed. The alarm is up before the
			// client hears of it.
			m.running.Go(func() {
				m.raiseNoSpace(context.Background())
				m.waiters.complete(id, res)
			})
			return true
		}
		a.finished = append(a.finished, finished{id, res})
	}
	return true
}

// measure notes what an entry of the run that began at start did, and how long
// it took. One reading of the clock ends this entry and begins the next.
func (a *applier) measure(r *pb.InternalRaftRequest, res *apply.Result, start time.Time) {
	kind, spent := opOf(r), time.Since(start)
	took := spent - a.spent
	a.spent = spent
	a.m.meters.applied[kind].Observe(res.Err == nil, took)
	if res.Err == nil {
		a.tally.add(kind, r, res, a.m.meters)
		if kind >= opAuthEnable {
			a.tellAuth(kind, r)
		}
	}
	if res.Err != nil || took > a.m.opt.WarnApply {
		a.judge(r, res, took)
	}
}

// confChange puts a membership change in force: first the membership judges
// it, then raft is told, then the result is stored.
func (a *applier) confChange(e *raftpb.Entry, stop <-chan struct{}) bool {
	m := a.m
	var cc raftpb.ConfChange
	if err := cc.Unmarshal(e.Data); err != nil {
		m.fail(fmt.Errorf("apply: membership change at %d cannot be decoded: %w", e.Index, err))
		return false
	}
	change, judged, err := m.machine.ApplyConfChange(cc)
	if err != nil {
		m.log.Error("Validation on configuration change failed", "shouldApplyV3", true, "error", err)
	}
	state, ok := m.loop.applyConf(judged, stop)
	if !ok {
		return false
	}
	if text, err := json.Marshal(confStateJSON(state)); err == nil {
		m.machine.Keep(bucket.Put(bucket.Meta, []byte(bucket.ConfState), text))
	}
	m.membershipChanged(change, cc)
	a.finished = append(a.finished, finished{cc.ID, apply.Result{Err: err}})
	return true
}

// storedConfState is the JSON of the confState record.
type storedConfState struct {
	Voters         []uint64 `json:"voters,omitempty"`
	Learners       []uint64 `json:"learners,omitempty"`
	VotersOutgoing []uint64 `json:"voters_outgoing,omitempty"`
	LearnersNext   []uint64 `json:"learners_next,omitempty"`
	AutoLeave      bool     `json:"auto_leave"`
}

func confStateJSON(c raftpb.ConfState) storedConfState { return storedConfState(c) }
