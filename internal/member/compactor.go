package member

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/mvcc"
)

// compactor deletes from the file what compactions made unreadable: in small
// batches with pauses, so that neither a put nor a get waits for it. Jobs run
// one after another in the order of their revisions.
//
// A crash in the middle leaves the scheduled revision newer than the finished
// one; the next start runs the job again. Deleting a record twice is harmless.
type compactor struct {
	m *Member

	mu       sync.Mutex
	queue    []compactJob  // guarded by mu
	finished int64         // guarded by mu; newest revision whose job is done
	changed  chan struct{} // guarded by mu; closed and replaced when finished moves
	wake     chan struct{}
}

// compactJob is one compaction to carry out on disk.
type compactJob struct {
	prev, rev int64
	index     uint64 // log index of the request
	resumed   bool   // interrupted by a crash before
}

func newCompactor(m *Member) *compactor {
	return &compactor{m: m, finished: mvcc.Never, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
}

func (c *compactor) add(job compactJob) {
	c.mu.Lock()
	c.queue = append(c.queue, job)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wait returns when the compaction to rev is done on disk.
func (c *compactor) wait(ctx context.Context, rev int64) error {
	for {
		c.mu.Lock()
		at, changed := c.finished, c.changed
		c.mu.Unlock()
		if at >= rev {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.m.stopping:
			return ErrStopped
		}
	}
}

func (c *compactor) run(stop <-chan struct{}) {
	ctx, cancel := untilClosed(stop)
	defer cancel()
	for {
		select {
		case <-c.wake:
		case <-stop:
			return
		}
		for {
			job, ok := c.next()
			if !ok {
				break
			}
			if err := c.carryOut(ctx, job); err != nil {
				if ctx.Err() == nil {
					c.m.fail(fmt.Errorf("compaction to revision %d: %w", job.rev, err))
				}
				return
			}
		}
	}
}

func (c *compactor) next() (job compactJob, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return job, false
	}
	job, c.queue = c.queue[0], c.queue[1:]
	return job, true
}

func (c *compactor) carryOut(ctx context.Context, job compactJob) error {
	m, start := c.m, time.Now()
	// Everything the job looks at must be on disk, and its view published.
	if err := m.applied.wait(ctx, m.stopping, job.index); err != nil {
		return err
	}
	if err := m.flusher.flushTo(ctx, job.index); err != nil {
		return err
	}
	store := m.store.Load()
	work := store.NewCompaction(job.prev, job.rev)
	deleted := 0
	for done := false; !done; {
		var keys [][]byte
		var err error
		if keys, done, err = c.step(work); err != nil {
			return err
		}
		if m.store.Load() != store {
			c.finish(job.rev) // a snapshot brought a state that is past it
			return nil
		}
		var ops []bucket.Op
		if done {
			ops = []bucket.Op{bucket.Put(bucket.Meta, []byte(bucket.FinishedCompactRev), mvcc.Rev{Main: job.rev}.AppendKey(nil, false))}
		}
		if len(keys) > 0 || done {
			if err := m.flusher.remove(ctx, keys, ops); err != nil {
				return err
			}
		}
		deleted += len(keys)
		m.meters.MVCC.CompactedKeys.Add(float64(len(keys)))
		if !done {
			if err := sleep(ctx, m.opt.CompactionPause); err != nil {
				return err
			}
		}
	}
	hash, ok := work.Hash()
	switch {
	case job.resumed:
		m.log.Info("previous compaction was interrupted, skip storing compaction hash value")
	case ok:
		store.KeepHash(hash)
	}
	m.log.Info("finished scheduled compaction", append([]any{"compact-revision", job.rev, "took", time.Since(start),
		"number-of-keys-compacted", deleted, "hash", hash.Hash}, sizes(m.backend.Size(), m.backend.SizeInUse())...)...)
	m.meters.MVCC.CompactionTotal.Observe(milliseconds(time.Since(start)))
	m.meters.MVCC.LastCompaction.Set(float64(time.Now().Unix()))
	c.finish(job.rev)
	return nil
}

// step plans one batch over the file as it is now.
func (c *compactor) step(work *mvcc.Compaction) (keys [][]byte, done bool, err error) {
	begun := time.Now()
	base, err := c.m.backend.Base()
	if err != nil {
		return nil, false, err
	}
	defer base.Release()
	defer func() { c.m.meters.MVCC.CompactionPause.Observe(milliseconds(time.Since(begun))) }()
	keys, done = work.Step(base, c.m.opt.CompactionBatch)
	return keys, done, work.Err()
}

func (c *compactor) finish(rev int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = max(c.finished, rev)
	close(c.changed)
	c.changed = make(chan struct{})
}

// untilClosed returns a context that ends when stop is closed. The caller
// cancels it when it is done, so that nothing is left waiting.
func untilClosed(stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// sleep waits for d unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
