package raft

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
)

// one starts member 1 of three from what its disk holds.
func one(t *testing.T, from Restored) *Raft {
	t.Helper()
	if from.ConfState.Voters == nil {
		from.ConfState.Voters = []uint64{1, 2, 3}
	}
	r, err := New(testConfig(1, 1), from)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// finish carries out effects until there are none, with a disk that is fast.
func finish(r *Raft) (all []Effects) {
	for r.HasEffects() {
		e := r.Effects()
		all = append(all, e)
		if e.Token != 0 {
			r.Persisted(e.Token)
		}
		if e.Snapshot != nil {
			r.SnapshotInstalled(e.Snapshot.Metadata)
		}
		if n := len(e.Committed); n > 0 {
			r.AppliedTo(e.Committed[n-1].Index)
		}
	}
	return all
}

func (r *Raft) mustLead(t *testing.T) {
	t.Helper()
	if err := r.Campaign(); err != nil {
		t.Fatal(err)
	}
	finish(r)
	for _, p := range r.peers {
		if p != r.self {
			_ = r.Step(raftpb.Message{Type: raftpb.MsgVoteResp, From: p.ID, To: 1, Term: r.term})
		}
	}
	if r.Role() != Leader {
		t.Fatalf("not elected: %+v", r.Status())
	}
	finish(r)
}

var threeEntries = []raftpb.Entry{{Term: 1, Index: 1}, {Term: 1, Index: 2}, {Term: 4, Index: 3}}

// Goal: a restart trusts what a crash can leave behind, and nothing else.
func TestRestart(t *testing.T) {
	t.Run("entries were written, the hard state behind them was not", func(t *testing.T) {
		r := one(t, Restored{HardState: raftpb.HardState{Term: 2, Vote: 3, Commit: 2}, Entries: slices.Clone(threeEntries)})
		if r.term != 4 || r.vote != none || r.log.Committed() != 2 {
			t.Errorf("term %d vote %d commit %d; want the entries' term and no vote in it", r.term, r.vote, r.log.Committed())
		}
	})
	t.Run("the state machine is ahead of the written commit index", func(t *testing.T) {
		r := one(t, Restored{HardState: raftpb.HardState{Term: 4, Commit: 1}, Entries: slices.Clone(threeEntries), Applied: 3})
		if r.log.Committed() != 3 {
			t.Errorf("commit %d; applied entries were committed", r.log.Committed())
		}
		for _, e := range finish(r) {
			if len(e.Committed) > 0 {
				t.Errorf("applied entries came again: %v", e.Committed)
			}
		}
	})
	t.Run("committed and not applied entries come again", func(t *testing.T) {
		r := one(t, Restored{HardState: raftpb.HardState{Term: 4, Commit: 3}, Entries: slices.Clone(threeEntries), Applied: 1})
		all := finish(r)
		if len(all) != 1 || len(all[0].Committed) != 2 || all[0].Committed[0].Index != 2 {
			t.Errorf("%+v", all)
		}
	})
	for story, from := range map[string]Restored{
		"a commit index beyond the log":   {HardState: raftpb.HardState{Term: 4, Commit: 9}, Entries: threeEntries},
		"a state machine beyond the log":  {HardState: raftpb.HardState{Term: 4}, Entries: threeEntries, Applied: 4},
		"a log that starts after nothing": {Entries: threeEntries[1:]},
	} {
		if _, err := New(testConfig(1, 1), from); err == nil {
			t.Errorf("%s was taken", story)
		} else if story != "a log that starts after nothing" && !errors.Is(err, ErrLogLost) {
			t.Errorf("%s: %v", story, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for story, spoil := range map[string]func(*Config){
		"no id":              func(c *Config) { c.ID = 0 },
		"no heartbeat":       func(c *Config) { c.HeartbeatTicks = 0 },
		"election too early": func(c *Config) { c.ElectionTicks = 1 },
		"no chance":          func(c *Config) { c.Rand = nil },
	} {
		c := testConfig(1, 1)
		spoil(&c)
		if _, err := New(c, Restored{}); err == nil {
			t.Errorf("%s was taken", story)
		}
	}
}

// Goal: founding members agree on their membership from their own logs. They
// hand it to the disk before anything, campaign once it is applied, and a member
// with state is not founded again.
func TestBootstrap(t *testing.T) {
	r, err := New(testConfig(1, 1), Restored{})
	if err != nil {
		t.Fatal(err)
	}
	founders := []raftpb.ConfChange{{NodeID: 1, Context: []byte("a")}, {NodeID: 2}}
	if err := r.Bootstrap(founders); err != nil {
		t.Fatal(err)
	}
	if err := r.Campaign(); !errors.Is(err, ErrNotPromotable) {
		t.Errorf("campaigns before its membership is applied: %v", err)
	}
	e := r.Effects()
	if len(e.Entries) != 2 || e.HardState != (raftpb.HardState{Term: 1, Commit: 2}) || len(e.Committed) != 0 {
		t.Fatalf("first effects: %+v", e)
	}
	r.Persisted(e.Token)
	e = r.Effects()
	if len(e.Committed) != 2 {
		t.Fatalf("durable now, but delivered %v", e.Committed)
	}
	for i := range founders {
		if _, err := r.ApplyConfChangeV1(founders[i]); err != nil {
			t.Error(err)
		}
	}
	r.AppliedTo(2)
	if err := r.Campaign(); err != nil {
		t.Error(err)
	}
	if err := r.Bootstrap(founders); err == nil {
		t.Error("founded twice")
	}
}

// Goal: a disk that failed silences the member.
func TestPersistFailed(t *testing.T) {
	r := one(t, Restored{})
	r.mustLead(t)
	r.PersistFailed()
	if r.Role() != Follower || !errors.Is(r.Campaign(), ErrNotPromotable) {
		t.Errorf("leads or campaigns on: %v", r.Role())
	}
	must(r.Step(raftpb.Message{Type: raftpb.MsgVote, From: 2, To: 1, Term: 9, Index: 9, LogTerm: 9}))
	for range 3 {
		if e := r.Effects(); len(e.Messages) > 0 {
			t.Errorf("promises: %v", describe(&e.Messages[0]))
		}
	}
}

// Goal: writes end in order; anything else is a fault of the driver.
func TestWritesEndInOrder(t *testing.T) {
	r := one(t, Restored{ConfState: raftpb.ConfState{Voters: []uint64{1}}})
	must(r.Campaign())
	finish(r)
	must(r.Propose([]byte("a")))
	first := r.Effects()
	must(r.Propose([]byte("b")))
	second := r.Effects()
	defer func() {
		if recover() == nil {
			t.Errorf("write %d ended before %d", second.Token, first.Token)
		}
	}()
	r.Persisted(second.Token)
}

// Goal: the state machine is not handed more than it can take.
func TestCommittedIsBounded(t *testing.T) {
	cfg := testConfig(1, 1)
	cfg.MaxCommittedBytes = 100
	r, err := New(cfg, Restored{ConfState: raftpb.ConfState{Voters: []uint64{1}}})
	must(err)
	must(r.Campaign())
	finish(r)
	for range 10 {
		must(r.Propose(make([]byte, 20)))
	}
	e := r.Effects()
	r.Persisted(e.Token)
	e = r.Effects()
	if len(e.Committed) != 2 {
		t.Fatalf("100 bytes hold 2 entries of 50, got %d", len(e.Committed))
	}
	if r.HasEffects() {
		t.Error("more before these are applied")
	}
	r.AppliedTo(e.Committed[0].Index)
	if e = r.Effects(); len(e.Committed) != 0 {
		t.Error("half a batch applied makes no room")
	}
	r.AppliedTo(r.log.Delivered())
	if e = r.Effects(); len(e.Committed) != 2 {
		t.Errorf("then the next two, got %d", len(e.Committed))
	}
}

// Goal: a snapshot that nobody wants any more is not sent.
func TestStaleSnapshotIsRefused(t *testing.T) {
	r := one(t, Restored{})
	snapshot := raftpb.Snapshot{Metadata: raftpb.SnapshotMetadata{Index: 1, Term: 1}}
	if r.SendSnapshot(2, snapshot) {
		t.Error("sent by a follower")
	}
	r.mustLead(t)
	if r.SendSnapshot(2, snapshot) || r.SendSnapshot(9, snapshot) || r.SendSnapshot(1, snapshot) {
		t.Error("sent without being asked for")
	}
}

// Goal: a membership change that the state machine meets on its way to a
// snapshot does not disturb the newer membership of that snapshot.
func TestConfChangeBehindSnapshot(t *testing.T) {
	r := one(t, Restored{})
	must(r.Step(raftpb.Message{Type: raftpb.MsgSnap, From: 2, To: 1, Term: 3, Snapshot: &raftpb.Snapshot{
		Metadata: raftpb.SnapshotMetadata{Index: 9, Term: 3, ConfState: raftpb.ConfState{Voters: []uint64{1, 2, 7}}},
	}}))
	if _, err := r.ApplyConfChangeV1(raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode, NodeID: 7}); err != nil {
		t.Error(err)
	}
	if got := r.ConfState().Voters; !slices.Equal(got, []uint64{1, 2, 7}) {
		t.Errorf("voters %v", got)
	}
	finish(r)
	if r.Applied() != 9 || r.Status().PendingSnapshot != 0 {
		t.Errorf("not installed: %+v", r.Status())
	}
}

// Goal: what cannot be meant for us is refused by name.
func TestStepRefuses(t *testing.T) {
	r := one(t, Restored{})
	for _, c := range []struct {
		story string
		m     raftpb.Message
		want  error
	}{
		{"local types", raftpb.Message{Type: raftpb.MsgHup, From: 2}, ErrLocalMessage},
		{"etcd's storage messages", raftpb.Message{Type: 19, From: 2}, ErrLocalMessage},
		{"unknown types", raftpb.Message{Type: 99, From: 2}, ErrLocalMessage},
		{"answers of strangers", raftpb.Message{Type: raftpb.MsgAppResp, From: 9, Term: 1}, ErrUnknownPeer},
		{"no term", raftpb.Message{Type: raftpb.MsgApp, From: 2}, ErrMalformed},
		{"a hole in the entries", raftpb.Message{Type: raftpb.MsgApp, From: 2, Term: 1, Entries: []raftpb.Entry{{Term: 1, Index: 2}}}, ErrMalformed},
		{"entries of the future", raftpb.Message{Type: raftpb.MsgApp, From: 2, Term: 1, Entries: []raftpb.Entry{{Term: 2, Index: 1}}}, ErrMalformed},
		{"no snapshot", raftpb.Message{Type: raftpb.MsgSnap, From: 2, Term: 1}, ErrMalformed},
		{"a proposal without a leader", raftpb.Message{Type: raftpb.MsgProp, From: 2, Entries: []raftpb.Entry{{}}}, nil},
	} {
		if err := r.Step(c.m); c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.story, err, c.want)
		}
	}
	r.StepDown()
	r.mustLead(t)
	for story, m := range map[string]raftpb.Message{
		"a second leader":               {Type: raftpb.MsgHeartbeat, From: 2, Term: r.term},
		"an acknowledgement of nothing": {Type: raftpb.MsgAppResp, From: 2, Term: r.term, Index: 99},
	} {
		if err := r.Step(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", story, err)
		}
	}
}

// Goal: election timeouts are spread over [n, 2n), so that members seldom
// campaign at once.
func TestTimeoutsAreSpread(t *testing.T) {
	cfg := testConfig(1, 1)
	cfg.Rand = rand.New(rand.NewPCG(1, 2))
	var e election
	e.votes = map[uint64]bool{}
	seen := map[int]bool{}
	for range 1000 {
		e.reset(&cfg)
		seen[e.timeout] = true
	}
	if len(seen) != 10 || seen[9] || seen[20] {
		t.Errorf("timeouts %v, want 10 to 19", seen)
	}
}

// Goal: the lines that operators and their tools look for.
func TestEventLines(t *testing.T) {
	var lines []string
	cfg := testConfig(0x8e9e05c52164694d, 1)
	cfg.Events = func(e Event) { lines = append(lines, e.String()) }
	r, err := New(cfg, Restored{ConfState: raftpb.ConfState{Voters: []uint64{cfg.ID}}})
	must(err)
	must(r.Campaign())
	finish(r)
	want := []string{
		"8e9e05c52164694d switched to configuration voters=(10276657743932975437)",
		"8e9e05c52164694d became follower at term 0",
		"newRaft 8e9e05c52164694d [peers: [8e9e05c52164694d], term: 0, commit: 0, applied: 0, lastindex: 0, lastterm: 0]",
		"8e9e05c52164694d is starting a new election at term 0",
		"8e9e05c52164694d became candidate at term 1",
		"8e9e05c52164694d received MsgVoteResp from 8e9e05c52164694d at term 1",
		"8e9e05c52164694d has received 1 MsgVoteResp votes and 0 vote rejections",
		"8e9e05c52164694d became leader at term 1",
		"raft.node: 8e9e05c52164694d elected leader 8e9e05c52164694d at term 1",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// Goal: every event has words, and they name the member.
func TestEveryEventHasWords(t *testing.T) {
	for kind := EventStarted; kind <= EventSnapshotRestored; kind++ {
		e := Event{Kind: kind, ID: 0xabc}
		if s := e.String(); !strings.Contains(s, "abc") || strings.Contains(s, "event") || strings.Contains(s, "%!") {
			t.Errorf("event %d reads %q", kind, s)
		}
	}
}
