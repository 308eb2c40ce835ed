package member

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/backend"
	"github.com/steledb/stele/internal/disk/snap"
	"github.com/steledb/stele/internal/wire/peer"
)

// Sending a snapshot: raft asks for one (prepare), the file as it is after a
// flush is frozen with the index it stands at (takeSnapshot), raft is given the
// description and makes a message of it (SendSnapshot), the message and the
// frozen file leave together (sendSnapshot). Apply waits for none of it.

// prepare makes snapshots for members that can only go on from one. Loop only.
func (p *peers) prepare(members []uint64) {
	for _, id := range members {
		p.mu.Lock()
		busy := p.sending[id]
		p.sending[id] = true
		p.mu.Unlock()
		if !busy {
			p.m.running.Go(func() { p.prepareOne(id) })
		}
	}
}

func (p *peers) prepareOne(id uint64) {
	snapshot, body, err := p.m.takeSnapshot(p)
	if err != nil {
		if p.ctx.Err() == nil {
			p.m.log.Warn("failed to prepare a snapshot", "remote-peer-id", ids.Text(id), "error", err)
		}
		p.ReportSnapshot(id, false)
		return
	}
	p.mu.Lock()
	old := p.bodies[id]
	p.bodies[id] = body
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
	p.m.loop.add(func(in *inbox) { in.prepared = append(in.prepared, preparedSnapshot{id, snapshot}) })
}

// takeSnapshot freezes the file and describes what it holds.
func (m *Member) takeSnapshot(p *peers) (s raftpb.Snapshot, body backend.Snapshot, err error) {
	if err := m.flusher.flush(p.ctx); err != nil {
		return s, nil, err
	}
	err = m.flusher.freeze(func(at seal) error {
		s.Metadata.Index, s.Metadata.Term = at.index, at.term
		if err := m.describeFile(&s); err != nil {
			return err
		}
		var err error
		body, err = m.backend.Snapshot()
		return err
	})
	return s, body, err
}

// describeFile fills in the membership that the file holds.
func (m *Member) describeFile(s *raftpb.Snapshot) error {
	members := cluster.New(m.clusterID, m.opt.MaxLearners)
	for _, name := range []bucket.Name{bucket.Members, bucket.MembersRemoved, bucket.Cluster} {
		if err := m.backend.Load(name, func(k, v []byte) error { return members.Load(name, k, v) }); err != nil {
			return err
		}
	}
	s.Metadata.ConfState = members.ConfState()
	text, err := m.backend.Get(bucket.Meta, []byte(bucket.ConfState))
	if err != nil {
		return err
	}
	if text != nil {
		var stored storedConfState
		if err := json.Unmarshal(text, &stored); err != nil {
			return fmt.Errorf("meta key %s: %w", bucket.ConfState, err)
		}
		s.Metadata.ConfState = raftpb.ConfState(stored)
	}
	s.Data, err = snap.EncodeMembership(v2Membership(members))
	return err
}

// take gives away the body prepared for a member.
func (p *peers) take(id uint64) peer.Body {
	p.mu.Lock()
	defer p.mu.Unlock()
	body := p.bodies[id]
	delete(p.bodies, id)
	return body
}

// sendSnapshot sends a snapshot with the body prepared for it. Loop only.
func (p *peers) sendSnapshot(m raftpb.Message) {
	body := p.take(m.To)
	if body == nil {
		p.ReportSnapshot(m.To, false)
		return
	}
	p.net.SendSnapshot(m, body)
}

// discard lets go of snapshots that are of no use any more. Loop only.
func (p *peers) discard(members []uint64) {
	for _, id := range members {
		if body := p.take(id); body != nil {
			body.Close()
		}
		p.done(id)
	}
}

// done notes that no snapshot for a member is on its way any more.
func (p *peers) done(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sending, id)
}

// isSending reports whether a snapshot is on its way. Its receiver will need
// the log behind it.
func (p *peers) isSending() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.sending) > 0
}

// Receiving: the body goes to disk under a temporary name, is synced and gets
// its name (SaveSnapshot); raft takes the message and asks for it to be recorded
// (Effects.Snapshot); the writer puts the .snap file, the mark and the hard
// state on disk (adopt); the applier puts the file in the backend's place
// (replace). A crash before the hard state leaves the log as it was, one after
// it has the next start put the file in place.

// SaveSnapshot implements peer.Handler.
func (p *peers) SaveSnapshot(s *raftpb.Message, body io.Reader) (err error) {
	m := p.m
	dir := m.opt.snapDir()
	tmp := filepath.Join(dir, fmt.Sprintf("tmp%d", m.reqIDs.Next()))
	f, err := m.opt.FS.OpenFile(tmp, files.ReadWrite|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			m.opt.FS.Remove(tmp)
		}
	}()
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, 256<<10))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = m.opt.FS.Rename(tmp, filepath.Join(dir, snap.DBFileName(s.Snapshot.Metadata.Index))); err != nil {
		return err
	}
	return m.opt.FS.SyncDir(dir)
}

// saveSnap puts a .snap file in place.
func (m *Member) saveSnap(s *raftpb.Snapshot) error {
	m.snapsMu.Lock()
	defer m.snapsMu.Unlock()
	return m.snaps.Save(s)
}

// install has the applier go on from a snapshot that the log records.
func (a *applier) install(s *raftpb.Snapshot) { a.add(run{snapshot: s}) }

// replace puts the state of a snapshot in the place of the machine's. Readers
// keep what they hold: views of the old store, and the old file under them.
func (a *applier) replace(s *raftpb.Snapshot) error {
	m, at := a.m, s.Metadata
	start := time.Now()
	m.log.Info("applying snapshot", "current-snapshot-index", m.snapshots.last, "current-applied-index", m.applied.load(),
		"incoming-leader-snapshot-index", at.Index, "incoming-leader-snapshot-term", at.Term)
	b := &boot{
		opt: m.opt, log: m.log, raftLog: m.log, meters: m.meters, id: m.id, clusterID: m.clusterID, auth: m.machine.Auth,
	}
	if err := m.flusher.freeze(func(seal) error { return a.swap(b, at) }); err != nil {
		return err
	}
	a.trimming = b.resume != mvcc.Never
	m.peers.follow(m.memberList())
	m.snapshots.overtaken(at.Index)
	if b.resume != mvcc.Never {
		m.compactor.add(compactJob{prev: b.finished, rev: b.resume, resumed: true})
	}
	m.hub.Restored(m.machine.Store.Rev(), m.machine.Store.CompactRev())
	m.applied.raise(at.Index)
	m.leaderChanged() // the new lessor does not know who lets time run
	m.loop.add(func(in *inbox) { in.installed = &at })
	m.log.Info("applied snapshot", "current-snapshot-index", at.Index, "current-applied-index", at.Index,
		"incoming-leader-snapshot-index", at.Index, "incoming-leader-snapshot-term", at.Term, "took", time.Since(start))
	return nil
}

// swap opens the file of a snapshot in the place of the backend's, loads it and
// has everyone use it. Commits are frozen.
func (a *applier) swap(b *boot, at raftpb.SnapshotMetadata) error {
	m := a.m
	err := m.backend.replace(func() (backend.Backend, error) {
		err := b.openReceived(at.Index)
		return b.backend, err
	})
	if err != nil {
		return err
	}
	if b.index != at.Index {
		return fmt.Errorf("%s holds the state of log index %d", m.opt.dbPath(), b.index)
	}
	if err := b.load(); err != nil {
		return err
	}
	if err := b.checkVersions(); err != nil {
		return err
	}
	m.state.Lock()
	defer m.state.Unlock()
	old := m.machine.Store
	m.machine.TakeOps() // of states before the snapshot
	m.machine.Store, m.machine.Leases, m.machine.Alarms, m.machine.Cluster = b.machine.Store, b.machine.Leases, b.machine.Alarms, b.machine.Cluster
	m.store.Store(b.machine.Store)
	m.storage.Store(&b.storage)
	m.flusher.replace(b.machine.Store, seal{index: at.Index, term: at.Term, rev: b.machine.Store.Rev()})
	old.Close()
	return nil
}

// openReceived gives the file of a received snapshot the backend's name and
// opens it.
func (b *boot) openReceived(index uint64) error {
	if err := b.opt.FS.Rename(filepath.Join(b.opt.snapDir(), snap.DBFileName(index)), b.opt.dbPath()); err != nil {
		return err
	}
	if err := b.opt.FS.SyncDir(b.opt.snapDir()); err != nil {
		return err
	}
	return b.openBackend()
}

// follow talks to exactly the members of a snapshot.
func (p *peers) follow(members []cluster.Member) {
	p.m.state.RLock()
	gone := p.m.machine.Cluster.Removed()
	p.m.state.RUnlock()
	p.mu.Lock()
	for _, id := range gone {
		p.gone[id] = true
	}
	p.mu.Unlock()
	for _, id := range gone {
		p.net.RemovePeer(id)
	}
	for _, c := range members {
		p.net.AddPeer(c.ID, c.PeerURLs)
	}
}
