package h2grpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// callContext is the context of one call. It is the stream itself, so that a
// call needs no chain of contexts, and makes its channel and timer only when
// somebody asks for them. It ends when the call has been answered, its deadline
// passes, the client resets it or the connection ends.
type callContext struct {
	deadline time.Time // zero if none; not changed

	ctxMu  sync.Mutex
	done   chan struct{}      // guarded by ctxMu; nil until asked for
	err    error              // guarded by ctxMu
	timer  *time.Timer        // guarded by ctxMu; armed with done or afters
	afters map[*func()]func() // guarded by ctxMu
}

func (x *callContext) Deadline() (time.Time, bool) { return x.deadline, !x.deadline.IsZero() }

func (x *callContext) Done() <-chan struct{} {
	x.ctxMu.Lock()
	defer x.ctxMu.Unlock()
	if x.done == nil {
		x.done = make(chan struct{})
		if x.err != nil {
			close(x.done)
		}
	}
	x.armLocked()
	return x.done
}

func (x *callContext) Err() error {
	x.ctxMu.Lock()
	err := x.err
	x.ctxMu.Unlock()
	if err == nil && !x.deadline.IsZero() && !time.Now().Before(x.deadline) {
		x.cancel(context.DeadlineExceeded)
		return context.DeadlineExceeded
	}
	return err
}

// armLocked starts the timer of the deadline; ctxMu is held.
func (x *callContext) armLocked() {
	if x.timer == nil && x.err == nil && !x.deadline.IsZero() {
		x.timer = time.AfterFunc(time.Until(x.deadline), func() { x.cancel(context.DeadlineExceeded) })
	}
}

// AfterFunc lets package context derive contexts without a goroutine for each.
func (x *callContext) AfterFunc(f func()) func() bool {
	x.ctxMu.Lock()
	defer x.ctxMu.Unlock()
	if x.err != nil {
		go f()
		return func() bool { return false }
	}
	if x.afters == nil {
		x.afters = map[*func()]func(){}
	}
	key := &f
	x.afters[key] = f
	x.armLocked()
	return func() bool {
		x.ctxMu.Lock()
		defer x.ctxMu.Unlock()
		_, ok := x.afters[key]
		delete(x.afters, key)
		return ok
	}
}

// cancel ends the context with err, once.
func (x *callContext) cancel(err error) {
	x.ctxMu.Lock()
	defer x.ctxMu.Unlock()
	if x.err != nil {
		return
	}
	x.err = err
	if x.done != nil {
		close(x.done)
	}
	if x.timer != nil {
		x.timer.Stop()
	}
	for _, f := range x.afters {
		go f()
	}
	x.afters = nil
}

// The keys under which grpc's packages look for what a transport knows. They
// are private types, but each package asks the context for its own: a context
// that remembers the question tells them. So a call need not carry three
// layers of context.WithValue, nor build metadata nobody reads.
var keyMetadata, keyPeer, keyStream = learnKey(func(ctx context.Context) { metadata.FromIncomingContext(ctx) }),
	learnKey(func(ctx context.Context) { peer.FromContext(ctx) }),
	learnKey(func(ctx context.Context) { grpc.ServerTransportStreamFromContext(ctx) })

type spy struct {
	context.Context
	asked any
}

func (s *spy) Value(key any) any { s.asked = key; return nil }

func learnKey(ask func(context.Context)) any {
	s := &spy{Context: context.Background()}
	ask(s)
	if s.asked == nil {
		panic("h2grpc: grpc does not ask the context any more")
	}
	return s.asked
}

// Value answers for the transport's own keys.
func (s *stream) Value(key any) any {
	switch key {
	case keyMetadata:
		return s.head.metadata()
	case keyPeer:
		return s.c.peer
	case keyStream:
		return (*unaryStream)(s)
	}
	return nil
}
