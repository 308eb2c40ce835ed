package member

import (
	"sync"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/disk/wal"
)

// journal is the part of the write-ahead log that the writer uses.
type journal interface {
	Save(state raftpb.HardState, entries []raftpb.Entry) error
	Sync() error
	SaveMark(mark wal.Mark) error
	ReleaseTo(index uint64) error
}

// writer puts what raft decides into the log file. While one sync is under way
// further writes gather, and the next sync covers all of them: the slower the
// disk, the larger the batch.
//
// The queue needs no bound of its own: raft stops taking proposals when too
// many bytes are not yet agreed on.
type writer struct {
	log journal

	mu    sync.Mutex
	queue []write // guarded by mu
	wake  chan struct{}

	saveSnap  func(*raftpb.Snapshot) error // puts the .snap file of a snapshot from the leader in place
	adopted   func(*raftpb.Snapshot)       // that snapshot is in the log, durably
	lastMark  uint64                       // owned by run
	persisted func(tokens []uint64)        // these writes are durable, in order
	failed    func(error)                  // called once; nothing is written afterwards
}

// write is one step of the log, carried out in order.
type write struct {
	snapshot *raftpb.Snapshot // from the leader; its database is on disk
	state    raftpb.HardState
	entries  []raftpb.Entry
	token    uint64 // who waits for it to be durable; 0 for nobody

	mark *wal.Mark  // a snapshot that exists on disk by now
	done chan error // for mark; capacity 1
}

func newWriter(log journal, persisted func([]uint64), failed func(error)) *writer {
	return &writer{log: log, wake: make(chan struct{}, 1), persisted: persisted, failed: failed}
}

func (w *writer) add(job write) {
	w.mu.Lock()
	w.queue = append(w.queue, job)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes until stop is closed. What is queued then is not written: nobody
// was told that it would be.
func (w *writer) run(stop <-chan struct{}) {
	for {
		select {
		case <-w.wake:
		case <-stop:
			return
		}
		if err := w.drain(); err != nil {
			w.failed(err)
			return
		}
	}
}

// drain carries out everything queued with one sync at the end.
func (w *writer) drain() error {
	w.mu.Lock()
	jobs := w.queue
	w.queue = nil
	w.mu.Unlock()
	var tokens []uint64
	var snapshots []*raftpb.Snapshot
	for _, job := range jobs {
		if job.mark != nil {
			err := w.mark(*job.mark)
			job.done <- err
			if err != nil {
				return err
			}
			continue
		}
		if job.snapshot != nil {
			if err := w.adopt(job.snapshot); err != nil {
				return err
			}
			snapshots = append(snapshots, job.snapshot)
		}
		if err := w.log.Save(job.state, job.entries); err != nil {
			return err
		}
		if job.token != 0 {
			tokens = append(tokens, job.token)
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	if err := w.log.Sync(); err != nil {
		return err
	}
	w.persisted(tokens)
	for _, s := range snapshots {
		w.adopted(s)
	}
	return nil
}

// adopt records that the log goes on behind a snapshot from the leader. The hard
// state that follows makes the mark usable; until then a restart finds the log
// as it was.
func (w *writer) adopt(s *raftpb.Snapshot) error {
	if err := w.saveSnap(s); err != nil {
		return err
	}
	w.lastMark = s.Metadata.Index
	return w.log.SaveMark(wal.Mark{Index: s.Metadata.Index, Term: s.Metadata.Term, ConfState: &s.Metadata.ConfState})
}

// mark records a snapshot and lets go of the segments before it.
func (w *writer) mark(m wal.Mark) error {
	if m.Index < w.lastMark {
		return nil // overtaken by a snapshot from the leader
	}
	w.lastMark = m.Index
	if err := w.log.SaveMark(m); err != nil {
		return err
	}
	return w.log.ReleaseTo(m.Index)
}
