package raft

import (
	"fmt"
	"strings"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/confchange"
)

// EventKind is what happened.
type EventKind uint8

// The events.
const (
	EventStarted EventKind = iota
	EventBecameFollower
	EventBecamePreCandidate
	EventBecameCandidate
	EventBecameLeader
	EventLeaderChanged
	EventElectionStarted
	EventCampaignBlocked
	EventVoteRequested
	EventVoteCast // granted or not
	EventVoteIgnored
	EventVoteReceived // granted or not
	EventVotesCounted
	EventHigherTerm
	EventQuorumLost
	EventDiskStalled
	EventTransferStarted
	EventTransferSent
	EventTimeoutNow
	EventMembersChanged
	EventLeavingJoint
	EventAppendRefused
	EventReadDropped
	EventSnapshotWanted
	EventSnapshotRestored
)

// Event is something worth a line in the log. Fields without meaning for a kind
// are zero.
type Event struct {
	Kind EventKind

	// The member at that time.
	ID                  uint64
	Term                uint64
	Vote                uint64
	LastIndex, LastTerm uint64
	Committed, Applied  uint64

	Type      raftpb.MessageType // the message that caused or reports it
	Peer      uint64             // the other one
	PeerTerm  uint64
	OldLeader uint64

	Index, LogTerm uint64 // position of a candidate, a snapshot, an append
	Granted        bool
	Yes, No        int
	RemainingTicks int // of the lease
	Members        confchange.Config
}

// event reports e with the present state filled in.
func (r *Raft) event(e Event) {
	if r.cfg.Events == nil {
		return
	}
	last := r.log.Last()
	e.ID, e.Term, e.Vote = r.id, r.term, r.vote
	e.LastIndex, e.LastTerm = last.Index, last.Term
	e.Committed, e.Applied = r.log.Committed(), r.log.Applied()
	switch e.Kind {
	case EventVoteIgnored:
		e.RemainingTicks = r.cfg.ElectionTicks - r.election.elapsed
	case EventStarted:
		e.Members = r.members
	}
	r.cfg.Events(e)
}

// IsWarning reports whether an operator should look at it.
func (e *Event) IsWarning() bool {
	return e.Kind == EventQuorumLost || e.Kind == EventDiskStalled || e.Kind == EventCampaignBlocked
}

// IsDebug reports whether it is of interest only to those who look for faults
// in the protocol.
func (e *Event) IsDebug() bool {
	return e.Kind == EventAppendRefused || e.Kind == EventSnapshotWanted
}

// String is the line in the log. Operators' tools know these words, so they stand
// together in one place, however long it gets.
func (e *Event) String() string {
	kind := TypeName(e.Type)
	switch e.Kind {
	case EventStarted:
		return fmt.Sprintf("newRaft %x [peers: [%s], term: %d, commit: %d, applied: %d, lastindex: %d, lastterm: %d]",
			e.ID, hexList(e.Members.Voters.All()), e.Term, e.Committed, e.Applied, e.LastIndex, e.LastTerm)
	case EventBecameFollower:
		return fmt.Sprintf("%x became follower at term %d", e.ID, e.Term)
	case EventBecamePreCandidate:
		return fmt.Sprintf("%x became pre-candidate at term %d", e.ID, e.Term)
	case EventBecameCandidate:
		return fmt.Sprintf("%x became candidate at term %d", e.ID, e.Term)
	case EventBecameLeader:
		return fmt.Sprintf("%x became leader at term %d", e.ID, e.Term)
	case EventLeaderChanged:
		return e.leaderChange()
	case EventElectionStarted:
		return fmt.Sprintf("%x is starting a new election at term %d", e.ID, e.Term)
	case EventCampaignBlocked:
		return fmt.Sprintf("%x cannot campaign at term %d since there are still pending configuration changes to apply", e.ID, e.Term)
	case EventVoteRequested:
		return fmt.Sprintf("%x [logterm: %d, index: %d] sent %s request to %x at term %d",
			e.ID, e.LastTerm, e.LastIndex, kind, e.Peer, e.Term)
	case EventVoteCast:
		word := "rejected %s from"
		if e.Granted {
			word = "cast %s for"
		}
		return fmt.Sprintf("%s %s %x %s at term %d", e.voter(), fmt.Sprintf(word, kind), e.Peer, e.position(), e.Term)
	case EventVoteIgnored:
		return fmt.Sprintf("%s ignored %s from %x %s at term %d: lease is not expired (remaining ticks: %d)",
			e.voter(), kind, e.Peer, e.position(), e.Term, e.RemainingTicks)
	case EventVoteReceived:
		rejection := ""
		if !e.Granted {
			rejection = " rejection"
		}
		return fmt.Sprintf("%x received %s%s from %x at term %d", e.ID, kind, rejection, e.Peer, e.Term)
	case EventVotesCounted:
		return fmt.Sprintf("%x has received %d %s votes and %d vote rejections", e.ID, e.Yes, kind, e.No)
	case EventHigherTerm:
		return fmt.Sprintf("%x [term: %d] received a %s message with higher term from %x [term: %d]",
			e.ID, e.Term, kind, e.Peer, e.PeerTerm)
	case EventQuorumLost:
		return fmt.Sprintf("%x stepped down to follower since quorum is not active", e.ID)
	case EventDiskStalled:
		return fmt.Sprintf("%x stepped down to follower since its disk does not keep up", e.ID)
	case EventTransferStarted:
		return fmt.Sprintf("%x [term %d] starts to transfer leadership to %x", e.ID, e.Term, e.Peer)
	case EventTransferSent:
		return fmt.Sprintf("%x sends MsgTimeoutNow to %x immediately as %x already has up-to-date log", e.ID, e.Peer, e.Peer)
	case EventTimeoutNow:
		return fmt.Sprintf("%x [term %d] received MsgTimeoutNow from %x and starts an election to get leadership.", e.ID, e.Term, e.Peer)
	case EventMembersChanged:
		return fmt.Sprintf("%x switched to configuration %v", e.ID, e.Members)
	case EventLeavingJoint:
		return fmt.Sprintf("%x leaves the joint configuration", e.ID)
	case EventAppendRefused:
		return fmt.Sprintf("%x [logterm: %d, index: %d] rejected MsgApp %s from %x", e.ID, e.LastTerm, e.LastIndex, e.position(), e.Peer)
	case EventReadDropped:
		return fmt.Sprintf("%x no leader at term %d; dropping index reading msg", e.ID, e.Term)
	case EventSnapshotWanted:
		return fmt.Sprintf("%x needs a snapshot for %x", e.ID, e.Peer)
	case EventSnapshotRestored:
		return fmt.Sprintf("%x [commit: %d, lastindex: %d, lastterm: %d] restored snapshot [index: %d, term: %d]",
			e.ID, e.Committed, e.LastIndex, e.LastTerm, e.Index, e.LogTerm)
	}
	return fmt.Sprintf("%x event %d", e.ID, e.Kind)
}

// voter and position are the halves of a vote: who is asked, who asks.
func (e *Event) voter() string {
	return fmt.Sprintf("%x [logterm: %d, index: %d, vote: %x]", e.ID, e.LastTerm, e.LastIndex, e.Vote)
}

func (e *Event) position() string {
	return fmt.Sprintf("[logterm: %d, index: %d]", e.LogTerm, e.Index)
}

func (e *Event) leaderChange() string {
	switch {
	case e.OldLeader == none:
		return fmt.Sprintf("raft.node: %x elected leader %x at term %d", e.ID, e.Peer, e.Term)
	case e.Peer == none:
		return fmt.Sprintf("raft.node: %x lost leader %x at term %d", e.ID, e.OldLeader, e.Term)
	}
	return fmt.Sprintf("raft.node: %x changed leader from %x to %x at term %d", e.ID, e.OldLeader, e.Peer, e.Term)
}

func hexList(ids []uint64) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = fmt.Sprintf("%x", id)
	}
	return strings.Join(words, ",")
}
