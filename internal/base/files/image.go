package files

import (
	"io"
	"io/fs"
	"maps"
)

const pageSize = 4096 // of image; a multiple of SectorSize

// image is sparse file content: pages that were never written are zero.
// Bytes of a page at or beyond size are zero too, so growing needs no work.
type image struct {
	pages map[int64]*[pageSize]byte // by offset / pageSize
	size  int64
}

func newImage() image { return image{pages: map[int64]*[pageSize]byte{}} }

func (m *image) clone() image {
	c := image{pages: make(map[int64]*[pageSize]byte, len(m.pages)), size: m.size}
	for i, page := range m.pages {
		copied := *page
		c.pages[i] = &copied
	}
	return c
}

func (m *image) readAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	n := max(0, min(int64(len(p)), m.size-off))
	for done := int64(0); done < n; {
		index, from := (off+done)/pageSize, (off+done)%pageSize
		chunk := min(n-done, pageSize-from)
		if page := m.pages[index]; page != nil {
			copy(p[done:done+chunk], page[from:])
		} else {
			clear(p[done : done+chunk])
		}
		done += chunk
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// writeAt stores p and grows the file if p ends beyond it.
func (m *image) writeAt(p []byte, off int64) {
	for done := 0; done < len(p); {
		at := off + int64(done)
		index := at / pageSize
		page := m.pages[index]
		if page == nil {
			page = new([pageSize]byte)
			m.pages[index] = page
		}
		done += copy(page[at%pageSize:], p[done:])
	}
	m.size = max(m.size, off+int64(len(p)))
}

// zeroFrom zeroes everything at or beyond off and keeps the size.
func (m *image) zeroFrom(off int64) {
	for index, page := range m.pages {
		start := index * pageSize
		switch {
		case start >= off:
			delete(m.pages, index)
		case start+pageSize > off:
			clear(page[off-start:])
		}
	}
}

func (m *image) resize(size int64) {
	if size < m.size {
		m.zeroFrom(size)
	}
	m.size = size
}

// fileChange is one change of a file since its last sync: data written at off,
// or a new size.
type fileChange struct {
	data   []byte // nil for a resize
	off    int64
	size   int64 // of the file after the change
	resize bool
}

func (c *fileChange) applyTo(m *image) {
	if c.resize {
		m.resize(c.size)
	} else {
		m.writeAt(c.data, c.off)
	}
}

// fileState is the content of one file: seen = synced + changes.
type fileState struct {
	seen, synced image
	changes      []fileChange
}

func newFileState() *fileState { return &fileState{seen: newImage(), synced: newImage()} }

func (s *fileState) write(off int64, p []byte) {
	if len(p) == 0 {
		return
	}
	s.change(fileChange{
		off:  off,
		data: append([]byte(nil), p...),
		size: max(s.seen.size, off+int64(len(p))),
	})
}

func (s *fileState) resize(size int64) { s.change(fileChange{resize: true, size: size}) }

func (s *fileState) change(c fileChange) {
	c.applyTo(&s.seen)
	s.changes = append(s.changes, c)
}

func (s *fileState) sync() {
	for i := range s.changes {
		s.changes[i].applyTo(&s.synced)
	}
	s.changes = nil
}

// nameChange is one change of a directory: names and what they now stand for,
// nil for a name that went away. All of it happens or none.
type nameChange map[string]*memNode

func (c nameChange) applyTo(names map[string]*memNode) {
	for name, node := range c {
		if node == nil {
			delete(names, name)
		} else {
			names[name] = node
		}
	}
}

// dirState is the content of one directory: seen = synced + changes.
type dirState struct {
	seen, synced map[string]*memNode
	changes      []nameChange
}

func newDirState() *dirState {
	return &dirState{seen: map[string]*memNode{}, synced: map[string]*memNode{}}
}

func (s *dirState) change(c nameChange) {
	c.applyTo(s.seen)
	s.changes = append(s.changes, c)
}

func (s *dirState) sync() {
	s.synced = maps.Clone(s.seen)
	s.changes = nil
}

func (s *dirState) list() []string { return sortedNames(s.seen) }
