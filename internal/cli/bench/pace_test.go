package bench

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Goal: arrivals neither drift nor overflow.
func TestArrivalsDoNotDrift(t *testing.T) {
	start := time.Unix(1, 0)
	for _, rate := range []int64{1, 3, 7, 1000, 999_983} {
		p := pace{start, rate}
		for _, seconds := range []int64{0, 1, 3600, 1_000_000} {
			if got := p.at(seconds * rate).Sub(start); got != time.Duration(seconds)*time.Second {
				t.Errorf("at %d/s, arrival %d comes after %v", rate, seconds*rate, got)
			}
		}
		for i := range int64(1000) {
			if d := p.at(i + 1).Sub(p.at(i)); d < time.Second/time.Duration(rate) || d > time.Second/time.Duration(rate)+1 {
				t.Fatalf("at %d/s, arrivals %d and the next are %v apart", rate, i, d)
			}
		}
	}
}

// stallRun lets a server that answers in 1 ms stall for one second, from
// second 1 on, under 100 requests a second for 3 seconds by few workers, and
// returns the latencies a pacer's worker sees.
func stallRun(t *testing.T, open bool, workers int) *latencies {
	l := &latencies{}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		stall, over := start.Add(time.Second), start.Add(2*time.Second)
		type outcome struct{ from, end time.Time }
		outcomes := make(chan outcome, 300)
		idle := make(chan int, workers)
		for w := range workers {
			idle <- w
		}
		flushed := true
		p := &pacer[int]{
			pace: pace{start, 100}, total: 300, open: open, idle: idle,
			begin: func(w int, from time.Time) {
				flushed = false
				go func() {
					if now := time.Now(); !now.Before(stall) && now.Before(over) {
						time.Sleep(over.Sub(now))
					}
					time.Sleep(time.Millisecond)
					outcomes <- outcome{from, time.Now()}
					idle <- w
				}()
			},
			flush: func() { flushed = true },
		}
		p.run(context.Background())
		if !flushed {
			t.Error("the last requests were not flushed")
		}
		for range 300 {
			o := <-outcomes
			l.add(o.end.Sub(o.from))
		}
	})
	return l
}

// Goal: in the open loop a stall shows up in every request that arrived
// meanwhile, however few workers there are; in the closed loop only in those
// under way. Time is virtual.
func TestOpenLoopDoesNotHideAStall(t *testing.T) {
	for _, workers := range []int{1, 2, 300} {
		open := stallRun(t, true, workers)
		// 100 of 300 arrive in the stalled second, and wait 1000, 990, 980...
		// ms; those after it also wait while the backlog of 1 ms each is worked
		// off.
		if p := open.percentile(99.9); p < 990*time.Millisecond || p > 1200*time.Millisecond {
			t.Errorf("%d workers, open: p99.9 %v", workers, p)
		}
		if p := open.percentile(75); p < 200*time.Millisecond || p > 400*time.Millisecond {
			t.Errorf("%d workers, open: p75 %v", workers, p)
		}
	}
	closed := stallRun(t, false, 1)
	if p := closed.percentile(99); p > 2*time.Millisecond {
		t.Errorf("closed: p99 %v, but only one request was under way", p)
	}
	if closed.slowest < 990*time.Millisecond {
		t.Errorf("closed: slowest %v", closed.slowest)
	}
}

// Goal: a pacer ends with its context, also while it waits for a worker.
func TestPacerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		begun := 0
		p := &pacer[int]{
			pace: pace{time.Now(), 1}, total: 100, idle: make(chan int, 3),
			begin: func(int, time.Time) { begun++ }, flush: func() {},
		}
		p.idle <- 1
		p.idle <- 2
		p.idle <- 3 // and nobody comes back
		p.run(ctx)
		if begun != 3 {
			t.Errorf("%d requests by 3 workers that do not return", begun)
		}
	})
}
