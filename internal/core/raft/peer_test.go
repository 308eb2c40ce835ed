package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	etcdraft "go.etcd.io/raft/v3"
	etcdpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Goal: our members and etcd's form one cluster and agree.
// Method: mixed clusters, each message carried over as the bytes of the wire,
// under random schedules with loss and reorder; whoever leads, all must apply
// the same commands, and each kind gets to lead.
func TestMixedClusters(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	led := map[string]int{}
	for seed := uint64(1); seed <= seeds; seed++ {
		if err := runMixed(seed, led); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if led["ours"] == 0 || led["etcd"] == 0 {
		t.Errorf("led: %v; both kinds should have had their turn", led)
	}
}

// peer is a member of either kind with its driver.
type peer interface {
	kind() string
	tick()
	step(wire []byte) error
	propose(data string) error
	change(cc raftpb.ConfChangeV2) error
	read(context string)
	transfer(to uint64)
	unreachable(id uint64)
	snapshotDone(id uint64, ok bool)
	compact()
	pump() (wire [][]byte, moved bool) // all effects, writes and applications that are due
	isLeader() bool
	applied() []string
	readStates() []ReadState
	commit() uint64
}

type mixed struct {
	rnd     *rand.Rand
	peers   map[uint64]peer
	network []envelope
	reads   map[string]uint64
	led     map[string]int
	next    int
}

type envelope struct {
	from, to uint64
	snapshot bool
	bytes    []byte
}

func runMixed(seed uint64, led map[string]int) error {
	rnd := rand.New(rand.NewPCG(seed, 7))
	m := &mixed{rnd: rnd, peers: map[uint64]peer{}, reads: map[string]uint64{}, led: led}
	voters := []uint64{1, 2, 3, 4, 5}[:3+2*rnd.IntN(2)]
	preVote, checkQuorum := rnd.IntN(3) > 0, rnd.IntN(3) > 0
	for _, id := range voters {
		if (id+seed)%2 == 0 {
			m.peers[id] = newEtcdPeer(id, voters, preVote, checkQuorum)
		} else {
			m.peers[id] = newOurPeer(id, voters, preVote, checkQuorum, rnd.Uint64())
		}
	}
	loss := rnd.IntN(100)
	for i := range 1500 {
		if err := m.turn(loss); err != nil {
			return fmt.Errorf("turn %d: %w", i, err)
		}
	}
	return m.settle()
}

func (m *mixed) turn(loss int) error {
	id := uint64(1 + m.rnd.IntN(len(m.peers)))
	p := m.peers[id]
	switch k := m.rnd.IntN(100); {
	case k < 7:
		p.tick()
	case k < 60:
		for range min(1+m.rnd.IntN(4), len(m.network)) {
			i := 0
			if m.rnd.IntN(5) == 0 {
				i = m.rnd.IntN(len(m.network))
			}
			if err := m.deliver(i, m.rnd.IntN(1000) < loss); err != nil {
				return err
			}
		}
	case k < 85:
		m.pump(id)
	case k < 93:
		m.next++
		_ = p.propose(fmt.Sprintf("c%d", m.next))
	case k < 95:
		context := fmt.Sprintf("r%d", len(m.reads)+1)
		m.reads[context] = m.committed()
		p.read(context)
	case k < 96:
		p.compact()
	case k < 97:
		p.transfer(uint64(1 + m.rnd.IntN(len(m.peers))))
	case k < 98:
		p.unreachable(uint64(1 + m.rnd.IntN(len(m.peers))))
	default:
		m.change(p)
	}
	return m.check()
}

// change makes a learner of somebody or a voter again, with and without a joint
// configuration.
func (m *mixed) change(p peer) {
	if !p.isLeader() {
		return
	}
	kinds := []raftpb.ConfChangeType{raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeAddNode}
	cc := raftpb.ConfChangeV2{}
	for range 1 + m.rnd.IntN(2) {
		id := uint64(1 + m.rnd.IntN(len(m.peers)))
		kind := kinds[m.rnd.IntN(3)]
		if m.peers[id] == p || id <= 2 {
			kind = raftpb.ConfChangeAddNode
		}
		cc.Changes = append(cc.Changes, raftpb.ConfChangeSingle{Type: kind, NodeID: id})
	}
	_ = p.change(cc)
}

func (m *mixed) pump(id uint64) bool {
	p := m.peers[id]
	wire, moved := p.pump()
	for _, b := range wire {
		var msg raftpb.Message
		must(msg.Unmarshal(b))
		m.network = append(m.network, envelope{id, msg.To, msg.Type == raftpb.MsgSnap, b})
	}
	if p.isLeader() {
		m.led[p.kind()]++
	}
	return moved
}

func (m *mixed) deliver(i int, lose bool) error {
	e := m.network[i]
	m.network = slices.Delete(m.network, i, i+1)
	if e.snapshot {
		m.peers[e.from].snapshotDone(e.to, !lose)
	}
	if lose {
		return nil
	}
	return m.peers[e.to].step(e.bytes)
}

func (m *mixed) committed() (most uint64) {
	for _, p := range m.peers {
		most = max(most, p.commit())
	}
	return most
}

func (m *mixed) check() error {
	var longest []string
	for _, p := range m.peers {
		if a := p.applied(); len(a) > len(longest) {
			longest = a
		}
	}
	for id, p := range m.peers {
		if a := p.applied(); !slices.Equal(a, longest[:len(a)]) {
			return fmt.Errorf("member %d (%s) applied %v, another %v", id, p.kind(), a, longest)
		}
		for _, rs := range p.readStates() {
			if rs.Index < m.reads[string(rs.Context)] {
				return fmt.Errorf("member %d (%s): read %s at %d, committed %d when asked",
					id, p.kind(), rs.Context, rs.Index, m.reads[string(rs.Context)])
			}
		}
	}
	return nil
}

func (m *mixed) settle() error {
	const last = "the-last"
	for round := range 400 {
		for id := uint64(1); id <= uint64(len(m.peers)); id++ {
			m.peers[id].tick()
			if round%25 == 10 && m.peers[id].isLeader() {
				_ = m.peers[id].propose(last)
			}
		}
		for range 1000 {
			moved := false
			for id := uint64(1); id <= uint64(len(m.peers)); id++ {
				moved = m.pump(id) || moved
			}
			for len(m.network) > 0 {
				moved = true
				if err := m.deliver(0, false); err != nil {
					return err
				}
			}
			if err := m.check(); err != nil {
				return err
			}
			if !moved {
				break
			}
		}
		if m.allApplied(last) {
			return nil
		}
	}
	return errors.New("no agreement after the faults stopped")
}

func (m *mixed) allApplied(data string) bool {
	for _, p := range m.peers {
		a := p.applied()
		if len(a) == 0 || a[len(a)-1] != data {
			return false
		}
	}
	return true
}

// ourPeer is one of ours; its writes end when the pump runs again, so that its
// disk is always one turn behind.
type ourPeer struct{ n *node }

func newOurPeer(id uint64, voters []uint64, preVote, checkQuorum bool, seed uint64) *ourPeer {
	w := newWorld(func(id uint64) Config {
		c := testConfig(id, seed)
		c.PreVote, c.CheckQuorum, c.MaxInflightMessages, c.MaxMessageBytes = preVote, checkQuorum, 4, 200
		return c
	})
	n := &node{w: w, id: id}
	n.disk.snap.Metadata = foundingMark(voters)
	w.nodes[id] = n
	n.start(0)
	return &ourPeer{n: n}
}

// foundingMark lets all members start as from one snapshot.
func foundingMark(voters []uint64) raftpb.SnapshotMetadata {
	return raftpb.SnapshotMetadata{Index: 1, Term: 1, ConfState: raftpb.ConfState{Voters: slices.Clone(voters)}}
}

func (p *ourPeer) kind() string { return "ours" }
func (p *ourPeer) tick()        { p.n.r.Tick() }
func (p *ourPeer) step(b []byte) error {
	var m raftpb.Message
	if err := m.Unmarshal(b); err != nil {
		return err
	}
	if err := p.n.r.Step(m); errors.Is(err, ErrLogLost) || errors.Is(err, ErrMalformed) {
		return err
	}
	return nil
}
func (p *ourPeer) propose(data string) error           { return p.n.r.Propose([]byte(data)) }
func (p *ourPeer) change(cc raftpb.ConfChangeV2) error { return p.n.r.ProposeConfChangeV2(cc) }
func (p *ourPeer) read(context string)                 { _ = p.n.r.ReadIndex([]byte(context)) }
func (p *ourPeer) transfer(to uint64)                  { _ = p.n.r.TransferLeader(to) }
func (p *ourPeer) unreachable(id uint64)               { p.n.r.ReportUnreachable(id) }
func (p *ourPeer) snapshotDone(id uint64, ok bool)     { p.n.r.ReportSnapshot(id, ok) }
func (p *ourPeer) compact()                            { p.n.compact(2) }
func (p *ourPeer) isLeader() bool                      { return p.n.r.Role() == Leader }
func (p *ourPeer) commit() uint64                      { return p.n.r.Status().Committed }
func (p *ourPeer) readStates() []ReadState             { return p.n.reads }
func (p *ourPeer) applied() (datas []string) {
	for _, c := range p.n.state {
		datas = append(datas, c.data)
	}
	return datas
}
func (p *ourPeer) pump() (wire [][]byte, moved bool) {
	moved = p.n.persist()
	_, pumped := p.n.pump()
	for i := range p.n.w.network {
		wire = append(wire, p.n.w.network[i].Marshal())
	}
	p.n.w.network = nil
	return wire, moved || pumped
}

// etcdPeer is one of etcd's, with its memory storage and writes that end at once.
type etcdPeer struct {
	rn    *etcdraft.RawNode
	store *etcdraft.MemoryStorage
	conf  *etcdpb.ConfState
	state []string
	at    uint64
	reads []ReadState
}

type quiet struct{ etcdraft.Logger }

func (quiet) Debug(...any)            {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Info(...any)             {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warning(...any)          {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Error(...any)            {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Panic(v ...any)          { panic(fmt.Sprint(v...)) }
func (quiet) Panicf(f string, v ...any) {
	panic(fmt.Sprintf(f, v...))
}

func newEtcdPeer(id uint64, voters []uint64, preVote, checkQuorum bool) *etcdPeer {
	p := &etcdPeer{store: etcdraft.NewMemoryStorage(), conf: &etcdpb.ConfState{Voters: slices.Clone(voters)}, at: 1}
	meta := foundingMark(voters)
	must(p.store.ApplySnapshot(toEtcd(&raftpb.Snapshot{Metadata: meta}, &etcdpb.Snapshot{})))
	rn, err := etcdraft.NewRawNode(&etcdraft.Config{
		ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: p.store, Applied: 1,
		MaxSizePerMsg: 200, MaxInflightMsgs: 4, PreVote: preVote, CheckQuorum: checkQuorum, Logger: quiet{},
	})
	must(err)
	p.rn = rn
	return p
}

type marshaler interface{ Marshal() []byte }

func toEtcd[T proto.Message](from marshaler, to T) T {
	must(proto.Unmarshal(from.Marshal(), to))
	return to
}

func (p *etcdPeer) kind() string { return "etcd" }
func (p *etcdPeer) tick()        { p.rn.Tick() }
func (p *etcdPeer) step(b []byte) error {
	m := &etcdpb.Message{}
	must(proto.Unmarshal(b, m))
	_ = p.rn.Step(m)
	return nil
}
func (p *etcdPeer) propose(data string) error { return p.rn.Propose([]byte(data)) }
func (p *etcdPeer) change(cc raftpb.ConfChangeV2) error {
	return p.rn.ProposeConfChange(toEtcd(&cc, &etcdpb.ConfChangeV2{}))
}
func (p *etcdPeer) read(context string)   { p.rn.ReadIndex([]byte(context)) }
func (p *etcdPeer) transfer(to uint64)    { p.rn.TransferLeader(to) }
func (p *etcdPeer) unreachable(id uint64) { p.rn.ReportUnreachable(id) }
func (p *etcdPeer) snapshotDone(id uint64, ok bool) {
	status := etcdraft.SnapshotFinish
	if !ok {
		status = etcdraft.SnapshotFailure
	}
	p.rn.ReportSnapshot(id, status)
}
func (p *etcdPeer) isLeader() bool          { return p.rn.BasicStatus().RaftState == etcdraft.StateLeader }
func (p *etcdPeer) commit() uint64          { return p.rn.BasicStatus().HardState.GetCommit() }
func (p *etcdPeer) readStates() []ReadState { return p.reads }
func (p *etcdPeer) applied() []string       { return p.state }

func (p *etcdPeer) compact() {
	var w node
	for _, s := range p.state {
		w.state = append(w.state, command{data: s})
	}
	_, err := p.store.CreateSnapshot(p.at, p.conf, encodeState(w.state))
	if err == nil && p.at > 4 {
		_ = p.store.Compact(p.at - 2)
	}
}

func (p *etcdPeer) pump() (wire [][]byte, moved bool) {
	for p.rn.HasReady() {
		moved = true
		rd := p.rn.Ready()
		if !etcdraft.IsEmptyHardState(rd.HardState) {
			must(p.store.SetHardState(rd.HardState))
		}
		if !etcdraft.IsEmptySnap(rd.Snapshot) {
			must(p.store.ApplySnapshot(rd.Snapshot))
			p.load(rd.Snapshot)
		}
		must(p.store.Append(rd.Entries))
		for _, m := range rd.Messages {
			b, err := proto.Marshal(m)
			must(err)
			wire = append(wire, b)
		}
		for _, rs := range rd.ReadStates {
			p.reads = append(p.reads, ReadState{Index: rs.Index, Context: rs.RequestCtx})
		}
		for _, e := range rd.CommittedEntries {
			p.apply(e)
		}
		p.rn.Advance(rd)
	}
	return wire, moved
}

func (p *etcdPeer) load(s *etcdpb.Snapshot) {
	p.state = nil
	for _, c := range decodeState(s.GetData()) {
		p.state = append(p.state, c.data)
	}
	p.at, p.conf = s.GetMetadata().GetIndex(), s.GetMetadata().GetConfState()
}

func (p *etcdPeer) apply(e *etcdpb.Entry) {
	p.at = e.GetIndex()
	switch e.GetType() {
	case etcdpb.EntryConfChange:
		cc := &etcdpb.ConfChange{}
		must(proto.Unmarshal(e.GetData(), cc))
		p.conf = p.rn.ApplyConfChange(cc)
	case etcdpb.EntryConfChangeV2:
		cc := &etcdpb.ConfChangeV2{}
		must(proto.Unmarshal(e.GetData(), cc))
		p.conf = p.rn.ApplyConfChange(cc)
	default:
		if len(e.GetData()) > 0 {
			p.state = append(p.state, string(e.GetData()))
		}
	}
}
