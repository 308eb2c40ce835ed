package raft

import (
	"fmt"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/confchange"
	"github.com/steledb/stele/internal/core/raft/progress"
)

// ApplyConfChange puts a committed membership change in force and returns the
// membership after it. The driver calls it when its state machine comes to the
// entry, before AppliedTo for that entry. A step that the state machine turned
// down is given with NodeID 0. On an error, which every member gets alike,
// nothing changed.
func (r *Raft) ApplyConfChange(cc raftpb.ConfChangeV2) (raftpb.ConfState, error) {
	if r.incoming.snapshot != nil {
		// The state machine is still on its way to a snapshot whose membership,
		// the result of this change and later ones, is in force already.
		return r.members.ConfState(), nil
	}
	members, err := confchange.Apply(r.members, cc)
	if err != nil {
		return r.members.ConfState(), fmt.Errorf("raft: apply membership change: %w", err)
	}
	r.setMembers(members)
	switch {
	case r.role == Leader:
		r.leadMembers()
	case r.role != Follower && !r.isPromotable():
		r.becomeFollower(r.term, none)
	}
	return members.ConfState(), nil
}

// ApplyConfChangeV1 is ApplyConfChange for a change of one step.
func (r *Raft) ApplyConfChangeV1(cc raftpb.ConfChange) (raftpb.ConfState, error) {
	return r.ApplyConfChange(confchange.FromV1(cc))
}

// ConfState returns the membership in force.
func (r *Raft) ConfState() raftpb.ConfState { return r.members.ConfState() }

// setMembers keeps what is known of those who stay, and starts anew with those
// who come.
func (r *Raft) setMembers(members confchange.Config) {
	all := members.Members()
	peers := make([]*progress.Progress, 0, len(all))
	for _, id := range all {
		p := r.peer(id)
		if p == nil {
			p = r.newPeer(id)
		}
		p.Learner = members.Learners.Has(id)
		peers = append(peers, p)
	}
	r.members, r.peers = members, peers
	r.self = r.peer(r.id)
	r.event(Event{Kind: EventMembersChanged, Members: members})
}

// newPeer expects little of a new member, but gives it until the next count of
// the quorum to show up: it may not have been started yet.
func (r *Raft) newPeer(id uint64) *progress.Progress {
	p := &progress.Progress{ID: id, Next: max(r.log.LastIndex(), 1), Active: true}
	p.Window.MaxMessages, p.Window.MaxBytes = r.cfg.MaxInflightMessages, r.cfg.MaxInflightBytes
	return p
}

// leadMembers draws the leader's conclusions from a new membership.
func (r *Raft) leadMembers() {
	r.lead.mustFlush = true
	r.maybeCommit() // fewer votes may be needed now
	r.maybeAnswerReads()
	if !r.members.Voters.Has(r.lead.transferee) {
		r.lead.transferee = none
	}
}

// maybeLeaveJoint proposes to leave a joint configuration that is to be left
// without being asked, as soon as entering it is applied.
func (r *Raft) maybeLeaveJoint() {
	if r.role != Leader || !r.members.AutoLeave || r.log.Applied() < r.lead.pendingConfIndex || r.lead.transferee != none {
		return
	}
	// The empty change has no bytes, like the one etcd writes.
	r.lead.pendingConfIndex = r.appendOwn(raftpb.Entry{Type: raftpb.EntryConfChangeV2})
	r.event(Event{Kind: EventLeavingJoint})
}
