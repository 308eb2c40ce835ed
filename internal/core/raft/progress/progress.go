// Package progress keeps what a leader knows about one follower's log, and
// decides how fast it may be sent more.
//
//	        accepted                         rejected, unreachable
//	Probe ------------> Replicate ----------------------------------> Probe
//	  |                     |
//	  |    log too short    |       snapshot accepted, or it failed
//	  +---------------------+--> Snapshot ---------------------------> Probe
//
// Probe sends one message at a time to find where the logs agree; Replicate
// streams ahead of the answers, bounded by a window of messages and bytes;
// Snapshot waits until the follower has one.
package progress

import "fmt"

// State says how a follower is fed.
type State uint8

// The states.
const (
	Probe State = iota
	Replicate
	Snapshot
)

func (s State) String() string { return [...]string{"probe", "replicate", "snapshot"}[s] }

// Progress is the leader's view of one member. It is owned by the Raft core; all
// of it starts anew with each leadership.
//
// Invariant: Match < Next. The entries in (Match, Next) are on their way.
type Progress struct {
	ID      uint64
	Match   uint64 // the follower's log agrees with ours up to here
	Next    uint64 // the next entry to send
	State   State
	Learner bool

	// Active is set by any answer and cleared once per election timeout, when
	// the leader counts who is still there.
	Active bool

	// Paused holds back appends until the next answer: a probe is out, or the
	// window is full.
	Paused bool

	// Owed is set when something must be said even if there is no entry to send:
	// a new commit index, or a probe.
	Owed bool

	// SnapshotIndex is the snapshot on its way in state Snapshot, 0 while the
	// driver is still preparing one.
	SnapshotIndex uint64

	// SentCommit is the highest commit index in a message on its way. It falls
	// back when messages are thought to be lost.
	SentCommit uint64

	// ReadAck is the highest position in the leader's queue of reads that this
	// follower has confirmed.
	ReadAck uint64

	Window Window
}

// Reset forgets everything about the follower's log, as a new leader must.
func (p *Progress) Reset(lastIndex uint64) {
	p.Match, p.Next = 0, lastIndex+1
	p.State, p.Active, p.Paused, p.Owed = Probe, false, false, false
	p.SnapshotIndex, p.SentCommit, p.ReadAck = 0, 0, 0
	p.Window.Clear()
}

func (p *Progress) become(s State) {
	p.State, p.Paused, p.SnapshotIndex = s, false, 0
	p.Window.Clear()
}

// BecomeProbe goes back to sending one message at a time. After a snapshot the
// follower is believed to have it.
func (p *Progress) BecomeProbe() {
	next := p.Match + 1
	if p.State == Snapshot {
		next = max(next, p.SnapshotIndex+1)
	}
	p.become(Probe)
	p.Next = next
	p.SentCommit = min(p.SentCommit, p.Next-1)
}

// BecomeReplicate starts streaming from behind the last match.
func (p *Progress) BecomeReplicate() {
	p.become(Replicate)
	p.Next = p.Match + 1
}

// BecomeSnapshot stops appends while the driver prepares a snapshot.
func (p *Progress) BecomeSnapshot() { p.become(Snapshot) }

// SentSnapshot notes that the snapshot up to index is on its way.
func (p *Progress) SentSnapshot(index uint64) {
	p.SnapshotIndex = index
	p.Next = max(index+1, p.Match+1)
	p.SentCommit = index
}

// SnapshotFailed goes back to probing from what is known for sure.
func (p *Progress) SnapshotFailed() {
	p.SnapshotIndex = 0
	p.BecomeProbe()
	p.Paused = true // wait for a sign of life before the next try
}

// SnapshotDelivered goes back to probing behind the snapshot; the follower's
// own answer is awaited before anything is sent.
func (p *Progress) SnapshotDelivered() {
	p.BecomeProbe()
	p.Paused = true
}

// IsPaused reports whether appends must wait.
func (p *Progress) IsPaused() bool { return p.State == Snapshot || p.Paused }

// Sent notes an append with so many entries and bytes of payload.
func (p *Progress) Sent(entries int, bytes uint64) {
	switch p.State {
	case Probe:
		p.Paused = entries > 0
	case Replicate:
		if entries > 0 {
			p.Next += uint64(entries)
			p.Window.Add(p.Next-1, bytes)
		}
		p.Paused = p.Window.IsFull()
	default:
		panic(fmt.Sprintf("progress: append sent to %x in state %v", p.ID, p.State))
	}
}

// NewsOfCommit reports whether a message with this commit index would tell the
// follower more than those on their way: it cannot commit beyond what it was
// sent.
func (p *Progress) NewsOfCommit(commit uint64) bool {
	return commit > p.SentCommit && p.SentCommit < p.Next-1
}

// Accepted notes that the follower's log agrees up to index, and reports
// whether that was news.
func (p *Progress) Accepted(index uint64) bool {
	if index <= p.Match {
		return false
	}
	p.Match = index
	p.Next = max(p.Next, index+1)
	p.Paused = false
	return true
}

// Rejected notes that an append behind index was refused, with hint the place
// where the logs may agree. It reports false for an answer that is out of date.
func (p *Progress) Rejected(index, hint uint64) bool {
	if p.State == Replicate {
		if index <= p.Match {
			return false
		}
		p.Next = p.Match + 1
	} else {
		// One probe is out at a time; only the answer to it counts.
		if index != p.Next-1 {
			return false
		}
		p.Next = max(min(index, hint+1), p.Match+1)
		p.Paused = false
	}
	p.SentCommit = min(p.SentCommit, p.Next-1)
	return true
}

func (p *Progress) String() string {
	s := fmt.Sprintf("%v match=%d next=%d", p.State, p.Match, p.Next)
	if p.Learner {
		s += " learner"
	}
	if p.IsPaused() {
		s += " paused"
	}
	if p.SnapshotIndex > 0 {
		s += fmt.Sprintf(" snapshot=%d", p.SnapshotIndex)
	}
	if !p.Active {
		s += " inactive"
	}
	if n := p.Window.Len(); n > 0 {
		s += fmt.Sprintf(" inflight=%d", n)
	}
	return s
}
