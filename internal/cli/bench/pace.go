package bench

import (
	"context"
	"time"
)

// pace is a fixed rate of arrivals from a start on.
type pace struct {
	start     time.Time
	perSecond int64
}

// at is when arrival i is due. Whole seconds and the rest are computed apart,
// so that neither rounding nor overflow adds up over a long run.
func (p pace) at(i int64) time.Time {
	whole, rest := i/p.perSecond, i%p.perSecond
	return p.start.Add(time.Duration(whole)*time.Second + time.Duration(rest)*time.Second/time.Duration(p.perSecond))
}

// sleepUntil returns false if ctx ended first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pacer gives arrivals to idle workers at their time. A worker is whatever can
// have one request under way; begin starts one, and its end puts the worker
// back into idle.
type pacer[W any] struct {
	pace
	total int64
	open  bool               // latency counts from the arrival, also while it waits for a worker
	idle  chan W             // has room for all workers
	begin func(W, time.Time) // start a request whose latency counts from then
	flush func()             // let what was begun leave; called before any wait
}

// run ends when all arrivals were given away, or with ctx.
func (p *pacer[W]) run(ctx context.Context) {
	defer p.flush()
	for i := range p.total {
		at := p.at(i)
		if time.Until(at) > 0 {
			p.flush()
			if !sleepUntil(ctx, at) {
				return
			}
		}
		w, ok := p.worker(ctx)
		if !ok {
			return
		}
		if !p.open {
			at = time.Now()
		}
		p.begin(w, at)
	}
}

func (p *pacer[W]) worker(ctx context.Context) (w W, ok bool) {
	select {
	case w = <-p.idle:
		return w, ctx.Err() == nil
	default:
	}
	p.flush()
	select {
	case w = <-p.idle:
		return w, true
	case <-ctx.Done():
		return w, false
	}
}
