package backend

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/steledb/stele/internal/base/bucket"
)

// Options are what an operator or a tool can set. The zero value is right for a
// server.
type Options struct {
	// MmapSize is the address space to reserve, in bytes; 0 means 10 GiB as in
	// etcd. A file of a quarter of it or more gets four times its size. Running
	// out is handled by moving to a new file, see DESIGN.md.
	MmapSize int64
	// FreelistType is "map" (or empty) or "array".
	FreelistType string
	Mlock        bool // keep the file in memory
	// NoSync gives up the promise of Commit: a crash of the machine may lose or
	// damage the file. For tests.
	NoSync   bool
	ReadOnly bool // for tools: nothing is created or written

	// LockTimeout bounds the wait for another process that has the file open; 0
	// waits for ever.
	LockTimeout time.Duration

	// OnCommit, if set, is told how long each commit took.
	OnCommit func(CommitStats)
	// FreeBytes, if set, replaces asking the system for the room left in a directory.
	FreeBytes func(dir string) (int64, error)
}

const (
	defaultMmapSize = 10 << 30
	growthRoom      = 4 // address space to reserve, in sizes of the file

	// The key bucket is written in ascending order, so pages can be filled to
	// near the end; what is left lets compaction's neighbours merge.
	keyFill = 0.9
)

func (o Options) withDefaults() Options {
	if o.MmapSize <= 0 {
		o.MmapSize = defaultMmapSize
	}
	if o.OnCommit == nil {
		o.OnCommit = func(CommitStats) {}
	}
	if o.FreeBytes == nil {
		o.FreeBytes = freeBytes
	}
	return o
}

func (o Options) freelist() bbolt.FreelistType {
	if o.FreelistType == "array" {
		return bbolt.FreelistArrayType
	}
	return bbolt.FreelistMapType
}

// Bolt is the backend in a bbolt file.
type Bolt struct {
	path string
	opt  Options

	openReads       atomic.Int64
	size, sizeInUse atomic.Int64 // of the current file after the last commit

	// commitMu is held by a commit from before its first change until it is on
	// disk, and by a defragmentation where it changes files.
	commitMu sync.Mutex
	copying  *fileCopy // defragmentation that wants to know of commits; guarded by commitMu
	tmpSeq   int       // names of temporary files; guarded by commitMu

	dirUnsynced bool // the file took its name, but not durably yet; guarded by commitMu

	// defragTurn has room for one: who is in it may defragment.
	defragTurn chan struct{}
	closing    chan struct{} // closed by Close
	closeOnce  sync.Once
	retired    sync.WaitGroup // files about to be closed; added to under commitMu

	// Set by tests before use: smaller bounds, and a call at each step of a
	// defragmentation outside of locks.
	chunkBytes, deltaBytesMax int64
	onStep                    func(step string)

	mu  sync.Mutex // guards cur; held only for moments
	cur *handle    // the file that is "db"; nil after Close
}

var _ Backend = (*Bolt)(nil)

// Open opens or creates the file at path, and all buckets in it. Its directory
// must exist. Temporary files of a defragmentation that did not finish are
// removed.
func Open(path string, opt Options) (*Bolt, error) {
	opt = opt.withDefaults()
	h, err := openChecked(path, opt)
	if err != nil {
		return nil, fmt.Errorf("backend: open %s: %w", path, err)
	}
	b := &Bolt{
		path: path, opt: opt, cur: h,
		defragTurn: make(chan struct{}, 1), closing: make(chan struct{}),
		chunkBytes: chunkBytes, deltaBytesMax: deltaBytesMax, onStep: func(string) {},
	}
	b.noteSizes(h)
	if opt.ReadOnly {
		return b, nil
	}
	if err := errors.Join(removeLeftovers(path), b.createBuckets()); err != nil {
		return nil, errors.Join(fmt.Errorf("backend: open %s: %w", path, err), b.Close())
	}
	return b, nil
}

// openChecked locks the file, looks at every page of it, and only then gives it
// to bbolt: that reads pages through a memory map and in goroutines of its own,
// where damage would end the process instead of returning an error.
func openChecked(path string, opt Options) (h *handle, err error) {
	f, err := openLocked(path, opt.ReadOnly, opt.LockTimeout)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
		}
		if err != nil {
			// bbolt may have closed the file already, which is fine. If it
			// panicked, its map is left over and keeps the lock alive.
			_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
			f.Close()
		}
	}()
	if err := checkFile(f); err != nil {
		return nil, err
	}
	return openHandle(path, f, opt, 0)
}

func removeLeftovers(path string) error {
	names, err := filepath.Glob(path + tmpInfix + "*")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}

func (b *Bolt) createBuckets() error {
	missing, err := b.missingBuckets()
	if err != nil || len(missing) == 0 {
		return err
	}
	return b.cur.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range missing {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return fmt.Errorf("create bucket %s: %w", name, err)
			}
		}
		return nil
	})
}

func (b *Bolt) missingBuckets() (missing []bucket.Name, err error) {
	err = b.cur.db.View(func(tx *bbolt.Tx) error {
		for _, name := range bucket.AllNames() {
			if tx.Bucket([]byte(name)) == nil {
				missing = append(missing, name)
			}
		}
		return nil
	})
	return missing, err
}

// Path returns the name of the file.
func (b *Bolt) Path() string { return b.path }

// current returns the current file with a reference for the caller.
func (b *Bolt) current() (*handle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cur == nil {
		return nil, fmt.Errorf("backend: %s: %w", b.path, ErrClosed)
	}
	b.cur.retain()
	return b.cur, nil
}

// view runs fn on the state of the last commit.
func (b *Bolt) view(fn func(*bbolt.Tx) error) error {
	h, err := b.current()
	if err != nil {
		return err
	}
	defer h.release()
	return h.db.View(fn)
}

// Load implements Backend.
func (b *Bolt) Load(name bucket.Name, fn func(k, v []byte) error) error {
	return b.view(func(tx *bbolt.Tx) error {
		bk := tx.Bucket([]byte(name))
		if bk == nil {
			return nil // a file of an older version, opened for reading only
		}
		return bk.ForEach(fn)
	})
}

// Get implements Backend.
func (b *Bolt) Get(name bucket.Name, key []byte) (value []byte, err error) {
	err = b.view(func(tx *bbolt.Tx) error {
		if bk := tx.Bucket([]byte(name)); bk != nil {
			value = bytes.Clone(bk.Get(key))
		}
		return nil
	})
	return value, err
}

// Hash implements Backend.
func (b *Bolt) Hash(ignore func(b bucket.Name, key []byte) bool) (sum uint32, err error) {
	err = b.view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bk *bbolt.Bucket) error {
			sum = crc32.Update(sum, castagnoli, name)
			return bk.ForEach(func(k, v []byte) error {
				if ignore == nil || !ignore(bucket.Name(name), k) {
					sum = crc32.Update(sum, castagnoli, k)
					sum = crc32.Update(sum, castagnoli, v)
				}
				return nil
			})
		})
	})
	return sum, err
}

// Commit implements Backend.
func (b *Bolt) Commit(batch Batch) error {
	if b.opt.ReadOnly {
		return b.commitError(ErrReadOnly)
	}
	b.commitMu.Lock()
	defer b.commitMu.Unlock()
	if err := errors.Join(b.ensureRoomLocked(&batch), b.syncDirLocked()); err != nil {
		return b.commitError(err)
	}
	h, err := b.current()
	if err != nil {
		return err
	}
	defer h.release()

	stats, err := commit(h.db, []Batch{batch}, nil)
	if err != nil {
		return b.commitError(err)
	}
	b.noteSizes(h)
	if b.copying != nil {
		b.copying.noteLocked(batch)
	}
	b.opt.OnCommit(stats)
	return nil
}

func (b *Bolt) commitError(err error) error {
	return fmt.Errorf("backend: commit to %s: %w", b.path, err)
}

// commit applies batches in one transaction and waits for the disk, unless the
// file says otherwise. bbolt panics where it finds a damaged page on its way;
// that becomes an error.
func commit(db *bbolt.DB, batches []Batch, only keep) (stats CommitStats, err error) {
	start := time.Now()
	tx, err := db.Begin(true)
	if err != nil {
		return CommitStats{}, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, p)
			abandon(tx)
		}
	}()
	for i := range batches {
		if err := batches[i].apply(opener(tx), only); err != nil {
			return CommitStats{}, errors.Join(err, tx.Rollback())
		}
	}
	if err := tx.Commit(); err != nil {
		return CommitStats{}, err
	}
	s := tx.Stats()
	return CommitStats{
		Rebalance: s.GetRebalanceTime(),
		Spill:     s.GetSpillTime(),
		Write:     s.GetWriteTime(),
		Total:     time.Since(start),
	}, nil
}

// abandon rolls a transaction back that panicked, so that Close is not blocked
// by it. Rolling back may meet the same damage.
func abandon(tx *bbolt.Tx) {
	defer func() { _ = recover() }()
	_ = tx.Rollback()
}

// opener returns the buckets of a transaction as stores.
func opener(tx *bbolt.Tx) func(bucket.Name) (store, error) {
	return func(name bucket.Name) (store, error) {
		bk := tx.Bucket([]byte(name))
		if bk == nil {
			return nil, fmt.Errorf("no bucket %q", name)
		}
		if name == bucket.Key {
			bk.FillPercent = keyFill
		}
		return bk, nil
	}
}

// noteSizes remembers the sizes of the current file, so that asking for them,
// as each put does to mind its quota, costs nothing.
func (b *Bolt) noteSizes(h *handle) {
	_ = h.db.View(func(tx *bbolt.Tx) error {
		size := tx.Size()
		b.size.Store(size)
		b.sizeInUse.Store(size - int64(h.db.Stats().FreePageN)*int64(h.db.Info().PageSize))
		return nil
	})
}

// Size implements Backend. It is the space the pages take, which the file
// exceeds by what it grew ahead; etcd reports the same.
func (b *Bolt) Size() int64 { return b.size.Load() }

// SizeInUse implements Backend.
func (b *Bolt) SizeInUse() int64 { return b.sizeInUse.Load() }

// OpenReads implements Backend.
func (b *Bolt) OpenReads() int64 { return b.openReads.Load() }

// Close lets go of the file once a commit under way has ended; a
// defragmentation is broken off. Bases and snapshots in use keep the file open
// and locked until they are released, which Close reports as ErrReadsOpen.
func (b *Bolt) Close() error {
	b.closeOnce.Do(func() { close(b.closing) })
	b.defragTurn <- struct{}{}
	defer func() { <-b.defragTurn }()
	b.commitMu.Lock()
	defer b.commitMu.Unlock()

	b.mu.Lock()
	h := b.cur
	b.cur = nil
	b.mu.Unlock()
	if h == nil {
		return nil
	}
	if b.openReads.Load() > 0 { // of this file or of one before
		b.retireLocked(h)
		return fmt.Errorf("backend: close %s: %w", b.path, ErrReadsOpen)
	}
	err := h.close()
	b.retired.Wait()
	if err != nil {
		return fmt.Errorf("backend: close %s: %w", b.path, err)
	}
	return nil
}

// retireLocked closes a file that is not current any more, in the background.
func (b *Bolt) retireLocked(h *handle) {
	b.retired.Go(func() {
		_ = h.close() // everything in it is on disk, or in the file after it
	})
}
