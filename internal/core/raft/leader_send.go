package raft

import (
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/progress"
)

// flush sends what is due to the followers. It runs once per Effects, not per
// proposal or answer, so that everything that happened in one turn of the
// driver's loop travels in as few messages as possible.
func (r *Raft) flush() {
	if r.role != Leader {
		return
	}
	r.announceReads()
	if !r.lead.mustFlush {
		return
	}
	r.lead.mustFlush = false
	for _, p := range r.peers {
		if p != r.self {
			r.flushTo(p)
		}
	}
}

// flushTo sends appends until there is nothing left or p is paused.
func (r *Raft) flushTo(p *progress.Progress) {
	evenEmpty := p.Owed
	p.Owed = false
	for r.maybeSendAppend(p, evenEmpty) {
		evenEmpty = false
	}
}

func (r *Raft) maybeSendAppend(p *progress.Progress, evenEmpty bool) bool {
	if p.IsPaused() {
		return false
	}
	before := p.Next - 1
	beforeTerm, ok := r.log.Term(before)
	if !ok {
		r.wantSnapshot(p)
		return false
	}
	var entries []raftpb.Entry
	var bytes uint64
	if p.State != progress.Replicate || !p.Window.IsFull() {
		entries, bytes = r.log.Slice(p.Next, r.log.LastIndex()+1, r.cfg.MaxMessageBytes)
	}
	if len(entries) == 0 && !evenEmpty {
		return false
	}
	r.send(raftpb.Message{
		Type: raftpb.MsgApp, To: p.ID, Index: before, LogTerm: beforeTerm,
		Entries: entries, Commit: r.log.Committed(),
	})
	p.Sent(len(entries), bytes)
	p.SentCommit = r.log.Committed()
	return true
}

func (r *Raft) sendHeartbeats() {
	context := r.reads.context()
	r.reads.announced = r.reads.end()
	for _, p := range r.peers {
		if p == r.self {
			continue
		}
		// Not beyond what p is known to have: it may have other entries there.
		commit := min(p.Match, r.log.Committed())
		r.send(raftpb.Message{Type: raftpb.MsgHeartbeat, To: p.ID, Commit: commit, Context: context})
		p.SentCommit = commit
	}
}

// wantSnapshot asks the driver for a snapshot for p, whose next entry is gone.
// Someone who is not heard of would not take it anyway.
func (r *Raft) wantSnapshot(p *progress.Progress) {
	if !p.Active {
		return
	}
	p.BecomeSnapshot()
	r.out.wanted = append(r.out.wanted, p.ID)
	r.event(Event{Kind: EventSnapshotWanted, Peer: p.ID})
}

// SendSnapshot gives the snapshot that Effects.NeedSnapshot asked for. It
// reports false if the snapshot is of no use any more: the member found another
// way, the leadership ended, or the log was compacted beyond it. Then nothing is
// sent, and its body must not be.
func (r *Raft) SendSnapshot(to uint64, snapshot raftpb.Snapshot) bool {
	p := r.follower(to)
	if p == nil || p.State != progress.Snapshot || p.SnapshotIndex != 0 {
		return false
	}
	if at := snapshot.Metadata.Index; at < r.log.Base().Index || at > r.log.Committed() {
		p.SnapshotFailed()
		return false
	}
	p.SentSnapshot(snapshot.Metadata.Index)
	r.send(raftpb.Message{Type: raftpb.MsgSnap, To: to, Snapshot: &snapshot})
	return true
}

// ReportSnapshot tells how the sending of a snapshot ended; not ok also means
// that none could be prepared.
func (r *Raft) ReportSnapshot(id uint64, ok bool) {
	p := r.follower(id)
	if p == nil || p.State != progress.Snapshot {
		return
	}
	if ok && p.SnapshotIndex != 0 {
		p.SnapshotDelivered()
	} else {
		p.SnapshotFailed()
	}
}
