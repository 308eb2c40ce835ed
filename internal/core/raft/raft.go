package raft

import (
	"fmt"
	"slices"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft/confchange"
	"github.com/steledb/stele/internal/core/raft/progress"
	"github.com/steledb/stele/internal/core/raft/raftlog"
)

// none is the id of nobody.
const none = 0

// Role is what a member is in its term.
type Role uint8

// The roles.
const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
	roleCount
)

func (r Role) String() string {
	return [...]string{"follower", "pre-candidate", "candidate", "leader"}[r]
}

// Raft is the protocol state of one member. See the package comment; all fields
// are owned by whoever calls its methods, one call at a time.
type Raft struct {
	cfg Config
	id  uint64

	// Durable in the hard state: term and vote.
	term uint64
	vote uint64

	role   Role
	leader uint64 // of term, none if unknown
	log    *raftlog.Log

	members confchange.Config
	peers   []*progress.Progress // everybody in members, this member included, by rising id
	self    *progress.Progress   // its own entry in peers; nil if it is not in

	ticks    uint64 // since New
	election election
	lead     leadership
	reads    reads
	disk     disk
	incoming incoming
	out      outbox

	in raftpb.Message // the message being stepped; here so that it stays off the heap
}

// leadership is what only a leader keeps; it starts anew with each one.
type leadership struct {
	heartbeatElapsed int
	transferee       uint64 // who is being made leader, none if nobody
	pendingConfIndex uint64 // a membership change may be at or before this index; no other until it is applied
	uncommittedBytes uint64
	mustFlush        bool // appends may be due; done once per Effects
}

// outbox collects the parts of the next Effects that are not derived from state.
type outbox struct {
	messages   []raftpb.Message
	readStates []ReadState
	dropped    [][]byte
	replaced   []raftpb.Entry
	wanted     []uint64 // members for which the driver must prepare a snapshot

	told SoftState // as of the last Effects

	// Committed batches that are not yet applied, oldest first, and their bytes.
	batches      []batch
	batchesBytes uint64
}

type batch struct{ last, bytes uint64 }

// incoming is a snapshot that replaced the log but is not yet installed.
type incoming struct {
	snapshot *raftpb.Snapshot
	handed   bool
}

// New returns a member that takes up where its disk left off.
func New(cfg Config, from Restored) (*Raft, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.fillDefaults()
	log, err := raftlog.New(raftlog.Position{Index: from.Snapshot.Index, Term: from.Snapshot.Term}, from.Entries)
	if err != nil {
		return nil, fmt.Errorf("raft: restore: %w", err)
	}
	// The state machine's own disk may have outrun the last commit index that
	// was written: what is applied was committed.
	hs := from.HardState
	hs.Commit = max(hs.Commit, from.Applied, from.Snapshot.Index)
	hs.Term = max(hs.Term, log.Last().Term)
	if hs.Term != from.HardState.Term {
		hs.Vote = none
	}
	if err := log.StartAt(hs.Commit, from.Applied); err != nil {
		return nil, fmt.Errorf("raft: restore: %w: %w", ErrLogLost, err)
	}
	members, err := confchange.Restore(from.ConfState)
	if err != nil {
		return nil, fmt.Errorf("raft: restore: %w", err)
	}

	r := &Raft{cfg: cfg, id: cfg.ID, log: log, term: hs.Term, vote: hs.Vote}
	r.election.votes = make(map[uint64]bool)
	r.disk.handed = from.HardState
	r.setMembers(members)
	r.becomeFollower(r.term, none)
	r.event(Event{Kind: EventStarted})
	return r, nil
}

// Bootstrap gives a member that starts with nothing its first membership. Every
// founding member must be given the same changes in the same order: they become
// the first entries of everyone's log, agreed on from the start.
func (r *Raft) Bootstrap(changes []raftpb.ConfChange) error {
	if r.term != 0 || r.log.LastIndex() != 0 || len(r.peers) != 0 {
		return fmt.Errorf("raft: bootstrap of member %x that has state already", r.id)
	}
	r.becomeFollower(1, none)
	members := r.members
	for i := range changes {
		var err error
		if members, err = confchange.Apply(members, confchange.FromV1(changes[i])); err != nil {
			return fmt.Errorf("raft: bootstrap: %w", err)
		}
		r.log.Append(raftpb.Entry{Term: 1, Type: raftpb.EntryConfChange, Data: changes[i].Marshal()})
	}
	r.log.CommitTo(r.log.LastIndex())
	r.setMembers(members)
	return nil
}

// Tick moves the protocol's time on by one.
func (r *Raft) Tick() {
	r.ticks++
	if r.role == Leader {
		r.tickLeader()
	} else {
		r.tickElection()
	}
}

// Step takes a message from another member. The Raft keeps m.Entries' data and
// the snapshot; they must not be changed afterwards.
//
// An error tells why the message was not acted on; none of them needs an action
// except ErrLogLost.
func (r *Raft) Step(m raftpb.Message) error {
	if isLocal(m.Type) {
		return fmt.Errorf("%w: %s", ErrLocalMessage, TypeName(m.Type))
	}
	if isResponse(m.Type) && r.peer(m.From) == nil {
		return fmt.Errorf("%w: %s from %x", ErrUnknownPeer, TypeName(m.Type), m.From)
	}
	r.in = m
	err := r.step(&r.in)
	r.in = raftpb.Message{}
	return err
}

func (r *Raft) step(m *raftpb.Message) error {
	if pass, err := r.admit(m); !pass || err != nil {
		return err
	}
	if handle := handlerOf(r.role, m.Type); handle != nil {
		return handle(r, m)
	}
	return nil // it has nothing to say to this role: out of date
}

// peer returns what is known of a member, nil for a stranger.
func (r *Raft) peer(id uint64) *progress.Progress {
	at, found := slices.BinarySearchFunc(r.peers, id, func(p *progress.Progress, id uint64) int {
		switch {
		case p.ID < id:
			return -1
		case p.ID > id:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return r.peers[at]
}

// send queues a message that may leave at once.
func (r *Raft) send(m raftpb.Message) {
	r.out.messages = append(r.out.messages, r.sealed(m))
}

// sendDurably queues a message that makes a promise: it leaves after everything
// that is known now is durable. To this member itself it is stepped then.
func (r *Raft) sendDurably(m raftpb.Message) {
	r.disk.await(r.sealed(m))
}

// sealed fills in sender and term. Forwarded requests carry no term: they do not
// speak for their sender's.
func (r *Raft) sealed(m raftpb.Message) raftpb.Message {
	if m.From == none {
		m.From = r.id
	}
	if m.Term == 0 && m.Type != raftpb.MsgProp && m.Type != raftpb.MsgReadIndex {
		m.Term = r.term
	}
	return m
}

// becomeFollower enters a term, or returns to following in the current one.
func (r *Raft) becomeFollower(term, leader uint64) {
	r.reset(term)
	r.role, r.leader = Follower, leader
	r.event(Event{Kind: EventBecameFollower})
}

// reset drops whatever belonged to the role, and with a new term the vote.
func (r *Raft) reset(term uint64) {
	if term < r.term {
		panic(fmt.Sprintf("raft: %x: term falls from %d to %d", r.id, r.term, term))
	}
	if term != r.term {
		r.term, r.vote = term, none
	}
	r.leader = none
	r.election.reset(&r.cfg)
	r.lead = leadership{}
	r.dropReads()
	for _, p := range r.peers {
		p.Reset(r.log.LastIndex())
	}
}
