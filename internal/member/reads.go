package member

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/steledb/stele/internal/core/raft"
)

// reads makes reads linearizable: everyone who comes while a round is being
// asked for shares the next one. A round asks raft for the commit index at a
// moment when this member's leader was still the leader; a reader then waits
// until that index is applied.
type reads struct {
	mu     sync.Mutex
	next   *round            // guarded by mu; readers join it, nil if nobody waits
	flying map[uint64]*round // guarded by mu; asked for, by context
	serial uint64            // guarded by mu
}

// round is one question to raft and everyone who waits for its answer.
type round struct {
	done  chan struct{}
	index uint64 // set before done is closed
	lost  bool   // set before done is closed: ask again
}

// roundRetry is after which time a reader joins a new round: questions to a
// leader can be lost on the way, as messages can.
const roundRetry = 500 * time.Millisecond

// maxFlyingRounds bounds rounds whose answer is lost; the oldest is given up.
const maxFlyingRounds = 1024

func newReads() *reads { return &reads{flying: map[uint64]*round{}} }

// join returns the round that has not been asked for yet; first reports
// whether the caller must see to it that it will be.
func (r *reads) join() (*round, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next != nil {
		return r.next, false
	}
	r.next = &round{done: make(chan struct{})}
	return r.next, true
}

// start takes the waiting round as the question to ask next; nil if there is
// none.
func (r *reads) start() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		return nil
	}
	r.serial++
	if len(r.flying) >= maxFlyingRounds {
		r.endLocked(r.serial-maxFlyingRounds, 0, true)
	}
	r.flying[r.serial] = r.next
	r.next = nil
	return binary.BigEndian.AppendUint64(nil, r.serial)
}

// answer ends the round that raft answered.
func (r *reads) answer(s raft.ReadState) { r.end(s.Context, s.Index, false) }

// drop ends a round that raft will not answer.
func (r *reads) drop(context []byte) { r.end(context, 0, true) }

func (r *reads) end(context []byte, index uint64, lost bool) {
	if len(context) != 8 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(binary.BigEndian.Uint64(context), index, lost)
}

func (r *reads) endLocked(serial, index uint64, lost bool) {
	round, ok := r.flying[serial]
	if !ok {
		return
	}
	delete(r.flying, serial)
	round.index, round.lost = index, lost
	close(round.done)
}

// LinearizableRead returns once a View taken afterwards contains every write
// acknowledged before the call.
func (m *Member) LinearizableRead(ctx context.Context) error {
	err := m.linearize(ctx)
	if err != nil {
		m.meters.Server.ReadIndexesFailed.Inc()
	}
	if err == ErrTimeout {
		m.meters.Server.SlowReadIndexes.Inc()
		m.log.Warn("timed out waiting for read index response (local node might have slow network)", "timeout", m.opt.RequestTimeout())
	}
	return err
}

func (m *Member) linearize(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.opt.RequestTimeout())
	defer cancel()
	var retry *time.Timer
	for {
		round, first := m.reads.join()
		if first {
			m.askRound()
		}
		if retry == nil {
			retry = time.NewTimer(roundRetry)
			defer retry.Stop()
		} else {
			retry.Reset(roundRetry)
		}
		select {
		case <-round.done:
			if !round.lost {
				return m.timeoutError(ctx, m.applied.wait(ctx, m.stopping, round.index))
			}
			// Without a leader every round is lost at once: wait a moment.
			select {
			case <-retry.C:
			case <-ctx.Done():
				return m.timeoutError(ctx, ctx.Err())
			case <-m.stopping:
				return ErrStopped
			}
		case <-retry.C:
			if first { // one line for a round, however many wait for it
				m.log.Warn("waiting for ReadIndex response took too long, retrying", "retry-timeout", roundRetry)
			}
		case <-ctx.Done():
			return m.timeoutError(ctx, ctx.Err())
		case <-m.stopping:
			return ErrStopped
		}
	}
}

// askRound has the loop ask the waiting round in its next turn. The round
// stays open for readers until then.
func (m *Member) askRound() {
	m.loop.add(func(in *inbox) { in.askRead = true })
}
