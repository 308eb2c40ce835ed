package watch

import (
	"fmt"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// One key changes, 10,000 watchers want to know. ns/event is for one of them,
// taken off its queue.
func BenchmarkFanOut(b *testing.B) {
	for _, streams := range []int{1, 100, 10000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			h, w := New(1, -1, Options{}), newWorld()
			all := make([]*Stream, streams)
			for i := range all {
				all[i] = h.Open()
			}
			for i := range 10000 {
				h.Create(all[i%streams], Request{Span: keys.One([]byte("key"))})
			}
			drainAll(b, h)
			benchPuts(b, h, w, func(int) string { return "key" }, 10000)
		})
	}
}

// Each stream watches its own prefix, one of them matches.
func BenchmarkPrefixes(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			h, w := New(1, -1, Options{}), newWorld()
			for i := range n {
				prefix := fmt.Appendf(nil, "/registry/%06d/", i)
				h.Create(h.Open(), Request{Span: keys.Span{Key: prefix, End: keys.PrefixEnd(prefix)}})
			}
			drainAll(b, h)
			benchPuts(b, h, w, func(i int) string { return fmt.Sprintf("/registry/%06d/pod", i%n) }, 1)
		})
	}
}

func benchPuts(b *testing.B, h *Hub, w *world, key func(int) string, watchers int) {
	value := make([]byte, 256)
	b.ReportAllocs()
	got := 0
	for i := 0; b.Loop(); i++ {
		w.txn(op{key(i), value})
		w.history = nil
		w.publish(h)
		for h.Advance(w) {
		}
		got += drainAll(b, h)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(got, 1)), "ns/event")
	if got != watchers*b.N {
		b.Fatalf("%d events for %d puts", got, b.N)
	}
}

func drainAll(b *testing.B, h *Hub) (events int) {
	for busy := true; busy; {
		busy = false
		for h.Advance(nil) {
		}
		h.TakeWoken(func(s *Stream) {
			for more := true; more; {
				var out []Response
				out, more = h.Drain(s, 1<<20)
				for i := range out {
					events += len(out[i].Events)
				}
				busy = busy || len(out) > 0
			}
		})
	}
	return events
}
