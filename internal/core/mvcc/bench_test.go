package mvcc

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/keys"
)

const benchKeys = 1_000_000

// benchKey is a key of 32 bytes; consecutive i are far apart.
func benchKey(i int) []byte {
	return fmt.Appendf(nil, "/registry/pods/default/%09d", uint32(i)*2654435761%benchKeys)
}

func benchStore(b *testing.B, n int) *Store {
	s, err := Open(nil, Options{FinishedCompact: Never, ScheduledCompact: Never})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		txn := s.Begin()
		txn.Put(benchKey(i), nil, 0)
		txn.Commit()
		if i%100 == 0 {
			s.Publish()
		}
		if i%10_000 == 0 {
			s.Publish()
			s.Rebase(noBase{}, s.Rev())
		}
	}
	s.Publish()
	s.Rebase(noBase{}, s.Rev())
	b.ResetTimer()
	return s
}

// BenchmarkMemory reports what a key of 32 bytes costs in the index.
func BenchmarkMemory(b *testing.B) {
	for _, c := range []struct {
		name string
		revs int
		key  func(i int) []byte
	}{
		{"scattered", 1, benchKey},
		{"in-order", 1, func(i int) []byte { return fmt.Appendf(nil, "/registry/pods/default/%09d", i) }},
		{"random", 1, func(i int) []byte { return fmt.Appendf(nil, "/registry/pods/default/%09d", rand.IntN(1e9)) }},
		{"3-revisions", 3, benchKey},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				before := heapInUse()
				t := newTree()
				rev := int64(1)
				for range c.revs {
					for i := range benchKeys {
						rev++
						t.put(c.key(i), Rev{Main: rev})
						if i%100 == 0 {
							t.freeze()
						}
					}
				}
				b.ReportMetric(float64(heapInUse()-before)/benchKeys, "B/key")
				start := time.Now()
				runtime.GC()
				b.ReportMetric(float64(time.Since(start).Microseconds()), "us/gc")
				runtime.KeepAlive(t)
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, batch := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("publish-per-%d", batch), func(b *testing.B) {
			s := benchStore(b, benchKeys)
			value := make([]byte, 256)
			b.ReportAllocs()
			for i := range b.N {
				txn := s.Begin()
				txn.Put(benchKey(rand.IntN(benchKeys)), value, 0)
				txn.Commit()
				if i%batch == 0 {
					s.Publish()
				}
				if i%10_000 == 0 {
					s.Publish()
					s.Rebase(noBase{}, s.Rev())
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	s := benchStore(b, benchKeys)
	some := make([][]byte, 4096)
	for i := range some {
		some[i] = benchKey(rand.IntN(benchKeys))
	}
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			v := s.View()
			if _, ok, _ := v.Get(some[i%4096], 0); !ok {
				b.Fatal("not found")
			}
			v.Close()
		}
	})
	b.Run("count", func(b *testing.B) {
		b.ReportAllocs()
		v := s.View()
		defer v.Close()
		for i := range b.N {
			v.Count(keys.Span{Key: some[i%4096], End: []byte{0}}, 0)
		}
	})
	b.Run("scan-1000", func(b *testing.B) {
		b.ReportAllocs()
		v := s.View()
		defer v.Close()
		for i := range b.N {
			n := 0
			v.Scan(keys.Span{Key: some[i%4096], End: []byte{0}}, 0, func(Hit) bool { n++; return n < 1000 })
		}
	})
	b.Run("trim-nothing", func(b *testing.B) {
		for range b.N {
			trimAll(&s.tree, s.Rev())
		}
	})
}

// BenchmarkRestore rebuilds the index of a million records.
func BenchmarkRestore(b *testing.B) {
	base := make(benchBase, benchKeys)
	for i := range base {
		kv := keyValue{key: benchKey(i), value: make([]byte, 128), create: int64(i + 2), mod: int64(i + 2), version: 1}
		base[i] = newPutRecord(Rev{Main: kv.mod}, kv)
	}
	b.ResetTimer()
	for range b.N {
		s, err := Open(base, Options{FinishedCompact: Never, ScheduledCompact: Never})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

type benchBase []Record

func (r benchBase) Get([]byte) []byte { return nil }
func (r benchBase) Retain()           {}
func (r benchBase) Release()          {}
func (r benchBase) Ascend(_, _ []byte, fn func(k, v []byte) bool) {
	for _, rec := range r {
		if !fn(rec.Key, rec.Value) {
			return
		}
	}
}
