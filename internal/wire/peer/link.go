package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// streamKind is one of the two streams in each direction.
type streamKind int

const (
	streamMessage streamKind = iota
	streamAppend
	streamKinds
)

// path is the name in the URL.
func (k streamKind) path() string { return [...]string{"message", "msgapp"}[k] }

// String is the name in log lines.
func (k streamKind) String() string { return [...]string{"stream Message", "stream MsgApp v2"}[k] }

// link is the way to one other member.
type link struct {
	t     *Transport
	id    uint64
	to    targets
	state state
	queue chan raftpb.Message // to be posted; capacity postQueue

	ctx    context.Context // ends with the link
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool                // guarded by mu
	out     [streamKinds]*queue // guarded by mu; streams that the peer reads from now
}

func newLink(t *Transport, id uint64, urls []string) *link {
	l := &link{t: t, id: id, queue: make(chan raftpb.Message, postQueue)}
	l.state = state{id: id, log: t.log, changed: t.opt.Events.Active}
	l.to.set(urls)
	l.ctx, l.cancel = context.WithCancel(t.ctx)
	return l
}

// run starts a goroutine that ends when the link does.
func (l *link) run(f func(ctx context.Context)) { l.t.work.Go(func() { f(l.ctx) }) }

func (l *link) startPosts() {
	for range postsAtOnce {
		l.run(l.postAll)
	}
	l.t.log.Info("started HTTP pipelining with remote peer", "local-member-id", ids.Text(l.t.opt.ID), "remote-peer-id", ids.Text(l.id))
}

func (l *link) startStreams() {
	for kind := range streamKinds {
		l.run(func(ctx context.Context) { l.readStream(ctx, kind) })
	}
	l.run(l.probe)
}

func (l *link) stop() {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for kind, q := range l.out {
		if q != nil {
			q.close()
			l.out[kind] = nil
		}
	}
}

// send puts m on the best way there is.
func (l *link) send(m raftpb.Message) {
	if l.push(m) {
		return
	}
	if f := l.t.opt.Events.SendFailed; f != nil {
		f(l.id)
	}
	l.t.opt.Handler.ReportUnreachable(l.id)
}

func (l *link) push(m raftpb.Message) bool {
	if q := l.route(m.Type); q != nil {
		return q.push(m)
	}
	select {
	case l.queue <- m:
		return true
	default:
		return false
	}
}

// route picks the stream for a message: appends have one of their own so that
// they do not hold up heartbeats. nil if neither is up.
func (l *link) route(t raftpb.MessageType) *queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.out[streamAppend]; q != nil && t == raftpb.MsgApp {
		return q
	}
	return l.out[streamMessage]
}

// attach makes q the stream of a kind, in the place of an older one; false if
// the link has ended.
func (l *link) attach(kind streamKind, q *queue) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	if old := l.out[kind]; old != nil {
		old.close()
	}
	l.out[kind] = q
	return true
}

func (l *link) detach(kind streamKind, q *queue) {
	q.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out[kind] == q {
		l.out[kind] = nil
	}
}

// targets are a member's URLs; one is used until it fails.
type targets struct {
	mu   sync.Mutex
	urls []string // guarded by mu
	next int      // guarded by mu
}

func (t *targets) set(urls []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.urls, t.next = append([]string(nil), urls...), 0
}

// current is the URL to try.
func (t *targets) current() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.urls) == 0 {
		return "", fmt.Errorf("peer has no URL")
	}
	return t.urls[t.next], nil
}

// failed moves on to the next URL, unless somebody has done so.
func (t *targets) failed(u string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.urls) > 0 && t.urls[t.next] == u {
		t.next = (t.next + 1) % len(t.urls)
	}
}

// join puts a path of the protocol behind a URL.
func join(base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("peer URL %q: %w", base, err)
	}
	return u.JoinPath(path).String(), nil
}

// state is whether a member is reachable, and since when.
type state struct {
	id      uint64
	log     *slog.Logger
	changed func(id uint64, active bool) // may be nil

	mu     sync.Mutex
	active time.Time // guarded by mu; zero while not reachable
}

func (s *state) activate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.active.IsZero() {
		return
	}
	s.active = time.Now()
	s.log.Info("peer became active", "peer-id", ids.Text(s.id))
	if s.changed != nil {
		s.changed(s.id, true)
	}
}

func (s *state) deactivate(doing string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active.IsZero() {
		return
	}
	s.active = time.Time{}
	s.log.Warn("peer became inactive (message send to peer failed)", "peer-id", ids.Text(s.id), "error", fmt.Errorf("%s: %w", doing, err))
	if s.changed != nil {
		s.changed(s.id, false)
	}
}

func (s *state) since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// pause waits d; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
