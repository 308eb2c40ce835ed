package files

import (
	"io/fs"
	"os"
)

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(oldName, newName string) error         { return os.Rename(oldName, newName) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                  { return os.RemoveAll(name) }
func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }

func (osFS) SyncDir(name string) error {
	if !canSyncDir {
		return nil
	}
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		dir.Close()
		return err
	}
	return dir.Close()
}

// osFile adds to os.File what differs between systems; see os_linux.go and its
// neighbours.
type osFile struct{ *os.File }

func (f osFile) Preallocate(size int64) error {
	return f.wrap("preallocate", preallocate(f.File, size))
}
func (f osFile) Datasync() error { return f.wrap("datasync", datasync(f.File)) }
func (f osFile) Lock() error     { return f.wrap("lock", lock(f.File, true)) }
func (f osFile) TryLock() error  { return f.wrap("lock", lock(f.File, false)) }

func (f osFile) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(*fs.PathError); ok {
		return err
	}
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}

// extend makes the file at least size bytes long without claiming room for
// them; the way out where the file system cannot claim.
func extend(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// retryInterrupted repeats a system call that a signal cut short.
func retryInterrupted(interrupted error, call func() error) error {
	for {
		if err := call(); err != interrupted {
			return err
		}
	}
}
