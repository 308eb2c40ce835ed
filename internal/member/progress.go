package member

import (
	"context"
	"sync"
	"sync/atomic"
)

// watermark is an index that only grows, and a place to wait for it. The
// applied index is one: readers wait until it has reached their read index.
type watermark struct {
	at      atomic.Uint64
	mu      sync.Mutex
	waiting []markWaiter // guarded by mu; unordered, short
}

type markWaiter struct {
	index uint64
	ch    chan struct{}
}

func (w *watermark) load() uint64 { return w.at.Load() }

// raise moves the mark and wakes everyone it has reached.
func (w *watermark) raise(index uint64) {
	if index <= w.at.Load() {
		return
	}
	w.at.Store(index)
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.waiting[:0]
	for _, m := range w.waiting {
		if m.index <= index {
			close(m.ch)
		} else {
			kept = append(kept, m)
		}
	}
	clear(w.waiting[len(kept):])
	w.waiting = kept
}

// wait returns once the mark has reached index, ctx is done or stop is closed.
func (w *watermark) wait(ctx context.Context, stop <-chan struct{}, index uint64) error {
	if w.at.Load() >= index {
		return nil
	}
	w.mu.Lock()
	if w.at.Load() >= index { // raised between the check and the lock
		w.mu.Unlock()
		return nil
	}
	m := markWaiter{index, make(chan struct{})}
	w.waiting = append(w.waiting, m)
	w.mu.Unlock()
	select {
	case <-m.ch:
		return nil
	case <-ctx.Done():
		w.remove(m.ch)
		return ctx.Err()
	case <-stop:
		w.remove(m.ch)
		return ErrStopped
	}
}

func (w *watermark) remove(ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, m := range w.waiting {
		if m.ch == ch {
			last := len(w.waiting) - 1
			w.waiting[i] = w.waiting[last]
			w.waiting[last] = markWaiter{}
			w.waiting = w.waiting[:last]
			return
		}
	}
}
