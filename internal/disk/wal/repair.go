package wal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/steledb/stele/internal/base/files"
)

// repair cuts a torn tail off: the segment is copied to <segment>.broken as it
// is, then truncated where the good records end. A crash in between leaves the
// tail torn and the copy to be made again.
func repair(fsys files.FS, dir string, damage *Damage, events *Events) (err error) {
	path := filepath.Join(dir, damage.File)
	f, err := fsys.OpenFile(path, files.ReadWrite, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.TryLock(); err != nil {
		return err
	}
	if err := copyFile(fsys, path+brokenSuffix, f); err != nil {
		return fmt.Errorf("keep a copy of the torn segment: %w", err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return err
	}
	if err := f.Truncate(damage.Offset); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	events.repaired(Repair{Path: path, Broken: path + brokenSuffix, Offset: damage.Offset, Cause: damage})
	return nil
}

// copyFile writes a synced copy of from. Runs of zeros, most of a preallocated
// segment, become holes.
func copyFile(fsys files.FS, name string, from files.File) (err error) {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := fsys.OpenFile(name, files.ReadWrite|files.Create|files.Truncate, files.PrivateFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := to.Truncate(info.Size()); err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	for off := int64(0); off < info.Size(); off += int64(len(chunk)) {
		n, err := from.ReadAt(chunk, off)
		if err != nil && err != io.EOF {
			return err
		}
		if allZero(chunk[:n]) {
			continue
		}
		if _, err := to.WriteAt(chunk[:n], off); err != nil {
			return err
		}
	}
	return to.Sync()
}
