package mvcc

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// A point read and a count cost no allocation, view included.
func TestReadsDoNotAllocate(t *testing.T) {
	s := storeOf(t, 5000)
	defer s.Close()
	key := fmt.Appendf(nil, "key/%08d", 777)
	half := keys.Span{Key: key, End: []byte{0}}
	if n := testing.AllocsPerRun(100, func() {
		v := s.View()
		if _, ok, err := v.Get(key, 0); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if n, _ := v.Count(half, 0); n != 5000-777 {
			t.Fatal(n)
		}
		v.Close()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A key of 32 bytes with one revision costs the index less than 110 bytes, in
// whatever order keys arrive.
func TestMemoryPerKey(t *testing.T) {
	const n = 100_000
	rng := rand.New(rand.NewPCG(3, 3))
	before := heapInUse()
	tr := newTree()
	for i := range n {
		tr.put(fmt.Appendf(nil, "/registry/pods/%017d", rng.Int64N(1e15)), Rev{Main: int64(i + 2)})
		if i%100 == 0 {
			tr.freeze()
		}
	}
	if perKey := (heapInUse() - before) / n; perKey > 110 {
		t.Errorf("%d bytes per key", perKey)
	} else {
		t.Logf("%d bytes per key", perKey)
	}
	runtime.KeepAlive(tr)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func storeOf(t testing.TB, n int) *Store {
	s, err := Open(nil, Options{FinishedCompact: Never, ScheduledCompact: Never})
	if err != nil {
		t.Fatal(err)
	}
	txn := s.Begin()
	for i := range n {
		txn.Put(fmt.Appendf(nil, "key/%08d", i), nil, 0)
	}
	txn.Commit()
	s.Publish()
	return s
}
