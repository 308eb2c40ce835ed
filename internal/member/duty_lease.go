package member

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/core/lease"
)

// The leader lets the time of leases run. Every leaseRound it asks which have
// run out and proposes to revoke them; the replicated answer is what ends them.
const (
	leaseRound = 500 * time.Millisecond
	// revokesPerRound keeps to lease.RevokesPerSecond.
	revokesPerRound = lease.RevokesPerSecond * int(leaseRound) / int(time.Second)
	// revokesAtOnce bounds how many revocations are in flight.
	revokesAtOnce = 16
)

// leaseDuty follows the leadership and revokes what has run out.
func (m *Member) leaseDuty(stop <-chan struct{}) {
	ticker := time.NewTicker(leaseRound)
	defer ticker.Stop()
	for {
		select {
		case <-m.leading:
			m.followLeadership()
		case <-ticker.C:
			if m.IsLeader() {
				m.revokeExpired()
				m.checkpointLeases()
			}
		case <-stop:
			return
		}
	}
}

// followLeadership makes the lessor the primary one or not. A new primary
// gives every lease its time again, and an election on top.
func (m *Member) followLeadership() {
	m.state.Lock()
	defer m.state.Unlock()
	switch isLeader := m.IsLeader(); {
	case isLeader && !m.machine.Leases.IsPrimary():
		m.machine.Leases.Promote(m.now(), time.Duration(m.opt.ElectionTicks)*m.opt.Tick)
	case !isLeader && m.machine.Leases.IsPrimary():
		m.machine.Leases.Demote()
	}
}

func (m *Member) revokeExpired() {
	m.state.Lock()
	expired := m.machine.Leases.Expired(m.now(), revokesPerRound)
	m.state.Unlock()
	slots := make(chan struct{}, revokesAtOnce)
	for _, id := range expired {
		slots <- struct{}{}
		m.running.Go(func() {
			defer func() { <-slots }()
			m.revoke(id)
		})
	}
}

func (m *Member) revoke(id int64) {
	_, err := m.proposeAs(context.Background(), m.root(), &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: id}})
	if err == nil {
		m.meters.Lease.Expired.Inc()
	}
	if err == nil || errors.Is(err, lease.ErrNotFound) || errors.Is(err, ErrStopped) {
		return
	}
	m.log.Warn("failed to revoke lease", "lease-id", ids.Text(uint64(id)), "error", err)
}

// checkpointLeases replicates how long leases still have, so that a new leader
// need not give a long lease its whole time again.
func (m *Member) checkpointLeases() {
	if !m.opt.LeaseCheckpoint {
		return
	}
	m.state.Lock()
	due := m.machine.Leases.DueCheckpoints(m.now(), lease.CheckpointBatch)
	m.state.Unlock()
	if len(due) == 0 {
		return
	}
	r := &pb.LeaseCheckpointRequest{}
	for _, c := range due {
		r.Checkpoints = append(r.Checkpoints, &pb.LeaseCheckpoint{ID: c.ID, Remaining_TTL: c.Remaining})
	}
	if _, err := m.proposeAs(context.Background(), m.root(), &pb.InternalRaftRequest{LeaseCheckpoint: r}); err != nil && !errors.Is(err, ErrStopped) {
		m.log.Warn("failed to checkpoint leases", "error", err)
	}
}
