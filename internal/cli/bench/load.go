package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/wire/h2client"
)

// request is what a worker sends next.
type request struct {
	method *h2client.Method
	body   []byte // may lie in the worker's buffer
	kind   int    // which of the load's tallies counts it
}

// load sends total requests over conns, at most workers at a time.
type load struct {
	conns   []*h2client.Conn
	workers int
	total   int64
	rate    int64 // arrivals a second; 0: as the answers come
	open    bool
	kinds   int // 0 is 1
	sample  bool

	// next makes a worker's request number i.
	next func(w *worker, i int64) request
	// follow, if set, gets the last message of an answer and may make one more
	// request, which counts as part of the same.
	follow func(w *worker, answer []byte) (request, bool)

	given   atomic.Int64 // requests given out
	ended   atomic.Int64 // and ended, for the progress bar
	tallies [][]*tally   // [kind][conn]; owned by the connection's reader
	left    sync.WaitGroup
	idle    chan *worker // paced loads only
	alive   atomic.Int64 // workers whose connection works; paced loads only
	stop    context.CancelFunc
}

// worker has at most one request under way. Its fields belong to whoever
// starts or ends that.
type worker struct {
	load   *load
	conn   *h2client.Conn
	tally  []*tally // by kind
	stream h2client.Stream
	rand   *rand.Rand
	buf    []byte
	answer []byte // the last message, kept for follow
	start  time.Time
	kind   int
	state  any // what next and follow want to keep
}

// encode puts m into the worker's buffer.
func (w *worker) encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{}.MarshalAppend(w.buf[:0], m)
	if err != nil {
		panic("bench: encoding a request of our own: " + err.Error())
	}
	w.buf = b
	return b
}

// run sends everything and waits for the answers. If ctx ends, it gives out no
// more requests.
func (l *load) run(ctx context.Context) (elapsed time.Duration) {
	ctx, l.stop = context.WithCancel(ctx)
	defer l.stop()
	l.kinds = max(l.kinds, 1)
	l.tallies = make([][]*tally, l.kinds)
	for k := range l.tallies {
		for range l.conns {
			l.tallies[k] = append(l.tallies[k], newTally(l.sample))
		}
	}
	l.workers = min(l.workers, int(l.total))
	workers := make([]*worker, l.workers)
	for i := range workers {
		workers[i] = l.newWorker(i)
	}
	start := time.Now()
	if l.rate > 0 {
		l.runPaced(ctx, start, workers)
	} else {
		l.runUnpaced(ctx, workers)
	}
	return time.Since(start)
}

func newTally(sample bool) *tally {
	t := &tally{}
	if sample {
		t.seconds = map[int64]*second{}
	}
	return t
}

func (l *load) newWorker(i int) *worker {
	at := i % len(l.conns)
	w := &worker{load: l, conn: l.conns[at], rand: rand.New(rand.NewPCG(uint64(i), 1))}
	for k := range l.tallies {
		w.tally = append(w.tally, l.tallies[k][at])
	}
	if l.follow != nil {
		w.stream.OnMessage = func(_ *h2client.Stream, msg []byte) { w.answer = append(w.answer[:0], msg...) }
	}
	w.stream.OnEnd = func(_ *h2client.Stream, err error) { w.finished(err) }
	return w
}

// runUnpaced lets each worker begin; it goes on by itself.
func (l *load) runUnpaced(ctx context.Context, workers []*worker) {
	defer context.AfterFunc(ctx, func() { l.given.Store(l.total) })()
	l.left.Add(len(workers))
	for _, w := range workers {
		w.goOn(time.Now())
	}
	l.flush()
	l.left.Wait()
}

// runPaced gives arrivals to workers, then waits for all of them to be idle.
func (l *load) runPaced(ctx context.Context, start time.Time, workers []*worker) {
	l.idle = make(chan *worker, len(workers))
	l.alive.Store(int64(len(workers)))
	for _, w := range workers {
		l.idle <- w
	}
	p := &pacer[*worker]{
		pace: pace{start, l.rate}, total: l.total, open: l.open, idle: l.idle,
		begin: func(w *worker, from time.Time) {
			l.left.Add(1)
			w.begin(l.given.Add(1)-1, from)
		},
		flush: l.flush,
	}
	p.run(ctx)
	l.left.Wait()
}

func (l *load) flush() {
	for _, c := range l.conns {
		c.Flush()
	}
}

// goOn starts the next request of an unpaced worker, if one is left.
func (w *worker) goOn(now time.Time) {
	i := w.load.given.Add(1) - 1
	if i >= w.load.total {
		w.load.left.Done()
		return
	}
	w.begin(i, now)
}

// begin starts request i, whose latency counts from start.
func (w *worker) begin(i int64, start time.Time) {
	w.start = start
	w.send(w.load.next(w, i))
}

func (w *worker) send(r request) {
	w.kind = r.kind
	if err := w.conn.Start(&w.stream, r.method, r.body, true); err != nil {
		w.retire()
	}
}

// retire is the end of a worker whose connection has failed: the requests that
// were under way on it have told why.
func (w *worker) retire() {
	if w.load.rate > 0 && w.load.alive.Add(-1) == 0 {
		w.load.stop() // nobody is left to take arrivals
	}
	w.load.left.Done()
}

// finished runs on the connection's reader.
func (w *worker) finished(err error) {
	l := w.load
	if err == nil && l.follow != nil {
		if r, more := l.follow(w, w.answer); more {
			w.send(r)
			return
		}
	}
	end := time.Now()
	if err != nil {
		w.tally[w.kind].failed(err)
	} else {
		w.tally[w.kind].ok(end, end.Sub(w.start))
	}
	l.ended.Add(1)
	if l.rate > 0 {
		l.idle <- w
		l.left.Done()
		return
	}
	w.goOn(end)
}

// report tells about one kind.
func (l *load) report(kind int, name, title string, elapsed time.Duration) *report {
	return newReport(name, title, elapsed, l.tallies[kind]...)
}
