package files

import (
	"os"

	"golang.org/x/sys/windows"
)

// canSyncDir: Windows has no way to sync a directory; names are durable with
// the file.
const canSyncDir = false

func preallocate(f *os.File, size int64) error { return extend(f, size) }

func datasync(f *os.File) error { return f.Sync() }

func lock(f *os.File, wait bool) error {
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK)
	if !wait {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	// One byte far beyond any content: a lock there excludes other lockers
	// without forbidding them to read.
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &at)
	if err == windows.ERROR_LOCK_VIOLATION {
		return ErrLocked
	}
	return err
}
