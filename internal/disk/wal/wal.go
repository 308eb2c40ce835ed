package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

// DefaultSegmentBytes is where a segment ends and what it preallocates.
const DefaultSegmentBytes = 64_000_000

// flushBytes bounds what Save keeps in memory before it writes to the file. A
// sync per 1 MiB costs far more than a write per 1 MiB, so more would not help.
const flushBytes = 1 << 20

// keepBytes bounds the buffers that stay allocated between saves; a larger entry
// gets a buffer that is dropped afterwards.
const keepBytes = 4 * flushBytes

// Options of a log; the zero value is what a member uses.
type Options struct {
	SegmentBytes int64            // 0: DefaultSegmentBytes
	Now          func() time.Time // for the times in Events; nil: time.Now
	Events       Events
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// WAL is a log open for appending. Its methods may be called from several
// goroutines; what one Sync covers is what was saved before it began.
//
// Invariants, between calls and while err is nil:
//
//   - the tail segment holds good frames in [0, flushed) and zeros behind;
//   - buf holds the frames that follow, and crc is the chain's value behind them;
//   - segments is not empty, sorted by seq, each one open and locked.
type WAL struct {
	fs  files.FS
	dir string
	opt Options

	mu       sync.Mutex // guards all below
	segments []*segment // oldest first; the last is the tail
	flushed  int64      // end of what was written to the tail
	buf      []byte     // frames not yet written
	scratch  []byte     // one record's data while it is framed
	crc      uint32
	metadata []byte
	state    raftpb.HardState // last one saved; starts every new segment
	last     uint64           // last index saved or marked; names the next segment

	unsynced bool // something was saved since the last sync
	urgent   bool // ... and must be synced before anyone is told
	err      error

	next *preparer // makes the next segment's file
}

// segment is one locked segment file.
type segment struct {
	segmentRef
	file files.File
}

// Create makes a new log in dir, which must not exist, and opens it. It is
// built under another name first: after a crash dir is a whole log or is not
// there. metadata is given back by every Open.
func Create(fsys files.FS, dir string, metadata []byte, opt Options) (*WAL, error) {
	opt = opt.withDefaults()
	dir = filepath.Clean(dir)
	if err := build(fsys, dir, metadata, opt); err != nil {
		return nil, fmt.Errorf("wal: create %s: %w", dir, err)
	}
	w, _, err := Open(fsys, dir, Mark{}, opt)
	return w, err
}

func build(fsys files.FS, dir string, metadata []byte, opt Options) error {
	if exists, err := files.Exists(fsys, dir); err != nil || exists {
		return errors.Join(err, errExists(exists))
	}
	parent, tmp := filepath.Dir(dir), dir+tmpSuffix
	if err := fsys.RemoveAll(tmp); err != nil {
		return err
	}
	if err := files.MkdirAllSync(fsys, parent, files.PrivateDir); err != nil {
		return err
	}
	if err := fsys.MkdirAll(tmp, files.PrivateDir); err != nil {
		return err
	}
	if err := writeFirstSegment(fsys, tmp, metadata, opt); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, dir); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

func errExists(exists bool) error {
	if exists {
		return fs.ErrExist
	}
	return nil
}

func writeFirstSegment(fsys files.FS, dir string, metadata []byte, opt Options) (err error) {
	path := filepath.Join(dir, segmentName(0, 0))
	f, err := fsys.OpenFile(path, files.ReadWrite|files.Create|files.Exclusive, files.PrivateFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Preallocate(opt.SegmentBytes); err != nil {
		return err
	}
	mark := (&Mark{}).appendTo(nil)
	crc := updateCRC(0, metadata)
	head := appendFrame(nil, TypeCRC, 0, nil)
	head = appendFrame(head, TypeMetadata, crc, metadata)
	head = appendFrame(head, TypeMark, updateCRC(crc, mark), mark)
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

func updateCRC(crc uint32, data []byte) uint32 { return crc32.Update(crc, castagnoli, data) }

// Open locks the log in dir from the segment that holds mark on, replays it and
// makes it ready for appending. A tail that a crash tore is cut off, once.
func Open(fsys files.FS, dir string, mark Mark, opt Options) (*WAL, Replay, error) {
	opt = opt.withDefaults()
	w, replay, err := open(fsys, dir, mark, opt)
	var damage *Damage
	if errors.Is(err, ErrTorn) && errors.As(err, &damage) {
		if err := repair(fsys, dir, damage, &opt.Events); err != nil {
			return nil, Replay{}, fmt.Errorf("wal: repair: %w", err)
		}
		w, replay, err = open(fsys, dir, mark, opt)
	}
	if err != nil {
		return nil, Replay{}, err
	}
	return w, replay, nil
}

func open(fsys files.FS, dir string, mark Mark, opt Options) (_ *WAL, _ Replay, err error) {
	l, err := list(fsys, dir)
	if err != nil {
		return nil, Replay{}, err
	}
	for _, name := range l.ignored {
		opt.Events.ignored(filepath.Join(dir, name))
	}
	refs, err := l.from(mark.Index)
	if err != nil {
		return nil, Replay{}, err
	}
	w := &WAL{fs: fsys, dir: dir, opt: opt}
	w.next = newPreparer(fsys, dir, opt.SegmentBytes)
	defer func() {
		if err != nil {
			w.closeSegments()
		}
	}()
	if err := w.lockSegments(refs); err != nil {
		return nil, Replay{}, err
	}
	replay, err := w.replay(refs, mark)
	if err != nil {
		return nil, Replay{}, err
	}
	return w, replay, w.clearTail()
}

func (w *WAL) lockSegments(refs []segmentRef) error {
	for _, ref := range refs {
		f, err := w.fs.OpenFile(filepath.Join(w.dir, ref.name), files.ReadWrite, 0)
		if err != nil {
			return fmt.Errorf("wal: open segment: %w", err)
		}
		w.segments = append(w.segments, &segment{segmentRef: ref, file: f})
		if err := f.TryLock(); err != nil {
			return fmt.Errorf("wal: lock segment: %w", err)
		}
	}
	return nil
}

func (w *WAL) closeSegments() (err error) {
	for _, s := range w.segments {
		err = errors.Join(err, s.file.Close())
	}
	w.segments = nil
	return err
}

// replay reads the segments and leaves w as it was when the last record was
// saved.
func (w *WAL) replay(refs []segmentRef, mark Mark) (Replay, error) {
	r := newReader(w.fs, w.dir, refs)
	defer r.close()
	c := collector{start: mark, last: max(refs[0].index, 1) - 1}
	if err := c.drain(r); err != nil {
		return Replay{}, err
	}
	w.flushed, w.crc = r.end(), r.crc
	w.metadata, w.state, w.last = c.replay.Metadata, c.replay.HardState, c.last
	return c.result()
}

// clearTail puts zeros behind the last good record and syncs them: sectors of a
// lost write that did reach the disk must not meet the records to come, and a
// reader takes a zero length word for the end.
func (w *WAL) clearTail() error {
	tail := w.tail().file
	if err := tail.Truncate(w.flushed); err != nil {
		return fmt.Errorf("wal: clear tail: %w", err)
	}
	if err := tail.Preallocate(max(w.flushed, w.opt.SegmentBytes)); err != nil {
		return fmt.Errorf("wal: clear tail: %w", err)
	}
	if err := tail.Sync(); err != nil {
		return fmt.Errorf("wal: clear tail: %w", err)
	}
	return nil
}

func (w *WAL) tail() *segment { return w.segments[len(w.segments)-1] }

// Start begins to prepare the next segment's file in the background, so that
// the sync that fills a segment need not wait for it. Close ends it. Without
// Start the file is made when it is needed.
func (w *WAL) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.next.start()
	}
}

// Save appends entries and then, if it is not empty, the hard state. They are
// in memory or in the file afterwards, not safe: that takes a Sync.
func (w *WAL) Save(state raftpb.HardState, entries []raftpb.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	for i := range entries {
		w.scratch = entries[i].AppendTo(w.scratch[:0])
		w.last, w.urgent = entries[i].Index, true
		if err := w.append(TypeEntry, w.scratch); err != nil {
			return err
		}
	}
	if !state.IsEmpty() {
		w.urgent = w.urgent || state.Term != w.state.Term || state.Vote != w.state.Vote
		w.state = state
		w.scratch = state.AppendTo(w.scratch[:0])
		if err := w.append(TypeHardState, w.scratch); err != nil {
			return err
		}
	}
	if cap(w.scratch) > keepBytes {
		w.scratch = nil
	}
	return nil
}

// NeedsSync reports whether something was saved since the last Sync that must
// be safe before anyone hears of it: entries, a term or a vote. A new commit
// index alone may wait.
func (w *WAL) NeedsSync() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.urgent
}

// Sync makes everything saved so far safe, and begins a new segment if this one
// is full. Without anything to do it costs nothing.
func (w *WAL) Sync() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.syncLocked()
}

// SaveMark records that a snapshot exists, and syncs. The snapshot itself must
// be safe on disk before.
func (w *WAL) SaveMark(mark Mark) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	w.last = max(w.last, mark.Index)
	w.scratch = mark.appendTo(w.scratch[:0])
	if err := w.append(TypeMark, w.scratch); err != nil {
		return err
	}
	return w.syncLocked()
}

// append frames one record. Called with mu held, as all below.
func (w *WAL) append(kind RecordType, data []byte) error {
	w.crc = updateCRC(w.crc, data)
	w.buf = appendFrame(w.buf, kind, w.crc, data)
	w.unsynced = true
	if len(w.buf) < flushBytes {
		return nil
	}
	return w.flush()
}

func (w *WAL) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	begin := w.opt.Now()
	n, err := w.tail().file.WriteAt(w.buf, w.flushed)
	w.opt.Events.wrote(n, w.opt.Now().Sub(begin))
	if err != nil {
		w.takeBack(n)
		return w.fail("write", err)
	}
	w.flushed += int64(len(w.buf))
	w.buf = w.buf[:0]
	if cap(w.buf) > keepBytes {
		w.buf = nil
	}
	return nil
}

// takeBack puts zeros over the n bytes of a write that ended in the middle, as
// it does on a full disk: where the beginning of a record ends inside a sector
// it looks like damage, not like the trace of a crash, and would be refused. If
// this fails too, the restart says so.
func (w *WAL) takeBack(n int) {
	if n == 0 {
		return
	}
	tail := w.tail().file
	if _, err := tail.WriteAt(make([]byte, n), w.flushed); err == nil {
		_ = tail.Datasync()
	}
}

func (w *WAL) syncLocked() error {
	if w.err != nil || !w.unsynced {
		return w.err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.datasync(); err != nil {
		return err
	}
	w.unsynced, w.urgent = false, false
	if w.flushed < w.opt.SegmentBytes {
		return nil
	}
	return w.cut()
}

func (w *WAL) datasync() error {
	begin := w.opt.Now()
	err := w.tail().file.Datasync()
	w.opt.Events.synced(w.opt.Now().Sub(begin))
	if err != nil {
		return w.fail("sync", err)
	}
	return nil
}

// fail makes the log refuse all further work: after a failed write or sync
// nobody knows what the disk holds, and the kernel may have dropped the pages.
func (w *WAL) fail(op string, err error) error {
	w.err = fmt.Errorf("wal: %s %s: %w", op, filepath.Join(w.dir, w.tail().name), err)
	return w.err
}

// ReleaseTo unlocks the segments that a restart from a mark at index or later
// will not read, so that Purge may remove them. It is called after that mark is
// saved.
func (w *WAL) ReleaseTo(index uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	for len(w.segments) > 1 && w.segments[1].index < index {
		err = errors.Join(err, w.segments[0].file.Close())
		w.segments = w.segments[1:]
	}
	return err
}

// Close syncs what was saved, unlocks everything and ends the background work.
// Closing twice gives ErrClosed.
func (w *WAL) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.segments == nil {
		return ErrClosed
	}
	var err error
	if w.err == nil {
		err = w.flush()
	}
	if w.err == nil && w.unsynced {
		err = w.datasync()
	}
	err = errors.Join(err, w.closeSegments(), w.next.close())
	w.err = ErrClosed
	return err
}
