package files

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a file system in memory that knows what a power cut would leave.
//
// Every node keeps two states and what lies between them: the synced state, the
// state that programs see, and the list of changes made since the last sync. A
// sync moves the synced state forward and empties the list. CrashClone builds a
// new Mem from the synced state and some of the listed changes; see crash.go.
//
// Files are sparse, so a preallocated segment costs nothing. Times are not kept.
type Mem struct {
	mu       sync.Mutex
	unlocked sync.Cond // a file lock was released; L is &mu
	root     *memNode
}

// NewMem returns an empty file system with a root directory.
func NewMem() *Mem { return newMem(newDirNode(PrivateDir)) }

func newMem(root *memNode) *Mem {
	m := &Mem{root: root}
	m.unlocked.L = &m.mu
	return m
}

// memNode is a file or a directory. All fields are guarded by Mem.mu.
type memNode struct {
	perm  fs.FileMode
	names *dirState // nil for a file
	data  *fileState
	owner *memFile // holds the exclusive lock
}

func (n *memNode) isDir() bool { return n.names != nil }

func newDirNode(perm fs.FileMode) *memNode {
	return &memNode{perm: perm | fs.ModeDir, names: newDirState()}
}

func newFileNode(perm fs.FileMode) *memNode {
	return &memNode{perm: perm, data: newFileState()}
}

var (
	errNotDir   = errors.New("not a directory")
	errIsDir    = errors.New("is a directory")
	errNotEmpty = errors.New("directory not empty")
	errAppend   = errors.New("WriteAt on a file opened with Append")
	errMode     = errors.New("file not opened for that")
)

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// parts splits a path into its elements below the root. Relative paths count
// from the root.
func parts(name string) []string {
	return strings.FieldsFunc(filepath.ToSlash(filepath.Clean("/"+filepath.ToSlash(name))), func(r rune) bool { return r == '/' })
}

// walkLocked finds the node of a path.
func (m *Mem) walkLocked(elems []string) (*memNode, error) {
	node := m.root
	for _, elem := range elems {
		if !node.isDir() {
			return nil, errNotDir
		}
		child := node.names.seen[elem]
		if child == nil {
			return nil, fs.ErrNotExist
		}
		node = child
	}
	return node, nil
}

// parentLocked finds the directory that holds, or would hold, name.
func (m *Mem) parentLocked(name string) (dir *memNode, base string, err error) {
	elems := parts(name)
	if len(elems) == 0 {
		return nil, "", fs.ErrInvalid
	}
	dir, err = m.walkLocked(elems[:len(elems)-1])
	if err == nil && !dir.isDir() {
		err = errNotDir
	}
	return dir, elems[len(elems)-1], err
}

// OpenFile implements FS.
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.openLocked(name, flag, perm)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &memFile{fs: m, node: node, name: name, flag: flag}, nil
}

func (m *Mem) openLocked(name string, flag int, perm fs.FileMode) (*memNode, error) {
	if len(parts(name)) == 0 {
		return m.root, nil
	}
	dir, base, err := m.parentLocked(name)
	if err != nil {
		return nil, err
	}
	node := dir.names.seen[base]
	switch {
	case node == nil && flag&Create == 0:
		return nil, fs.ErrNotExist
	case node == nil:
		node = newFileNode(perm)
		dir.names.change(nameChange{base: node})
		return node, nil
	case flag&Create != 0 && flag&Exclusive != 0:
		return nil, fs.ErrExist
	case node.isDir() && flag&(WriteOnly|ReadWrite|Truncate) != 0:
		return nil, errIsDir
	case flag&Truncate != 0:
		node.data.resize(0)
	}
	return node, nil
}

// Rename implements FS. Inside one directory it is one change, before and after
// a crash; between two directories it is two, and a crash may keep either.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.renameLocked(oldName, newName); err != nil {
		return pathError("rename", oldName, err)
	}
	return nil
}

func (m *Mem) renameLocked(oldName, newName string) error {
	fromDir, from, err := m.parentLocked(oldName)
	if err != nil {
		return err
	}
	toDir, to, err := m.parentLocked(newName)
	if err != nil {
		return err
	}
	node, target := fromDir.names.seen[from], toDir.names.seen[to]
	switch {
	case node == nil:
		return fs.ErrNotExist
	case node == target:
		return nil
	case target != nil && target.isDir() && (!node.isDir() || len(target.names.seen) > 0):
		return fs.ErrExist
	case fromDir == toDir:
		fromDir.names.change(nameChange{from: nil, to: node})
	default:
		toDir.names.change(nameChange{to: node})
		fromDir.names.change(nameChange{from: nil})
	}
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	node := dir.names.seen[base]
	switch {
	case node == nil:
		return pathError("remove", name, fs.ErrNotExist)
	case node.isDir() && len(node.names.seen) > 0:
		return pathError("remove", name, errNotEmpty)
	}
	dir.names.change(nameChange{base: nil})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return pathError("removeall", name, err)
	}
	if node := dir.names.seen[base]; node != nil {
		node.removeBelow()
		dir.names.change(nameChange{base: nil})
	}
	return nil
}

// removeBelow empties a directory name by name, as the system calls would, so
// that a crash can find it half empty.
func (n *memNode) removeBelow() {
	if !n.isDir() {
		return
	}
	for _, name := range n.names.list() {
		n.names.seen[name].removeBelow()
		n.names.change(nameChange{name: nil})
	}
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.root
	for _, elem := range parts(name) {
		child := node.names.seen[elem]
		if child == nil {
			child = newDirNode(perm)
			node.names.change(nameChange{elem: child})
		}
		if !child.isDir() {
			return pathError("mkdir", name, errNotDir)
		}
		node = child
	}
	return nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.walkLocked(parts(name))
	if err == nil && !node.isDir() {
		err = errNotDir
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	var entries []fs.DirEntry
	for _, base := range node.names.list() {
		entries = append(entries, fs.FileInfoToDirEntry(infoOf(base, node.names.seen[base])))
	}
	return entries, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.walkLocked(parts(name))
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return infoOf(filepath.Base(name), node), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.walkLocked(parts(name))
	if err == nil && !node.isDir() {
		err = errNotDir
	}
	if err != nil {
		return pathError("syncdir", name, err)
	}
	node.names.sync()
	return nil
}

// memInfo is a copy of what Stat reports.
type memInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func infoOf(name string, n *memNode) memInfo {
	info := memInfo{name: name, mode: n.perm}
	if !n.isDir() {
		info.size = n.data.seen.size
	}
	return info
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }

// memFile is an open file of Mem.
type memFile struct {
	fs   *Mem
	node *memNode
	name string
	flag int

	pos    int64 // guarded by fs.mu
	closed bool  // guarded by fs.mu
}

// use runs fn on the file's content if the file is open, is a file and was
// opened for the purpose.
func (f *memFile) use(op string, allowed bool, fn func(*fileState) error) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case f.node.isDir():
		err = errIsDir
	case !allowed:
		err = errMode
	default:
		err = fn(f.node.data)
	}
	if err == nil || err == io.EOF {
		return err
	}
	return pathError(op, f.name, err)
}

func (f *memFile) canRead() bool  { return f.flag&WriteOnly == 0 }
func (f *memFile) canWrite() bool { return f.flag&(WriteOnly|ReadWrite) != 0 }

func (f *memFile) Name() string { return f.name }

func (f *memFile) Stat() (info fs.FileInfo, err error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return nil, pathError("stat", f.name, fs.ErrClosed)
	}
	return infoOf(filepath.Base(f.name), f.node), nil
}

func (f *memFile) Read(p []byte) (n int, err error) {
	err = f.use("read", f.canRead(), func(s *fileState) error {
		var err error
		n, err = s.seen.readAt(p, f.pos)
		f.pos += int64(n)
		if n > 0 {
			return nil
		}
		return err
	})
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.use("read", f.canRead(), func(s *fileState) (err error) {
		n, err = s.seen.readAt(p, off)
		return err
	})
	return n, err
}

func (f *memFile) Write(p []byte) (n int, err error) {
	err = f.use("write", f.canWrite(), func(s *fileState) error {
		if f.flag&Append != 0 {
			f.pos = s.seen.size
		}
		s.write(f.pos, p)
		f.pos += int64(len(p))
		n = len(p)
		return nil
	})
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.use("write", f.canWrite(), func(s *fileState) error {
		if f.flag&Append != 0 {
			return errAppend
		}
		if off < 0 {
			return fs.ErrInvalid
		}
		s.write(off, p)
		n = len(p)
		return nil
	})
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	return f.use("truncate", f.canWrite(), func(s *fileState) error {
		if size < 0 {
			return fs.ErrInvalid
		}
		s.resize(size)
		return nil
	})
}

func (f *memFile) Preallocate(size int64) error {
	return f.use("preallocate", f.canWrite(), func(s *fileState) error {
		if size > s.seen.size {
			s.resize(size)
		}
		return nil
	})
}

func (f *memFile) Sync() error {
	return f.use("sync", true, func(s *fileState) error { s.sync(); return nil })
}

func (f *memFile) Datasync() error {
	return f.use("datasync", true, func(s *fileState) error { s.sync(); return nil })
}

func (f *memFile) Lock() error    { return f.lock(true) }
func (f *memFile) TryLock() error { return f.lock(false) }

func (f *memFile) lock(wait bool) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for {
		switch {
		case f.closed:
			return pathError("lock", f.name, fs.ErrClosed)
		case f.node.owner == nil || f.node.owner == f:
			f.node.owner = f
			return nil
		case !wait:
			return pathError("lock", f.name, ErrLocked)
		}
		f.fs.unlocked.Wait()
	}
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	if f.node.owner == f {
		f.node.owner = nil
	}
	f.fs.unlocked.Broadcast()
	return nil
}

// sortedKeys gives map iteration a fixed order, which keeps a seed repeatable.
func sortedKeys[V any](m map[int64]V) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
