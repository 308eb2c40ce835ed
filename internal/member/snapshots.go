package member

import (
	"context"
	"sync"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/disk/snap"
	"github.com/steledb/stele/internal/disk/wal"
)

// snapshots marks, every so many entries, a point of the log from which a
// restart can go on, so that older segments can be removed and the log in
// memory cut.
//
// Order, and what a crash leaves in between: the backend is flushed to the
// point (the log still holds everything), the .snap file is written for older
// etcd versions (no mark names it yet), the mark goes into the log (a restart
// may use it from here on), old segments are let go, the log in memory is cut.
type snapshots struct {
	m *Member

	mu      sync.Mutex
	last    uint64         // guarded by mu; index of the newest snapshot, done or under way
	pending *snapshotPoint // guarded by mu
	wake    chan struct{}
}

// snapshotPoint is what a snapshot needs to know of the moment it stands for.
type snapshotPoint struct {
	index, term uint64
	conf        raftpb.ConfState
	members     *cluster.Cluster
}

func newSnapshots(m *Member, last uint64) *snapshots {
	return &snapshots{m: m, last: last, wake: make(chan struct{}, 1)}
}

// consider begins a snapshot at index if enough has been applied since the
// last one. Applier only, between runs: the machine stands at index.
func (s *snapshots) consider(index, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index <= s.last || index-s.last <= s.m.opt.SnapshotCount || s.pending != nil {
		return
	}
	members := s.m.machine.Cluster.Clone()
	s.pending = &snapshotPoint{index, term, members.ConfState(), members}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// overtaken notes a snapshot from the leader.
func (s *snapshots) overtaken(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, index)
}

func (s *snapshots) run(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case <-s.wake:
		case <-stop:
			return
		}
		s.mu.Lock()
		p := s.pending
		s.mu.Unlock()
		if err := s.take(ctx, p, stop); err != nil {
			select {
			case <-stop:
			default:
				s.m.fail(err)
			}
			return
		}
		s.mu.Lock()
		s.last, s.pending = max(s.last, p.index), nil
		s.mu.Unlock()
	}
}

func (s *snapshots) take(ctx context.Context, p *snapshotPoint, stop <-chan struct{}) error {
	m := s.m
	m.log.Info("triggering snapshot", "local-member-id", ids.Text(m.id), "local-member-applied-index", p.index,
		"local-member-snapshot-index", s.last, "local-member-snapshot-count", m.opt.SnapshotCount, "snapshot-forced", false)
	if err := m.flusher.flushTo(ctx, p.index); err != nil {
		return err
	}
	if err := s.write(p); err != nil {
		return err
	}
	// A snapshot from the leader may have come meanwhile; the writer drops
	// marks that it has overtaken.
	done := make(chan error, 1)
	m.writer.add(write{mark: &wal.Mark{Index: p.index, Term: p.term, ConfState: &p.conf}, done: done})
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-stop:
		return nil
	}
	m.log.Info("saved snapshot to disk", "snapshot-index", p.index)
	if p.index > m.opt.CatchUpEntries && !m.peers.isSending() { // the receiver will need what follows
		compactTo := p.index - m.opt.CatchUpEntries
		m.loop.add(func(in *inbox) { in.compactTo = max(in.compactTo, compactTo) })
		m.log.Debug("compacted Raft logs", "compact-index", compactTo)
	}
	return nil
}

// write puts the .snap file in place.
func (s *snapshots) write(p *snapshotPoint) error {
	data, err := snap.EncodeMembership(v2Membership(p.members))
	if err != nil {
		return err
	}
	return s.m.saveSnap(&raftpb.Snapshot{
		Data:     data,
		Metadata: raftpb.SnapshotMetadata{ConfState: p.conf, Index: p.index, Term: p.term},
	})
}

// v2Membership is the membership as older versions look for it in a snapshot.
func v2Membership(c *cluster.Cluster) snap.Membership {
	out := snap.Membership{Removed: c.Removed()}
	if v := c.Version(); !v.IsZero() {
		out.ClusterVersion = v.String()
	}
	for _, m := range c.Members() {
		out.Members = append(out.Members, snap.Member(m))
	}
	return out
}
