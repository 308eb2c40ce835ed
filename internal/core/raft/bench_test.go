package raft

import (
	"math/rand/v2"
	"testing"

	"github.com/steledb/stele/internal/base/raftpb"
)

// What a proposal costs on its way through a single member: propose, hand to
// the disk, persist, commit, apply. One proposal per write, and 64.
func BenchmarkSingleMember1(b *testing.B)  { benchSingle(b, 1) }
func BenchmarkSingleMember64(b *testing.B) { benchSingle(b, 64) }

func benchSingle(b *testing.B, batch int) {
	r := benchLeader(b, 1)
	data := make([]byte, 256)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += batch {
		for range batch {
			if err := r.Propose(data); err != nil {
				b.Fatal(err)
			}
		}
		e := r.Effects()
		r.Persisted(e.Token)
		e = r.Effects()
		r.AppliedTo(e.Committed[len(e.Committed)-1].Index)
		compactNowAndThen(r)
	}
}

// The same on a leader of three whose followers answer at once, per proposal of
// a batch of 64.
func BenchmarkLeaderOfThree64(b *testing.B) {
	r := benchLeader(b, 1, 2, 3)
	data := make([]byte, 256)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += 64 {
		for range 64 {
			if err := r.Propose(data); err != nil {
				b.Fatal(err)
			}
		}
		drive(r)
		compactNowAndThen(r)
	}
}

func compactNowAndThen(r *Raft) {
	if s := r.log; s.Applied()-s.Base().Index > 10000 {
		r.Compact(s.Applied() - 5000)
	}
}

func benchLeader(b *testing.B, voters ...uint64) *Raft {
	r, err := New(Config{ID: 1, ElectionTicks: 10, HeartbeatTicks: 1, Rand: rand.New(rand.NewPCG(1, 1))}, Restored{
		ConfState: raftpb.ConfState{Voters: voters},
		Snapshot:  raftpb.SnapshotMetadata{Index: 1, Term: 1},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Campaign(); err != nil {
		b.Fatal(err)
	}
	drive(r)
	if r.Role() != Leader {
		b.Fatal("not elected")
	}
	return r
}

// drive carries out effects and answers for the followers until nothing is left.
func drive(r *Raft) {
	for r.HasEffects() {
		e := r.Effects()
		if e.Token != 0 {
			r.Persisted(e.Token)
		}
		for i := range e.Messages {
			if m := answerTo(&e.Messages[i]); m.Type != 0 {
				_ = r.Step(m)
			}
		}
		if n := len(e.Committed); n > 0 {
			r.AppliedTo(e.Committed[n-1].Index)
		}
	}
}

func answerTo(m *raftpb.Message) raftpb.Message {
	answer := raftpb.Message{From: m.To, To: m.From, Term: m.Term}
	switch m.Type {
	case raftpb.MsgVote:
		answer.Type = raftpb.MsgVoteResp
	case raftpb.MsgApp:
		answer.Type, answer.Index = raftpb.MsgAppResp, m.Index+uint64(len(m.Entries))
	case raftpb.MsgHeartbeat:
		answer.Type = raftpb.MsgHeartbeatResp
	}
	return answer
}
