package logs

import (
	"hash/maphash"
	"log/slog"
	"sync/atomic"
	"time"
)

// Bounds of what one message may write: of lines with the same level and text,
// the first sampleFirst within a second, then each sampleEvery-th. These are
// the numbers of etcd, so its users' alerts on counts stay right.
const (
	sampleFirst    = 100
	sampleEvery    = 100
	sampleInterval = int64(time.Second)
)

// sampler keeps a flood of one message from filling the disk. Two messages that
// share a counter by chance are limited together; with this many counters and
// a few hundred messages in the program that is rare, and harmless below the
// limit.
type sampler struct {
	seed     maphash.Seed
	counters [4096]sampleCounter
}

type sampleCounter struct {
	until atomic.Int64 // end of the current interval, Unix nanoseconds
	n     atomic.Uint64
}

func newSampler() *sampler { return &sampler{seed: maphash.MakeSeed()} }

// keep reports whether a line is to be written.
func (s *sampler) keep(now time.Time, level slog.Level, msg string) bool {
	slot := (maphash.String(s.seed, msg) + uint64(level)) % uint64(len(s.counters))
	n := s.counters[slot].next(now.UnixNano())
	return n <= sampleFirst || (n-sampleFirst)%sampleEvery == 0
}

// next counts one line and returns its number within the interval. When the
// interval is over, whoever moves its end starts the count anew; others of
// that same moment may still be counted to the old one.
func (c *sampleCounter) next(now int64) uint64 {
	until := c.until.Load()
	if now < until || !c.until.CompareAndSwap(until, now+sampleInterval) {
		return c.n.Add(1)
	}
	c.n.Store(1)
	return 1
}
