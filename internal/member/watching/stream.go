package watching

import (
	"context"

	"github.com/steledb/stele/internal/core/watch"
)

// Bounds of what one stream's reader is handed at a time.
const (
	// takeBytes is about how many bytes of events one Take returns; while they
	// are being sent, the queue fills again up to watch.Options.StreamBytes.
	takeBytes = 1 << 20
	// controlsMax is how many answers may wait before WaitRoom blocks.
	controlsMax = 1000
)

// Stream is the watching of one client stream. One goroutine reads (Ready,
// Take), any may make requests. After Close nothing has an effect.
type Stream struct {
	hub  *Hub
	core *watch.Stream // guarded by hub.mu; nil after Close

	ready chan struct{} // 1 slot: there is output
	room  chan struct{} // 1 slot: output was taken
}

// Open adds a stream.
func (h *Hub) Open() *Stream {
	s := &Stream{hub: h, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open.Add(1)
	h.empty()
	s.core = h.core.Open()
	h.streams[s.core] = s
	return s
}

// Close removes the stream with all its watchers.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.core == nil {
		return
	}
	delete(h.streams, s.core)
	h.core.Close(s.core)
	s.core = nil
	h.open.Add(-1)
}

// request runs fn on the hub at the revision that is published now.
func (s *Stream) request(fn func(*watch.Hub, *watch.Stream)) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.core == nil {
		return
	}
	h.empty()
	fn(h.core, s.core)
	h.wakeStreams()
	h.nudge()
}

// Create adds a watcher. The answer, also a refusal, comes with Take.
func (s *Stream) Create(r watch.Request) {
	s.request(func(h *watch.Hub, core *watch.Stream) { h.Create(core, r) })
}

// Refuse answers a create request that may not be tried.
func (s *Stream) Refuse(reason string) {
	s.request(func(h *watch.Hub, core *watch.Stream) { h.Refuse(core, reason) })
}

// Cancel removes a watcher.
func (s *Stream) Cancel(id int64) {
	s.request(func(h *watch.Hub, core *watch.Stream) { h.Cancel(core, id) })
}

// Progress asks how far the stream has come.
func (s *Stream) Progress() {
	s.request(func(h *watch.Hub, core *watch.Stream) { h.Progress(core) })
}

// Notify has the stream tell its revision to the watchers that asked for it
// and got nothing since the last call.
func (s *Stream) Notify() {
	s.request(func(h *watch.Hub, core *watch.Stream) { h.Notify(core) })
}

// Ready has a value when there is something to Take.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// Take returns output in the order in which it must be sent, and whether there
// is more at once.
func (s *Stream) Take() (out []watch.Response, more bool) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.core == nil {
		return nil, false
	}
	out, more = h.core.Drain(s.core, takeBytes)
	if s.core.Behind() > 0 {
		h.nudge()
	}
	select {
	case s.room <- struct{}{}:
	default:
	}
	return out, more
}

// WaitRoom waits while more answers are queued than a client should have
// outstanding. Only the goroutine that makes requests calls it.
func (s *Stream) WaitRoom(ctx context.Context) error {
	for s.controls() >= controlsMax {
		select {
		case <-s.room:
		case <-s.hub.stop:
			return context.Canceled
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (s *Stream) controls() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.core == nil {
		return 0
	}
	return s.core.Controls()
}

func (s *Stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
