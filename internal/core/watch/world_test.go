package watch

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/core/mvcc"
)

// world is a store small enough to be obviously right: the list of all that
// ever happened. Tests change it, publish to a hub and answer the hub's scans.
type world struct {
	rev       int64
	compacted int64
	live      map[string]*mvccpb.KeyValue
	where     map[string]mvcc.Rev // where the live value of a key was written
	history   []mvcc.Change
	records   map[mvcc.Rev][]byte
	pending   []mvcc.Change // changes since the last publish

	scans, loads int
}

func newWorld() *world {
	return &world{
		rev: 1, compacted: -1,
		live: map[string]*mvccpb.KeyValue{}, where: map[string]mvcc.Rev{}, records: map[mvcc.Rev][]byte{},
	}
}

// op is one change of a transaction; a nil value deletes.
type op struct {
	key   string
	value []byte
}

// txn applies ops as one revision. Deletions of absent keys change nothing.
func (w *world) txn(ops ...op) {
	main, sub := w.rev+1, int64(0)
	before := map[string]mvcc.Rev{}
	for _, o := range ops {
		before[o.key] = w.where[o.key]
	}
	for _, o := range ops {
		at := mvcc.Rev{Main: main, Sub: sub}
		old := w.live[o.key]
		if old == nil && o.value == nil {
			continue
		}
		c := mvcc.Change{Key: []byte(o.key), Mod: at, Prev: before[o.key]}
		kv := &mvccpb.KeyValue{Key: []byte(o.key)}
		if o.value == nil {
			c.Tombstone = true
			delete(w.live, o.key)
			delete(w.where, o.key)
		} else {
			kv.Value, kv.ModRevision, kv.CreateRevision, kv.Version = o.value, main, main, 1
			if old != nil {
				kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
			}
			c.Create = kv.CreateRevision
			w.live[o.key], w.where[o.key] = kv, at
		}
		c.Record, _ = proto.Marshal(kv)
		w.records[at] = c.Record
		w.history = append(w.history, c)
		w.pending = append(w.pending, c)
		sub++
	}
	if sub > 0 {
		w.rev = main
	}
}

func (w *world) publish(h *Hub) {
	h.Publish(w.rev, w.pending)
	w.pending = nil
}

// compact forgets what nobody may ask for after a compaction at rev: changes
// before it, and values that were replaced by then.
func (w *world) compact(rev int64) {
	if rev <= w.compacted || rev > w.rev {
		return
	}
	w.compacted = rev
	newest := map[string]mvcc.Rev{}
	for _, c := range w.history {
		if c.Mod.Main <= rev {
			newest[string(c.Key)] = c.Mod
		}
	}
	w.history = slices.DeleteFunc(w.history, func(c mvcc.Change) bool {
		if c.Mod.Main > rev || newest[string(c.Key)] == c.Mod && (!c.Tombstone || c.Mod.Main == rev) {
			return false
		}
		delete(w.records, c.Mod)
		return true
	})
}

func (w *world) Load(rev mvcc.Rev) ([]byte, error) {
	w.loads++
	r, ok := w.records[rev]
	if !ok {
		return nil, fmt.Errorf("no record at %s", rev)
	}
	return r, nil
}

// scan answers one scan of the hub. It reports whether there was one.
func (w *world) scan(h *Hub) bool {
	s, ok := h.NextScan()
	if !ok {
		return false
	}
	w.scans++
	if s.From < w.compacted {
		h.Compacted(w.compacted)
		return true
	}
	to, changes := s.To, []mvcc.Change(nil)
	for _, c := range w.history {
		if c.Mod.Main < s.From || c.Mod.Main > s.To {
			continue
		}
		if n := len(changes); n >= s.MaxChanges && changes[n-1].Mod.Main != c.Mod.Main {
			to = changes[n-1].Mod.Main
			break
		}
		changes = append(changes, c)
	}
	for from := s.From; from <= to; {
		from = h.Feed(from, to, changes, w) + 1
		for len(changes) > 0 && changes[0].Mod.Main < from {
			changes = changes[1:]
		}
	}
	return true
}

// settle runs the hub until it has nothing to do.
func (w *world) settle(h *Hub) {
	for more := true; more; {
		for h.Advance(w) {
		}
		more = w.scan(h)
	}
}

// describe writes a response the way scenarios show it.
func describe(r Response) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d:", r.ID)
	if r.Created {
		b.WriteString(" created")
	}
	if r.Canceled {
		b.WriteString(" canceled")
	}
	if r.Compacted != 0 {
		fmt.Fprintf(&b, " compacted=%d", r.Compacted)
	}
	if r.Reason != "" {
		fmt.Fprintf(&b, " %q", r.Reason)
	}
	for _, e := range r.Events {
		b.WriteString(" " + describeEvent(e.Message()))
	}
	if !r.Created && !r.Canceled && len(r.Events) == 0 {
		b.WriteString(" progress")
	}
	fmt.Fprintf(&b, " (rev %d)", r.Rev)
	return b.String()
}

func describeEvent(e *mvccpb.Event) string {
	s := fmt.Sprintf("%s=%s@%d", e.Kv.Key, e.Kv.Value, e.Kv.ModRevision)
	if e.Type == mvccpb.Event_DELETE {
		s = fmt.Sprintf("-%s@%d", e.Kv.Key, e.Kv.ModRevision)
	}
	if e.PrevKv != nil {
		s += fmt.Sprintf("[was %s@%d]", e.PrevKv.Value, e.PrevKv.ModRevision)
	}
	return s
}
