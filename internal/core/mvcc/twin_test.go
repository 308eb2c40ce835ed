package mvcc

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
)

// twin is the naive store: it keeps every change ever made and answers each
// question by replaying history. It never forgets, so views that the real one
// must keep across compactions have something to be compared with.
type twin struct {
	t          testing.TB
	rev        int64
	compactRev int64
	history    []twinChange        // committed
	states     map[int64]twinState // after each main revision
}

type twinState map[string]twinKey

type twinKey struct {
	mod             Rev
	create, version int64
	value           string
	lease           int64
}

type twinChange struct {
	key       string
	mod       Rev
	tombstone bool
	kv        twinKey
	prev      Rev
}

func newTwin(t testing.TB) *twin {
	return &twin{t: t, rev: 1, compactRev: Never, states: map[int64]twinState{0: {}, 1: {}}}
}

// commit takes in the changes of one transaction.
func (w *twin) commit(changes []twinChange) {
	if len(changes) == 0 {
		return
	}
	before := w.states[w.rev]
	w.rev++
	state := maps.Clone(before)
	for i, c := range changes {
		c.mod = Rev{w.rev, int64(i)}
		c.prev = before[c.key].mod
		if c.tombstone {
			delete(state, c.key)
		} else {
			was := state[c.key]
			c.kv.mod, c.kv.version, c.kv.create = c.mod, was.version+1, was.create
			if was.create == 0 {
				c.kv.create = w.rev
			}
			state[c.key] = c.kv
		}
		w.history = append(w.history, c)
	}
	w.states[w.rev] = state
}

func (c twinChange) record() Record {
	kv := &mvccpb.KeyValue{Key: []byte(c.key)}
	if !c.tombstone {
		kv = c.kv.proto(c.key)
	}
	value, err := proto.Marshal(kv)
	if err != nil {
		panic(err)
	}
	return Record{Key: c.mod.AppendKey(nil, c.tombstone), Value: value}
}

func (k twinKey) proto(key string) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(key), Value: []byte(k.value), Lease: k.lease,
		CreateRevision: k.create, ModRevision: k.mod.Main, Version: k.version,
	}
}

// hash is the rule of docs/formats/backend.md to the letter, over everything ever written.
func (w *twin) hash(rev, compactRev int64) uint32 {
	keep := w.states[rev]
	h := crc32.Update(0, castagnoli, []byte("key"))
	for _, c := range w.history {
		kept := !c.tombstone && keep[c.key].mod == c.mod
		survived := !c.tombstone && w.states[max(compactRev, 0)][c.key].mod == c.mod
		switch {
		case c.mod.Main > rev:
		case c.mod.Main == compactRev && c.tombstone:
		case c.mod.Main <= compactRev && !kept && (len(keep) > 0 || !survived):
		default:
			r := c.record()
			h = crc32.Update(crc32.Update(h, castagnoli, r.Key), castagnoli, r.Value)
		}
	}
	return h
}

// reader is what views and transactions have in common.
type reader interface {
	Rev() int64
	CompactRev() int64
	Get(key []byte, at int64) (Hit, bool, error)
	Count(span keys.Span, at int64) (int64, error)
	Scan(span keys.Span, at int64, fn func(Hit) bool) error
	Load(mod Rev) ([]byte, error)
}

// check compares one span at one revision, in every way a reader can be asked.
func (w *twin) check(r reader, state twinState, span keys.Span, at int64, stopAfter int) {
	w.t.Helper()
	var want []string
	for key := range state {
		if span.Contains([]byte(key)) {
			want = append(want, key)
		}
	}
	slices.Sort(want)
	where := fmt.Sprintf("at %d (view %d, compacted %d) span [%q,%q)", at, r.Rev(), r.CompactRev(), span.Key, span.End)

	n, err := r.Count(span, at)
	if err != nil || n != int64(len(want)) {
		w.t.Fatalf("%s: count is %d (%v), want %d", where, n, err, len(want))
	}
	var got []Hit
	err = r.Scan(span, at, func(h Hit) bool {
		got = append(got, h)
		return len(got) != stopAfter
	})
	if stopAfter > 0 && stopAfter < len(want) {
		want = want[:stopAfter]
	}
	if err != nil || len(got) != len(want) {
		w.t.Fatalf("%s: scan found %d keys (%v), want %q", where, len(got), err, want)
	}
	for i, h := range got {
		if string(h.Key) != want[i] {
			w.t.Fatalf("%s: key %d is %q, want %q", where, i, h.Key, want[i])
		}
		w.checkHit(r, h, state, where)
	}
}

func (w *twin) checkHit(r reader, h Hit, state twinState, where string) {
	w.t.Helper()
	want := state[string(h.Key)]
	if h.Mod != want.mod || h.Create != want.create || h.Version != want.version {
		w.t.Fatalf("%s: %q is %+v, want %+v", where, h.Key, h, want)
	}
	value, err := r.Load(h.Mod)
	if err != nil {
		w.t.Fatalf("%s: load of %q: %v", where, h.Key, err)
	}
	exact, _ := proto.Marshal(want.proto(string(h.Key)))
	if !bytes.Equal(value, exact) {
		w.t.Fatalf("%s: record of %q is %x, want %x", where, h.Key, value, exact)
	}
}

// checkGet asks for one key that may not be there.
func (w *twin) checkGet(r reader, state twinState, key string, at int64) {
	w.t.Helper()
	h, ok, err := r.Get([]byte(key), at)
	if _, lives := state[key]; err != nil || ok != lives {
		w.t.Fatalf("get %q at %d: found %v (%v), want %v", key, at, ok, err, lives)
	}
	if ok {
		w.checkHit(r, h, state, fmt.Sprintf("get %q at %d", key, at))
	}
}

// checkChanges compares the history from a revision on. At the compact
// revision a value that was replaced within the same transaction may be gone
// already, so it counts on neither side.
func (w *twin) checkChanges(v *View, from, to int64) {
	w.t.Helper()
	gone := func(key string, mod Rev, tombstone bool) bool {
		return mod.Main == v.CompactRev() && !tombstone && w.states[mod.Main][key].mod != mod
	}
	var want []twinChange
	for _, c := range w.history {
		if c.mod.Main >= from && c.mod.Main < to && c.mod.Main <= v.Rev() && !gone(c.key, c.mod, c.tombstone) {
			want = append(want, c)
		}
	}
	i := 0
	err := v.Changes(from, to, func(c Change) bool {
		if gone(string(c.Key), c.Mod, c.Tombstone) {
			return true
		}
		if i == len(want) {
			w.t.Fatalf("changes [%d,%d): %+v is one too many", from, to, c)
		}
		w.checkChange(c, want[i], v.CompactRev())
		i++
		return true
	})
	if err != nil || i != len(want) {
		w.t.Fatalf("changes [%d,%d): %d of %d came (%v)", from, to, i, len(want), err)
	}
}

func (w *twin) checkChange(got Change, want twinChange, compactRev int64) {
	w.t.Helper()
	if want.mod.Main <= compactRev {
		want.prev = Rev{}
	}
	if string(got.Key) != want.key || got.Mod != want.mod || got.Tombstone != want.tombstone ||
		got.Create != want.kv.create || got.Prev != want.prev || !bytes.Equal(got.Record, want.record().Value) {
		w.t.Fatalf("change is %+v, want %+v", got, want)
	}
}
