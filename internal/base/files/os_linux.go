package files

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const canSyncDir = true

// preallocate claims blocks, so that writing inside them later neither fails
// for want of room nor changes the file's size.
func preallocate(f *os.File, size int64) error {
	err := retryInterrupted(unix.EINTR, func() error {
		return unix.Fallocate(int(f.Fd()), 0, 0, size)
	})
	if err == unix.ENOTSUP || err == unix.ENOSYS {
		return extend(f, size)
	}
	return err
}

func datasync(f *os.File) error {
	return retryInterrupted(unix.EINTR, func() error { return unix.Fdatasync(int(f.Fd())) })
}

// lock takes an open-file-description lock: it belongs to the open file, so two
// opens in one process exclude each other, it works over NFS, and it is the one
// that etcd takes. Kernels before 3.15 get flock instead.
func lock(f *os.File, wait bool) error {
	cmd := unix.F_OFD_SETLK
	if wait {
		cmd = unix.F_OFD_SETLKW
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := retryInterrupted(unix.EINTR, func() error {
		return unix.FcntlFlock(f.Fd(), cmd, &whole)
	})
	switch err {
	case unix.EAGAIN, unix.EACCES:
		return ErrLocked
	case unix.EINVAL:
		return flock(f, wait)
	}
	return err
}

func flock(f *os.File, wait bool) error {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	err := retryInterrupted(unix.EINTR, func() error { return unix.Flock(int(f.Fd()), how) })
	if err == unix.EWOULDBLOCK {
		return ErrLocked
	}
	return err
}
