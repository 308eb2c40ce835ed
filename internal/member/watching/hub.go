// Package watching runs the watch hub of a member: it gives the pure hub of
// core/watch its locks, its goroutine and its history.
//
// Three parties meet here and none of them waits for another's work:
//
//	applier --Publish--> inbox --loop--> core/watch --Take--> readers of streams
//
// The applier appends to the inbox, under a lock that is held only for
// appending and for emptying it. One goroutine, the loop, moves the inbox into
// the hub, matches, and reads history for those who are behind; it holds the
// hub's lock for bounded pieces of work and never while it reads history.
// Readers and requests take the hub's lock for moments.
//
// The order that makes a watch exact: the applier publishes the store's view,
// then the changes here, then answers the writers. Create empties the inbox
// first, so a watch that is created after a put was answered starts after it.
package watching

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/watch"
)

// History is the store at one moment, as far as watching reads it.
type History interface {
	// Changes calls fn for each change of the revisions [from, to), oldest
	// first, until it returns false. If revisions from from on are gone the
	// error is mvcc.ErrCompacted.
	Changes(from, to int64, fn func(mvcc.Change) bool) error
	Load(rev mvcc.Rev) ([]byte, error)
	CompactRev() int64
	Close()
}

// Options of a hub. The zero value is good.
type Options struct {
	Hub watch.Options
	// OnError is told when history cannot be read. The hub tries again.
	OnError func(error)
}

// retryAfter is the pause after history could not be read: the disk has
// trouble, more haste does not help.
const retryAfter = 250 * time.Millisecond

// Hub is a watch hub at work. Its methods are safe for concurrent use.
type Hub struct {
	view func() History
	opt  Options

	inbox inbox

	mu      sync.Mutex
	core    *watch.Hub                // guarded by mu
	streams map[*watch.Stream]*Stream // guarded by mu

	open atomic.Int64  // streams; the applier skips the wake-up when there is none
	kick chan struct{} // 1 slot: there is work for the loop
	stop chan struct{} // closed by Close
	done chan struct{} // closed by the loop
	once sync.Once
}

// Start starts a hub over a store at revision rev. view acquires the store's
// published view.
func Start(rev, compacted int64, view func() History, opt Options) *Hub {
	limit := opt.Hub.LogBytes
	if limit <= 0 {
		limit = watch.DefaultLogBytes
	}
	h := &Hub{
		view:    view,
		opt:     opt,
		inbox:   inbox{limit: limit, compacted: compacted},
		core:    watch.New(rev, compacted, opt.Hub),
		streams: map[*watch.Stream]*Stream{},
		kick:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	go h.loop()
	return h
}

// Close stops the hub; its streams report Done. It waits for the loop.
func (h *Hub) Close() {
	h.once.Do(func() { close(h.stop) })
	<-h.done
}

// Done is closed when the hub is stopping.
func (h *Hub) Done() <-chan struct{} { return h.stop }

// Publish is the applier's: the store's published view is now at rev, and
// changes are those of all revisions since the last call, in order. The slice
// and the records in it belong to the hub from here on. It never waits for
// watchers.
func (h *Hub) Publish(rev int64, changes []mvcc.Change) {
	h.inbox.publish(rev, changes)
	if h.open.Load() > 0 {
		h.nudge()
	}
}

// Restored is the applier's: the store was replaced by one at rev, after a
// snapshot from another member. Watchers read what they missed from history.
func (h *Hub) Restored(rev, compacted int64) {
	h.inbox.skip(rev)
	h.Compacted(compacted)
}

// Compacted is the applier's: history below rev is going away.
func (h *Hub) Compacted(rev int64) {
	h.inbox.compact(rev)
	if h.open.Load() > 0 {
		h.nudge()
	}
}

// Stats returns the counts of the moment.
func (h *Hub) Stats() watch.Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.core.Stats()
}

func (h *Hub) nudge() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

func (h *Hub) loop() {
	defer close(h.done)
	retry := time.NewTimer(retryAfter)
	retry.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-h.kick:
		case <-retry.C:
		}
		if err := h.work(); err != nil {
			if h.opt.OnError != nil {
				h.opt.OnError(err)
			}
			retry.Reset(retryAfter)
		}
	}
}

// work runs until nothing is left to be done at once.
func (h *Hub) work() error {
	for {
		more, scan, wanted := h.advance()
		if wanted {
			if err := h.catchUp(scan); err != nil {
				return err
			}
		}
		if !more && !wanted || h.stopping() {
			return nil
		}
	}
}

func (h *Hub) stopping() bool {
	select {
	case <-h.stop:
		return true
	default:
		return false
	}
}

// advance does one bounded piece of work that needs no history.
func (h *Hub) advance() (more bool, scan watch.Scan, wanted bool) {
	values := lazyView{open: h.view}
	defer values.close()

	h.mu.Lock()
	defer h.mu.Unlock()
	h.empty()
	more = h.core.Advance(&values)
	scan, wanted = h.core.NextScan()
	h.wakeStreams()
	return more, scan, wanted
}

// catchUp reads a piece of history without any lock and hands it to the hub.
func (h *Hub) catchUp(scan watch.Scan) error {
	view := h.view()
	defer view.Close()
	to, changes, err := read(view, scan)
	if err != nil {
		return h.scanFailed(scan, view, err)
	}
	for from := scan.From; from <= to && !h.stopping(); {
		last := h.feed(from, to, changes, view)
		for len(changes) > 0 && changes[0].Mod.Main <= last {
			changes = changes[1:]
		}
		from = last + 1
	}
	return nil
}

func (h *Hub) feed(from, to int64, changes []mvcc.Change, values watch.Values) (last int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last = h.core.Feed(from, to, changes, values)
	h.wakeStreams()
	return last
}

// scanFailed sorts out why history could not be read. That it is compacted is
// news for the hub, not a failure.
func (h *Hub) scanFailed(scan watch.Scan, view History, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if errors.Is(err, mvcc.ErrCompacted) && view.CompactRev() > scan.From {
		h.core.Compacted(view.CompactRev())
		return nil
	}
	h.core.ScanFailed(scan)
	return err
}

// read collects whole revisions until the scan's bounds are reached, and
// returns the last revision that it is complete for.
func read(view History, scan watch.Scan) (to int64, changes []mvcc.Change, err error) {
	to = scan.To
	bytes := 0
	err = view.Changes(scan.From, scan.To+1, func(c mvcc.Change) bool {
		if n := len(changes); n > 0 && (n >= scan.MaxChanges || bytes >= scan.MaxBytes) {
			if last := changes[n-1].Mod.Main; c.Mod.Main != last {
				to = last
				return false
			}
		}
		bytes += len(c.Key) + len(c.Record)
		changes = append(changes, c)
		return true
	})
	return to, changes, err
}

// empty moves the inbox into the hub. The caller holds mu.
func (h *Hub) empty() {
	news, compacted := h.inbox.take()
	for _, n := range news {
		if n.skip {
			h.core.Skip(n.rev)
		} else {
			h.core.Publish(n.rev, n.changes)
		}
	}
	h.core.Compacted(compacted)
}

// wakeStreams tells the readers of streams that have output. The caller holds mu.
func (h *Hub) wakeStreams() {
	h.core.TakeWoken(func(s *watch.Stream) {
		if stream := h.streams[s]; stream != nil {
			stream.wake()
		}
	})
}

// lazyView acquires a view when the first value is read from it: most events
// are sent without prev_kv.
type lazyView struct {
	open func() History
	view History
}

func (l *lazyView) Load(rev mvcc.Rev) ([]byte, error) {
	if l.view == nil {
		l.view = l.open()
	}
	return l.view.Load(rev)
}

func (l *lazyView) close() {
	if l.view != nil {
		l.view.Close()
	}
}
