package member

import (
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/raft"
)

// loop drives a node: it gathers input from any goroutine, turns the node, and
// carries the outcome to the WAL writer, the applier, the readers and the
// network. One goroutine, run, owns the node.
type loop struct {
	node *node
	tick time.Duration

	mu    sync.Mutex
	in    inbox // guarded by mu
	bytes int   // of proposals in the inbox, guarded by mu
	heard int   // bytes of messages in the inbox, guarded by mu
	wake  chan struct{}

	carry func(raft.Effects) // one effects, in order
	other func(outcome)      // the rest of an outcome
	// status is what others may know of raft, as of the last turn.
	status struct {
		sync.Mutex
		raft.Status
	}
}

func newLoop(n *node, tick time.Duration) *loop {
	l := &loop{node: n, tick: tick, wake: make(chan struct{}, 1)}
	l.status.Status = n.raft.Status()
	return l
}

// add changes the inbox and makes sure that a turn follows.
func (l *loop) add(change func(*inbox)) {
	l.mu.Lock()
	change(&l.in)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // a turn is due already
	}
}

// maxProposalBytes bounds what waits for one turn. A turn takes microseconds
// unless the machine is overwhelmed; then the clients are told.
const maxProposalBytes = 256 << 20

// propose adds a proposal; false when too much is waiting.
func (l *loop) propose(p proposal) bool {
	l.mu.Lock()
	if l.bytes+len(p.data) > maxProposalBytes {
		l.mu.Unlock()
		return false
	}
	l.bytes += len(p.data)
	l.in.proposals = append(l.in.proposals, p)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// maxMessageBytes bounds what other members have sent and no turn has taken.
// What is beyond it is dropped; raft sends it again.
const maxMessageBytes = 512 << 20

// hear adds a message of another member; false when too much is waiting.
func (l *loop) hear(m raftpb.Message) bool {
	n := m.Size()
	l.mu.Lock()
	if l.heard > 0 && l.heard+n > maxMessageBytes {
		l.mu.Unlock()
		return false
	}
	l.heard += n
	l.in.messages = append(l.in.messages, m)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the inbox.
func (l *loop) take() inbox {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.in
	l.in, l.bytes, l.heard = inbox{}, 0, 0
	return in
}

// run turns the node until stop is closed.
func (l *loop) run(stop <-chan struct{}) {
	ticker := time.NewTicker(l.tick)
	defer ticker.Stop()
	ticks, more := 0, true
	for {
		if !more {
			select {
			case <-l.wake:
			case <-ticker.C:
				ticks++
			case <-stop:
				return
			}
		}
		in := l.take()
		in.ticks += ticks
		ticks = 0
		var out outcome
		out, more = l.node.turn(in)
		for _, e := range out.effects {
			l.carry(e)
		}
		l.other(out)
		l.publishStatus()
		if more {
			select {
			case <-stop:
				return
			case <-ticker.C:
				ticks++
			default:
			}
		}
	}
}

// publishStatus copies what is cheap to know. The peers' progress is left out:
// it is built on demand.
func (l *loop) publishStatus() {
	r := l.node.raft
	l.status.Lock()
	defer l.status.Unlock()
	l.status.Status = r.Status()
}

func (l *loop) raftStatus() raft.Status {
	l.status.Lock()
	defer l.status.Unlock()
	return l.status.Status
}

// applyConf tells raft what the state machine made of a membership change and
// returns the membership that follows; ok is false when the loop has ended.
func (l *loop) applyConf(cc raftpb.ConfChange, stop <-chan struct{}) (state raftpb.ConfState, ok bool) {
	c := &confApplied{change: cc, done: make(chan raftpb.ConfState, 1)}
	l.add(func(in *inbox) { in.appliedConf = c })
	select {
	case state = <-c.done:
		return state, true
	case <-stop:
		return state, false
	}
}
