package raft

import (
	"fmt"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/progress"
)

// SoftState is who leads, as far as this member knows, and what it is itself.
type SoftState struct {
	Leader uint64
	Role   Role
	Term   uint64
}

// Effects is what the driver must carry out. Slices in it are shared with the
// Raft and never changed by either side.
//
// Order within one Effects and between them:
//   - Messages leave without waiting for the disk.
//   - Snapshot, then Entries, then HardState are written, in the order of the
//     Effects. An entry replaces those at and behind its index.
//   - If Token is not 0, Persisted(Token) is called when all of that and all
//     before it is durable. If it is 0 nobody waits: HardState then holds a new
//     commit index only and may be written whenever convenient.
//   - Committed goes to the state machine, which reports back by AppliedTo.
//
// Further Effects may be asked for while writes are in flight.
type Effects struct {
	Token     uint64
	Snapshot  *raftpb.Snapshot // replaces log and state machine; then SnapshotInstalled
	Entries   []raftpb.Entry
	HardState raftpb.HardState // empty if unchanged

	Messages  []raftpb.Message
	Committed []raftpb.Entry

	ReadStates   []ReadState
	DroppedReads [][]byte // contexts of own reads that will not be answered

	// Replaced are entries that a new leader's took the place of. Proposals in
	// them are probably lost, but may come back: their outcome is unknown.
	Replaced []raftpb.Entry

	// NeedSnapshot are members that can only go on from a snapshot: prepare one
	// and give it to SendSnapshot, or ReportSnapshot(id, false).
	NeedSnapshot []uint64

	SoftState *SoftState // nil if unchanged
}

// MustSync reports whether someone waits for this write to be durable.
func (e *Effects) MustSync() bool { return e.Token != 0 }

// HasEffects reports whether there is anything to carry out.
func (r *Raft) HasEffects() bool {
	o := &r.out
	return len(o.messages) > 0 || len(o.readStates) > 0 || len(o.dropped) > 0 || len(o.replaced) > 0 || len(o.wanted) > 0 ||
		len(r.disk.waiting) > 0 && !r.disk.failed || r.lead.mustFlush || r.mustWrite() || r.hardState() != r.disk.handed ||
		r.canDeliver() || r.softState() != o.told ||
		r.reads.end() > r.reads.announced
}

// Effects returns what is to be carried out and considers it taken care of.
func (r *Raft) Effects() Effects {
	r.settle()
	r.flush()
	e := Effects{
		Messages: r.out.messages, ReadStates: r.out.readStates, DroppedReads: r.out.dropped,
		Replaced: r.out.replaced, NeedSnapshot: r.out.wanted,
	}
	r.out.messages, r.out.readStates, r.out.dropped, r.out.replaced, r.out.wanted = nil, nil, nil, nil, nil
	r.giveToDisk(&e)
	r.deliver(&e)
	r.tell(&e)
	r.check()
	return e
}

// settle releases promises that wait for nothing. A single member campaigns
// through here: its own pre-vote leads on to a candidacy, and that to a write.
func (r *Raft) settle() {
	for len(r.disk.waiting) > 0 && len(r.disk.writes) == 0 && !r.mustWrite() && !r.disk.failed {
		promises := r.disk.waiting
		r.disk.waiting = nil
		r.release(promises)
	}
}

// mustWrite reports whether there is something that promises rest on and that
// was not given to the disk.
func (r *Raft) mustWrite() bool {
	return r.log.Handed() < r.log.LastIndex() || r.term != r.disk.handed.Term || r.vote != r.disk.handed.Vote ||
		r.incoming.snapshot != nil && !r.incoming.handed
}

func (r *Raft) giveToDisk(e *Effects) {
	switch {
	case r.mustWrite():
		if r.incoming.snapshot != nil && !r.incoming.handed {
			e.Snapshot = r.incoming.snapshot
			r.incoming.handed = true
		}
		e.Entries = r.log.Unwritten()
		r.log.HandOut()
		e.Token = r.disk.begin(r.log.LastIndex(), r.ticks)
	case len(r.disk.waiting) > 0 && len(r.disk.writes) > 0:
		r.disk.join()
	}
	if hs := r.hardState(); hs != r.disk.handed {
		e.HardState = hs
		r.disk.handed = hs
	}
}

func (r *Raft) hardState() raftpb.HardState {
	return raftpb.HardState{Term: r.term, Vote: r.vote, Commit: r.log.Committed()}
}

func (r *Raft) softState() SoftState {
	return SoftState{Leader: r.leader, Role: r.role, Term: r.term}
}

// canDeliver reports whether committed entries may go to the state machine: not
// while it waits for a snapshot, and not while it is far behind.
func (r *Raft) canDeliver() bool {
	return r.log.Delivered() < r.log.DeliverableTo() && r.incoming.snapshot == nil &&
		r.out.batchesBytes < r.cfg.MaxCommittedBytes
}

func (r *Raft) deliver(e *Effects) {
	if !r.canDeliver() {
		return
	}
	entries, bytes := r.log.Slice(r.log.Delivered()+1, r.log.DeliverableTo()+1, r.cfg.MaxCommittedBytes-r.out.batchesBytes)
	last := entries[len(entries)-1].Index
	r.log.DeliverTo(last)
	r.out.batches = append(r.out.batches, batch{last, bytes})
	r.out.batchesBytes += bytes
	r.lead.uncommittedBytes -= min(bytes, r.lead.uncommittedBytes)
	e.Committed = entries
}

func (r *Raft) tell(e *Effects) {
	now, before := r.softState(), r.out.told
	if now == before {
		return
	}
	if now.Leader != before.Leader {
		r.event(Event{Kind: EventLeaderChanged, Peer: now.Leader, OldLeader: before.Leader})
	}
	r.out.told = now
	e.SoftState = new(now) // here, or every call would allocate
}

// AppliedTo says that the state machine has applied everything up to index.
func (r *Raft) AppliedTo(index uint64) {
	if index <= r.log.Applied() {
		return // a report that was on its way when a snapshot was installed
	}
	r.log.AppliedTo(index)
	n := 0
	for n < len(r.out.batches) && r.out.batches[n].last <= index {
		r.out.batchesBytes -= r.out.batches[n].bytes
		n++
	}
	r.out.batches = append(r.out.batches[:0], r.out.batches[n:]...)
	r.maybeLeaveJoint()
}

// Compact drops the log in memory up to index, as far as it is applied. Members
// that still need what was dropped are sent snapshots.
func (r *Raft) Compact(index uint64) { r.log.Compact(min(index, r.log.Applied())) }

// check asserts what must always hold. It is cheap enough to stay on.
func (r *Raft) check() {
	r.log.Check()
	switch {
	case r.role == Leader && r.leader != r.id:
		panic(fmt.Sprintf("raft: %x leads term %d but thinks %x does", r.id, r.term, r.leader))
	case r.role == Candidate && r.vote != r.id:
		panic(fmt.Sprintf("raft: candidate %x voted for %x in term %d", r.id, r.vote, r.term))
	}
	if r.role == Leader {
		for _, p := range r.peers {
			r.checkPeer(p)
		}
	}
}

func (r *Raft) checkPeer(p *progress.Progress) {
	if p.Match >= p.Next || p.Match > r.log.LastIndex() || p == r.self && p.Match > r.log.Durable() {
		panic(fmt.Sprintf("raft: %x sees %x at %v, %v", r.id, p.ID, p, r.log))
	}
}
