package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/steledb/stele/internal/wire/h2client"
)

// tasks is for work of several steps that depend on each other: each worker is
// a goroutine that does one task after the other.
type tasks struct {
	conns   []*h2client.Conn
	workers int
	total   int64
	rate    int64 // tasks a second; 0: as fast as they go
	open    bool
	sample  bool
	do      func(ctx context.Context, c *h2client.Conn, r *rand.Rand) error

	given, ended atomic.Int64
	tallies      []*tally // one per worker
}

// run does all tasks; it stops early with ctx.
func (t *tasks) run(ctx context.Context) (elapsed time.Duration) {
	start := time.Now()
	t.tallies = make([]*tally, t.workers)
	var left sync.WaitGroup
	for i := range t.workers {
		t.tallies[i] = newTally(t.sample)
		left.Go(func() { t.work(ctx, i, start) })
	}
	left.Wait()
	return time.Since(start)
}

func (t *tasks) work(ctx context.Context, worker int, start time.Time) {
	c := t.conns[worker%len(t.conns)]
	r := rand.New(rand.NewPCG(uint64(worker), 2))
	for ctx.Err() == nil && c.Err() == nil {
		i := t.given.Add(1) - 1
		if i >= t.total {
			return
		}
		from := time.Now()
		if t.rate > 0 {
			at := pace{start, t.rate}.at(i)
			if !sleepUntil(ctx, at) {
				return
			}
			if from = time.Now(); t.open {
				from = at
			}
		}
		t.tallies[worker].done(from, t.do(ctx, c, r))
		t.ended.Add(1)
	}
}

// newTasks takes its size from a load, which also checks the flags.
func newTasks(l *load, do func(context.Context, *h2client.Conn, *rand.Rand) error) *tasks {
	return &tasks{conns: l.conns, workers: l.workers, total: l.total, rate: l.rate, open: l.open, sample: l.sample, do: do}
}
