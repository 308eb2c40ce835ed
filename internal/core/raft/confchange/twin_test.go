package confchange

import (
	"math/rand/v2"
	"testing"

	etcdchange "go.etcd.io/raft/v3/confchange"
	etcdpb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Goal: members of both kinds make the same of every change.
// Method: random histories of changes, applied by etcd's code and by ours.
func TestAgainstEtcd(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	for range 300 {
		ours, err := Restore(raftpb.ConfState{Voters: []uint64{1}})
		if err != nil {
			t.Fatal(err)
		}
		theirs := etcdchange.Changer{Tracker: tracker.MakeProgressTracker(10, 0), LastIndex: 10}
		theirs = adopt(theirs)(theirs.Simple(single(voter(1))))
		for range 30 {
			cc := randomChange(rnd, ours.IsJoint())
			next, ourErr := Apply(ours, cc)
			cfg, progress, theirErr := applyEtcd(theirs, cc)
			if (ourErr == nil) != (theirErr == nil) {
				t.Fatalf("%v with %+v: %v, etcd %v", ours, cc, ourErr, theirErr)
			}
			if ourErr != nil {
				continue
			}
			ours = next
			theirs.Tracker.Config, theirs.Tracker.Progress = cfg, progress
			if want := theirs.Tracker.ConfState(); !proto.Equal(want, toEtcd(ours.ConfState())) {
				t.Fatalf("%+v: ours %v, etcd %v", cc, ours, want)
			}
		}
	}
}

func randomChange(rnd *rand.Rand, joint bool) raftpb.ConfChangeV2 {
	if joint && rnd.IntN(2) == 0 {
		return raftpb.ConfChangeV2{}
	}
	kinds := []func(uint64) raftpb.ConfChangeSingle{voter, voter, learner, remove}
	cc := raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransition(rnd.IntN(3))}
	for range rnd.IntN(4) {
		cc.Changes = append(cc.Changes, kinds[rnd.IntN(4)](rnd.Uint64N(7)))
	}
	return cc
}

func applyEtcd(c etcdchange.Changer, cc raftpb.ConfChangeV2) (tracker.Config, tracker.ProgressMap, error) {
	var steps []*etcdpb.ConfChangeSingle
	for _, s := range cc.Changes {
		steps = append(steps, single(s))
	}
	if Leaves(cc) {
		return c.LeaveJoint()
	}
	if joint, autoLeave := Enters(cc); joint {
		return c.EnterJoint(autoLeave, steps...)
	}
	return c.Simple(steps...)
}

func single(s raftpb.ConfChangeSingle) *etcdpb.ConfChangeSingle {
	return &etcdpb.ConfChangeSingle{Type: etcdpb.ConfChangeType(s.Type).Enum(), NodeId: &s.NodeID}
}

func adopt(c etcdchange.Changer) func(tracker.Config, tracker.ProgressMap, error) etcdchange.Changer {
	return func(cfg tracker.Config, progress tracker.ProgressMap, err error) etcdchange.Changer {
		if err != nil {
			panic(err)
		}
		c.Tracker.Config, c.Tracker.Progress = cfg, progress
		return c
	}
}

func toEtcd(cs raftpb.ConfState) *etcdpb.ConfState {
	return &etcdpb.ConfState{
		Voters: cs.Voters, Learners: cs.Learners, VotersOutgoing: cs.VotersOutgoing,
		LearnersNext: cs.LearnersNext, AutoLeave: &cs.AutoLeave,
	}
}
