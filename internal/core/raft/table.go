package raft

import (
	"bytes"
	"fmt"

	"github.com/steledb/stele/internal/base/raftpb"
)

// A handler acts on a message of the current term. It may keep parts of the
// message but not the pointer.
type handler func(*Raft, *raftpb.Message) error

const typeCount = raftpb.MsgForgetLeader + 1

// handlers is the protocol: what each role does with each message. An empty
// place means that the message is out of date for that role and is dropped.
// Filled by init, since handlers lead back here.
var handlers [roleCount][typeCount]handler

func init() {
	type row [roleCount]handler
	for kind, h := range map[raftpb.MessageType]row{
		//                         follower                   pre-candidate       candidate           leader
		raftpb.MsgVote:           {handleVote, handleVote, handleVote, handleVote},
		raftpb.MsgPreVote:        {handleVote, handleVote, handleVote, handleVote},
		raftpb.MsgVoteResp:       {nil, nil, handleVoteResp, nil},
		raftpb.MsgPreVoteResp:    {nil, handleVoteResp, nil, nil},
		raftpb.MsgApp:            {followerAppend, candidateAppend, candidateAppend, leaderHearsLeader},
		raftpb.MsgHeartbeat:      {followerHeartbeat, candidateHeartbeat, candidateHeartbeat, leaderHearsLeader},
		raftpb.MsgSnap:           {followerSnapshot, candidateSnapshot, candidateSnapshot, leaderHearsLeader},
		raftpb.MsgAppResp:        {nil, nil, nil, leaderAppendResp},
		raftpb.MsgHeartbeatResp:  {nil, nil, nil, leaderHeartbeatResp},
		raftpb.MsgProp:           {followerPropose, candidatePropose, candidatePropose, leaderPropose},
		raftpb.MsgReadIndex:      {followerReadIndex, candidateReadIndex, candidateReadIndex, leaderReadIndex},
		raftpb.MsgReadIndexResp:  {followerReadIndexResp, nil, nil, nil},
		raftpb.MsgTransferLeader: {followerTransfer, nil, nil, leaderTransfer},
		raftpb.MsgTimeoutNow:     {followerTimeoutNow, nil, nil, nil},
		raftpb.MsgForgetLeader:   {followerForgetLeader, nil, nil, nil},
	} {
		for role, handle := range h {
			handlers[role][kind] = handle
		}
	}
}

func handlerOf(role Role, kind raftpb.MessageType) handler {
	if kind < 0 || kind >= typeCount {
		return nil
	}
	return handlers[role][kind]
}

// isLocal tells the types that etcd's raft uses within a member only.
func isLocal(kind raftpb.MessageType) bool {
	switch kind {
	case raftpb.MsgHup, raftpb.MsgBeat, raftpb.MsgUnreachable, raftpb.MsgSnapStatus, raftpb.MsgCheckQuorum:
		return true
	}
	return kind < 0 || kind > raftpb.MsgPreVoteResp && kind < raftpb.MsgForgetLeader || kind >= typeCount
}

func isResponse(kind raftpb.MessageType) bool {
	switch kind {
	case raftpb.MsgAppResp, raftpb.MsgVoteResp, raftpb.MsgHeartbeatResp, raftpb.MsgReadIndexResp, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

// isFromLeader tells the types that only the leader of their term sends.
func isFromLeader(kind raftpb.MessageType) bool {
	return kind == raftpb.MsgApp || kind == raftpb.MsgHeartbeat || kind == raftpb.MsgSnap
}

func isVoteRequest(kind raftpb.MessageType) bool {
	return kind == raftpb.MsgVote || kind == raftpb.MsgPreVote
}

// hasNoTerm tells the requests that are passed on for others.
func hasNoTerm(kind raftpb.MessageType) bool {
	return kind == raftpb.MsgProp || kind == raftpb.MsgReadIndex || kind == raftpb.MsgTransferLeader
}

// admit holds a message's term against ours before its handler sees it: a higher
// one makes us a follower of it, a lower one is answered only where silence
// would leave the sender stuck.
func (r *Raft) admit(m *raftpb.Message) (pass bool, err error) {
	switch {
	case m.Term == 0:
		if !hasNoTerm(m.Type) {
			return false, malformed(m, "no term")
		}
		return true, nil
	case m.Term > r.term:
		return r.admitHigherTerm(m), nil
	case m.Term < r.term:
		r.answerLowerTerm(m)
		return false, nil
	}
	return true, nil
}

func (r *Raft) admitHigherTerm(m *raftpb.Message) bool {
	switch {
	case isVoteRequest(m.Type) && r.hasLiveLeader() && !bytes.Equal(m.Context, campaignTransfer):
		// The leader's lease: while we hear from a leader, nobody gets us to
		// leave it, or a member cut off for a while could unseat it on return.
		r.event(Event{Kind: EventVoteIgnored, Type: m.Type, Peer: m.From, Index: m.Index, LogTerm: m.LogTerm})
		return false
	case m.Type == raftpb.MsgPreVote:
		// Only a question: it moves nobody's term.
		return true
	case m.Type == raftpb.MsgPreVoteResp && !m.Reject:
		// A grant carries the term we asked for, which is not ours yet.
		return true
	}
	r.event(Event{Kind: EventHigherTerm, Type: m.Type, Peer: m.From, PeerTerm: m.Term})
	leader := uint64(none)
	if isFromLeader(m.Type) {
		leader = m.From
	}
	r.becomeFollower(m.Term, leader)
	return true
}

// hasLiveLeader reports whether a leader was heard of within an election
// timeout. Without CheckQuorum there is no lease.
func (r *Raft) hasLiveLeader() bool {
	return r.cfg.CheckQuorum && r.leader != none && r.election.elapsed < r.cfg.ElectionTicks
}

func (r *Raft) answerLowerTerm(m *raftpb.Message) {
	switch {
	case (r.cfg.CheckQuorum || r.cfg.PreVote) && (m.Type == raftpb.MsgHeartbeat || m.Type == raftpb.MsgApp):
		// A leader behind our term would go on talking to deaf ears, and with
		// votes bound by leases we could never replace it: tell it our term.
		r.sendDurably(raftpb.Message{Type: raftpb.MsgAppResp, To: m.From})
	case m.Type == raftpb.MsgPreVote:
		// Likewise for a candidate with an older term but a longer log.
		r.sendDurably(raftpb.Message{Type: raftpb.MsgPreVoteResp, To: m.From, Reject: true})
	}
}

// leaderHearsLeader: two leaders in one term. One of them is not playing by the
// rules, and we are.
func leaderHearsLeader(r *Raft, m *raftpb.Message) error {
	return malformed(m, fmt.Sprintf("%x leads that term", r.id))
}

// typeNames are the names in logs and metrics.
var typeNames = [...]string{
	"MsgHup", "MsgBeat", "MsgProp", "MsgApp", "MsgAppResp", "MsgVote", "MsgVoteResp", "MsgSnap", "MsgHeartbeat",
	"MsgHeartbeatResp", "MsgUnreachable", "MsgSnapStatus", "MsgCheckQuorum", "MsgTransferLeader", "MsgTimeoutNow",
	"MsgReadIndex", "MsgReadIndexResp", "MsgPreVote", "MsgPreVoteResp", "MsgStorageAppend", "MsgStorageAppendResp",
	"MsgStorageApply", "MsgStorageApplyResp", "MsgForgetLeader",
}

// TypeName returns the name of a message type as operators know it.
func TypeName(kind raftpb.MessageType) string {
	if kind < 0 || int(kind) >= len(typeNames) {
		return fmt.Sprintf("MsgType(%d)", kind)
	}
	return typeNames[kind]
}
