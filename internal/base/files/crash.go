package files

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashClone returns the file system as it could be found after a power cut at
// this moment; m itself goes on unharmed. A nil rng loses all that was not
// synced.
//
// What it may leave, per file: the disk writes sectors back one by one, in any
// order and at any time, so each sector shows the synced content plus some
// number of the changes that followed, independent of its neighbours; the size
// is that after some number of changes. Per directory: each change since the
// last sync happened or did not, independent of the others, where a rename is
// one change. This is more than most file systems would do to us, and all that
// their documentation lets them.
//
// Locks are gone, as after any reboot. Equal states and equal rng give equal
// clones.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := cloner{rng: rng, done: map[*memNode]*memNode{}}
	return newMem(c.node(m.root))
}

// cloner carries one crash. Nodes are cloned once even when two names lead to
// them, which a half-kept rename between directories can cause.
type cloner struct {
	rng  *rand.Rand
	done map[*memNode]*memNode
}

// fate is how a crash treats one file or directory.
type fate int

const (
	loseAll fate = iota
	keepAll
	mix
)

// draw makes the extreme outcomes common: pure randomness over many sectors
// would almost never lose or keep everything.
func (c *cloner) draw() fate {
	if c.rng == nil {
		return loseAll
	}
	return [...]fate{loseAll, keepAll, mix, mix}[c.rng.IntN(4)]
}

func (c *cloner) node(n *memNode) *memNode {
	if clone := c.done[n]; clone != nil {
		return clone
	}
	clone := &memNode{perm: n.perm}
	c.done[n] = clone
	if n.isDir() {
		clone.names = c.dir(n.names)
	} else {
		clone.data = c.file(n.data)
	}
	return clone
}

func (c *cloner) dir(s *dirState) *dirState {
	left := maps.Clone(s.synced)
	how := c.draw()
	for _, change := range s.changes {
		if how == keepAll || how == mix && c.rng.IntN(2) == 0 {
			change.applyTo(left)
		}
	}
	clone := newDirState()
	for _, name := range sortedNames(left) {
		clone.seen[name] = c.node(left[name])
	}
	clone.sync()
	return clone
}

func (c *cloner) file(s *fileState) *fileState {
	left := s.synced.clone()
	switch c.draw() {
	case keepAll:
		left = s.seen.clone()
	case mix:
		c.tear(&left, s.changes)
	}
	return &fileState{seen: left, synced: left.clone()}
}

// tear applies to each sector, and to the size, its own number of changes.
func (c *cloner) tear(left *image, changes []fileChange) {
	size := left.size
	if n := c.rng.IntN(len(changes) + 1); n > 0 {
		size = changes[n-1].size
	}
	reached := map[int64]int{} // sector -> how many changes reached the disk
	applies := func(sector int64, change int) bool {
		n, drawn := reached[sector]
		if !drawn {
			n = c.rng.IntN(len(changes) + 1)
			reached[sector] = n
		}
		return change < n
	}
	for i := range changes {
		if changes[i].resize {
			tearResize(left, changes[i].size, func(sector int64) bool { return applies(sector, i) })
		} else {
			tearWrite(left, &changes[i], func(sector int64) bool { return applies(sector, i) })
		}
	}
	left.resize(size)
}

// tearWrite applies the sectors of one write that keep says.
func tearWrite(left *image, change *fileChange, keep func(sector int64) bool) {
	end := change.off + int64(len(change.data))
	for at := change.off; at < end; {
		sector := at / SectorSize
		next := min(end, (sector+1)*SectorSize)
		if keep(sector) {
			left.writeAt(change.data[at-change.off:next-change.off], at)
		}
		at = next
	}
}

// tearResize zeroes the sectors beyond size that keep says; the file's size is
// settled at the end.
func tearResize(left *image, size int64, keep func(sector int64) bool) {
	for _, index := range sortedKeys(left.pages) {
		page := left.pages[index]
		for from := int64(0); from < pageSize; from += SectorSize {
			start := index*pageSize + from
			if start+SectorSize <= size || !keep(start/SectorSize) {
				continue
			}
			clear(page[max(from, size-index*pageSize) : from+SectorSize])
		}
	}
}

func sortedNames(names map[string]*memNode) []string {
	return slices.Sorted(maps.Keys(names))
}
