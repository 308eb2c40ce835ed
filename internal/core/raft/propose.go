package raft

import (
	"fmt"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/confchange"
)

// Propose asks for data to be agreed on, one entry each, in order and all or
// none. No error is no promise: the entries may still be lost with the
// leadership, here or on the way to the leader. The data is kept and must not be
// changed.
func (r *Raft) Propose(datas ...[]byte) error {
	if r.role != Leader {
		return r.forwardProposal(entriesOf(datas))
	}
	var bytes uint64
	for _, d := range datas {
		bytes += uint64(len(d))
	}
	if err := r.mayPropose(bytes); err != nil {
		return err
	}
	for _, d := range datas {
		r.appendOwn(raftpb.Entry{Data: d})
	}
	return nil
}

func entriesOf(datas [][]byte) []raftpb.Entry {
	entries := make([]raftpb.Entry, len(datas))
	for i, d := range datas {
		entries[i].Data = d
	}
	return entries
}

// mayPropose tells whether the leader takes proposals of so many bytes. The
// first one beyond the limit is taken when nothing else waits, or it never could
// be.
func (r *Raft) mayPropose(bytes uint64) error {
	waiting := r.lead.uncommittedBytes
	switch {
	case r.self == nil:
		return ErrNotMember
	case r.lead.transferee != none || r.isRetiring():
		return ErrTransferring
	case waiting > 0 && bytes > 0 && waiting+bytes > r.cfg.MaxUncommittedBytes:
		return ErrBacklog
	}
	return nil
}

// ProposeConfChange asks for a membership change of one step.
func (r *Raft) ProposeConfChange(cc raftpb.ConfChange) error {
	return r.proposeMembership(raftpb.Entry{Type: raftpb.EntryConfChange, Data: cc.Marshal()})
}

// ProposeConfChangeV2 asks for a membership change of any form; the zero value
// leaves a joint configuration.
func (r *Raft) ProposeConfChangeV2(cc raftpb.ConfChangeV2) error {
	return r.proposeMembership(raftpb.Entry{Type: raftpb.EntryConfChangeV2, Data: cc.Marshal()})
}

func (r *Raft) proposeMembership(e raftpb.Entry) error {
	if r.role != Leader {
		return r.forwardProposal([]raftpb.Entry{e})
	}
	if err := r.mayPropose(uint64(len(e.Data))); err != nil {
		return err
	}
	if err := r.vetConfChange(&e); err != nil {
		return err
	}
	r.lead.pendingConfIndex = r.appendOwn(e)
	return nil
}

// vetConfChange refuses a membership change that comes too early: each must be
// computed from the result of the one before.
func (r *Raft) vetConfChange(e *raftpb.Entry) error {
	leaves, err := leavesJoint(e)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfChangeRefused, err)
	}
	var why string
	switch joint := r.members.IsJoint(); {
	case r.lead.pendingConfIndex > r.log.Applied():
		why = fmt.Sprintf("another one may be pending at index %d (applied %d)", r.lead.pendingConfIndex, r.log.Applied())
	case joint && !leaves:
		why = "the joint configuration must be left first"
	case !joint && leaves:
		why = "there is no joint configuration to leave"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrConfChangeRefused, why)
}

func leavesJoint(e *raftpb.Entry) (bool, error) {
	if e.Type != raftpb.EntryConfChangeV2 {
		var cc raftpb.ConfChange
		return false, cc.Unmarshal(e.Data)
	}
	var cc raftpb.ConfChangeV2
	err := cc.Unmarshal(e.Data)
	return confchange.Leaves(cc), err
}

func (r *Raft) forwardProposal(entries []raftpb.Entry) error {
	if r.leader == none {
		return ErrNoLeader
	}
	r.send(raftpb.Message{Type: raftpb.MsgProp, To: r.leader, Entries: entries})
	return nil
}

// followerPropose passes on what somebody else passed to us.
func followerPropose(r *Raft, m *raftpb.Message) error {
	if r.leader == none {
		return ErrNoLeader
	}
	forwarded := *m
	forwarded.To = r.leader
	r.send(forwarded)
	return nil
}

func candidatePropose(*Raft, *raftpb.Message) error { return ErrNoLeader }

// leaderPropose takes proposals of another member. A membership change that is
// refused becomes an empty entry, so that the others in the message keep their
// places.
func leaderPropose(r *Raft, m *raftpb.Message) error {
	var bytes uint64
	for i := range m.Entries {
		bytes += uint64(len(m.Entries[i].Data))
	}
	if err := r.mayPropose(bytes); err != nil {
		return err
	}
	for i := range m.Entries {
		e := raftpb.Entry{Type: m.Entries[i].Type, Data: m.Entries[i].Data}
		isChange := e.Type != raftpb.EntryNormal
		if isChange && r.vetConfChange(&e) != nil {
			e, isChange = raftpb.Entry{}, false
		}
		if index := r.appendOwn(e); isChange {
			r.lead.pendingConfIndex = index
		}
	}
	return nil
}
