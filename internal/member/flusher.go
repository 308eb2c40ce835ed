package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/backend"
)

// flusher moves what is applied from memory to the backend file, in the
// background. It is the only one that commits.
//
// The applier seals: it says that the bucket changes so far and the store up to
// a revision are the state of one log index. A flush takes the newest seal and
// writes everything up to it, with the index, in one transaction. A crash
// before the commit leaves the previous seal, and the log has the rest.
type flusher struct {
	backend  backend.Backend
	store    *mvcc.Store
	interval time.Duration
	// commit is held while the file changes; store and onDisk change with it.
	commit sync.Mutex
	onDisk seal        // guarded by commit; what the file holds (ops empty)
	failed func(error) // called once; nothing is flushed afterwards

	mu      sync.Mutex
	sealed  seal          // guarded by mu; what the next flush writes
	dirty   bool          // guarded by mu; sealed is not on disk
	flushed seal          // guarded by mu; what is on disk (ops empty)
	deletes []deletion    // guarded by mu; wait for the next flush
	broken  error         // guarded by mu; why flushing ended
	changed chan struct{} // guarded by mu; closed and replaced after each flush
	kick    chan struct{} // asks for a flush now
}

// seal is a state of the machine at one log index.
type seal struct {
	index, term uint64
	rev         int64
	ops         []bucket.Op // since the last flush
}

// deletion asks to delete records that a compaction made unreachable.
type deletion struct {
	keys [][]byte
	ops  []bucket.Op
	done chan error // capacity 1
}

// Bounds of what waits in memory. A flush is started early at flushAtBytes;
// at flushMaxBytes apply waits. Beside the records of both, one commit holds
// them once more as pages.
const (
	flushAtBytes  = 16 << 20
	flushMaxBytes = 64 << 20
	flushAtOps    = 10000
)

func newFlusher(b backend.Backend, s *mvcc.Store, interval time.Duration, at seal, failed func(error)) *flusher {
	return &flusher{
		backend: b, store: s, interval: interval, failed: failed,
		sealed: at, flushed: at, onDisk: at, changed: make(chan struct{}), kick: make(chan struct{}, 1),
	}
}

// seal records that the store at revision rev and these changes are the state
// at index. Applier only.
func (f *flusher) seal(index, term uint64, rev int64, ops []bucket.Op) {
	f.mu.Lock()
	f.sealed.index, f.sealed.term, f.sealed.rev = index, term, rev
	f.sealed.ops = append(f.sealed.ops, ops...)
	f.dirty = true
	early := len(f.sealed.ops) >= flushAtOps
	f.mu.Unlock()
	if early || f.store.BufferedBytes() >= flushAtBytes {
		f.now()
	}
}

func (f *flusher) now() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// room waits until the buffer has room for more. Applier only.
func (f *flusher) room(stop <-chan struct{}) {
	for f.store.BufferedBytes() >= flushMaxBytes {
		f.mu.Lock()
		changed, broken := f.changed, f.broken
		f.mu.Unlock()
		if broken != nil {
			return
		}
		f.now()
		select {
		case <-changed:
		case <-stop:
			return
		}
	}
}

// flush writes everything sealed before the call and returns when it is on disk.
func (f *flusher) flush(ctx context.Context) error {
	f.mu.Lock()
	want := f.sealed.index
	f.mu.Unlock()
	return f.flushTo(ctx, want)
}

// flushTo returns when the state at index, which is applied, is on disk.
func (f *flusher) flushTo(ctx context.Context, index uint64) error {
	for {
		f.mu.Lock()
		at, changed, broken := f.flushed.index, f.changed, f.broken
		f.mu.Unlock()
		switch {
		case at >= index:
			return nil
		case broken != nil:
			return broken
		}
		f.now()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// remove deletes records and makes bucket changes in the next commit, and
// returns when they are on disk.
func (f *flusher) remove(ctx context.Context, keys [][]byte, ops []bucket.Op) error {
	d := deletion{keys, ops, make(chan error, 1)}
	f.mu.Lock()
	if f.broken != nil {
		defer f.mu.Unlock()
		return f.broken
	}
	f.deletes = append(f.deletes, d)
	f.mu.Unlock()
	f.now()
	select {
	case err := <-d.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rebaseNow has views read from the file that a defragmentation has put in
// place, so that the old one can go.
func (f *flusher) rebaseNow(ctx context.Context) error { return f.remove(ctx, nil, nil) }

// run flushes until stop is closed. The owner calls once when the applier has
// ended too, so that a clean stop leaves nothing to replay.
func (f *flusher) run(stop <-chan struct{}) {
	timer := time.NewTicker(f.interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-f.kick:
		case <-stop:
			f.give(ErrStopped)
			return
		}
		if err := f.once(); err != nil {
			f.give(err)
			f.failed(err)
			return
		}
	}
}

// once writes the newest seal, if it is not on disk. After a failed commit it
// writes nothing more: bucket changes that were in it are not in later seals,
// and only the log still has them.
func (f *flusher) once() error {
	f.commit.Lock()
	defer f.commit.Unlock()
	f.mu.Lock()
	if f.broken != nil && !errors.Is(f.broken, ErrStopped) {
		defer f.mu.Unlock()
		return f.broken
	}
	if !f.dirty && len(f.deletes) == 0 {
		f.mu.Unlock()
		return nil
	}
	s, deletes := f.sealed, f.deletes
	f.sealed.ops, f.deletes, f.dirty = nil, nil, false
	f.mu.Unlock()

	batch := backend.Batch{ConsistentIndex: s.index, Term: s.term, Ops: s.ops}
	for _, r := range f.store.Buffered(s.rev) {
		batch.Records = append(batch.Records, backend.Record{Key: r.Key, Value: r.Value})
	}
	for _, d := range deletes {
		batch.Deletes = append(batch.Deletes, d.keys...)
		batch.Ops = append(batch.Ops, d.ops...)
	}
	err := f.backend.Commit(batch)
	if err != nil {
		err = fmt.Errorf("flush up to log index %d: %w", s.index, err)
	} else {
		f.onDisk = seal{index: s.index, term: s.term, rev: s.rev}
		err = f.rebase(s.rev)
	}
	for _, d := range deletes {
		d.done <- err
	}
	if err != nil {
		return err
	}
	s.ops = nil
	f.mu.Lock()
	f.flushed = s
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	return nil
}

// rebase has views read from the file as it is now.
func (f *flusher) rebase(rev int64) error {
	base, err := f.backend.Base()
	if err != nil {
		return err
	}
	f.store.Rebase(base, rev)
	return nil
}

// give ends flushing for everyone who waits.
func (f *flusher) give(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = err
	for _, d := range f.deletes {
		d.done <- err
	}
	f.deletes = nil
	close(f.changed)
	f.changed = make(chan struct{})
}

// freeze runs do while the file does not change, and tells it which state the
// file holds.
func (f *flusher) freeze(do func(at seal) error) error {
	f.commit.Lock()
	defer f.commit.Unlock()
	return do(f.onDisk)
}

// replace goes on with another file and store, which stand at a snapshot from
// the leader. What was to be flushed is part of it. Applier only, inside freeze.
func (f *flusher) replace(s *mvcc.Store, at seal) {
	f.store, f.onDisk = s, at
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealed, f.flushed, f.dirty = at, at, false
	close(f.changed)
	f.changed = make(chan struct{})
}
