// Package confchange computes memberships: what a change makes of the one in
// force, and what a ConfState from disk or a snapshot means.
//
// A Config is a value; every function returns a new one. A change with one step
// takes effect at once. A change with several steps, or one that asks for it,
// passes through a joint configuration:
//
//	voters=(1 2 3)                    apply "v4 r2", transition auto
//	voters=(1 3 4)&&(1 2 3) autoleave apply the empty change
//	voters=(1 3 4)
//
// While joint, a voter of the outgoing half that is to become a learner waits in
// LearnersNext, because nobody can be voter and learner at the same time.
package confchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/quorum"
)

// Config is a membership.
//
// Invariants: Voters and Learners share nobody; LearnersNext lies within
// Voters.Outgoing and outside Voters.Incoming; without an outgoing half,
// LearnersNext is empty and AutoLeave is false.
type Config struct {
	Voters       quorum.Joint
	Learners     quorum.Set
	LearnersNext quorum.Set
	AutoLeave    bool // the leader leaves the joint configuration on its own
}

// The changes that a membership cannot take.
var (
	ErrJoint     = errors.New("confchange: configuration is already joint")
	ErrNotJoint  = errors.New("confchange: configuration is not joint")
	ErrNoVoters  = errors.New("confchange: no voters would be left")
	ErrTooSimple = errors.New("confchange: more than one voter changed without a joint configuration")
	ErrBadType   = errors.New("confchange: unknown kind of change")
	ErrBadState  = errors.New("confchange: inconsistent membership")
)

// FromV1 writes a single-step change in the general form.
func FromV1(cc raftpb.ConfChange) raftpb.ConfChangeV2 {
	return raftpb.ConfChangeV2{
		Changes: []raftpb.ConfChangeSingle{{Type: cc.Type, NodeID: cc.NodeID}},
		Context: cc.Context,
	}
}

// Leaves reports whether cc is the empty change, which leaves a joint
// configuration.
func Leaves(cc raftpb.ConfChangeV2) bool {
	return cc.Transition == raftpb.ConfChangeTransitionAuto && len(cc.Changes) == 0
}

// Enters reports whether cc passes through a joint configuration, and whether
// that one is left without being asked.
func Enters(cc raftpb.ConfChangeV2) (joint, autoLeave bool) {
	joint = cc.Transition != raftpb.ConfChangeTransitionAuto || len(cc.Changes) > 1
	return joint, joint && cc.Transition != raftpb.ConfChangeTransitionJointExplicit
}

// IsJoint reports whether a change is under way.
func (c Config) IsJoint() bool { return len(c.Voters.Outgoing) > 0 }

// Members returns everybody the configuration knows: voters of both halves and
// learners.
func (c Config) Members() quorum.Set {
	return quorum.Of(slices.Concat(c.Voters.Incoming, c.Voters.Outgoing, c.Learners)...)
}

// Apply returns the membership after cc. On an error the one in force stays.
func Apply(c Config, cc raftpb.ConfChangeV2) (Config, error) {
	if Leaves(cc) {
		return leave(c)
	}
	if joint, autoLeave := Enters(cc); joint {
		return enter(c, cc.Changes, autoLeave)
	}
	return simple(c, cc.Changes)
}

func simple(c Config, changes []raftpb.ConfChangeSingle) (Config, error) {
	if c.IsJoint() {
		return c, ErrJoint
	}
	next, err := steps(c, changes)
	if err != nil {
		return c, err
	}
	// Majorities of two sets that differ by one voter always share a member;
	// that is what makes the step safe without a joint configuration.
	if next.Voters.Incoming.Distance(c.Voters.Incoming) > 1 {
		return c, ErrTooSimple
	}
	return next, next.check()
}

func enter(c Config, changes []raftpb.ConfChangeSingle, autoLeave bool) (Config, error) {
	if c.IsJoint() {
		return c, ErrJoint
	}
	if len(c.Voters.Incoming) == 0 {
		return c, ErrNoVoters
	}
	start := c
	start.Voters.Outgoing = c.Voters.Incoming
	next, err := steps(start, changes)
	if err != nil {
		return c, err
	}
	next.AutoLeave = autoLeave
	return next, next.check()
}

func leave(c Config) (Config, error) {
	if !c.IsJoint() {
		return c, ErrNotJoint
	}
	next := Config{
		Voters:   quorum.Joint{Incoming: c.Voters.Incoming},
		Learners: quorum.Of(slices.Concat(c.Learners, c.LearnersNext)...),
	}
	return next, next.check()
}

func steps(c Config, changes []raftpb.ConfChangeSingle) (Config, error) {
	for _, step := range changes {
		if step.NodeID == 0 {
			continue // the state machine turned this step down; it still counts as applied
		}
		switch step.Type {
		case raftpb.ConfChangeAddNode:
			c = withVoter(c, step.NodeID)
		case raftpb.ConfChangeAddLearnerNode:
			c = withLearner(c, step.NodeID)
		case raftpb.ConfChangeRemoveNode:
			c = without(c, step.NodeID)
		case raftpb.ConfChangeUpdateNode: // only addresses change
		default:
			return c, fmt.Errorf("%w: %d", ErrBadType, step.Type)
		}
	}
	if len(c.Voters.Incoming) == 0 {
		return c, ErrNoVoters
	}
	return c, nil
}

func withVoter(c Config, id uint64) Config {
	c.Learners = c.Learners.Without(id)
	c.LearnersNext = c.LearnersNext.Without(id)
	c.Voters.Incoming = c.Voters.Incoming.With(id)
	return c
}

func withLearner(c Config, id uint64) Config {
	c = without(c, id)
	if c.Voters.Outgoing.Has(id) {
		c.LearnersNext = c.LearnersNext.With(id)
	} else {
		c.Learners = c.Learners.With(id)
	}
	return c
}

// without takes id out of everything but the outgoing half, which stays as it
// was until the joint configuration is left.
func without(c Config, id uint64) Config {
	c.Voters.Incoming = c.Voters.Incoming.Without(id)
	c.Learners = c.Learners.Without(id)
	c.LearnersNext = c.LearnersNext.Without(id)
	return c
}

// check asserts the invariants given at Config.
func (c Config) check() error {
	for _, id := range c.Learners {
		if c.Voters.Has(id) {
			return fmt.Errorf("%w: %d is voter and learner in %v", ErrBadState, id, c)
		}
	}
	for _, id := range c.LearnersNext {
		if !c.Voters.Outgoing.Has(id) || c.Voters.Incoming.Has(id) {
			return fmt.Errorf("%w: %d cannot become a learner in %v", ErrBadState, id, c)
		}
	}
	if !c.IsJoint() && (len(c.LearnersNext) > 0 || c.AutoLeave) {
		return fmt.Errorf("%w: leftovers of a joint configuration in %v", ErrBadState, c)
	}
	if len(c.Voters.Incoming) == 0 && (c.IsJoint() || len(c.Learners) > 0) {
		return fmt.Errorf("%w: no voters in %v", ErrBadState, c)
	}
	return nil
}

// Restore returns the membership that cs describes. An empty one is fine: it is
// that of a member that waits to be told by a leader.
func Restore(cs raftpb.ConfState) (Config, error) {
	c := Config{
		Voters:       quorum.Joint{Incoming: quorum.Of(cs.Voters...), Outgoing: quorum.Of(cs.VotersOutgoing...)},
		Learners:     quorum.Of(cs.Learners...),
		LearnersNext: quorum.Of(cs.LearnersNext...),
		AutoLeave:    cs.AutoLeave,
	}
	return c, c.check()
}

// ConfState writes the membership as it goes into snapshots. Nothing in it is
// shared with c.
func (c Config) ConfState() raftpb.ConfState {
	return raftpb.ConfState{
		Voters:         list(c.Voters.Incoming),
		Learners:       list(c.Learners),
		VotersOutgoing: list(c.Voters.Outgoing),
		LearnersNext:   list(c.LearnersNext),
		AutoLeave:      c.AutoLeave,
	}
}

// list copies a set; an empty one becomes nil, so that equal memberships are
// deeply equal.
func list(s quorum.Set) []uint64 { return append([]uint64(nil), s...) }

func (c Config) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "voters=%v", c.Voters)
	if len(c.Learners) > 0 {
		fmt.Fprintf(&b, " learners=%v", c.Learners)
	}
	if len(c.LearnersNext) > 0 {
		fmt.Fprintf(&b, " learners_next=%v", c.LearnersNext)
	}
	if c.AutoLeave {
		b.WriteString(" autoleave")
	}
	return b.String()
}
