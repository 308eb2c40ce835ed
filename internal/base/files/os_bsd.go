//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package files

import (
	"os"

	"golang.org/x/sys/unix"
)

const canSyncDir = true

func preallocate(f *os.File, size int64) error { return extend(f, size) }

// datasync syncs everything: os.File.Sync knows what the system needs for that
// (F_FULLFSYNC on macOS).
func datasync(f *os.File) error { return f.Sync() }

func lock(f *os.File, wait bool) error {
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
