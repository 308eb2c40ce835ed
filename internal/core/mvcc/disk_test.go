package mvcc

import (
	"bytes"
	"slices"
	"sort"
	"sync/atomic"
	"testing"
)

// memDisk is the backend file of the tests: a sorted list of records that is
// replaced whole by every commit, so that each snapshot is immutable.
type memDisk struct {
	t     testing.TB
	recs  []Record
	bases []*memBase // every snapshot ever handed out
}

// memBase is a snapshot that notices use after its last Release.
type memBase struct {
	t    testing.TB
	recs []Record
	refs atomic.Int64
}

func (d *memDisk) commit(puts []Record, deletes [][]byte) {
	gone := map[string]bool{}
	for _, k := range deletes {
		gone[string(k)] = true
	}
	next := slices.DeleteFunc(slices.Clone(d.recs), func(r Record) bool {
		found := gone[string(r.Key)]
		delete(gone, string(r.Key))
		return found
	})
	if len(gone) > 0 {
		d.t.Fatalf("deleting records that are not there: %v", gone)
	}
	for _, r := range puts {
		next = append(next, Record{Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)})
	}
	slices.SortFunc(next, func(a, b Record) int { return bytes.Compare(a.Key, b.Key) })
	d.recs = next
}

// base hands out a snapshot with one reference, the caller's.
func (d *memDisk) base() *memBase {
	b := &memBase{t: d.t, recs: d.recs}
	b.refs.Store(1)
	d.bases = append(d.bases, b)
	return b
}

// leaked counts the snapshots that somebody still holds.
func (d *memDisk) leaked() (n int) {
	for _, b := range d.bases {
		if b.refs.Load() > 0 {
			n++
		}
	}
	return n
}

func (b *memBase) position(key []byte) int {
	return sort.Search(len(b.recs), func(i int) bool { return bytes.Compare(b.recs[i].Key, key) >= 0 })
}

func (b *memBase) Get(key []byte) []byte {
	b.assertHeld()
	i := b.position(key)
	if i == len(b.recs) || !slices.Equal(b.recs[i].Key, key) {
		return nil
	}
	return b.recs[i].Value
}

func (b *memBase) Ascend(from, to []byte, fn func(k, v []byte) bool) {
	b.assertHeld()
	for i := b.position(from); i < len(b.recs) && bytes.Compare(b.recs[i].Key, to) < 0; i++ {
		// Copies that are spoiled afterwards show who keeps what fn was given.
		k, v := slices.Clone(b.recs[i].Key), slices.Clone(b.recs[i].Value)
		more := fn(k, v)
		for j := range k {
			k[j] = 0xee
		}
		for j := range v {
			v[j] = 0xee
		}
		if !more {
			return
		}
	}
}

func (b *memBase) Retain() {
	b.assertHeld()
	b.refs.Add(1)
}

func (b *memBase) Release() {
	if b.refs.Add(-1) < 0 {
		b.t.Error("a base was released more often than retained")
	}
}

func (b *memBase) assertHeld() {
	if b.refs.Load() <= 0 {
		b.t.Error("a base was used after its last release")
	}
}
