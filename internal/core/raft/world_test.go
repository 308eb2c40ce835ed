package raft

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/steledb/stele/internal/base/raftpb"
)

// A world is a few members, the messages between them and their disks, all in
// the hands of a test: nothing moves unless the test moves it.
type world struct {
	nodes   map[uint64]*node
	network []raftpb.Message
	say     func(format string, args ...any) // what happens, for scripts
	cfg     func(id uint64) Config
}

// node is a member with its driver: a disk that keeps what was persisted, and a
// state machine that remembers every command with its index.
type node struct {
	w  *world
	id uint64
	r  *Raft // nil while crashed

	disk  stable
	queue []Effects // given to the disk, not yet durable; oldest first

	state     []command
	confs     []confAt // membership by index, rising
	applied   uint64
	reads     []ReadState
	dropped   []string
	holdApply bool
	held      []raftpb.Entry
}

type stable struct {
	hs      raftpb.HardState
	snap    raftpb.Snapshot
	entries []raftpb.Entry
}

type command struct {
	index, term uint64
	data        string
}

type confAt struct {
	index uint64
	cs    raftpb.ConfState
}

func newWorld(cfg func(id uint64) Config) *world {
	return &world{nodes: map[uint64]*node{}, cfg: cfg, say: func(string, ...any) {}}
}

func testConfig(id, seed uint64) Config {
	return Config{
		ID: id, ElectionTicks: 10, HeartbeatTicks: 1,
		Rand: rand.New(rand.NewPCG(seed, id)),
	}
}

// add creates a member that starts with the given membership.
func (w *world) add(id uint64, cs raftpb.ConfState) *node {
	n := &node{w: w, id: id}
	n.disk.snap.Metadata.ConfState = cs
	w.nodes[id] = n
	n.start(0)
	return n
}

// found creates the founding members: their log begins with the membership.
func (w *world) found(ids ...uint64) {
	for _, id := range ids {
		n := w.add(id, raftpb.ConfState{})
		changes := make([]raftpb.ConfChange, len(ids))
		for i, other := range ids {
			changes[i] = raftpb.ConfChange{Type: raftpb.ConfChangeAddNode, NodeID: other}
		}
		must(n.r.Bootstrap(changes))
		n.pump()
		n.persist()
	}
}

func (w *world) ids() []uint64 {
	ids := make([]uint64, 0, len(w.nodes))
	for id := range w.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// start brings a member up from its disk, with the state machine at applied or,
// if that is 0, at the snapshot.
func (n *node) start(applied uint64) {
	meta := n.disk.snap.Metadata
	if applied < meta.Index {
		applied = meta.Index
	}
	cs := meta.ConfState
	for _, c := range n.confs {
		if c.index > meta.Index && c.index <= applied {
			cs = c.cs
		}
	}
	r, err := New(n.w.cfg(n.id), Restored{
		HardState: n.disk.hs, ConfState: cs, Snapshot: meta,
		Entries: slices.Clone(n.disk.entries), Applied: applied,
	})
	if err != nil {
		panic(fmt.Sprintf("member %d does not start: %v", n.id, err))
	}
	n.r, n.queue, n.held, n.reads = r, nil, nil, nil
	if applied == meta.Index {
		n.load(&n.disk.snap)
	} else {
		n.rewind(applied)
	}
}

// rewind takes the state machine back to index.
func (n *node) rewind(index uint64) {
	n.applied = index
	n.state = slices.DeleteFunc(n.state, func(c command) bool { return c.index > index })
	n.confs = slices.DeleteFunc(n.confs, func(c confAt) bool { return c.index > index })
}

// crash loses everything but the first keep writes of those in flight.
func (n *node) crash(keep int) {
	for i := range min(keep, len(n.queue)) {
		n.disk.write(&n.queue[i])
	}
	n.r, n.queue = nil, nil
}

func (s *stable) write(e *Effects) {
	if e.Snapshot != nil {
		s.snap = *e.Snapshot
		s.entries = nil
	}
	if len(e.Entries) > 0 {
		keep := int(e.Entries[0].Index - s.snap.Metadata.Index - 1)
		s.entries = append(s.entries[:keep:keep], e.Entries...)
	}
	if !e.HardState.IsEmpty() {
		s.hs = e.HardState
	}
}

func (s *stable) term(index uint64) uint64 {
	base := s.snap.Metadata.Index
	switch {
	case index == base:
		return s.snap.Metadata.Term
	case index < base || index > base+uint64(len(s.entries)):
		return 0
	}
	return s.entries[index-base-1].Term
}

// holds reports whether the disk has the entry at index with that term, maybe as
// part of a snapshot.
func (s *stable) holds(index, term uint64) bool {
	return index <= s.snap.Metadata.Index || s.term(index) == term
}

// pump carries out one Effects; the write stays in flight.
func (n *node) pump() (e Effects, any bool) {
	if n.r == nil || !n.r.HasEffects() {
		return e, false
	}
	e = n.r.Effects()
	if e.Token != 0 || !e.HardState.IsEmpty() {
		n.queue = append(n.queue, e)
	}
	n.w.network = append(n.w.network, e.Messages...)
	n.reads = append(n.reads, e.ReadStates...)
	for _, c := range e.DroppedReads {
		n.dropped = append(n.dropped, string(c))
	}
	n.held = append(n.held, e.Committed...)
	if !n.holdApply {
		n.applyHeld()
	}
	for _, id := range e.NeedSnapshot {
		n.r.SendSnapshot(id, n.snapshot())
	}
	return e, true
}

// persist ends the oldest write that somebody waits for, and with it those
// before it.
func (n *node) persist() bool {
	if n.r == nil || len(n.queue) == 0 {
		return false
	}
	for len(n.queue) > 1 && n.queue[0].Token == 0 {
		n.disk.write(&n.queue[0])
		n.queue = n.queue[1:]
	}
	e := n.queue[0]
	n.queue = n.queue[1:]
	n.disk.write(&e)
	if e.Token != 0 {
		n.r.Persisted(e.Token)
	}
	if e.Snapshot != nil {
		n.install(e.Snapshot)
	}
	return true
}

func (n *node) applyHeld() {
	held := n.held
	n.held = nil
	for i := range held {
		n.apply(&held[i])
	}
	if len(held) > 0 {
		n.r.AppliedTo(n.applied)
	}
}

func (n *node) apply(e *raftpb.Entry) {
	if e.Index <= n.applied {
		return
	}
	n.applied = e.Index
	switch e.Type {
	case raftpb.EntryNormal:
		if len(e.Data) > 0 {
			n.state = append(n.state, command{e.Index, e.Term, string(e.Data)})
		}
		return
	case raftpb.EntryConfChange:
		var cc raftpb.ConfChange
		must(cc.Unmarshal(e.Data))
		cs, err := n.r.ApplyConfChangeV1(cc)
		n.noteConf(e.Index, cs, err)
	case raftpb.EntryConfChangeV2:
		var cc raftpb.ConfChangeV2
		must(cc.Unmarshal(e.Data))
		cs, err := n.r.ApplyConfChange(cc)
		n.noteConf(e.Index, cs, err)
	}
}

func (n *node) noteConf(index uint64, cs raftpb.ConfState, err error) {
	if err != nil {
		n.w.say("%d applies %d: %v", n.id, index, err)
	}
	n.confs = append(n.confs, confAt{index, cs})
}

func (n *node) confState() raftpb.ConfState {
	if len(n.confs) > 0 {
		return n.confs[len(n.confs)-1].cs
	}
	return n.disk.snap.Metadata.ConfState
}

// snapshot is the state machine as it stands.
func (n *node) snapshot() raftpb.Snapshot {
	term, ok := n.r.TermAt(n.applied)
	if !ok {
		panic("applied entry without a term")
	}
	return raftpb.Snapshot{
		Data:     encodeState(n.state),
		Metadata: raftpb.SnapshotMetadata{Index: n.applied, Term: term, ConfState: n.confState()},
	}
}

func (n *node) install(s *raftpb.Snapshot) {
	n.load(s)
	n.r.SnapshotInstalled(s.Metadata)
}

// load makes the state machine what a snapshot says.
func (n *node) load(s *raftpb.Snapshot) {
	n.state, n.confs, n.held = nil, nil, nil
	n.applied = s.Metadata.Index
	n.state = decodeState(s.Data)
}

func encodeState(state []command) []byte {
	var b []byte
	for _, c := range state {
		b = fmt.Appendf(b, "%d %d %s\n", c.index, c.term, c.data)
	}
	return b
}

func decodeState(b []byte) (state []command) {
	for line := range strings.Lines(string(b)) {
		var c command
		_, err := fmt.Sscanf(line, "%d %d %s", &c.index, &c.term, &c.data)
		must(err)
		state = append(state, c)
	}
	return state
}

// compact makes a snapshot and drops the log up to keep entries behind it. The
// disk drops all of what the snapshot covers, as a restart would.
func (n *node) compact(keep uint64) {
	if n.applied <= n.disk.snap.Metadata.Index || n.r.Status().PendingSnapshot != 0 {
		return
	}
	s := n.snapshot()
	at := s.Metadata.Index
	n.disk.entries = slices.Clone(n.disk.entries[at-n.disk.snap.Metadata.Index:])
	n.disk.snap = s
	n.confs = nil
	n.r.Compact(at - min(at, keep))
}

// deliver hands the i-th message of the network to whom it is for.
func (w *world) deliver(i int) (raftpb.Message, error) {
	m := w.network[i]
	w.network = slices.Delete(w.network, i, i+1)
	return m, w.hand(m)
}

func (w *world) hand(m raftpb.Message) error {
	n := w.nodes[m.To]
	if n == nil || n.r == nil {
		w.lose(m)
		return nil
	}
	if m.Type == raftpb.MsgSnap {
		w.report(m, true)
	}
	return n.r.Step(m)
}

// lose drops a message. Like any transport, this one knows whether a snapshot
// went through, and says so.
func (w *world) lose(m raftpb.Message) {
	if m.Type == raftpb.MsgSnap {
		w.report(m, false)
	}
}

func (w *world) report(m raftpb.Message, ok bool) {
	if from := w.nodes[m.From]; from != nil && from.r != nil {
		from.r.ReportSnapshot(m.To, ok)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// describe writes a message as scripts and failures show it.
func describe(m *raftpb.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%x->%x %s", m.From, m.To, strings.TrimPrefix(TypeName(m.Type), "Msg"))
	if m.Term != 0 {
		fmt.Fprintf(&b, " term=%d", m.Term)
	}
	switch m.Type {
	case raftpb.MsgApp, raftpb.MsgVote, raftpb.MsgPreVote:
		fmt.Fprintf(&b, " at=%d/%d", m.LogTerm, m.Index)
	case raftpb.MsgAppResp, raftpb.MsgReadIndexResp:
		fmt.Fprintf(&b, " index=%d", m.Index)
	}
	if m.Type == raftpb.MsgApp || m.Type == raftpb.MsgHeartbeat {
		fmt.Fprintf(&b, " commit=%d", m.Commit)
	}
	if m.Reject {
		b.WriteString(" reject")
		if m.Type == raftpb.MsgAppResp {
			fmt.Fprintf(&b, " hint=%d/%d", m.LogTerm, m.RejectHint)
		}
	}
	if len(m.Context) > 0 {
		fmt.Fprintf(&b, " context=%q", m.Context)
	}
	if m.Snapshot != nil {
		meta := &m.Snapshot.Metadata
		fmt.Fprintf(&b, " snapshot=%d/%d %s", meta.Term, meta.Index, describeConf(meta.ConfState))
	}
	if len(m.Entries) > 0 {
		fmt.Fprintf(&b, " %s", describeEntries(m.Entries))
	}
	return b.String()
}

func describeEntries(entries []raftpb.Entry) string {
	words := make([]string, len(entries))
	for i := range entries {
		words[i] = describeEntry(&entries[i])
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func describeEntry(e *raftpb.Entry) string {
	s := fmt.Sprintf("%d/%d", e.Term, e.Index)
	switch e.Type {
	case raftpb.EntryConfChange:
		var cc raftpb.ConfChange
		must(cc.Unmarshal(e.Data))
		return s + " " + describeSteps(raftpb.ConfChangeSingle{Type: cc.Type, NodeID: cc.NodeID})
	case raftpb.EntryConfChangeV2:
		var cc raftpb.ConfChangeV2
		must(cc.Unmarshal(e.Data))
		if len(cc.Changes) == 0 {
			return s + " leave"
		}
		return s + " " + describeSteps(cc.Changes...)
	}
	if len(e.Data) > 0 {
		s += " " + string(e.Data)
	}
	return s
}

func describeSteps(steps ...raftpb.ConfChangeSingle) string {
	words := make([]string, len(steps))
	for i, step := range steps {
		kind := map[raftpb.ConfChangeType]string{
			raftpb.ConfChangeAddNode: "v", raftpb.ConfChangeRemoveNode: "r",
			raftpb.ConfChangeUpdateNode: "u", raftpb.ConfChangeAddLearnerNode: "l",
		}[step.Type]
		words[i] = fmt.Sprintf("%s%d", kind, step.NodeID)
	}
	return strings.Join(words, " ")
}

func describeConf(cs raftpb.ConfState) string {
	s := fmt.Sprintf("voters=%v", cs.Voters)
	if len(cs.VotersOutgoing) > 0 {
		s += fmt.Sprintf(" outgoing=%v", cs.VotersOutgoing)
	}
	if len(cs.Learners) > 0 {
		s += fmt.Sprintf(" learners=%v", cs.Learners)
	}
	if len(cs.LearnersNext) > 0 {
		s += fmt.Sprintf(" learners_next=%v", cs.LearnersNext)
	}
	if cs.AutoLeave {
		s += " autoleave"
	}
	return s
}

func byIndex(a, b command) int { return cmp.Compare(a.index, b.index) }
