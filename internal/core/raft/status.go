package raft

import (
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/progress"
)

// Status is a snapshot of the protocol state for metrics and health checks.
type Status struct {
	ID         uint64
	Role       Role
	Term       uint64
	Vote       uint64
	Leader     uint64
	Learner    bool   // this member is in, but does not vote
	Transferee uint64 // who is being made leader, 0 if nobody

	FirstIndex uint64
	LastIndex  uint64
	Durable    uint64
	Committed  uint64
	Delivered  uint64
	Applied    uint64

	UncommittedBytes uint64
	WritesInFlight   int
	PendingReads     int
	PendingSnapshot  uint64 // snapshot waiting to be installed, 0 if none

	Peers []PeerStatus // the leader's view of the others; nil elsewhere
}

// PeerStatus is how far a follower is.
type PeerStatus struct {
	ID            uint64
	Match, Next   uint64
	State         progress.State
	SnapshotIndex uint64
	Learner       bool
	Active        bool
	Paused        bool
	Inflight      int
	InflightBytes uint64
}

// Status describes the member.
func (r *Raft) Status() Status {
	s := Status{
		ID: r.id, Role: r.role, Term: r.term, Vote: r.vote, Leader: r.leader,
		Learner: r.self != nil && r.self.Learner, Transferee: r.lead.transferee,
		FirstIndex: r.log.FirstIndex(), LastIndex: r.log.LastIndex(), Durable: r.log.Durable(),
		Committed: r.log.Committed(), Delivered: r.log.Delivered(), Applied: r.log.Applied(),
		UncommittedBytes: r.lead.uncommittedBytes, WritesInFlight: len(r.disk.writes),
		PendingReads: len(r.reads.queue) + len(r.reads.early) + len(r.reads.asked),
	}
	if r.incoming.snapshot != nil {
		s.PendingSnapshot = r.incoming.snapshot.Metadata.Index
	}
	if r.role == Leader {
		s.Peers = r.peerStatus()
	}
	return s
}

func (r *Raft) peerStatus() []PeerStatus {
	peers := make([]PeerStatus, 0, len(r.peers))
	for _, p := range r.peers {
		if p == r.self {
			continue
		}
		peers = append(peers, PeerStatus{
			ID: p.ID, Match: p.Match, Next: p.Next, State: p.State, SnapshotIndex: p.SnapshotIndex,
			Learner: p.Learner, Active: p.Active, Paused: p.IsPaused(),
			Inflight: p.Window.Len(), InflightBytes: p.Window.Bytes(),
		})
	}
	return peers
}

// Role, Term, Leader and Applied are the parts of Status that a driver asks for
// often.
func (r *Raft) Role() Role      { return r.role }
func (r *Raft) Term() uint64    { return r.term }
func (r *Raft) Leader() uint64  { return r.leader }
func (r *Raft) Applied() uint64 { return r.log.Applied() }

// TermAt returns the term of the entry at index, false if it is not in memory.
func (r *Raft) TermAt(index uint64) (uint64, bool) { return r.log.Term(index) }

// Entries returns entries in [from, to) that are in memory; shared.
func (r *Raft) Entries(from, to uint64) []raftpb.Entry {
	from, to = max(from, r.log.FirstIndex()), min(to, r.log.LastIndex()+1)
	entries, _ := r.log.Slice(from, to, ^uint64(0))
	return entries
}
