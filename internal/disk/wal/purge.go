package wal

import (
	"errors"
	"path/filepath"

	"github.com/steledb/stele/internal/base/files"
)

// Purge removes the oldest segments beyond keep, up to the first that is locked,
// and returns the paths it removed. It works from the lowest name up, so that
// what remains is contiguous after a crash too.
func Purge(fsys files.FS, dir string, keep int) (removed []string, err error) {
	l, err := list(fsys, dir)
	if err != nil {
		return nil, err
	}
	for excess := len(l.segments) - keep; excess > 0; excess-- {
		path := filepath.Join(dir, l.segments[len(removed)].name)
		if err := removeUnlocked(fsys, path); err != nil {
			if errors.Is(err, files.ErrLocked) {
				err = nil
			}
			return removed, err
		}
		if err := fsys.SyncDir(dir); err != nil {
			return removed, err
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// removeUnlocked removes a segment while holding its lock.
func removeUnlocked(fsys files.FS, path string) (err error) {
	f, err := fsys.OpenFile(path, files.ReadWrite, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.TryLock(); err != nil {
		return err
	}
	return fsys.Remove(path)
}
