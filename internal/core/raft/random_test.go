package raft

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only the random cluster of this seed")
	seedsFlag = flag.Uint64("seeds", 40, "number of random clusters")
	stepsFlag = flag.Int("steps", 4000, "length of each random run")
)

// Goal: nothing that a network, a disk or a crash can do makes two members
// disagree, loses what was acknowledged, or lets a read miss it.
// Method: clusters driven by chance from a seed: messages lost, doubled and
// reordered, writes ending late, crashes that lose what was not synced,
// membership changes, snapshots. After each step the safety properties of the
// Raft paper (figure 3) are checked by an observer who sees everything. In the
// end the faults stop, and the cluster must come to agree on a new command.
func TestRandomClusters(t *testing.T) {
	from, to := uint64(1), *seedsFlag
	if testing.Short() {
		to = 20
	}
	if *seedFlag != 0 {
		from, to = *seedFlag, *seedFlag
	}
	for seed := from; seed <= to; seed++ {
		if err := runRandom(seed, *stepsFlag); err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./internal/core/raft -run TestRandomClusters -seed %d", seed, err, seed)
		}
	}
}

// storm is one random run.
type storm struct {
	w    *world
	rnd  *rand.Rand
	see  observer
	next int // number of the next command

	// How rough it is, drawn per run.
	loss, double, crash, slowDisk int // in a thousand
	changes                       bool
	partitions                    bool
	side                          map[uint64]bool // who is on the far side of a partition; nil: there is none
}

func runRandom(seed uint64, steps int) (err error) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := &storm{rnd: rnd, loss: rnd.IntN(150), double: rnd.IntN(60), crash: rnd.IntN(8), slowDisk: 30 + rnd.IntN(700)}
	s.changes, s.partitions = rnd.IntN(2) == 0, rnd.IntN(2) == 0
	preVote, checkQuorum := rnd.IntN(3) > 0, rnd.IntN(3) > 0
	inflight, bytes := 1+rnd.IntN(6), uint64(60+rnd.IntN(400))
	s.w = newWorld(func(id uint64) Config {
		c := testConfig(id, rnd.Uint64())
		c.ElectionTicks = 5
		c.PreVote, c.CheckQuorum = preVote, checkQuorum
		c.MaxInflightMessages, c.MaxMessageBytes, c.MaxCommittedBytes = inflight, bytes, bytes*2
		return c
	})
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	s.see.init(s.w)
	voters := []uint64{1, 2, 3, 4, 5}[:1+rnd.IntN(5)]
	s.w.found(voters...)
	for i := range steps {
		if err := s.step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return s.calm()
}

func (s *storm) chance(inThousand int) bool { return s.rnd.IntN(1000) < inThousand }

func (s *storm) step() error {
	ids := s.w.ids()
	n := s.w.nodes[ids[s.rnd.IntN(len(ids))]]
	if n.r == nil {
		if s.chance(100) {
			n.start(s.restartPoint(n))
		}
		return s.see.look(n)
	}
	if n.holdApply && s.chance(100) {
		n.holdApply = false
		n.applyHeld()
	}
	switch k := s.rnd.IntN(100); {
	case k < 7:
		n.r.Tick()
	case k < 55:
		for range 1 + s.rnd.IntN(4) {
			s.deliverSome()
		}
	case k < 72:
		n.pump()
	case k < 85:
		for !s.chance(s.slowDisk) && n.persist() {
		}
	case k < 90:
		s.propose(n)
	case k < 95:
		s.see.asked(n, s.rnd)
	case k < 96:
		s.maybeChange(n)
	case k < 97:
		n.holdApply = true
	case k < 98:
		if s.chance(300) {
			n.compact(uint64(s.rnd.IntN(10)))
		}
	case k < 99:
		s.disturb(n)
		s.partition()
	default:
		if s.chance(s.crash * 20) {
			n.crash(s.rnd.IntN(len(n.queue) + 1))
		}
	}
	return s.see.look(n)
}

// restartPoint is where the state machine's own disk may have come to.
func (s *storm) restartPoint(n *node) uint64 {
	if s.rnd.IntN(2) == 0 {
		return 0
	}
	return n.applied
}

func (s *storm) deliverSome() {
	w := s.w
	if len(w.network) > 200 {
		w.lose(w.network[0])
		w.network = w.network[1:]
	}
	if len(w.network) == 0 {
		return
	}
	i := 0
	if s.chance(200) {
		i = s.rnd.IntN(len(w.network)) // out of order
	}
	if s.chance(s.double) {
		w.network = append(w.network, w.network[i])
	}
	if m := &w.network[i]; s.chance(s.loss) || s.side[m.From] != s.side[m.To] {
		w.lose(w.network[i])
		w.network = slices.Delete(w.network, i, i+1)
		return
	}
	m, err := w.deliver(i)
	if errors.Is(err, ErrLogLost) || errors.Is(err, ErrMalformed) {
		panic(fmt.Sprintf("%s: %v", describe(&m), err))
	}
	if err := s.see.look(w.nodes[m.To]); err != nil {
		panic(err)
	}
}

func (s *storm) propose(n *node) {
	s.next++
	first := fmt.Sprintf("c%d", s.next)
	if s.chance(300) {
		s.next++
		_ = n.r.Propose([]byte(first), []byte(fmt.Sprintf("c%d", s.next)))
		return
	}
	_ = n.r.Propose([]byte(first))
}

func (s *storm) disturb(n *node) {
	ids := s.w.ids()
	other := ids[s.rnd.IntN(len(ids))]
	switch s.rnd.IntN(4) {
	case 0:
		_ = n.r.TransferLeader(other)
	case 1:
		n.r.ReportUnreachable(other)
	case 2:
		n.r.ReportSnapshot(other, s.rnd.IntN(2) == 0)
	case 3:
		_ = n.r.Campaign()
	}
}

// partition makes and mends partitions, now and then.
func (s *storm) partition() {
	if !s.partitions || s.chance(930) {
		return
	}
	if s.side != nil {
		s.side = nil
		return
	}
	s.side = map[uint64]bool{}
	for _, id := range s.w.ids() {
		s.side[id] = s.rnd.IntN(2) == 0
	}
}

func (s *storm) maybeChange(n *node) {
	if !s.changes || n.r.Role() != Leader {
		return
	}
	if n.r.members.IsJoint() {
		_ = n.r.ProposeConfChangeV2(raftpb.ConfChangeV2{})
		return
	}
	kinds := []raftpb.ConfChangeType{raftpb.ConfChangeAddNode, raftpb.ConfChangeRemoveNode, raftpb.ConfChangeAddLearnerNode}
	cc := raftpb.ConfChangeV2{Transition: raftpb.ConfChangeTransition(s.rnd.IntN(3))}
	for range 1 + s.rnd.IntN(3) {
		cc.Changes = append(cc.Changes, raftpb.ConfChangeSingle{Type: kinds[s.rnd.IntN(3)], NodeID: uint64(1 + s.rnd.IntN(5))})
	}
	for _, c := range cc.Changes {
		if s.w.nodes[c.NodeID] == nil {
			s.w.add(c.NodeID, raftpb.ConfState{})
		}
	}
	if len(cc.Changes) == 1 && cc.Transition == raftpb.ConfChangeTransitionAuto && s.rnd.IntN(2) == 0 {
		_ = n.r.ProposeConfChange(raftpb.ConfChange{Type: cc.Changes[0].Type, NodeID: cc.Changes[0].NodeID})
		return
	}
	_ = n.r.ProposeConfChangeV2(cc)
}

// calm ends all faults and waits for agreement on one more command.
func (s *storm) calm() error {
	for _, id := range s.w.ids() {
		n := s.w.nodes[id]
		n.holdApply = false
		if n.r == nil {
			n.start(0)
		}
		n.applyHeld()
	}
	const last = "the-last"
	for round := range 600 {
		for _, id := range s.w.ids() {
			n := s.w.nodes[id]
			n.r.Tick()
			if round%20 == 0 && n.r.Role() == Leader {
				_ = n.r.Propose([]byte(last))
			}
		}
		if err := s.quiesce(); err != nil {
			return err
		}
		if s.agreedOn(last) {
			return nil
		}
	}
	if s.isStranded() {
		return nil
	}
	return errors.New("no progress after the faults stopped:\n" + s.w.describeAll())
}

// isStranded recognises the one known way to end up without a leader: the
// longest log belongs to a leader that crashed just after it had voted itself
// out, and a voter that has not heard of that still needs its vote.
func (s *storm) isStranded() bool {
	var longest *Raft
	for _, id := range s.w.ids() {
		r := s.w.nodes[id].r
		if longest == nil || longest.log.IsUpToDate(r.log.Last()) && longest.log.Last() != r.log.Last() || r.log.Last() == longest.log.Last() && r.isPromotable() {
			longest = r
		}
	}
	for _, id := range s.w.ids() {
		r := s.w.nodes[id].r
		if r.log.Last() != longest.log.Last() && r.isPromotable() && r.members.Voters.Has(longest.id) && !longest.isPromotable() {
			return true
		}
	}
	return false
}

func (s *storm) quiesce() error {
	for range 2000 {
		moved := false
		for _, id := range s.w.ids() {
			n := s.w.nodes[id]
			_, pumped := n.pump()
			moved = n.persist() || pumped || moved
			if err := s.see.look(n); err != nil {
				return err
			}
		}
		if len(s.w.network) > 0 {
			moved = true
			m, err := s.w.deliver(0)
			if errors.Is(err, ErrLogLost) || errors.Is(err, ErrMalformed) {
				return err
			}
			if err := s.see.look(s.w.nodes[m.To]); err != nil {
				return err
			}
		}
		if !moved {
			return nil
		}
	}
	return nil
}

// agreedOn reports whether every member of the leader's configuration has
// applied the command.
func (s *storm) agreedOn(data string) bool {
	for _, id := range s.w.ids() {
		l := s.w.nodes[id]
		if l.r.Role() != Leader {
			continue
		}
		for _, m := range l.r.members.Members() {
			state := s.w.nodes[m].state
			if len(state) == 0 || state[len(state)-1].data != data {
				return false
			}
		}
		return true
	}
	return false
}

func (w *world) describeAll() string {
	var b strings.Builder
	for _, id := range w.ids() {
		n := w.nodes[id]
		fmt.Fprintf(&b, "%d: %+v\n   %v\n", id, n.r.Status(), n.r.members)
	}
	return b.String()
}

// observer knows everything and holds it against the properties.
type observer struct {
	w         *world
	leaders   map[uint64]uint64     // by term
	entries   map[[2]uint64]written // by index, term: an entry has one content and one predecessor
	committed map[uint64]uint64     // index -> term
	commitMax uint64
	applied   map[uint64]command
	reads     map[string]uint64 // context -> commit index when asked
	readNo    int
}

type written struct {
	before uint64 // term of the entry before
	data   string
}

func (o *observer) init(w *world) {
	o.w = w
	o.leaders, o.committed = map[uint64]uint64{}, map[uint64]uint64{}
	o.entries, o.applied = map[[2]uint64]written{}, map[uint64]command{}
	o.reads = map[string]uint64{}
}

func (o *observer) asked(n *node, _ *rand.Rand) {
	o.readNo++
	context := fmt.Sprintf("r%d", o.readNo)
	if n.r.ReadIndex([]byte(context)) == nil {
		o.reads[context] = o.commitMax
	}
}

// look checks what a step of n may have changed.
func (o *observer) look(n *node) error {
	if n == nil || n.r == nil {
		return nil
	}
	for _, check := range []func(*node) error{
		o.electionSafety, o.logMatching, o.commitIsDurable, o.leaderCompleteness, o.stateMachineSafety, o.readsAreFresh,
	} {
		if err := check(n); err != nil {
			return fmt.Errorf("member %d: %w", n.id, err)
		}
	}
	n.r.check()
	return nil
}

func (o *observer) electionSafety(n *node) error {
	if n.r.role != Leader {
		return nil
	}
	if other, ok := o.leaders[n.r.term]; ok && other != n.id {
		return fmt.Errorf("term %d is led by %d already", n.r.term, other)
	}
	o.leaders[n.r.term] = n.id
	return nil
}

func (o *observer) logMatching(n *node) error {
	before := n.r.log.Base().Term
	for _, e := range n.r.Entries(0, ^uint64(0)) {
		now := written{before, fmt.Sprint(e.Type, string(e.Data))}
		key := [2]uint64{e.Index, e.Term}
		if seen, ok := o.entries[key]; ok && seen != now {
			return fmt.Errorf("entry %d/%d is %v here and was %v elsewhere", e.Term, e.Index, now, seen)
		}
		o.entries[key] = now
		before = e.Term
	}
	return nil
}

// commitIsDurable: whatever a leader calls committed is on the disks of a
// majority at that moment, not only in their memory.
func (o *observer) commitIsDurable(n *node) error {
	for index := o.commitMax + 1; index <= n.r.log.Committed(); index++ {
		term, ok := n.r.log.Term(index)
		if !ok {
			continue // known by a snapshot; the one who made it was looked at
		}
		o.committed[index] = term
		o.commitMax = index
		if n.r.role != Leader {
			continue
		}
		reached := n.r.members.Voters.Reached(func(id uint64) uint64 {
			if o.w.nodes[id].disk.holds(index, term) {
				return 1
			}
			return 0
		})
		if reached == 0 {
			return fmt.Errorf("entry %d/%d is committed without a majority of disks", term, index)
		}
	}
	for index := n.r.log.FirstIndex(); index <= n.r.log.Committed(); index++ {
		if term, _ := n.r.log.Term(index); o.committed[index] != 0 && term != o.committed[index] {
			return fmt.Errorf("entry %d committed in term %d here, %d elsewhere", index, term, o.committed[index])
		}
	}
	return nil
}

func (o *observer) leaderCompleteness(n *node) error {
	if n.r.role != Leader {
		return nil
	}
	for index, term := range o.committed {
		// A deposed leader that does not know it yet is not complete.
		if term > n.r.term || index <= n.r.log.Base().Index {
			continue
		}
		if ours, ok := n.r.log.Term(index); (!ok || ours != term) && o.newestTerm() == n.r.term {
			return fmt.Errorf("leads term %d without committed entry %d/%d", n.r.term, term, index)
		}
	}
	return nil
}

func (o *observer) newestTerm() (newest uint64) {
	for term := range o.leaders {
		newest = max(newest, term)
	}
	return newest
}

func (o *observer) stateMachineSafety(n *node) error {
	if !slices.IsSortedFunc(n.state, byIndex) {
		return fmt.Errorf("applied out of order: %v", n.state)
	}
	for _, c := range n.state {
		if seen, ok := o.applied[c.index]; ok && seen != c {
			return fmt.Errorf("applied %v, elsewhere %v", c, seen)
		}
		o.applied[c.index] = c
	}
	return nil
}

func (o *observer) readsAreFresh(n *node) error {
	for _, rs := range n.reads {
		if least, ok := o.reads[string(rs.Context)]; ok && rs.Index < least {
			return fmt.Errorf("read %s answered at %d, but %d was committed when it was asked", rs.Context, rs.Index, least)
		}
	}
	n.reads = n.reads[:0]
	return nil
}
