package raft

import (
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/quorum"
	"github.com/steledb/stele/internal/core/raft/raftlog"
)

// election is the part of a member that is not content with the leader.
type election struct {
	elapsed int             // ticks since a leader was heard, a vote was cast, or (on a leader) a quorum was counted
	timeout int             // ticks of silence after which to campaign, drawn anew each time
	votes   map[uint64]bool // answers to the current campaign
}

func (e *election) reset(cfg *Config) {
	e.elapsed = 0
	e.timeout = cfg.ElectionTicks + cfg.Rand.IntN(cfg.ElectionTicks)
	clear(e.votes)
}

// The context of a vote request for a leadership transfer, which overrides the
// lease of the present leader. The bytes are etcd's.
var campaignTransfer = []byte("CampaignTransfer")

func (r *Raft) tickElection() {
	r.election.elapsed++
	if r.election.elapsed >= r.election.timeout && r.isPromotable() {
		r.election.elapsed = 0
		r.startElection()
	}
}

// Campaign starts an election now.
func (r *Raft) Campaign() error {
	if r.role == Leader {
		return nil
	}
	if !r.isPromotable() || !r.startElection() {
		return ErrNotPromotable
	}
	return nil
}

// isPromotable reports whether this member may become leader: it votes, its
// state machine is not about to be replaced, and its disk keeps up. A member
// whose disk hangs could still win by the votes of others, only to step down.
func (r *Raft) isPromotable() bool {
	return r.self != nil && !r.self.Learner && r.incoming.snapshot == nil && !r.isDiskStalled()
}

func (r *Raft) startElection() bool {
	// A membership change that is agreed on but not applied would have us count
	// votes by an old membership.
	if r.log.HasConfChange(r.log.Applied(), r.log.Committed()) {
		r.event(Event{Kind: EventCampaignBlocked})
		return false
	}
	r.event(Event{Kind: EventElectionStarted})
	if r.cfg.PreVote {
		r.becomePreCandidate()
		// The question is about the next term, which we have not entered.
		r.askForVotes(raftpb.MsgPreVote, raftpb.MsgPreVoteResp, r.term+1, nil)
	} else {
		r.standForElection(nil)
	}
	return true
}

func (r *Raft) standForElection(context []byte) {
	r.becomeCandidate()
	r.askForVotes(raftpb.MsgVote, raftpb.MsgVoteResp, r.term, context)
}

// askForVotes asks everyone, itself included. The requests wait for the disk as
// well: they state the term and the end of the log. Were they sent before, this
// member could crash, forget both, campaign in the same term with a shorter log,
// and be elected by the late answers to its first request.
func (r *Raft) askForVotes(request, response raftpb.MessageType, term uint64, context []byte) {
	last := r.log.Last()
	for _, id := range r.members.Voters.All() {
		if id == r.id {
			r.sendDurably(raftpb.Message{Type: response, To: id, Term: term})
			continue
		}
		r.event(Event{Kind: EventVoteRequested, Type: request, Peer: id})
		r.sendDurably(raftpb.Message{
			Type: request, To: id, Term: term, Index: last.Index, LogTerm: last.Term, Context: context,
		})
	}
}

func (r *Raft) becomePreCandidate() {
	r.mustNotLead()
	// Neither term nor vote change: nobody has agreed to anything.
	clear(r.election.votes)
	r.dropReads()
	r.role, r.leader = PreCandidate, none
	r.event(Event{Kind: EventBecamePreCandidate})
}

func (r *Raft) becomeCandidate() {
	r.mustNotLead()
	r.reset(r.term + 1)
	r.role, r.vote = Candidate, r.id
	r.event(Event{Kind: EventBecameCandidate})
}

func (r *Raft) mustNotLead() {
	if r.role == Leader {
		panic("raft: a leader campaigns")
	}
}

// handleVote answers a candidate (Raft paper 5.2, 5.4.1).
func handleVote(r *Raft, m *raftpb.Message) error {
	free := r.vote == m.From || // said so before
		r.vote == none && r.leader == none ||
		m.Type == raftpb.MsgPreVote && m.Term > r.term
	response := raftpb.MsgVoteResp
	if m.Type == raftpb.MsgPreVote {
		response = raftpb.MsgPreVoteResp
	}
	grant := free && r.log.IsUpToDate(raftlog.Position{Index: m.Index, Term: m.LogTerm})
	r.event(Event{Kind: EventVoteCast, Granted: grant, Type: m.Type, Peer: m.From, Index: m.Index, LogTerm: m.LogTerm})
	if !grant {
		r.sendDurably(raftpb.Message{Type: response, To: m.From, Reject: true})
		return nil
	}
	if m.Type == raftpb.MsgVote {
		r.election.elapsed = 0
		r.vote = m.From
	}
	// With the term of the request: a grant of a pre-vote is for a term we are
	// not in.
	r.sendDurably(raftpb.Message{Type: response, To: m.From, Term: m.Term})
	return nil
}

// handleVoteResp counts an answer to the campaign of the present role.
func handleVoteResp(r *Raft, m *raftpb.Message) error {
	r.event(Event{Kind: EventVoteReceived, Type: m.Type, Peer: m.From, Granted: !m.Reject})
	if _, answered := r.election.votes[m.From]; !answered {
		r.election.votes[m.From] = !m.Reject
	}
	r.reportVotes(m.Type)
	switch r.members.Voters.Tally(r.opinionOf) {
	case quorum.Won:
		r.electionWon()
	case quorum.Lost:
		r.becomeFollower(r.term, none)
	}
	return nil
}

func (r *Raft) electionWon() {
	if r.role == PreCandidate {
		r.standForElection(nil)
	} else {
		r.becomeLeader()
	}
}

func (r *Raft) opinionOf(id uint64) quorum.Opinion {
	yes, answered := r.election.votes[id]
	switch {
	case !answered:
		return quorum.Silent
	case yes:
		return quorum.Yes
	default:
		return quorum.No
	}
}

func (r *Raft) reportVotes(kind raftpb.MessageType) {
	e := Event{Kind: EventVotesCounted, Type: kind}
	for _, yes := range r.election.votes {
		if yes {
			e.Yes++
		} else {
			e.No++
		}
	}
	r.event(e)
}
