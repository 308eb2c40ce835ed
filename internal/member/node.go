package member

import (
	"errors"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft"
)

// inbox is everything that came in since the last turn of the node.
type inbox struct {
	ticks       int
	proposals   []proposal
	confChanges []raftpb.ConfChange
	messages    []raftpb.Message
	askRead     bool     // readers wait for a round
	persisted   []uint64 // tokens of writes that are durable, in order
	diskFailed  bool
	appliedConf *confApplied // what the state machine made of a change; the applier waits for it
	applied     uint64       // highest index applied, 0 for no news
	compactTo   uint64       // drop the log in memory up to here
	campaign    bool         // start an election now
	transferTo  uint64       // hand leadership to this member, 0 for none
	unreachable []uint64     // members that messages did not reach

	// Snapshots on their way.
	prepared  []preparedSnapshot       // can be sent
	delivered []deliveredSnapshot      // have been sent, or not
	installed *raftpb.SnapshotMetadata // the state machine stands at this one from the leader
}

// proposal is a request on its way into the log.
type proposal struct {
	id   uint64 // request id, to find the waiter
	data []byte
}

// confApplied is a committed membership change after the state machine has
// judged it.
type confApplied struct {
	change raftpb.ConfChange
	done   chan raftpb.ConfState // capacity 1
}

// preparedSnapshot is a snapshot that a member needs and that can be sent now.
type preparedSnapshot struct {
	to       uint64
	snapshot raftpb.Snapshot
}

// deliveredSnapshot tells how sending a snapshot ended.
type deliveredSnapshot struct {
	to uint64
	ok bool
}

// outcome is what a turn leads to besides the effects of raft.
type outcome struct {
	effects  []raft.Effects
	refused  []refusal // proposals that did not get into the log
	noRounds [][]byte  // read rounds that could not be started
	warnings []error   // messages that were not acted on
	unwanted []uint64  // members that do not need the prepared snapshot any more
}

// refusal is a proposal that was not accepted, and why.
type refusal struct {
	id  uint64
	err error
}

// node is the member's protocol loop as a function: one inbox in, one outcome
// out. It owns the Raft and the proposals that wait for a leader.
//
// Everything that gathered while the last turn was under way is one batch:
// proposals become one append, one write and one sync.
type node struct {
	raft *raft.Raft
	held []proposal // no leader yet; at most maxProposalBytes
	// heldConf wait for a leader as well.
	heldConf []raftpb.ConfChange
	// startRound takes the round of readers to ask for; nil if there is none.
	startRound func() []byte
}

// maxEffectsPerTurn bounds how much one turn does before it looks at its inbox
// again. Effects that are left come with the next turn, which then starts at
// once.
const maxEffectsPerTurn = 16

// turn takes in and carries on. more says that there is more to do without
// any new input.
func (n *node) turn(in inbox) (out outcome, more bool) {
	n.takeDisk(&in)
	for _, m := range in.messages {
		if err := n.raft.Step(m); err != nil {
			out.warnings = append(out.warnings, err)
		}
	}
	for range in.ticks {
		n.raft.Tick()
	}
	n.takeState(&in)
	n.takeSnapshots(&in, &out)
	n.propose(in.proposals, &out)
	n.changeConf(in.confChanges, &out)
	n.askRead(in.askRead, &out)
	for range maxEffectsPerTurn {
		if !n.raft.HasEffects() {
			return out, false
		}
		out.effects = append(out.effects, n.raft.Effects())
	}
	return out, n.raft.HasEffects()
}

func (n *node) takeDisk(in *inbox) {
	for _, token := range in.persisted {
		n.raft.Persisted(token)
	}
	if in.diskFailed {
		n.raft.PersistFailed()
	}
}

func (n *node) takeState(in *inbox) {
	if c := in.appliedConf; c != nil {
		state, err := n.raft.ApplyConfChangeV1(c.change)
		if err != nil {
			// Every member gets the same error and goes on with the same
			// membership.
			state = n.raft.ConfState()
		}
		c.done <- state
	}
	if in.applied > 0 {
		n.raft.AppliedTo(in.applied)
	}
	if in.compactTo > 0 {
		n.raft.Compact(in.compactTo)
	}
	for _, id := range in.unreachable {
		n.raft.ReportUnreachable(id)
	}
	if in.campaign {
		n.raft.Campaign() // refused while a membership change is pending: time decides then
	}
	if in.transferTo != 0 {
		n.raft.TransferLeader(in.transferTo) // the one who asked watches the leader change
	}
}

func (n *node) takeSnapshots(in *inbox, out *outcome) {
	for _, d := range in.delivered {
		n.raft.ReportSnapshot(d.to, d.ok)
	}
	for _, p := range in.prepared {
		if !n.raft.SendSnapshot(p.to, p.snapshot) {
			out.unwanted = append(out.unwanted, p.to)
		}
	}
	if in.installed != nil {
		n.raft.SnapshotInstalled(*in.installed)
	}
}

// askRead asks raft for the round that readers have gathered for.
func (n *node) askRead(wanted bool, out *outcome) {
	if !wanted {
		return
	}
	context := n.startRound()
	if context == nil {
		return
	}
	if err := n.raft.ReadIndex(context); err != nil {
		out.noRounds = append(out.noRounds, context)
	}
}

// propose puts all waiting proposals into the log at once. Without a leader
// they are held, as a client would rather wait through an election than hear
// of it; their waiters give up by time.
func (n *node) propose(fresh []proposal, out *outcome) {
	all := fresh
	if len(n.held) > 0 {
		all = append(n.held, fresh...)
		n.held = nil
	}
	if len(all) == 0 {
		return
	}
	datas := make([][]byte, len(all))
	for i, p := range all {
		datas[i] = p.data
	}
	switch err := n.raft.Propose(datas...); {
	case err == nil:
	case errors.Is(err, raft.ErrNoLeader), errors.Is(err, raft.ErrTransferring):
		n.hold(all, out)
	default:
		for _, p := range all {
			out.refused = append(out.refused, refusal{p.id, err})
		}
	}
}

// hold keeps proposals until there is a leader, as many as there is room for.
func (n *node) hold(all []proposal, out *outcome) {
	bytes := 0
	for i, p := range all {
		if bytes += len(p.data); bytes > maxProposalBytes {
			for _, late := range all[i:] {
				out.refused = append(out.refused, refusal{late.id, raft.ErrBacklog})
			}
			all = all[:i]
			break
		}
	}
	n.held = all
}

func (n *node) changeConf(fresh []raftpb.ConfChange, out *outcome) {
	all := append(n.heldConf, fresh...)
	n.heldConf = nil
	for i, cc := range all {
		switch err := n.raft.ProposeConfChange(cc); {
		case err == nil:
		case errors.Is(err, raft.ErrNoLeader), errors.Is(err, raft.ErrTransferring):
			n.heldConf = append(n.heldConf, all[i:]...)
			return
		default:
			out.refused = append(out.refused, refusal{cc.ID, err})
		}
	}
}
