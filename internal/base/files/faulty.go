package files

import (
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ErrNoSpace is what a full disk answers.
const ErrNoSpace = syscall.ENOSPC

// OpKind names a file system operation.
type OpKind string

// The operations that Faulty shows to its injector.
const (
	OpOpen        OpKind = "open"
	OpRead        OpKind = "read"
	OpWrite       OpKind = "write"
	OpTruncate    OpKind = "truncate"
	OpPreallocate OpKind = "preallocate"
	OpSync        OpKind = "sync"
	OpDatasync    OpKind = "datasync"
	OpSyncDir     OpKind = "syncdir"
	OpRename      OpKind = "rename"
	OpRemove      OpKind = "remove"
	OpMkdir       OpKind = "mkdir"
	OpReadDir     OpKind = "readdir"
	OpStat        OpKind = "stat"
	OpLock        OpKind = "lock"
	OpClose       OpKind = "close"
)

// Op is an operation about to happen.
type Op struct {
	Kind   OpKind
	Path   string
	Target string // rename: the new name
	Bytes  int64  // read and write: length; truncate and preallocate: size
}

// Injector looks at each operation before it happens. An error makes the
// operation fail with it, and undone; blocking delays the operation. It is
// called from whatever goroutine uses the file system and may itself use the
// file system below.
type Injector func(Op) error

// PartialWrite is an injector's error for a write of which the first N bytes
// still happen.
type PartialWrite struct {
	N   int
	Err error
}

func (p *PartialWrite) Error() string { return p.Err.Error() }
func (p *PartialWrite) Unwrap() error { return p.Err }

// Faulty is a file system that asks an injector before each operation on the
// one below.
type Faulty struct {
	under FS

	mu     sync.Mutex
	inject Injector // guarded by mu; nil lets everything pass
}

// NewFaulty wraps under.
func NewFaulty(under FS, inject Injector) *Faulty { return &Faulty{under: under, inject: inject} }

// Inject replaces the injector; nil lets everything pass.
func (f *Faulty) Inject(inject Injector) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inject = inject
}

func (f *Faulty) ask(op Op) error {
	f.mu.Lock()
	inject := f.inject
	f.mu.Unlock()
	if inject == nil {
		return nil
	}
	if err := inject(op); err != nil {
		if _, partial := err.(*PartialWrite); partial {
			return err
		}
		return pathError(string(op.Kind), op.Path, err)
	}
	return nil
}

// FailNth fails the nth operation (from 1) that is one of kinds, or any if no
// kinds are given, and lets all others pass.
func FailNth(n int, err error, kinds ...OpKind) Injector {
	var mu sync.Mutex
	return func(op Op) error {
		if len(kinds) > 0 && !slices.Contains(kinds, op.Kind) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n--
		if n == 0 {
			return err
		}
		return nil
	}
}

// NoSpaceAfter lets bytes bytes be written and answers ErrNoSpace from then on;
// the write that crosses the limit happens in part.
func NoSpaceAfter(bytes int64) Injector {
	var mu sync.Mutex
	return func(op Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op.Kind == OpPreallocate && op.Bytes > bytes:
			return ErrNoSpace
		case op.Kind != OpWrite:
			return nil
		case op.Bytes > bytes:
			fits := bytes
			bytes = 0
			return &PartialWrite{N: int(fits), Err: ErrNoSpace}
		}
		bytes -= op.Bytes
		return nil
	}
}

// OnPath restricts an injector to operations whose path contains part.
func OnPath(part string, inject Injector) Injector {
	return func(op Op) error {
		if !strings.Contains(op.Path, part) {
			return nil
		}
		return inject(op)
	}
}

// OpenFile implements FS.
func (f *Faulty) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := f.ask(Op{Kind: OpOpen, Path: name}); err != nil {
		return nil, err
	}
	file, err := f.under.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f}, nil
}

// Rename implements FS.
func (f *Faulty) Rename(oldName, newName string) error {
	if err := f.ask(Op{Kind: OpRename, Path: oldName, Target: newName}); err != nil {
		return err
	}
	return f.under.Rename(oldName, newName)
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.ask(Op{Kind: OpRemove, Path: name}); err != nil {
		return err
	}
	return f.under.Remove(name)
}

// RemoveAll implements FS.
func (f *Faulty) RemoveAll(name string) error {
	if err := f.ask(Op{Kind: OpRemove, Path: name}); err != nil {
		return err
	}
	return f.under.RemoveAll(name)
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(name string, perm fs.FileMode) error {
	if err := f.ask(Op{Kind: OpMkdir, Path: name}); err != nil {
		return err
	}
	return f.under.MkdirAll(name, perm)
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.ask(Op{Kind: OpReadDir, Path: name}); err != nil {
		return nil, err
	}
	return f.under.ReadDir(name)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (fs.FileInfo, error) {
	if err := f.ask(Op{Kind: OpStat, Path: name}); err != nil {
		return nil, err
	}
	return f.under.Stat(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(name string) error {
	if err := f.ask(Op{Kind: OpSyncDir, Path: name}); err != nil {
		return err
	}
	return f.under.SyncDir(name)
}

// faultyFile asks before each operation on the file below. Name and Stat pass.
type faultyFile struct {
	File
	fs *Faulty
}

func (f *faultyFile) ask(kind OpKind, bytes int64) error {
	return f.fs.ask(Op{Kind: kind, Path: f.Name(), Bytes: bytes})
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.ask(OpRead, int64(len(p))); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.ask(OpRead, int64(len(p))); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	return f.write(p, f.File.Write)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *faultyFile) write(p []byte, write func([]byte) (int, error)) (int, error) {
	err := f.ask(OpWrite, int64(len(p)))
	if partial, ok := err.(*PartialWrite); ok {
		n, below := write(p[:min(partial.N, len(p))])
		if below != nil {
			return n, below
		}
		return n, pathError(string(OpWrite), f.Name(), partial.Err)
	}
	if err != nil {
		return 0, err
	}
	return write(p)
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.ask(OpTruncate, size); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Preallocate(size int64) error {
	if err := f.ask(OpPreallocate, size); err != nil {
		return err
	}
	return f.File.Preallocate(size)
}

func (f *faultyFile) Sync() error {
	if err := f.ask(OpSync, 0); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Datasync() error {
	if err := f.ask(OpDatasync, 0); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f *faultyFile) Lock() error {
	if err := f.ask(OpLock, 0); err != nil {
		return err
	}
	return f.File.Lock()
}

func (f *faultyFile) TryLock() error {
	if err := f.ask(OpLock, 0); err != nil {
		return err
	}
	return f.File.TryLock()
}

// Close always closes what is below: a failed close frees the descriptor too.
func (f *faultyFile) Close() error {
	asked := f.ask(OpClose, 0)
	if err := f.File.Close(); err != nil {
		return err
	}
	return asked
}
