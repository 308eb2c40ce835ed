package backend

import (
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkDefrag defragments a file of 200 MB while commits go on, and reports
// how long the longest of them took, during and before, next to the stall that
// the defragmentation itself admits to.
func BenchmarkDefrag(b *testing.B) {
	be := open(b, filepath.Join(b.TempDir(), "db"), Options{MmapSize: 1 << 30})
	main := int64(1)
	commit := func(n int) time.Duration {
		var batch Batch
		for range n {
			main++
			batch.Records = append(batch.Records, Record{recordKey(main, 0), make([]byte, 1000)})
			if main%2 == 0 && main > 1000 {
				batch.Deletes = append(batch.Deletes, recordKey(main-1000, 0))
			}
		}
		start := time.Now()
		must(b, be.Commit(batch))
		return time.Since(start)
	}
	for range 200 {
		commit(1000)
	}
	longest := func(while func()) (max time.Duration) {
		stop := make(chan struct{})
		var w sync.WaitGroup
		w.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if d := commit(100); d > max {
						max = d
					}
				}
			}
		})
		while()
		close(stop)
		w.Wait()
		return max
	}
	for b.Loop() {
		var stats DefragStats
		before := longest(func() { time.Sleep(time.Second) })
		during := longest(func() {
			var err error
			stats, err = be.Defrag(b.Context())
			must(b, err)
		})
		b.ReportMetric(float64(before.Microseconds())/1000, "ms-longest-before")
		b.ReportMetric(float64(during.Microseconds())/1000, "ms-longest-during")
		b.ReportMetric(float64(stats.Stall.Microseconds())/1000, "ms-stall")
		b.ReportMetric(float64(stats.Before)/1e6, "MB-before")
		b.ReportMetric(float64(stats.After)/1e6, "MB-after")
		b.ReportMetric(stats.Took.Seconds(), "s-took")
	}
}
