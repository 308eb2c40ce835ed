package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/wire/peer"
)

// peers joins the member with the others: what raft has to say goes out
// through the transport, what comes in goes to the loop.
type peers struct {
	m       *Member
	net     *peer.Transport
	remotes []cluster.Member // of the cluster that this member joins; used by start

	mu      sync.RWMutex
	gone    map[uint64]bool         // guarded by mu; members removed for good
	bodies  map[uint64]peer.Body    // guarded by mu; of snapshots that raft was given to send
	sending map[uint64]bool         // guarded by mu; members that a snapshot is prepared for or on its way to
	leaving context.CancelCauseFunc // ends work for peers
	ctx     context.Context
}

func newPeers(m *Member, remotes []cluster.Member) *peers {
	p := &peers{m: m, remotes: remotes, gone: map[uint64]bool{}, bodies: map[uint64]peer.Body{}, sending: map[uint64]bool{}}
	p.ctx, p.leaving = context.WithCancelCause(context.Background())
	for _, id := range m.machine.Cluster.Removed() {
		p.gone[id] = true
	}
	p.net = peer.New(peer.Options{
		ID: m.id, ClusterID: m.clusterID, PeerURLs: m.opt.PeerURLs, Handler: p,
		TLS: m.opt.PeerTLS, LocalAddr: m.opt.PeerAddr, Log: m.log, Events: m.meters.peerEvents(m.id),
	})
	return p
}

// start begins to talk to everyone known. A joining member knows the others
// from having asked; it answers them before its own log tells who they are.
func (p *peers) start() {
	for _, c := range p.remotes {
		p.net.AddRemote(c.ID, c.PeerURLs)
	}
	p.m.state.RLock()
	members := p.m.machine.Cluster.Members()
	p.m.state.RUnlock()
	for _, c := range members {
		p.net.AddPeer(c.ID, c.PeerURLs)
	}
}

func (p *peers) stop() {
	p.leaving(ErrStopped)
	p.net.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, body := range p.bodies {
		body.Close()
	}
	clear(p.bodies)
}

// send passes on what raft has to say. A snapshot goes with the body that was
// prepared for it. Loop only.
func (p *peers) send(messages []raftpb.Message) {
	first := 0
	for i, m := range messages {
		if m.Type == raftpb.MsgSnap {
			p.net.Send(messages[first:i])
			first = i + 1
			p.sendSnapshot(m)
		}
	}
	p.net.Send(messages[first:])
}

// Process implements peer.Handler.
func (p *peers) Process(_ context.Context, m raftpb.Message) error {
	switch {
	case m.To != p.m.id:
		return fmt.Errorf("message is for %s, this is %s", ids.Text(m.To), ids.Text(p.m.id))
	case p.IsRemoved(m.From):
		return errors.New("cannot process message from removed member")
	case !p.m.loop.hear(m):
		return ErrTooManyRequests
	}
	return nil
}

// IsRemoved implements peer.Handler.
func (p *peers) IsRemoved(id uint64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.gone[id]
}

// ReportUnreachable implements peer.Handler.
func (p *peers) ReportUnreachable(id uint64) {
	p.m.loop.add(func(in *inbox) { in.unreachable = append(in.unreachable, id) })
}

// ReportSnapshot implements peer.Handler.
func (p *peers) ReportSnapshot(id uint64, ok bool) {
	p.done(id)
	p.m.loop.add(func(in *inbox) { in.delivered = append(in.delivered, deliveredSnapshot{id, ok}) })
}

// Expelled implements peer.Handler.
func (p *peers) Expelled(by uint64) {
	p.m.log.Warn("this member was removed from the cluster", "local-member-id", ids.Text(p.m.id), "remote-peer-id", ids.Text(by))
	p.m.fail(ErrRemoved)
}

// removalGrace lets the others hear what this member had to say last, before a
// member that was removed ends.
const removalGrace = time.Second

// removed takes note of a removal. Applier only.
func (p *peers) removed(id uint64) {
	p.mu.Lock()
	p.gone[id] = true
	p.mu.Unlock()
	if id != p.m.id {
		p.net.RemovePeer(id)
		return
	}
	p.m.running.Go(func() {
		if sleep(p.ctx, removalGrace) == nil {
			p.m.fail(ErrRemoved)
		}
	})
}

// connectedSince is how long a connection must have held to be counted on.
const connectedSince = 5 * time.Second

// connectedVoters counts the voters that this member has been connected to for
// a while, itself included. The state lock is held.
func (m *Member) connectedVoters() int {
	n := 0
	for _, v := range m.machine.Cluster.Voters() {
		since := m.peers.net.ActiveSince(v.ID)
		if v.ID == m.id || !since.IsZero() && time.Since(since) > connectedSince {
			n++
		}
	}
	return n
}

// isActive reports whether this member is connected to another.
func (m *Member) isActive(id uint64) bool {
	return id == m.id || !m.peers.net.ActiveSince(id).IsZero()
}

// HandOver gives the leadership to the voter connected for the longest, so that
// the cluster need not wait for an election when this member stops.
func (m *Member) HandOver(ctx context.Context) {
	if !m.IsLeader() {
		return
	}
	m.state.RLock()
	voters := m.machine.Cluster.Voters()
	m.state.RUnlock()
	if len(voters) == 1 {
		return
	}
	var to uint64
	var oldest time.Time
	for _, v := range voters {
		since := m.peers.net.ActiveSince(v.ID)
		if !since.IsZero() && (to == 0 || since.Before(oldest)) {
			to, oldest = v.ID, since
		}
	}
	if to == 0 {
		return
	}
	start := time.Now()
	m.log.Info("leadership transfer starting", "local-member-id", ids.Text(m.id), "current-leader-member-id", ids.Text(m.id), "transferee-member-id", ids.Text(to))
	if err := m.MoveLeader(ctx, to); err != nil {
		m.log.Warn("leadership transfer failed", "local-member-id", ids.Text(m.id), "error", err)
		return
	}
	m.log.Info("leadership transfer finished", "local-member-id", ids.Text(m.id), "old-leader-member-id", ids.Text(m.id), "new-leader-member-id", ids.Text(to), "took", time.Since(start))
}

// Disconnect ends the talk with other members, so that their requests end and
// the peer ports can be closed. The member is of no use afterwards; stop it.
func (m *Member) Disconnect() { m.peers.stop() }
