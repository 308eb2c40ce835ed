package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Config is what a member's protocol runs with. It does not change.
type Config struct {
	ID uint64 // not 0

	// ElectionTicks without a word from a leader start an election (after a
	// random further 0 to ElectionTicks-1). A leader sends heartbeats each
	// HeartbeatTicks, which must be less.
	ElectionTicks  int
	HeartbeatTicks int

	PreVote     bool // ask whether an election could be won before disturbing anyone
	CheckQuorum bool // a leader that hears from no majority steps down; votes respect a live leader

	// Limits; 0 takes the default.
	MaxMessageBytes     uint64 // entries in one append message; default 1 MiB
	MaxInflightMessages int    // appends on their way to one follower; default 512
	MaxInflightBytes    uint64 // the same in bytes; default 512 MiB
	MaxUncommittedBytes uint64 // proposals not yet delivered, on a leader; default 1 GiB
	MaxCommittedBytes   uint64 // entries delivered but not yet applied; default 64 MiB

	// Rand is the source of election timeouts. Owned by the Raft from New on.
	Rand *rand.Rand

	// Events, if not nil, hears what happens. It must not call back.
	Events func(Event)
}

const (
	defaultMessageBytes     = 1 << 20
	defaultInflightMessages = 512
	defaultInflightBytes    = 512 << 20
	defaultUncommittedBytes = 1 << 30
	defaultCommittedBytes   = 64 << 20
)

func (c *Config) check() error {
	switch {
	case c.ID == 0:
		return errors.New("raft: config: member id is 0")
	case c.HeartbeatTicks <= 0:
		return errors.New("raft: config: heartbeat ticks must be positive")
	case c.ElectionTicks <= c.HeartbeatTicks:
		return errors.New("raft: config: election ticks must be above heartbeat ticks")
	case c.Rand == nil:
		return errors.New("raft: config: no source of chance")
	case c.MaxInflightMessages < 0:
		return errors.New("raft: config: negative inflight messages")
	}
	return nil
}

func (c *Config) fillDefaults() {
	setDefault(&c.MaxMessageBytes, defaultMessageBytes)
	setDefault(&c.MaxInflightMessages, defaultInflightMessages)
	setDefault(&c.MaxInflightBytes, defaultInflightBytes)
	setDefault(&c.MaxUncommittedBytes, defaultUncommittedBytes)
	setDefault(&c.MaxCommittedBytes, defaultCommittedBytes)
}

func setDefault[T int | uint64](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// Restored is what a member finds on its disk. The zero value is a member that
// starts with nothing: it waits for a leader to tell it who is in, or is given
// its first membership by Bootstrap.
type Restored struct {
	HardState raftpb.HardState
	ConfState raftpb.ConfState        // membership as of Applied
	Snapshot  raftpb.SnapshotMetadata // the log starts after Index and Term of it
	Entries   []raftpb.Entry          // owned by the Raft from New on
	Applied   uint64                  // how far the state machine has come; 0 means Snapshot.Index
}

// What a caller may expect to hear.
var (
	ErrNoLeader          = errors.New("raft: no leader")
	ErrTransferring      = errors.New("raft: leadership is being transferred")
	ErrBacklog           = errors.New("raft: too much is waiting")
	ErrNotMember         = errors.New("raft: this member is not in the cluster")
	ErrConfChangeRefused = errors.New("raft: membership change refused")
	ErrNotPromotable     = errors.New("raft: this member cannot campaign")
	ErrLocalMessage      = errors.New("raft: message type does not belong on the network")
	ErrUnknownPeer       = errors.New("raft: answer from an unknown member")
	ErrMalformed         = errors.New("raft: malformed message")

	// ErrLogLost says that a leader knows of entries that this member had
	// acknowledged and no longer has. Its disk forgot; the member must stop.
	ErrLogLost = errors.New("raft: acknowledged entries are missing")
)

func malformed(m *raftpb.Message, what string) error {
	return fmt.Errorf("%w: %s from %x at term %d: %s", ErrMalformed, TypeName(m.Type), m.From, m.Term, what)
}
