// Package files is the file system as the storage code sees it.
//
// It has three implementations of one small interface:
//
//   - OS, the real one;
//   - Mem, in memory, which remembers what was synced and what was not, and can
//     be cloned into a state that a power cut could have left behind;
//   - Faulty, a wrapper that fails, delays or fills up at a chosen operation.
//
// Promises an implementation gives, and no more than these:
//
//   - file content is durable after Sync; after Datasync too, with the size but
//     perhaps without times and permissions;
//   - a created, renamed or removed name is durable after SyncDir of its
//     directory; a new directory after SyncDir of its parent;
//   - writes that were not synced may be found again after a crash, or not, or
//     in part, each 512-byte sector for itself;
//   - a rename replaces its target in one step, before and after a crash.
//
// Paths are those of the operating system. Errors carry operation and path and
// satisfy errors.Is for fs.ErrNotExist, fs.ErrExist and ErrLocked.
package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// SectorSize is the unit that a disk writes whole or not at all.
const SectorSize = 512

// ErrLocked says that somebody else holds the lock of a file.
var ErrLocked = errors.New("file already locked")

// The flags OpenFile knows; values are those of package os.
const (
	ReadOnly  = os.O_RDONLY
	WriteOnly = os.O_WRONLY
	ReadWrite = os.O_RDWR
	Create    = os.O_CREATE
	Exclusive = os.O_EXCL
	Truncate  = os.O_TRUNC
	Append    = os.O_APPEND
)

// Permissions of a data directory: nobody else reads it.
const (
	PrivateFile fs.FileMode = 0o600
	PrivateDir  fs.FileMode = 0o700
)

// FS is a file system.
type FS interface {
	// OpenFile opens name. With Append, Write goes to the end and WriteAt is
	// refused.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename moves oldName to newName, replacing a file of that name.
	Rename(oldName, newName string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes name and all below; a missing name is no error.
	RemoveAll(name string) error
	// MkdirAll creates name and missing parents; an existing directory is no
	// error.
	MkdirAll(name string, perm fs.FileMode) error
	// ReadDir lists a directory in name order.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat describes name.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
}

// File is an open file. Read and Write share a position that starts at 0 (with
// Append, at the end); ReadAt and WriteAt do not touch it.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Name is the path given to OpenFile.
	Name() string
	// Stat describes the file.
	Stat() (fs.FileInfo, error)
	// Truncate sets the size; new bytes are zero.
	Truncate(size int64) error
	// Preallocate makes the file at least size bytes long with room on the
	// disk for all of them; new bytes are zero.
	Preallocate(size int64) error
	// Sync makes content and metadata durable.
	Sync() error
	// Datasync makes content and size durable.
	Datasync() error
	// Lock waits for the exclusive lock; Close releases it. Two opens of one
	// file exclude each other, in one process too.
	Lock() error
	// TryLock takes the lock or returns ErrLocked at once.
	TryLock() error
}

// Open opens name for reading.
func Open(fsys FS, name string) (File, error) { return fsys.OpenFile(name, ReadOnly, 0) }

// ReadFile returns the whole content of name.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := Open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), data)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}

// WriteFile writes data to name, replacing what was there, and syncs the
// content. A crash may leave any part of it: use WriteFileAtomic where that
// matters.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(name, WriteOnly|Create|Truncate, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// Exists reports whether name exists; any error other than "not there" is
// returned.
func Exists(fsys FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// WriteFileAtomic puts data under name so that after a crash name holds either
// all of it or what it held before. tmp is the name used until then, in the
// same directory; a leftover from an earlier crash is overwritten.
func WriteFileAtomic(fsys FS, name, tmp string, data []byte, perm fs.FileMode) error {
	if err := WriteFile(fsys, tmp, data, perm); err != nil {
		return errors.Join(err, removeIfExists(fsys, tmp))
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return errors.Join(err, removeIfExists(fsys, tmp))
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func removeIfExists(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// MkdirAllSync creates name and missing parents and makes each new name
// durable.
func MkdirAllSync(fsys FS, name string, perm fs.FileMode) error {
	created, err := missingDirs(fsys, name)
	if err != nil {
		return err
	}
	if err := fsys.MkdirAll(name, perm); err != nil {
		return err
	}
	for _, dir := range created {
		if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// missingDirs lists name and its ancestors up to the first that exists.
func missingDirs(fsys FS, name string) (missing []string, err error) {
	for dir := filepath.Clean(name); ; dir = filepath.Dir(dir) {
		ok, err := Exists(fsys, dir)
		if err != nil || ok || dir == filepath.Dir(dir) {
			return missing, err
		}
		missing = append(missing, dir)
	}
}
