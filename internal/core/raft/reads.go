package raft

import (
	"encoding/binary"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/progress"
)

// ReadState says that a read may be answered as soon as the state machine has
// applied Index.
type ReadState struct {
	Index   uint64
	Context []byte // as given to ReadIndex
}

// reads are the linearizable reads under way (Raft thesis 6.4). The leader keeps
// a queue of them. A heartbeat carries the position of the queue's end, 8 bytes
// little endian; a follower's answer to it says that it knew no newer leader
// after all reads up to that position had been asked for. So one round confirms
// any number of reads, and rounds overlap.
//
//	confirmed        announced     end
//	    |                |          |
//	 ---+----------------+----------+
//	    |queue[0]                   |
type reads struct {
	queue     []read // leader: not yet confirmed
	confirmed uint64 // leader: reads confirmed before queue[0]
	announced uint64 // leader: the highest position in a heartbeat
	early     []read // leader: asked before the first commit of its term
	asked     []read // follower: own reads that a leader was asked for
}

type read struct {
	from    uint64 // who asked
	context []byte
	index   uint64 // commit index when it was asked
}

// readsMax bounds each list of reads. Drivers batch their reads, so a member
// has a few under way; more are refused.
const readsMax = 4096

func (q *reads) end() uint64 { return q.confirmed + uint64(len(q.queue)) }

// context is what the next heartbeat carries; nothing if no read waits.
func (q *reads) context() []byte {
	if len(q.queue) == 0 {
		return nil
	}
	return binary.LittleEndian.AppendUint64(nil, q.end())
}

// ReadIndex asks when a read may be answered. The context comes back in a
// ReadState, or in Effects.DroppedReads when it is certain that it will not; the
// request or its answer may also get lost on the way to or from the leader.
func (r *Raft) ReadIndex(context []byte) error {
	switch {
	case r.role == Leader:
		return r.takeRead(read{from: r.id, context: context})
	case r.leader == none:
		r.event(Event{Kind: EventReadDropped})
		return ErrNoLeader
	case len(r.reads.asked) >= readsMax:
		return ErrBacklog
	}
	r.reads.asked = append(r.reads.asked, read{from: r.id, context: context})
	r.send(raftpb.Message{Type: raftpb.MsgReadIndex, To: r.leader, Entries: []raftpb.Entry{{Data: context}}})
	return nil
}

func followerReadIndex(r *Raft, m *raftpb.Message) error {
	if r.leader == none {
		return ErrNoLeader
	}
	forwarded := *m
	forwarded.To = r.leader
	r.send(forwarded)
	return nil
}

func candidateReadIndex(*Raft, *raftpb.Message) error { return ErrNoLeader }

func followerReadIndexResp(r *Raft, m *raftpb.Message) error {
	if len(m.Entries) != 1 {
		return malformed(m, "not one read context")
	}
	context := m.Entries[0].Data
	for i := range r.reads.asked {
		if string(r.reads.asked[i].context) == string(context) {
			r.reads.asked = append(r.reads.asked[:i], r.reads.asked[i+1:]...)
			r.out.readStates = append(r.out.readStates, ReadState{Index: m.Index, Context: context})
			return nil
		}
	}
	return nil // answered twice, or given up since
}

func leaderReadIndex(r *Raft, m *raftpb.Message) error {
	if len(m.Entries) != 1 {
		return malformed(m, "not one read context")
	}
	return r.takeRead(read{from: m.From, context: m.Entries[0].Data})
}

func (r *Raft) takeRead(q read) error {
	if len(r.reads.queue)+len(r.reads.early) >= readsMax {
		return ErrBacklog
	}
	if !r.hasCommittedInTerm() {
		// An earlier leader may have committed more than we know of.
		r.reads.early = append(r.reads.early, q)
		return nil
	}
	r.enqueueRead(q)
	return nil
}

func (r *Raft) enqueueRead(q read) {
	q.index = r.log.Committed()
	if r.members.Voters.IsOnly(r.id) {
		r.answerRead(q)
		return
	}
	r.reads.queue = append(r.reads.queue, q)
	if r.self != nil {
		r.self.ReadAck = r.reads.end()
	}
}

// askEarlyReads takes up the reads that waited for the first commit.
func (r *Raft) askEarlyReads() {
	early := r.reads.early
	r.reads.early = nil
	for _, q := range early {
		r.enqueueRead(q)
	}
}

// announceReads starts a round for the reads that no heartbeat has carried yet.
func (r *Raft) announceReads() {
	if r.reads.end() > r.reads.announced {
		r.sendHeartbeats()
	}
}

// readsAcknowledged notes the position in an answer to a heartbeat, and answers
// the reads up to where a majority has come.
func (r *Raft) readsAcknowledged(p *progress.Progress, context []byte) {
	if len(context) != 8 {
		return
	}
	position := binary.LittleEndian.Uint64(context)
	if position > r.reads.end() || position <= p.ReadAck {
		return
	}
	p.ReadAck = position
	r.maybeAnswerReads()
}

func (r *Raft) maybeAnswerReads() {
	reached := min(r.members.Voters.Reached(r.readAckOf), r.reads.end())
	for r.reads.confirmed < reached {
		r.answerRead(r.reads.queue[0])
		r.reads.queue = r.reads.queue[1:]
		r.reads.confirmed++
	}
}

func (r *Raft) readAckOf(id uint64) uint64 { return r.peer(id).ReadAck }

func (r *Raft) answerRead(q read) {
	if q.from == r.id {
		r.out.readStates = append(r.out.readStates, ReadState{Index: q.index, Context: q.context})
		return
	}
	r.send(raftpb.Message{
		Type: raftpb.MsgReadIndexResp, To: q.from, Index: q.index, Entries: []raftpb.Entry{{Data: q.context}},
	})
}

// dropReads gives up all reads with the leadership they were asked of. The own
// ones are reported; other members notice the change themselves.
func (r *Raft) dropReads() {
	for _, list := range [][]read{r.reads.queue, r.reads.early, r.reads.asked} {
		for _, q := range list {
			if q.from == r.id {
				r.out.dropped = append(r.out.dropped, q.context)
			}
		}
	}
	r.reads = reads{}
}
