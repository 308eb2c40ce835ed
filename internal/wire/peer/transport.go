// Package peer carries raft messages between members in etcd's peer protocol,
// so that members of both kinds form one cluster.
//
// For every peer a member opens two long GETs to it and reads messages from the
// answers; what it has to say itself goes into the answers to the peer's GETs.
// So each pair of members has four streams. What no stream takes is posted, and
// snapshots have a post of their own. The bytes are drawn beside the functions
// that write them; the texts and statuses are those of etcd 3.7.
//
// A Transport owns its connections, queues and goroutines, and promises that
// Send never waits: what finds no room is dropped and reported unreachable. It
// leaves to its Handler what messages mean, who is a member, and how a
// snapshot's body is stored. Listeners belong to others; see Serve.
package peer

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// Transport is one member's end of all its connections with others.
type Transport struct {
	opt Options
	log *slog.Logger

	streams *http.Client // long answers; a read timeout on every connection
	posts   *http.Client // requests that end

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	stopped bool             // guarded by mu
	peers   map[uint64]*link // guarded by mu
	// remotes are members that this one does not know from its log yet, but
	// must answer. Only posts go to them.
	remotes map[uint64]*link // guarded by mu
}

// New returns a transport without peers.
func New(opt Options) *Transport {
	t := &Transport{
		opt: opt, log: opt.Log,
		peers: map[uint64]*link{}, remotes: map[uint64]*link{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.streams = &http.Client{Transport: opt.roundTripper(readTimeout)}
	t.posts = &http.Client{Transport: opt.roundTripper(0)}
	return t
}

// roundTripper dials as members do: every write must make progress, and so must
// reads if there is a limit.
func (o *Options) roundTripper(read time.Duration) *http.Transport {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if o.LocalAddr != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.LocalAddr)}
	}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &timedConn{Conn: c, read: read}, nil
		},
		TLSClientConfig:     o.TLS,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: postsAtOnce,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}
}

// timedConn ends a connection that makes no progress.
type timedConn struct {
	net.Conn
	read time.Duration // 0: no limit
}

func (c *timedConn) Read(b []byte) (int, error) {
	if c.read > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.read)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

func (c *timedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Client calls other members for what is not raft. It has no time limit of its
// own.
func (t *Transport) Client() *http.Client { return t.posts }

// Introduce puts into a request who sends it.
func (t *Transport) Introduce(r *http.Request) { t.opt.introduce(r.Header) }

// Stop ends all connections and returns when nothing runs any more, except
// answers to requests, which end by themselves now.
func (t *Transport) Stop() {
	t.mu.Lock()
	t.stopped = true
	links := make([]*link, 0, len(t.peers)+len(t.remotes))
	for _, l := range t.peers {
		links = append(links, l)
	}
	for _, l := range t.remotes {
		links = append(links, l)
	}
	clear(t.peers)
	clear(t.remotes)
	t.mu.Unlock()
	t.cancel()
	for _, l := range links {
		l.stop()
	}
	t.work.Wait()
	t.streams.CloseIdleConnections()
	t.posts.CloseIdleConnections()
}

// Send passes messages on, each to the member it names. It never waits.
func (t *Transport) Send(messages []raftpb.Message) {
	for _, m := range messages {
		if m.To == 0 {
			continue
		}
		if l := t.find(m.To); l != nil {
			l.send(m)
		} else {
			t.log.Debug("ignored message send request; unknown remote peer target", "type", m.Type, "unknown-target-peer-id", ids.Text(m.To))
		}
	}
}

// find returns the way to a member, nil if there is none.
func (t *Transport) find(id uint64) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.peers[id]; l != nil {
		return l
	}
	return t.remotes[id]
}

func (t *Transport) peer(id uint64) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peers[id]
}

// AddPeer begins to talk to a member. Of one that is known already it takes the
// URLs.
func (t *Transport) AddPeer(id uint64, urls []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || id == t.opt.ID {
		return
	}
	if l := t.peers[id]; l != nil {
		l.to.set(urls)
		return
	}
	if l := t.remotes[id]; l != nil {
		delete(t.remotes, id)
		l.stop()
	}
	l := newLink(t, id, urls)
	t.peers[id] = l
	t.log.Info("starting remote peer", "remote-peer-id", ids.Text(id))
	l.startPosts()
	l.startStreams()
	t.log.Info("started remote peer", "remote-peer-id", ids.Text(id))
	t.log.Info("added remote peer", "local-member-id", ids.Text(t.opt.ID), "remote-peer-id", ids.Text(id), "remote-peer-urls", urls)
}

// AddRemote makes a member reachable that is not known as a member yet.
func (t *Transport) AddRemote(id uint64, urls []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || id == t.opt.ID || t.peers[id] != nil || t.remotes[id] != nil || len(urls) == 0 {
		return
	}
	l := newLink(t, id, urls)
	t.remotes[id] = l
	l.startPosts()
	t.log.Info("added new remote peer", "local-member-id", ids.Text(t.opt.ID), "remote-peer-id", ids.Text(id), "remote-peer-urls", urls)
}

// UpdatePeer takes the new URLs of a member.
func (t *Transport) UpdatePeer(id uint64, urls []string) {
	if l := t.peer(id); l != nil {
		l.to.set(urls)
		t.log.Info("updated remote peer", "local-member-id", ids.Text(t.opt.ID), "updated-remote-peer-id", ids.Text(id), "updated-remote-peer-urls", urls)
	}
}

// RemovePeer ends the talk with a member. It does not wait for the end.
func (t *Transport) RemovePeer(id uint64) {
	t.mu.Lock()
	l := t.peers[id]
	delete(t.peers, id)
	t.mu.Unlock()
	if l == nil {
		return
	}
	l.stop()
	t.log.Info("removed remote peer", "local-member-id", ids.Text(t.opt.ID), "removed-remote-peer-id", ids.Text(id))
}

// ActiveSince is since when a peer has been reachable, zero if it is not.
func (t *Transport) ActiveSince(id uint64) time.Time {
	if l := t.peer(id); l != nil {
		return l.state.since()
	}
	return time.Time{}
}

// Body is what follows a snapshot's message.
type Body interface {
	Size() int64
	WriteTo(w io.Writer) (int64, error)
	Close() error
}

// SendSnapshot posts a snapshot in the background and reports to the handler
// how it ended. It closes body.
func (t *Transport) SendSnapshot(m raftpb.Message, body Body) {
	l := t.find(m.To)
	if l == nil {
		body.Close()
		t.opt.Handler.ReportSnapshot(m.To, false)
		return
	}
	l.run(func(ctx context.Context) { l.sendSnapshot(ctx, m, body) })
}
