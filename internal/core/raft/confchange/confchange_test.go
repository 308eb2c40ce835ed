package confchange

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/quorum"
)

func change(transition raftpb.ConfChangeTransition, steps ...raftpb.ConfChangeSingle) raftpb.ConfChangeV2 {
	return raftpb.ConfChangeV2{Transition: transition, Changes: steps}
}

func voter(id uint64) raftpb.ConfChangeSingle {
	return raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddNode, NodeID: id}
}

func learner(id uint64) raftpb.ConfChangeSingle {
	return raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddLearnerNode, NodeID: id}
}

func remove(id uint64) raftpb.ConfChangeSingle {
	return raftpb.ConfChangeSingle{Type: raftpb.ConfChangeRemoveNode, NodeID: id}
}

const (
	auto     = raftpb.ConfChangeTransitionAuto
	implicit = raftpb.ConfChangeTransitionJointImplicit
	explicit = raftpb.ConfChangeTransitionJointExplicit
)

// Goal: each form of change leads where it should. Each row starts from voters
// (1 2 3) and learner (4) and applies its changes in turn.
func TestChanges(t *testing.T) {
	leave := raftpb.ConfChangeV2{}
	for _, c := range []struct {
		story   string
		changes []raftpb.ConfChangeV2
		want    string
		err     error
	}{
		{"a voter comes", []raftpb.ConfChangeV2{change(auto, voter(5))}, "voters=(1 2 3 5) learners=(4)", nil},
		{"a voter goes", []raftpb.ConfChangeV2{change(auto, remove(2))}, "voters=(1 3) learners=(4)", nil},
		{"a learner is promoted", []raftpb.ConfChangeV2{change(auto, voter(4))}, "voters=(1 2 3 4)", nil},
		{"a voter is demoted", []raftpb.ConfChangeV2{change(auto, learner(3))}, "voters=(1 2) learners=(3 4)", nil},
		{"a stranger is removed", []raftpb.ConfChangeV2{change(auto, remove(9))}, "voters=(1 2 3) learners=(4)", nil},
		{"an address changes", []raftpb.ConfChangeV2{change(auto, raftpb.ConfChangeSingle{Type: raftpb.ConfChangeUpdateNode, NodeID: 1})}, "voters=(1 2 3) learners=(4)", nil},
		{"a step turned down changes nothing", []raftpb.ConfChangeV2{change(auto, voter(0))}, "voters=(1 2 3) learners=(4)", nil},
		{"two steps are joint", []raftpb.ConfChangeV2{change(auto, voter(5), remove(1))}, "voters=(2 3 5)&&(1 2 3) learners=(4) autoleave", nil},
		{"and left", []raftpb.ConfChangeV2{change(auto, voter(5), remove(1)), leave}, "voters=(2 3 5) learners=(4)", nil},
		{"one step can be joint", []raftpb.ConfChangeV2{change(implicit, remove(1))}, "voters=(2 3)&&(1 2 3) learners=(4) autoleave", nil},
		{"an explicit one stays", []raftpb.ConfChangeV2{change(explicit, remove(1))}, "voters=(2 3)&&(1 2 3) learners=(4)", nil},
		{"a demoted voter waits", []raftpb.ConfChangeV2{change(explicit, learner(3))}, "voters=(1 2)&&(1 2 3) learners=(4) learners_next=(3)", nil},
		{"until the change is over", []raftpb.ConfChangeV2{change(explicit, learner(3)), leave}, "voters=(1 2) learners=(3 4)", nil},
		{"demoted and promoted at once stays", []raftpb.ConfChangeV2{change(explicit, learner(3), voter(3))}, "voters=(1 2 3)&&(1 2 3) learners=(4)", nil},
		{"no second change while joint", []raftpb.ConfChangeV2{change(explicit, voter(5)), change(auto, voter(6))}, "voters=(1 2 3 5)&&(1 2 3) learners=(4)", ErrJoint},
		{"nor a joint one", []raftpb.ConfChangeV2{change(explicit, voter(5)), change(explicit, voter(6))}, "voters=(1 2 3 5)&&(1 2 3) learners=(4)", ErrJoint},
		{"nothing to leave", []raftpb.ConfChangeV2{leave}, "voters=(1 2 3) learners=(4)", ErrNotJoint},
		{"somebody must vote", []raftpb.ConfChangeV2{change(auto, remove(1), remove(2), remove(3))}, "voters=(1 2 3) learners=(4)", ErrNoVoters},
		{"unknown kinds", []raftpb.ConfChangeV2{change(auto, raftpb.ConfChangeSingle{Type: 9, NodeID: 1})}, "voters=(1 2 3) learners=(4)", ErrBadType},
	} {
		config := Config{Voters: quorum.Joint{Incoming: quorum.Of(1, 2, 3)}, Learners: quorum.Of(4)}
		var err error
		for _, cc := range c.changes {
			config, err = Apply(config, cc)
		}
		if config.String() != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v; want %s, %v", c.story, config, err, c.want, c.err)
		}
	}
}

// Goal: no change whatsoever breaks the invariants, a refused one changes
// nothing, consecutive memberships share a quorum member, and a membership
// survives being written and read.
func TestRandomChanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	kinds := []func(uint64) raftpb.ConfChangeSingle{voter, voter, learner, remove}
	for range 300 {
		c := Config{Voters: quorum.Joint{Incoming: quorum.Of(1)}}
		for range 40 {
			cc := raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransition(rnd.IntN(3))}
			for range rnd.IntN(4) {
				cc.Changes = append(cc.Changes, kinds[rnd.IntN(4)](rnd.Uint64N(7)))
			}
			if c.IsJoint() && rnd.IntN(2) == 0 {
				cc = raftpb.ConfChangeV2{}
			}
			next, err := Apply(c, cc)
			if err != nil {
				if !reflect.DeepEqual(next, c) {
					t.Fatalf("%v became %v in spite of %v", c, next, err)
				}
				continue
			}
			if err := next.check(); err != nil {
				t.Fatalf("%v became %v: %v", c, next, err)
			}
			if !c.IsJoint() && !next.IsJoint() && next.Voters.Incoming.Distance(c.Voters.Incoming) > 1 {
				t.Fatalf("%v became %v: two majorities could disagree", c, next)
			}
			again, err := Restore(next.ConfState())
			if err != nil || !reflect.DeepEqual(again.ConfState(), next.ConfState()) {
				t.Fatalf("%v restored as %v, %v", next, again, err)
			}
			c = next
		}
	}
}

func TestRestoreRefusesNonsense(t *testing.T) {
	for _, cs := range []raftpb.ConfState{
		{Voters: []uint64{1}, Learners: []uint64{1}},
		{Voters: []uint64{1}, LearnersNext: []uint64{2}},
		{Voters: []uint64{1}, AutoLeave: true},
		{VotersOutgoing: []uint64{1}},
		{Learners: []uint64{1}},
	} {
		if c, err := Restore(cs); !errors.Is(err, ErrBadState) {
			t.Errorf("%+v restored as %v, %v", cs, c, err)
		}
	}
	if c, err := Restore(raftpb.ConfState{}); err != nil || len(c.Members()) != 0 {
		t.Errorf("a member that waits to be told: %v, %v", c, err)
	}
}
