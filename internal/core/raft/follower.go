package raft

import (
	"fmt"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/confchange"
	"github.com/steledb/stele/internal/core/raft/raftlog"
)

// heardLeader notes a sign of life of the leader.
func (r *Raft) heardLeader(id uint64) {
	r.election.elapsed = 0
	if r.leader != id {
		r.leader = id
		r.dropReads() // what was asked of someone else will not be answered
	}
}

// yield makes a candidate the follower of the one who won its term.
func (r *Raft) yield(m *raftpb.Message) { r.becomeFollower(m.Term, m.From) }

func candidateAppend(r *Raft, m *raftpb.Message) error {
	r.yield(m)
	return followerAppend(r, m)
}

func candidateHeartbeat(r *Raft, m *raftpb.Message) error {
	r.yield(m)
	return followerHeartbeat(r, m)
}

func candidateSnapshot(r *Raft, m *raftpb.Message) error {
	r.yield(m)
	return followerSnapshot(r, m)
}

// followerAppend merges the leader's entries (Raft paper 5.3).
func followerAppend(r *Raft, m *raftpb.Message) error {
	if err := checkEntries(m); err != nil {
		return err
	}
	r.heardLeader(m.From)
	if m.Index < r.log.Committed() {
		// An old message: everything up to the commit index agrees anyway.
		r.acknowledge(m.From, r.log.Committed())
		return nil
	}
	if !r.log.Matches(raftlog.Position{Index: m.Index, Term: m.LogTerm}) {
		r.refuse(m)
		return nil
	}
	if replaced := r.log.Merge(m.Entries); len(replaced) > 0 {
		r.disk.truncatedAt(replaced[0].Index)
		r.out.replaced = append(r.out.replaced, replaced...)
	}
	last := m.Index + uint64(len(m.Entries))
	r.log.CommitTo(min(m.Commit, last))
	r.acknowledge(m.From, last)
	return nil
}

// checkEntries makes sure that a message holds a piece of a log.
func checkEntries(m *raftpb.Message) error {
	term := m.LogTerm
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Index != m.Index+1+uint64(i) || e.Term < term || e.Term > m.Term {
			return malformed(m, fmt.Sprintf("entry %d/%d at place %d behind %d/%d", e.Term, e.Index, i, m.LogTerm, m.Index))
		}
		term = e.Term
	}
	return nil
}

// acknowledge says that the log agrees up to index, once that is durable. While
// one acknowledgement waits for the disk a further one takes its place: each
// covers all before it.
func (r *Raft) acknowledge(to, index uint64) {
	m := r.sealed(raftpb.Message{Type: raftpb.MsgAppResp, To: to, Index: index})
	if last := r.disk.lastAwaiting(); last != nil && last.Type == m.Type && last.To == m.To &&
		last.Term == m.Term && !last.Reject && last.Index <= m.Index {
		last.Index = m.Index
		return
	}
	r.disk.await(m)
}

// refuse tells the leader where the logs might agree; see appendRejected.
func (r *Raft) refuse(m *raftpb.Message) {
	guess := r.log.Guess(m.Index, m.LogTerm)
	r.event(Event{Kind: EventAppendRefused, Peer: m.From, Index: m.Index, LogTerm: m.LogTerm})
	r.sendDurably(raftpb.Message{
		Type: raftpb.MsgAppResp, To: m.From, Index: m.Index, Reject: true, RejectHint: guess.Index, LogTerm: guess.Term,
	})
}

func followerHeartbeat(r *Raft, m *raftpb.Message) error {
	r.heardLeader(m.From)
	if m.Commit > r.log.LastIndex() {
		return fmt.Errorf("%w: leader %x knows of entry %d here, the log ends at %d",
			ErrLogLost, m.From, m.Commit, r.log.LastIndex())
	}
	r.log.CommitTo(m.Commit)
	r.send(raftpb.Message{Type: raftpb.MsgHeartbeatResp, To: m.From, Context: m.Context})
	return nil
}

// followerSnapshot replaces the log, unless it has come as far already.
func followerSnapshot(r *Raft, m *raftpb.Message) error {
	if m.Snapshot.IsEmpty() {
		return malformed(m, "no snapshot in it")
	}
	r.heardLeader(m.From)
	restored, err := r.restore(m.Snapshot)
	if err != nil {
		return err
	}
	if restored {
		r.acknowledge(m.From, r.log.LastIndex())
	} else {
		r.acknowledge(m.From, r.log.Committed())
	}
	return nil
}

// restore adopts a snapshot and reports whether it had to. The state machine
// follows when the driver has installed it.
func (r *Raft) restore(s *raftpb.Snapshot) (bool, error) {
	meta := &s.Metadata
	at := raftlog.Position{Index: meta.Index, Term: meta.Term}
	if at.Index <= r.log.Committed() {
		return false, nil
	}
	if r.log.Matches(at) {
		r.log.CommitTo(at.Index) // we have all of it and need not wait for the state
		return false, nil
	}
	members, err := confchange.Restore(meta.ConfState)
	if err != nil {
		return false, fmt.Errorf("raft: snapshot at %v: %w", at, err)
	}
	if !members.Members().Has(r.id) {
		return false, nil // meant for others: we would not know what we are
	}
	r.log.Restore(at)
	r.disk.truncatedAt(0)
	r.out.batches, r.out.batchesBytes = nil, 0
	r.incoming = incoming{snapshot: s}
	r.setMembers(members)
	r.event(Event{Kind: EventSnapshotRestored, Index: at.Index, LogTerm: at.Term})
	return true, nil
}

// SnapshotInstalled says that the state machine stands at the snapshot of an
// Effects that was persisted. A snapshot that has been overtaken by a newer one
// is ignored.
func (r *Raft) SnapshotInstalled(meta raftpb.SnapshotMetadata) {
	if r.incoming.snapshot == nil || !r.incoming.handed || r.incoming.snapshot.Metadata.Index != meta.Index {
		return
	}
	r.incoming = incoming{}
	r.log.Installed(meta.Index)
}

func followerForgetLeader(r *Raft, _ *raftpb.Message) error {
	r.leader = none
	return nil
}
