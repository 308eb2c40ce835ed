package peer

import (
	"sync"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Bounds of what waits for one stream. Entries are shared with the raft log, so
// the bytes are mostly not memory of the queue's own.
const (
	queueMessages = 4096
	queueBytes    = 512 << 20
)

// queue holds messages from the raft loop, which never waits, to a stream's
// writer, which may.
type queue struct {
	mu     sync.Mutex
	msgs   []raftpb.Message // guarded by mu
	bytes  int              // guarded by mu
	closed bool             // guarded by mu
	wake   chan struct{}
	done   chan struct{} // closed with the queue
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// push adds m; false when the queue is full or closed.
func (q *queue) push(m raftpb.Message) bool {
	n := m.Size()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.msgs) >= queueMessages || q.bytes+n > queueBytes {
		return false
	}
	q.msgs = append(q.msgs, m)
	q.bytes += n
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take empties the queue.
func (q *queue) take() []raftpb.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	msgs := q.msgs
	q.msgs, q.bytes = nil, 0
	return msgs
}

// close ends the queue; what is in it is lost.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.msgs, q.bytes = nil, 0
		close(q.done)
	}
}
