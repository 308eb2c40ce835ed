package raft

import (
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/progress"
)

// TransferLeader asks the leader to hand over to another member. The leader
// takes no proposals until that happened or an election timeout passed.
func (r *Raft) TransferLeader(to uint64) error {
	// The request travels under the name of the one who is to lead.
	m := raftpb.Message{Type: raftpb.MsgTransferLeader, From: to}
	if handle := handlerOf(r.role, m.Type); handle != nil {
		return handle(r, &m)
	}
	return ErrNoLeader
}

func followerTransfer(r *Raft, m *raftpb.Message) error {
	if r.leader == none {
		return ErrNoLeader
	}
	r.send(raftpb.Message{Type: raftpb.MsgTransferLeader, To: r.leader, From: m.From})
	return nil
}

func leaderTransfer(r *Raft, m *raftpb.Message) error {
	p := r.peer(m.From)
	if p == nil || !r.members.Voters.Has(m.From) {
		return ErrNotPromotable
	}
	if p == r.self || r.lead.transferee == m.From {
		return nil
	}
	r.election.elapsed = 0 // it has one election timeout from now
	r.lead.transferee = m.From
	r.event(Event{Kind: EventTransferStarted, Peer: m.From})
	if p.Match == r.log.LastIndex() {
		r.sendTimeoutNow(p)
	} else {
		r.owe(p)
	}
	return nil
}

func (r *Raft) sendTimeoutNow(p *progress.Progress) {
	r.event(Event{Kind: EventTransferSent, Peer: p.ID})
	r.send(raftpb.Message{Type: raftpb.MsgTimeoutNow, To: p.ID})
}

// followerTimeoutNow campaigns on the leader's word. There is no pre-vote to
// ask: the leader knows that we are needed.
func followerTimeoutNow(r *Raft, m *raftpb.Message) error {
	r.event(Event{Kind: EventTimeoutNow, Peer: m.From})
	if !r.isPromotable() {
		return ErrNotPromotable
	}
	if r.log.HasConfChange(r.log.Applied(), r.log.Committed()) {
		r.event(Event{Kind: EventCampaignBlocked})
		return ErrNotPromotable
	}
	r.event(Event{Kind: EventElectionStarted})
	r.standForElection(campaignTransfer)
	return nil
}
