// Package raftpb holds the Raft values that go to disk and over the wire, and
// their protobuf encodings.
//
// The types are plain structs without protobuf run-time state, so that the
// Raft core can copy and compare them freely. The bytes are those of etcd's
// raftpb package: readers take what etcd 3.4 to 3.7 write, writers produce what
// 3.7 writes (fields that are zero are left out, except where noted).
package raftpb

// EntryType tells what an entry's Data is.
type EntryType int32

// The entry types.
const (
	EntryNormal       EntryType = 0 // InternalRaftRequest, or nothing for a new leader's first entry
	EntryConfChange   EntryType = 1
	EntryConfChangeV2 EntryType = 2
)

// Entry is one position of the log.
type Entry struct {
	Term  uint64
	Index uint64
	Type  EntryType
	Data  []byte
}

// HardState is what a member must not forget over a restart.
type HardState struct {
	Term   uint64
	Vote   uint64 // member voted for in Term, 0 for none
	Commit uint64 // highest index known to be committed
}

// IsEmpty reports whether nothing was ever decided.
func (h HardState) IsEmpty() bool { return h == HardState{} }

// ConfState is the membership that is in force at some index.
type ConfState struct {
	Voters         []uint64
	Learners       []uint64
	VotersOutgoing []uint64 // not empty while a joint change is under way
	LearnersNext   []uint64 // voters of the outgoing half that become learners afterwards
	AutoLeave      bool     // leave the joint configuration as soon as it is safe
}

// SnapshotMetadata says which log prefix a snapshot stands for.
type SnapshotMetadata struct {
	ConfState ConfState
	Index     uint64
	Term      uint64
}

// Snapshot is a state that replaces the log up to Metadata.Index.
type Snapshot struct {
	Data     []byte
	Metadata SnapshotMetadata
}

// IsEmpty reports whether s stands for no prefix at all. Old peers attach such
// a value to every message.
func (s *Snapshot) IsEmpty() bool { return s == nil || s.Metadata.Index == 0 }

// MessageType names a Raft message; numbers are those of the wire.
type MessageType int32

// The message types that members exchange or a member gives to itself.
const (
	MsgHup            MessageType = 0
	MsgBeat           MessageType = 1
	MsgProp           MessageType = 2
	MsgApp            MessageType = 3
	MsgAppResp        MessageType = 4
	MsgVote           MessageType = 5
	MsgVoteResp       MessageType = 6
	MsgSnap           MessageType = 7
	MsgHeartbeat      MessageType = 8
	MsgHeartbeatResp  MessageType = 9
	MsgUnreachable    MessageType = 10
	MsgSnapStatus     MessageType = 11
	MsgCheckQuorum    MessageType = 12
	MsgTransferLeader MessageType = 13
	MsgTimeoutNow     MessageType = 14
	MsgReadIndex      MessageType = 15
	MsgReadIndexResp  MessageType = 16
	MsgPreVote        MessageType = 17
	MsgPreVoteResp    MessageType = 18
	MsgForgetLeader   MessageType = 23
)

// Message is one Raft message between members.
type Message struct {
	Type       MessageType
	To, From   uint64
	Term       uint64
	LogTerm    uint64 // MsgApp: term of the entry before Entries; MsgVote: term of the sender's last entry
	Index      uint64 // MsgApp: index before Entries; responses: index acknowledged
	Entries    []Entry
	Commit     uint64
	Vote       uint64
	Snapshot   *Snapshot // MsgSnap only
	Reject     bool
	RejectHint uint64
	Context    []byte
}

// ConfChangeType is the kind of one membership change.
type ConfChangeType int32

// The kinds of membership change.
const (
	ConfChangeAddNode        ConfChangeType = 0
	ConfChangeRemoveNode     ConfChangeType = 1
	ConfChangeUpdateNode     ConfChangeType = 2
	ConfChangeAddLearnerNode ConfChangeType = 3
)

// ConfChange is the membership change etcd writes: one step of one member.
type ConfChange struct {
	ID      uint64 // request waiting for the change
	Type    ConfChangeType
	NodeID  uint64
	Context []byte // JSON of the member, see docs/formats
}

// ConfChangeSingle is one step of a ConfChangeV2.
type ConfChangeSingle struct {
	Type   ConfChangeType
	NodeID uint64
}

// ConfChangeTransition says how a ConfChangeV2 passes through joint consensus.
type ConfChangeTransition int32

// The transitions of joint consensus.
const (
	ConfChangeTransitionAuto          ConfChangeTransition = 0 // joint only if more than one step, left automatically
	ConfChangeTransitionJointImplicit ConfChangeTransition = 1 // joint, left automatically
	ConfChangeTransitionJointExplicit ConfChangeTransition = 2 // joint, left by an empty change
)

// ConfChangeV2 is a membership change of any number of steps.
type ConfChangeV2 struct {
	Transition ConfChangeTransition
	Changes    []ConfChangeSingle
	Context    []byte
}
