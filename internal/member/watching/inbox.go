package watching

import (
	"sync"

	"github.com/steledb/stele/internal/core/mvcc"
)

// news is one publication.
type news struct {
	rev     int64
	changes []mvcc.Change
	skip    bool // the changes up to rev are not here
}

// inbox is what the applier has published and the loop has not seen. Its lock
// is the only one here that the applier takes; it is held for a few
// instructions.
//
// It holds at most limit bytes. When the loop is further behind than that, the
// changes are dropped and a note that there were some is left, and the hub
// reads them from history instead.
type inbox struct {
	limit int // bytes

	mu        sync.Mutex
	waiting   []news // guarded by mu
	spare     []news // guarded by mu; the slice of the last take, to be used again
	bytes     int    // guarded by mu; of the changes in waiting
	compacted int64  // guarded by mu
}

func (b *inbox) publish(rev int64, changes []mvcc.Change) {
	size := 0
	for i := range changes {
		size += len(changes[i].Key) + len(changes[i].Record) + newsOverheadBytes
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes += size; b.bytes > b.limit && len(b.waiting) > 0 {
		b.skipLocked(rev)
		return
	}
	b.waiting = append(b.waiting, news{rev: rev, changes: changes})
}

// newsOverheadBytes is what a change costs beside key and record.
const newsOverheadBytes = 128

func (b *inbox) skip(rev int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.skipLocked(rev)
}

func (b *inbox) skipLocked(rev int64) {
	clear(b.waiting)
	b.waiting = append(b.waiting[:0], news{rev: rev, skip: true})
	b.bytes = 0
}

func (b *inbox) compact(rev int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.compacted = max(b.compacted, rev)
}

// take empties the inbox. The slice is valid until the next call.
func (b *inbox) take() ([]news, int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.spare)
	out := b.waiting
	b.waiting, b.spare, b.bytes = b.spare[:0], out, 0
	return out, b.compacted
}
