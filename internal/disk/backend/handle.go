package backend

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// handle is one open bbolt file with a count of those who use it: the backend
// while the handle is current, and every base and snapshot read from it. So a
// defragmentation can put another file in its place at any time, and readers of
// the old one finish undisturbed. The file is closed by its owner when drained,
// never by a reader: unmapping and freeing a large file takes long.
type handle struct {
	db      *bbolt.DB
	mapped  int64 // bytes of address space reserved; bbolt remaps beyond, which waits for all readers
	refs    atomic.Int64
	drained chan struct{} // closed when the last user has left
}

// openHandle opens path, which must be locked and checked already through f.
func openHandle(path string, f *os.File, opt Options, mapped int64) (*handle, error) {
	size, err := fileSize(f)
	if err != nil {
		return nil, err
	}
	mapped = max(mapped, opt.MmapSize, growthRoom*size)
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		NoFreelistSync:  true, // as etcd 3.7: the list is rebuilt at open, and commits write less
		FreelistType:    opt.freelist(),
		InitialMmapSize: int(mapped),
		Mlock:           opt.Mlock,
		NoSync:          opt.NoSync,
		ReadOnly:        opt.ReadOnly,
		Timeout:         lockRetry, // f holds the lock already
	})
	if err != nil {
		return nil, err
	}
	h := &handle{db: db, mapped: mapped, drained: make(chan struct{})}
	h.refs.Store(1)
	return h, nil
}

// retain adds a user. The caller must know that there is one already.
func (h *handle) retain() {
	if h.refs.Add(1) <= 1 {
		panic("backend: use of a closed file")
	}
}

// release removes a user.
func (h *handle) release() {
	switch n := h.refs.Add(-1); {
	case n == 0:
		close(h.drained)
	case n < 0:
		panic("backend: released more often than retained")
	}
}

// close gives up the owner's reference and closes the file as soon as nobody
// else has one.
func (h *handle) close() error {
	h.release()
	<-h.drained
	return h.db.Close()
}

// Opening files: the lock comes before the first look into the file, since
// another process may be writing it.

const (
	fileMode  = 0o600
	lockRetry = 50 * time.Millisecond
)

// openLocked opens path, creating it unless it is for reading only, and locks
// it: shared for reading, exclusive otherwise. It waits for at most timeout, or
// without limit if that is zero.
func openLocked(path string, readOnly bool, timeout time.Duration) (*os.File, error) {
	flag, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if readOnly {
		flag, how = os.O_RDONLY, unix.LOCK_SH
	}
	f, err := os.OpenFile(path, flag, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lock(f, how, timeout); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func lock(f *os.File, how int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock: %w", err)
		case timeout > 0 && time.Now().After(deadline):
			return ErrLocked
		}
		time.Sleep(lockRetry)
	}
}

func fileSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
