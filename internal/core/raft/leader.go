package raft

import (
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/progress"
	"github.com/steledb/stele/internal/core/raft/quorum"
	"github.com/steledb/stele/internal/core/raft/raftlog"
)

func (r *Raft) becomeLeader() {
	if r.role != Candidate {
		panic("raft: " + r.role.String() + " becomes leader")
	}
	r.reset(r.term)
	r.role, r.leader = Leader, r.id
	r.self.BecomeReplicate()
	r.self.Active = true
	r.self.Accepted(r.log.Durable())
	// Some membership change may be in the part of the log that is not yet
	// applied; rather than look for it, wait until all of it is.
	r.lead.pendingConfIndex = r.log.LastIndex()
	r.event(Event{Kind: EventBecameLeader})
	// An entry of the own term: with it everything before is committed too, and
	// only by it may a leader conclude that (Raft paper 5.4.2).
	r.appendOwn(raftpb.Entry{})
}

func (r *Raft) tickLeader() {
	r.election.elapsed++
	r.lead.heartbeatElapsed++
	if r.isDiskStalled() && !r.members.Voters.IsOnly(r.id) {
		// Whoever waits for this disk waits for nothing, while another member
		// could serve. Alone there is nobody to make room for.
		r.event(Event{Kind: EventDiskStalled})
		r.becomeFollower(r.term, none)
		return
	}
	if r.election.elapsed >= r.cfg.ElectionTicks {
		r.election.elapsed = 0
		r.lead.transferee = none // a transfer has one election timeout to succeed
		if r.cfg.CheckQuorum && !r.checkQuorum() {
			return
		}
	}
	r.maybeLeaveJoint()
	if r.lead.heartbeatElapsed >= r.cfg.HeartbeatTicks {
		r.lead.heartbeatElapsed = 0
		r.sendHeartbeats()
		if r.isRetiring() {
			r.handOver()
		}
	}
}

// isRetiring reports whether this leader voted itself out: the membership in
// force has no vote for it.
func (r *Raft) isRetiring() bool { return r.role == Leader && !r.members.Voters.Has(r.id) }

// handOver makes a voter that has everything the leader. To step down at once
// would be simpler, but could leave the others stuck: one that has not heard
// that the change is committed counts by the old membership, and may need the
// vote of this member, whose log is ahead and who cannot stand itself.
func (r *Raft) handOver() {
	for _, id := range r.members.Voters.All() {
		if p := r.peer(id); p.Active && p.Match == r.log.LastIndex() {
			r.sendTimeoutNow(p)
			return
		}
	}
}

// checkQuorum counts who was heard of since the last count, and steps down if
// that is no majority.
func (r *Raft) checkQuorum() bool {
	active := r.members.Voters.Tally(func(id uint64) quorum.Opinion {
		if id == r.id || r.peer(id).Active {
			return quorum.Yes
		}
		return quorum.No
	})
	if active != quorum.Won {
		r.event(Event{Kind: EventQuorumLost})
		r.becomeFollower(r.term, none)
		return false
	}
	for _, p := range r.peers {
		p.Active = p.ID == r.id
	}
	return true
}

// appendOwn adds an entry of the leader's term to its log.
func (r *Raft) appendOwn(e raftpb.Entry) uint64 {
	e.Term = r.term
	r.lead.uncommittedBytes += raftlog.Size(&e)
	r.lead.mustFlush = true
	return r.log.Append(e)
}

// maybeCommit moves the commit index to what a majority has, if that is an entry
// of the own term (Raft paper figure 8 shows why older ones do not count).
func (r *Raft) maybeCommit() bool {
	index := r.members.Voters.Reached(r.matchOf)
	if index <= r.log.Committed() {
		return false
	}
	if term, ok := r.log.Term(index); !ok || term != r.term {
		return false
	}
	r.log.CommitTo(index)
	r.oweNewsOfCommit()
	r.askEarlyReads()
	return true
}

func (r *Raft) matchOf(id uint64) uint64 { return r.peer(id).Match }

func (r *Raft) oweNewsOfCommit() {
	for _, p := range r.peers {
		if p != r.self && p.NewsOfCommit(r.log.Committed()) {
			r.owe(p)
		}
	}
}

// owe has p sent an append with the next Effects, an empty one if need be.
func (r *Raft) owe(p *progress.Progress) {
	p.Owed = true
	r.lead.mustFlush = true
}

// hasCommittedInTerm reports whether the leader knows all that was committed
// before it: its own first entry is.
func (r *Raft) hasCommittedInTerm() bool {
	term, ok := r.log.Term(r.log.Committed())
	return ok && term == r.term
}

// leaderAppendResp takes a follower's answer to an append or a snapshot.
func leaderAppendResp(r *Raft, m *raftpb.Message) error {
	p := r.peer(m.From)
	if p == nil || p == r.self {
		return nil
	}
	p.Active = true
	if m.Reject {
		r.appendRejected(p, m)
		return nil
	}
	if m.Index > r.log.LastIndex() {
		return malformed(m, "acknowledges entries that do not exist")
	}
	r.appendAccepted(p, m.Index)
	return nil
}

func (r *Raft) appendAccepted(p *progress.Progress, index uint64) {
	// A probe that was answered makes a difference even without a new match.
	if !p.Accepted(index) && (p.State != progress.Probe || p.Match != index) {
		return
	}
	switch {
	case p.State == progress.Probe:
		p.BecomeReplicate()
	case p.State == progress.Replicate:
		p.Window.FreeTo(index)
	case p.Match+1 >= r.log.FirstIndex():
		// Whichever snapshot it got, ours or another: the log goes on from it.
		p.BecomeReplicate()
	}
	r.lead.mustFlush = true
	if !r.maybeCommit() && p.NewsOfCommit(r.log.Committed()) {
		r.owe(p)
	}
	if p.ID == r.lead.transferee && p.Match == r.log.LastIndex() {
		r.sendTimeoutNow(p)
	}
}

// appendRejected looks for the place where the logs agree. The follower says
// what it has there (RejectHint, LogTerm), and both sides leap over whole terms
// that cannot match:
//
//	index     1 2 3 4 5 6 7 8 9
//	leader    1 3 3 3 5 5 5 5 5      append behind 9/5 is refused with 6/2: all
//	follower  1 1 1 1 2 2            of ours above term 2 cannot be there, so
//	                                 the next try is behind 1/1.
func (r *Raft) appendRejected(p *progress.Progress, m *raftpb.Message) {
	hint := m.RejectHint
	if m.LogTerm > 0 {
		hint = r.log.Guess(hint, m.LogTerm).Index
	}
	if !p.Rejected(m.Index, hint) {
		return
	}
	if p.State == progress.Replicate {
		p.BecomeProbe()
	}
	r.owe(p)
}

func leaderHeartbeatResp(r *Raft, m *raftpb.Message) error {
	p := r.peer(m.From)
	if p == nil || p == r.self {
		return nil
	}
	p.Active = true
	p.Paused = false
	// It lives. If it lacks something, or we do not know, say so again: what
	// was sent before may be lost. With a full window this sends no entries,
	// but the answer shows which of them arrived.
	if p.Match < r.log.LastIndex() || p.State == progress.Probe {
		r.owe(p)
	}
	r.readsAcknowledged(p, m.Context)
	return nil
}

// ReportUnreachable says that messages to a member are probably lost.
func (r *Raft) ReportUnreachable(id uint64) {
	if p := r.follower(id); p != nil && p.State == progress.Replicate {
		p.BecomeProbe()
	}
}

// follower returns the progress of another member on a leader, nil otherwise.
func (r *Raft) follower(id uint64) *progress.Progress {
	if r.role != Leader || id == r.id {
		return nil
	}
	return r.peer(id)
}
