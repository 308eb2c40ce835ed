package raft

import (
	"math/rand/v2"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Goal: whatever arrives from the network, a member neither panics nor breaks
// its invariants; at worst it refuses.
// Method: bytes are cut into messages and calls for one member of three.
func FuzzStep(f *testing.F) {
	for _, m := range []raftpb.Message{
		{Type: raftpb.MsgApp, From: 2, To: 1, Term: 2, Index: 1, LogTerm: 1, Commit: 2, Entries: []raftpb.Entry{{Term: 2, Index: 2, Data: []byte("x")}}},
		{Type: raftpb.MsgVote, From: 3, To: 1, Term: 3, Index: 9, LogTerm: 2},
		{Type: raftpb.MsgVoteResp, From: 2, To: 1, Term: 2},
		{Type: raftpb.MsgAppResp, From: 2, To: 1, Term: 2, Index: 2},
		{Type: raftpb.MsgAppResp, From: 3, To: 1, Term: 2, Index: 2, Reject: true, RejectHint: 1, LogTerm: 1},
		{Type: raftpb.MsgSnap, From: 2, To: 1, Term: 4, Snapshot: &raftpb.Snapshot{Metadata: raftpb.SnapshotMetadata{Index: 5, Term: 3, ConfState: raftpb.ConfState{Voters: []uint64{1, 2}}}}},
		{Type: raftpb.MsgHeartbeat, From: 2, To: 1, Term: 2, Commit: 2, Context: make([]byte, 8)},
		{Type: raftpb.MsgHeartbeatResp, From: 2, To: 1, Term: 2, Context: []byte{1, 0, 0, 0, 0, 0, 0, 0}},
		{Type: raftpb.MsgProp, From: 2, To: 1, Entries: []raftpb.Entry{{Type: raftpb.EntryConfChangeV2}}},
		{Type: raftpb.MsgReadIndex, From: 2, To: 1, Entries: []raftpb.Entry{{Data: []byte("r")}}},
		{Type: raftpb.MsgTransferLeader, From: 2, To: 1, Term: 2},
		{Type: raftpb.MsgTimeoutNow, From: 2, To: 1, Term: 2},
	} {
		f.Add(append([]byte{200, byte(m.Size())}, m.Marshal()...), uint64(1))
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		w := newWorld(func(id uint64) Config {
			c := testConfig(id, seed)
			c.PreVote, c.CheckQuorum = seed%2 == 0, seed%3 == 0
			return c
		})
		n := &node{w: w, id: 1}
		n.disk.snap.Metadata = foundingMark([]uint64{1, 2, 3})
		w.nodes[1] = n
		n.start(0)
		n.holdApply = true // entries may hold anything; only the protocol is looked at
		rnd := rand.New(rand.NewPCG(seed, 1))
		for len(input) > 0 {
			input = fuzzCall(n, rnd, input)
			n.held = nil
		}
	})
}

// fuzzCall takes one call off the input.
func fuzzCall(n *node, rnd *rand.Rand, input []byte) (rest []byte) {
	op := input[0]
	input = input[1:]
	switch {
	case op < 20:
		n.r.Tick()
	case op < 30:
		_ = n.r.Campaign()
	case op < 40:
		_ = n.r.Propose([]byte("p"))
	case op < 50:
		_ = n.r.ReadIndex([]byte("r"))
	case op < 90:
		n.pump()
	case op < 130:
		n.persist()
	case op < 140:
		_ = n.r.TransferLeader(uint64(rnd.IntN(4)))
	case len(input) > 0:
		size := min(int(input[0]), len(input)-1)
		var m raftpb.Message
		if m.Unmarshal(input[1:1+size]) == nil {
			_ = n.r.Step(m)
		}
		input = input[1+size:]
	}
	n.r.check()
	return input
}
