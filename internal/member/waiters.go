package member

import (
	"sync"

	"github.com/steledb/stele/internal/core/apply"
)

// waiters holds the requests of this member that wait for their entry to be
// applied, by request id. The table is split so that thousands of concurrent
// proposals do not meet on one lock.
//
// An entry whose waiter is gone (timed out, or proposed before a restart) is
// applied all the same; its result is dropped.
type waiters struct {
	shards [waiterShards]waiterShard
}

const waiterShards = 64

type waiterShard struct {
	mu   sync.Mutex
	byID map[uint64]chan apply.Result // guarded by mu
}

func newWaiters() *waiters {
	w := &waiters{}
	for i := range w.shards {
		w.shards[i].byID = map[uint64]chan apply.Result{}
	}
	return w
}

func (w *waiters) shard(id uint64) *waiterShard { return &w.shards[id%waiterShards] }

// register returns the channel on which the result of request id will come,
// once. It has room for it, so completing never blocks.
func (w *waiters) register(id uint64) <-chan apply.Result {
	ch := make(chan apply.Result, 1)
	s := w.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, dup := s.byID[id]; dup {
		panic("member: request id used twice")
	}
	s.byID[id] = ch
	return ch
}

// complete hands r to the waiter of id and forgets it; reports whether there
// was one.
func (w *waiters) complete(id uint64, r apply.Result) bool {
	s := w.shard(id)
	s.mu.Lock()
	ch, ok := s.byID[id]
	delete(s.byID, id)
	s.mu.Unlock()
	if ok {
		ch <- r
	}
	return ok
}

// forget gives up waiting for id.
func (w *waiters) forget(id uint64) {
	s := w.shard(id)
	s.mu.Lock()
	delete(s.byID, id)
	s.mu.Unlock()
}

// count is how many requests wait.
func (w *waiters) count() int {
	n := 0
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		n += len(s.byID)
		s.mu.Unlock()
	}
	return n
}

// isWaiting reports whether somebody here waits for id.
func (w *waiters) isWaiting(id uint64) bool {
	s := w.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.byID[id]
	return ok
}
