package raft

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata print into them")

// Goal: the protocol can be read as conversations.
// Method: testdata/*.txt hold paragraphs of prose (#), commands, a line of
// dashes and what the commands print. -rewrite makes the output true again; the
// diff is then read by a human.
//
// Commands; N is a member, ids are decimal:
//
//	cluster 1 2 3 [learners=4] [prevote] [checkquorum] [election=10] [inflight=N] [message=BYTES] [uncommitted=BYTES]
//	join N                a member that knows nothing
//	campaign N | tick N COUNT | propose N DATA... | read N CONTEXT | transfer N TO
//	change N STEPS... [auto|implicit|explicit] | change N leave | change-v1 N STEP
//	pump N                carry out one Effects; its write stays in flight
//	persist N [COUNT]     end the oldest write in flight
//	deliver FROM->TO [COUNT] | drop FROM->TO [COUNT]   the oldest messages of that pair
//	settle [N...]         pump, persist and deliver among those members until quiet
//	quietly COMMAND       the same without output
//	hold N | release N    keep committed entries from the state machine
//	compact N KEEP | crash N [WRITES-KEPT] | restart N
//	unreachable N ID | snapshot-failed N ID
//	step FROM->TO TYPE [term=T] [index=I] [logterm=T] [commit=C] [reject] [context=S]
//	     [entries=T:DATA,...] [snapshot=T/I]   a made-up message; index before entries
//	status N... | log N | state N
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{}
	var out []string
	for i, paragraph := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		head, want, hasOutput := strings.Cut(paragraph+"\n", "----\n")
		if !hasOutput {
			out = append(out, paragraph)
			continue
		}
		got := s.run(head)
		out = append(out, strings.TrimSuffix(head+"----\n"+got, "\n"))
		if want = strings.TrimSuffix(want, "\n"); got != want && !*rewrite {
			t.Fatalf("%s, paragraph %d:\n%s---- got\n%s\n---- want\n%s", file, i+1, head, got, want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	w     *world
	out   strings.Builder
	quiet bool
}

func (s *script) say(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintf(&s.out, format+"\n", args...)
	}
}

// run carries out the commands of one paragraph and returns what they print.
func (s *script) run(commands string) string {
	s.out.Reset()
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if words[0] == "quietly" {
			s.quiet, words = true, words[1:]
		}
		s.command(words[0], words[1:])
		s.quiet = false
	}
	if s.out.Len() == 0 {
		return "ok"
	}
	return strings.TrimSuffix(s.out.String(), "\n")
}

func (s *script) command(name string, args []string) {
	defer func() {
		if p := recover(); p != nil {
			s.quiet = false
			s.say("%s %v: panic: %v", name, args, p)
		}
	}()
	switch name {
	case "cluster":
		s.cluster(args)
	case "join":
		s.w.add(number(args[0]), raftpb.ConfState{})
	case "settle":
		s.settle(args)
	case "deliver", "drop":
		s.carry(name, args)
	case "step":
		s.stepMade(args)
	case "status":
		for _, a := range args {
			s.status(s.w.nodes[number(a)])
		}
	default:
		s.memberCommand(name, s.w.nodes[number(args[0])], args[1:])
	}
}

func (s *script) memberCommand(name string, n *node, args []string) {
	switch name {
	case "campaign":
		s.report(n.r.Campaign())
	case "tick":
		for range number(args[0]) {
			n.r.Tick()
		}
	case "propose":
		datas := make([][]byte, len(args))
		for i := range args {
			datas[i] = []byte(args[i])
		}
		s.report(n.r.Propose(datas...))
	case "read":
		s.report(n.r.ReadIndex([]byte(args[0])))
	case "transfer":
		s.report(n.r.TransferLeader(number(args[0])))
	case "change":
		s.report(n.r.ProposeConfChangeV2(parseChange(args)))
	case "change-v1":
		step := parseStep(args[0])
		s.report(n.r.ProposeConfChange(raftpb.ConfChange{Type: step.Type, NodeID: step.NodeID}))
	case "pump":
		s.pump(n)
	case "persist":
		for range count(args, 0) {
			if !n.persist() {
				s.say("nothing in flight")
			}
		}
	case "hold":
		n.holdApply = true
	case "release":
		n.holdApply = false
		n.applyHeld()
	case "compact":
		n.compact(number(args[0]))
	case "crash":
		keep := 0
		if len(args) > 0 {
			keep = int(number(args[0]))
		}
		n.crash(keep)
	case "restart":
		n.start(0)
	case "unreachable":
		n.r.ReportUnreachable(number(args[0]))
	case "snapshot-failed":
		n.r.ReportSnapshot(number(args[0]), false)
	case "log":
		s.say("%v", n.r.log)
		s.say("%s", describeEntries(n.r.Entries(0, ^uint64(0))))
	case "state":
		words := []string{}
		for _, c := range n.state {
			words = append(words, c.data)
		}
		s.say("%d at %d: %s; %s", n.id, n.applied, strings.Join(words, " "), describeConf(n.confState()))
	default:
		s.say("unknown command %s", name)
	}
}

func (s *script) report(err error) {
	if err != nil {
		s.say("%v", err)
	}
}

func (s *script) cluster(args []string) {
	var cs raftpb.ConfState
	option := map[string]uint64{}
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		switch id, err := strconv.ParseUint(a, 10, 64); {
		case err == nil:
			cs.Voters = append(cs.Voters, id)
		case name == "learners":
			cs.Learners = append(cs.Learners, number(value))
		case value == "":
			option[name] = 1
		default:
			option[name] = number(value)
		}
	}
	s.w = newWorld(func(id uint64) Config {
		c := testConfig(id, 1)
		c.PreVote, c.CheckQuorum = option["prevote"] == 1, option["checkquorum"] == 1
		c.ElectionTicks = int(max(option["election"], 10))
		c.MaxInflightMessages, c.MaxMessageBytes = int(option["inflight"]), option["message"]
		c.MaxUncommittedBytes, c.MaxCommittedBytes = option["uncommitted"], option["committed"]
		c.Events = s.event
		return c
	})
	s.w.say = s.say
	s.quiet = true
	for _, id := range slices.Concat(cs.Voters, cs.Learners) {
		n := &node{w: s.w, id: id}
		n.disk.snap.Metadata = raftpb.SnapshotMetadata{Index: 1, Term: 1, ConfState: cs}
		s.w.nodes[id] = n
		n.start(0)
	}
	s.quiet = false
}

// event prints what a log would show, except for what the messages tell anyway.
func (s *script) event(e Event) {
	switch e.Kind {
	case EventStarted, EventElectionStarted, EventVoteRequested, EventVoteReceived, EventVotesCounted, EventHigherTerm:
		return
	}
	s.say("  > %s", e.String())
}

func (s *script) pump(n *node) bool {
	sent := len(s.w.network)
	s.say("%d:", n.id)
	at := s.out.Len()
	e, any := n.pump()
	if !any {
		s.trim("quiet", at)
		return false
	}
	s.effects(&e, s.w.network[sent:])
	return true
}

// trim says that nothing was said since at.
func (s *script) trim(word string, at int) {
	if !s.quiet && s.out.Len() == at {
		s.say("  %s", word)
	}
}

func (s *script) effects(e *Effects, sent []raftpb.Message) {
	if e.SoftState != nil {
		s.say("  %v of term %d, leader %x", e.SoftState.Role, e.SoftState.Term, e.SoftState.Leader)
	}
	if e.Snapshot != nil {
		meta := &e.Snapshot.Metadata
		s.say("  write snapshot %d/%d %s", meta.Term, meta.Index, describeConf(meta.ConfState))
	}
	if len(e.Entries) > 0 {
		s.say("  write %s", describeEntries(e.Entries))
	}
	if !e.HardState.IsEmpty() {
		s.say("  write term=%d vote=%d commit=%d", e.HardState.Term, e.HardState.Vote, e.HardState.Commit)
	}
	for i := range sent {
		s.say("  send %s", describe(&sent[i]))
	}
	if len(e.Committed) > 0 {
		s.say("  apply %s", describeEntries(e.Committed))
	}
	for _, rs := range e.ReadStates {
		s.say("  read %s at %d", rs.Context, rs.Index)
	}
	for _, c := range e.DroppedReads {
		s.say("  dropped read %s", c)
	}
	if len(e.Replaced) > 0 {
		s.say("  replaced %s", describeEntries(e.Replaced))
	}
	if len(e.NeedSnapshot) > 0 {
		s.say("  need snapshot for %v", e.NeedSnapshot)
	}
}

func (s *script) settle(args []string) {
	among := s.w.ids()
	if len(args) > 0 {
		among = nil
		for _, a := range args {
			among = append(among, number(a))
		}
	}
	for range 100 {
		moved := false
		for _, id := range among {
			n := s.w.nodes[id]
			if n.r == nil {
				continue
			}
			for n.r.HasEffects() || len(n.queue) > 0 {
				if n.r.HasEffects() {
					s.pump(n)
				}
				n.persist()
				moved = true
			}
		}
		for i := 0; i < len(s.w.network); {
			m := &s.w.network[i]
			if !slices.Contains(among, m.To) || !slices.Contains(among, m.From) {
				i++
				continue
			}
			moved = true
			_, err := s.w.deliver(i)
			s.report(err)
		}
		if !moved {
			return
		}
	}
	s.say("it does not settle")
}

// carry delivers or drops messages of a pair of members; * stands for anyone.
func (s *script) carry(name string, args []string) {
	from, to, _ := strings.Cut(args[0], "->")
	left := len(s.w.network)
	if len(args) > 1 {
		left = int(number(args[1]))
	}
	fits := func(word string, id uint64) bool { return word == "*" || number(word) == id }
	for i := 0; i < len(s.w.network) && left > 0; {
		m := s.w.network[i]
		if !fits(from, m.From) || !fits(to, m.To) {
			i++
			continue
		}
		left--
		s.say("%s %s", name, describe(&m))
		if name == "drop" {
			s.w.network = slices.Delete(s.w.network, i, i+1)
			continue
		}
		_, err := s.w.deliver(i)
		s.report(err)
	}
}

func (s *script) stepMade(args []string) {
	from, to, _ := strings.Cut(args[0], "->")
	m := raftpb.Message{From: number(from), To: number(to), Type: -1}
	for kind := range typeNames {
		if typeNames[kind] == "Msg"+args[1] {
			m.Type = raftpb.MessageType(kind)
		}
	}
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "term":
			m.Term = number(value)
		case "index":
			m.Index = number(value)
		case "logterm":
			m.LogTerm = number(value)
		case "commit":
			m.Commit = number(value)
		case "reject":
			m.Reject = true
		case "context":
			m.Context = []byte(value)
		case "entries":
			m.Entries = parseEntries(m.Index, value)
		case "snapshot":
			term, index, _ := strings.Cut(value, "/")
			cs := s.w.nodes[m.To].r.ConfState()
			m.Snapshot = &raftpb.Snapshot{Metadata: raftpb.SnapshotMetadata{
				Term: number(term), Index: number(index), ConfState: cs,
			}}
		}
	}
	s.report(s.w.nodes[m.To].r.Step(m))
}

func (s *script) status(n *node) {
	if n.r == nil {
		s.say("%d is down", n.id)
		return
	}
	st := n.r.Status()
	s.say("%d: %v of term %d, leader %x, durable=%d committed=%d applied=%d, %v",
		n.id, st.Role, st.Term, st.Leader, st.Durable, st.Committed, st.Applied, n.r.members)
	if st.Role == Leader {
		for _, p := range n.r.peers {
			if p.ID != n.id {
				s.say("  %d: %v", p.ID, p)
			}
		}
	}
}

// parseEntries reads "term:data,term:data" as the entries behind index.
func parseEntries(index uint64, words string) (entries []raftpb.Entry) {
	for word := range strings.SplitSeq(words, ",") {
		term, data, _ := strings.Cut(word, ":")
		index++
		entries = append(entries, raftpb.Entry{Term: number(term), Index: index, Data: []byte(data)})
	}
	return entries
}

func number(word string) uint64 {
	v, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%q is no number", word))
	}
	return v
}

func count(args []string, at int) uint64 {
	if len(args) <= at {
		return 1
	}
	return number(args[at])
}

func parseChange(args []string) (cc raftpb.ConfChangeV2) {
	for _, a := range args {
		switch a {
		case "leave", "auto":
		case "implicit":
			cc.Transition = raftpb.ConfChangeTransitionJointImplicit
		case "explicit":
			cc.Transition = raftpb.ConfChangeTransitionJointExplicit
		default:
			cc.Changes = append(cc.Changes, parseStep(a))
		}
	}
	return cc
}

func parseStep(word string) raftpb.ConfChangeSingle {
	kind := map[byte]raftpb.ConfChangeType{
		'v': raftpb.ConfChangeAddNode, 'r': raftpb.ConfChangeRemoveNode,
		'u': raftpb.ConfChangeUpdateNode, 'l': raftpb.ConfChangeAddLearnerNode,
	}[word[0]]
	return raftpb.ConfChangeSingle{Type: kind, NodeID: number(word[1:])}
}
