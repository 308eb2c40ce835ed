package h2grpc

import "sync"

// workers runs calls on goroutines that are kept for the next call, with the
// stack they have grown. There is one for each call that runs, so a call never
// waits for a worker; how many may run is bounded per connection by
// Options.StreamsMax.
type workers struct {
	mu      sync.Mutex
	idle    []*worker // guarded by mu; the last one ended most recently
	least   int       // guarded by mu; fewest idle since the last trim
	stopped bool      // guarded by mu
}

type worker struct{ work chan *stream }

// workersIdleMax bounds the workers without work: at 8 KiB of stack, 32 MiB.
const workersIdleMax = 4096

// run has a worker serve s.
func (p *workers) run(s *stream) {
	p.mu.Lock()
	n := len(p.idle) - 1
	if n < 0 {
		p.mu.Unlock()
		w := &worker{work: make(chan *stream, 1)}
		go p.loop(w, s)
		return
	}
	w := p.idle[n]
	p.idle = p.idle[:n]
	p.least = min(p.least, n)
	p.mu.Unlock()
	w.work <- s
}

func (p *workers) loop(w *worker, s *stream) {
	for s != nil {
		s.run()
		s = nil // what it points to may go while the worker waits
		if !p.park(w) {
			return
		}
		s = <-w.work
	}
}

func (p *workers) park(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || len(p.idle) >= workersIdleMax {
		return false
	}
	p.idle = append(p.idle, w)
	return true
}

// trim ends workers that have been idle since the last trim.
func (p *workers) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked(min(p.least, len(p.idle)))
	p.least = len(p.idle)
}

func (p *workers) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.endLocked(len(p.idle))
}

// endLocked ends n of the workers that were idle longest.
func (p *workers) endLocked(n int) {
	for _, w := range p.idle[:n] {
		close(w.work)
	}
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
}
