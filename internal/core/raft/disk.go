package raft

import (
	"fmt"
	"slices"

	"github.com/steledb/stele/internal/base/raftpb"
)

// disk follows the writes that the driver carries out. Several may be in
// flight; they end in the order they were given out.
//
//	now ----> waiting          promises about state not given out yet
//	          writes[n-1]      promises about it and everything before
//	          ...
//	          writes[0]        next to end
//
// A promise is a message that may leave only when all it rests on is durable.
type disk struct {
	waiting []raftpb.Message
	writes  []write
	token   uint64           // of the newest write given out
	handed  raftpb.HardState // as given out last
	failed  bool
}

// write is what one Effects gave to the disk.
type write struct {
	token    uint64
	last     uint64 // the log is durable up to here after it; lowered when entries are replaced meanwhile
	tick     uint64 // when it was given out
	promises []raftpb.Message
}

func (d *disk) await(m raftpb.Message) { d.waiting = append(d.waiting, m) }

// lastAwaiting returns the newest promise that was not given out, nil if none.
func (d *disk) lastAwaiting() *raftpb.Message {
	if n := len(d.waiting); n > 0 {
		return &d.waiting[n-1]
	}
	return nil
}

// truncatedAt notes that the entries from index on were replaced. Writes in
// flight bring the old ones to disk, and say nothing about the new ones even
// where index and term are the same again later.
func (d *disk) truncatedAt(index uint64) {
	for i := range d.writes {
		w := &d.writes[i]
		w.last = min(w.last, max(index, 1)-1)
	}
}

// begin gives out a write and hands it all promises that wait.
func (d *disk) begin(last, tick uint64) uint64 {
	d.token++
	d.writes = append(d.writes, write{token: d.token, last: last, tick: tick, promises: d.waiting})
	d.waiting = nil
	return d.token
}

// join hangs the waiting promises on the newest write in flight: nothing that
// they rest on is newer.
func (d *disk) join() {
	w := &d.writes[len(d.writes)-1]
	w.promises = append(w.promises, d.waiting...)
	d.waiting = nil
}

// Persisted says that the write of an Effects, and so all before it, is durable.
// Writes must end in the order of their tokens.
func (r *Raft) Persisted(token uint64) {
	d := &r.disk
	if len(d.writes) == 0 || d.writes[0].token != token {
		panic(fmt.Sprintf("raft: %x: write %d ended out of order, in flight %v", r.id, token, d.tokens()))
	}
	w := d.writes[0]
	d.writes = slices.Delete(d.writes, 0, 1)
	r.log.DurableTo(max(w.last, r.log.Durable()))
	if r.role == Leader && r.self != nil && r.self.Accepted(r.log.Durable()) {
		r.lead.mustFlush = true
		r.maybeCommit()
	}
	r.release(w.promises)
}

// release lets promises go. Those to this member itself are stepped.
func (r *Raft) release(promises []raftpb.Message) {
	for i := range promises {
		if promises[i].To != r.id {
			r.out.messages = append(r.out.messages, promises[i])
			continue
		}
		if err := r.step(&promises[i]); err != nil {
			panic(fmt.Sprintf("raft: %x: own message: %v", r.id, err))
		}
	}
}

// PersistFailed says that the disk cannot be relied on any more. The member
// leads no longer and makes no further promise; it must be stopped.
func (r *Raft) PersistFailed() {
	r.disk.failed = true
	if r.role != Follower {
		r.event(Event{Kind: EventDiskStalled})
		r.becomeFollower(r.term, none)
	}
}

// StepDown makes a leader or candidate follow nobody in the same term.
func (r *Raft) StepDown() {
	if r.role != Follower {
		r.becomeFollower(r.term, none)
	}
}

// isDiskStalled reports whether the oldest write has been in flight for an
// election timeout.
func (r *Raft) isDiskStalled() bool {
	d := &r.disk
	return d.failed || len(d.writes) > 0 && r.ticks-d.writes[0].tick >= uint64(r.cfg.ElectionTicks)
}

func (d *disk) tokens() (tokens []uint64) {
	for i := range d.writes {
		tokens = append(tokens, d.writes[i].token)
	}
	return tokens
}
