package member

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/base/version"
	"github.com/steledb/stele/internal/core/alarm"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/lease"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/backend"
)

// defaultQuotaBytes is what a quota of 0 means.
const defaultQuotaBytes = 2 << 30

// quota is the backend's limit in bytes, 0 for none.
func (o *Options) quota() int64 {
	switch {
	case o.QuotaBytes < 0:
		return 0
	case o.QuotaBytes == 0:
		return defaultQuotaBytes
	}
	return o.QuotaBytes
}

// isOverQuota reports whether bytes more would not fit: into the file as it is
// with what waits to be flushed.
func (m *Member) isOverQuota(bytes int64) bool {
	quota := m.opt.quota()
	return quota > 0 && m.backend.Size()+m.store.Load().BufferedBytes()+bytes >= quota
}

// admitSize turns away what the backend has no room for, and has the cluster
// know: the alarm stops growth on all members.
func (m *Member) admitSize(ctx context.Context, r *pb.InternalRaftRequest) error {
	cost := apply.Cost(r)
	if cost == 0 || !m.isOverQuota(cost) {
		return nil
	}
	m.raiseNoSpace(ctx)
	return apply.ErrNoSpace
}

// raiseNoSpace has the cluster know that this member's backend is full.
func (m *Member) raiseNoSpace(ctx context.Context) {
	_, err := m.proposeAs(ctx, m.root(), &pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{
		MemberID: m.id, Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE,
	}})
	if err == nil {
		m.log.Warn("message exceeded backend quota; raising alarm", "quota-size-bytes", m.opt.quota(), "error", apply.ErrNoSpace)
	}
}

// Compact proposes a compaction and, if it is to be physical, waits until the
// file has let go of everything.
func (m *Member) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	res, err := m.Propose(ctx, &pb.InternalRaftRequest{Compaction: r})
	if err != nil {
		return nil, err
	}
	if r.Physical {
		if err := m.compactor.wait(ctx, r.Revision); err != nil {
			return nil, err
		}
	}
	return res.Resp.(*pb.CompactionResponse), nil
}

// NewLeaseID chooses the id of a lease that the client left to the server.
func (m *Member) NewLeaseID() int64 { return m.reqIDs.NextLease() }

// RenewLease gives a lease its whole time again and returns it in seconds.
func (m *Member) RenewLease(ctx context.Context, id int64) (ttl int64, err error) {
	err = m.check(ctx, func(v *auth.View, c auth.Caller) error {
		m.state.RLock()
		defer m.state.RUnlock()
		return v.CheckLeaseWrite(c, id, m.machine.Leases)
	})
	if err != nil {
		return 0, err
	}
	return retryExpiring(ctx, m, func() (int64, error) {
		ttl, err := m.renewHere(ctx, id)
		if errors.Is(err, lease.ErrNotPrimary) {
			return m.renewAtLeader(ctx, id)
		}
		return ttl, err
	})
}

// renewHere renews a lease if this member lets time run.
func (m *Member) renewHere(ctx context.Context, id int64) (ttl int64, err error) {
	m.state.Lock()
	r, err := m.machine.Leases.Renew(id, m.now())
	m.state.Unlock()
	if err == nil && r.ClearCheckpoint {
		_, err = m.proposeAs(ctx, m.root(), &pb.InternalRaftRequest{LeaseCheckpoint: &pb.LeaseCheckpointRequest{
			Checkpoints: []*pb.LeaseCheckpoint{{ID: id, Remaining_TTL: 0}},
		}})
	}
	if err == nil {
		m.meters.Lease.Renewed.Inc()
	}
	return r.TTL, err
}

// expiringRetry is the pause before looking again at a lease whose revocation
// is on its way.
const expiringRetry = 50 * time.Millisecond

// retryExpiring asks again while a lease is about to be revoked, or while it is
// not known yet which member lets time run, until the request's time is up.
func retryExpiring[T any](ctx context.Context, m *Member, ask func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, m.opt.RequestTimeout())
	defer cancel()
	for {
		v, err := ask()
		if !errors.Is(err, lease.ErrExpiring) && !errors.Is(err, lease.ErrNotPrimary) {
			return v, err
		}
		if sleep(ctx, expiringRetry) != nil {
			if errors.Is(err, lease.ErrExpiring) {
				return v, lease.ErrNotFound
			}
			return v, m.timeoutError(ctx, ctx.Err())
		}
	}
}

// LeaseTimeToLive tells how long a lease still has and what hangs on it.
func (m *Member) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if r.Keys {
		err := m.check(ctx, func(v *auth.View, c auth.Caller) error {
			m.state.RLock()
			defer m.state.RUnlock()
			return v.CheckLeaseRead(c, r.ID, m.machine.Leases)
		})
		if err != nil {
			return nil, err
		}
	}
	if err := m.LinearizableRead(ctx); err != nil {
		return nil, err
	}
	return retryExpiring(ctx, m, func() (*pb.LeaseTimeToLiveResponse, error) {
		resp, err := m.timeToLiveHere(r)
		if errors.Is(err, lease.ErrNotPrimary) {
			return m.timeToLiveAtLeader(ctx, r)
		}
		return resp, err
	})
}

// timeToLiveHere answers if this member lets time run.
func (m *Member) timeToLiveHere(r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	m.state.RLock()
	defer m.state.RUnlock()
	s, err := m.machine.Leases.TimeToLive(r.ID, m.now())
	if err != nil {
		return nil, err
	}
	resp := &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: s.RemainingTTL, GrantedTTL: s.GrantedTTL}
	if r.Keys {
		resp.Keys = m.machine.Leases.Keys(r.ID)
	}
	return resp, nil
}

// Leases lists the leases, the one that ends first in front.
func (m *Member) Leases(ctx context.Context) (list []int64, err error) {
	// The caller is found out before the lock is taken: that may have to wait
	// for the applier.
	err = m.check(ctx, func(v *auth.View, c auth.Caller) error {
		m.state.RLock()
		defer m.state.RUnlock()
		for _, id := range m.machine.Leases.List() {
			if err := v.CheckLeaseRead(c, id, m.machine.Leases); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	m.state.RLock()
	defer m.state.RUnlock()
	return m.machine.Leases.List(), nil
}

// Members lists the members by id.
func (m *Member) Members() []*pb.Member {
	m.state.RLock()
	defer m.state.RUnlock()
	return protoMembers(m.machine.Cluster.Members())
}

func protoMembers(members []cluster.Member) []*pb.Member {
	out := make([]*pb.Member, 0, len(members))
	for _, c := range members {
		out = append(out, protoMember(c))
	}
	return out
}

func protoMember(c cluster.Member) *pb.Member {
	return &pb.Member{ID: c.ID, Name: c.Name, PeerURLs: c.PeerURLs, ClientURLs: c.ClientURLs, IsLearner: c.IsLearner}
}

// AddMember adds a member, or a learner.
func (m *Member) AddMember(ctx context.Context, peerURLs []string, learner bool) (*pb.Member, []*pb.Member, error) {
	urls, err := cluster.CheckURLs(peerURLs)
	if err != nil {
		return nil, nil, cluster.ErrBadURLs
	}
	added := cluster.Member{ID: ids.AddedMember(urls, time.Now()), PeerURLs: urls, IsLearner: learner}
	err = m.mayChange(func(c *cluster.Cluster) error {
		if !m.opt.StrictReconfig {
			return nil
		}
		return c.MayAdd(added, m.connectedVoters())
	})
	if err != nil {
		return nil, nil, err
	}
	if err := m.changeMembers(ctx, cluster.Add(added)); err != nil {
		return nil, nil, err
	}
	return protoMember(added), m.Members(), nil
}

// RemoveMember removes a member for good.
func (m *Member) RemoveMember(ctx context.Context, id uint64) ([]*pb.Member, error) {
	err := m.mayChange(func(c *cluster.Cluster) error {
		if err := exists(c, id); err != nil {
			return err
		}
		if !m.opt.StrictReconfig {
			return nil
		}
		return c.MayRemove(id, m.id, m.isActive)
	})
	if err != nil {
		return nil, err
	}
	if err := m.changeMembers(ctx, cluster.Remove(id)); err != nil {
		return nil, err
	}
	return m.Members(), nil
}

// UpdateMember changes the peer URLs of a member.
func (m *Member) UpdateMember(ctx context.Context, id uint64, peerURLs []string) ([]*pb.Member, error) {
	if err := m.mayChange(func(c *cluster.Cluster) error { return exists(c, id) }); err != nil {
		return nil, err
	}
	urls, err := cluster.CheckURLs(peerURLs)
	switch {
	case err == nil:
	case id == m.id:
		urls = peerURLs // as etcd does: nobody dials itself
	default:
		return nil, cluster.ErrBadURLs
	}
	if err := m.changeMembers(ctx, cluster.Update(id, urls)); err != nil {
		return nil, err
	}
	return m.Members(), nil
}

// PromoteMember lets a learner vote. Only the leader knows how far the learner
// is, so another member asks it.
func (m *Member) PromoteMember(ctx context.Context, id uint64) ([]*pb.Member, error) {
	if m.IsLeader() {
		return m.promoteHere(ctx, id)
	}
	err := m.mayChange(func(c *cluster.Cluster) error {
		if err := exists(c, id); err != nil {
			return err
		}
		return c.Check(cluster.Promote(id))
	})
	if err != nil {
		return nil, err
	}
	before := m.loop.raftStatus().Committed
	_, err = retryExpiring(ctx, m, func() (struct{}, error) { return struct{}{}, m.promoteAtLeader(ctx, id) })
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, m.opt.RequestTimeout())
	defer cancel()
	if err := m.applied.wait(wait, m.stopping, before+1); err != nil {
		return nil, m.timeoutError(ctx, err)
	}
	return m.Members(), nil
}

// promoteHere promotes a learner if this member leads.
func (m *Member) promoteHere(ctx context.Context, id uint64) ([]*pb.Member, error) {
	err := m.mayChange(func(c *cluster.Cluster) error {
		if err := exists(c, id); err != nil {
			return err
		}
		if err := c.Check(cluster.Promote(id)); err != nil {
			return err
		}
		if err := m.inSync(id); err != nil {
			return err
		}
		if !m.opt.StrictReconfig {
			return nil
		}
		return c.MayPromote(id)
	})
	if err != nil {
		return nil, err
	}
	if err := m.changeMembers(ctx, cluster.Promote(id)); err != nil {
		return nil, err
	}
	return m.Members(), nil
}

// inSync says whether the leader sees a learner close enough behind.
func (m *Member) inSync(id uint64) error {
	status := m.loop.raftStatus()
	for _, p := range status.Peers {
		if p.ID == id {
			return cluster.CheckInSync(p.Match, status.LastIndex)
		}
	}
	return cluster.ErrLearnerNotReady
}

// exists says whether a change is about a member that is there.
func exists(c *cluster.Cluster, id uint64) error {
	if _, ok := c.Member(id); !ok {
		return cluster.ErrNotFound
	}
	return nil
}

func (m *Member) mayChange(ask func(*cluster.Cluster) error) error {
	m.state.RLock()
	defer m.state.RUnlock()
	return ask(m.machine.Cluster)
}

// membershipChanged takes note of an applied change. Applier only.
func (m *Member) membershipChanged(change cluster.Change, cc raftpb.ConfChange) {
	switch change.Kind {
	case cluster.Added:
		m.peers.net.AddPeer(change.Member.ID, change.Member.PeerURLs)
		m.log.Info("added member", "cluster-id", ids.Text(m.clusterID), "local-member-id", ids.Text(m.id),
			"added-peer-id", ids.Text(change.Member.ID), "added-peer-peer-urls", change.Member.PeerURLs, "added-peer-is-learner", change.Member.IsLearner)
	case cluster.Removed:
		m.log.Info("removed member", "cluster-id", ids.Text(m.clusterID), "local-member-id", ids.Text(m.id),
			"removed-remote-peer-id", ids.Text(change.Member.ID), "removed-remote-peer-urls", change.Member.PeerURLs, "removed-remote-peer-is-learner", change.Member.IsLearner)
		m.peers.removed(change.Member.ID)
	case cluster.Promoted:
		m.log.Info("promote member", "cluster-id", ids.Text(m.clusterID), "local-member-id", ids.Text(m.id), "promoted-member-id", ids.Text(change.Member.ID))
	case cluster.Updated:
		m.peers.net.UpdatePeer(change.Member.ID, change.Member.PeerURLs)
		m.log.Info("updated member", "cluster-id", ids.Text(m.clusterID), "local-member-id", ids.Text(m.id), "updated-remote-peer-id", ids.Text(change.Member.ID), "updated-remote-peer-urls", change.Member.PeerURLs)
	}
}

// ErrRemoved says that this member does not belong to the cluster any more.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster")

// Status describes the member.
func (m *Member) Status(context.Context) (*pb.StatusResponse, error) {
	status := m.loop.raftStatus()
	resp := &pb.StatusResponse{
		Version: version.Etcd, DbSize: m.backend.Size(), DbSizeInUse: m.backend.SizeInUse(), DbSizeQuota: m.opt.quota(),
		Leader: m.Leader(), RaftIndex: status.Committed, RaftTerm: status.Term, RaftAppliedIndex: m.applied.load(),
		IsLearner: status.Learner,
	}
	if v := *m.storage.Load(); !v.IsZero() {
		resp.StorageVersion = v.String()
	}
	if resp.Leader == 0 {
		resp.Errors = append(resp.Errors, ErrNoLeader.Error())
	}
	m.state.RLock()
	defer m.state.RUnlock()
	for _, a := range m.machine.Alarms.Get(pb.AlarmType_NONE) {
		resp.Errors = append(resp.Errors, a.Proto().String())
	}
	d := m.machine.Cluster.Downgrade()
	resp.DowngradeInfo = &pb.DowngradeInfo{Enabled: d.Enabled, TargetVersion: d.Target}
	return resp, nil
}

// Alarm lists, raises or clears alarms.
func (m *Member) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	if err := alarm.Check(r); err != nil {
		return nil, err
	}
	err := m.check(ctx, func(v *auth.View, c auth.Caller) error { return v.CheckAlarm(c, r.Action == pb.AlarmRequest_GET) })
	if err != nil {
		return nil, err
	}
	res, err := m.proposeAs(ctx, m.root(), &pb.InternalRaftRequest{Alarm: r})
	if err != nil {
		return nil, err
	}
	return res.Resp.(*pb.AlarmResponse), nil
}

// Alarms lists the active alarms.
func (m *Member) Alarms() []*pb.AlarmMember {
	m.state.RLock()
	defer m.state.RUnlock()
	var out []*pb.AlarmMember
	for _, a := range m.machine.Alarms.Get(pb.AlarmType_NONE) {
		out = append(out, a.Proto())
	}
	return out
}

// Hash is the hash of the whole backend, and the revision it was taken at.
func (m *Member) Hash(ctx context.Context) (uint32, int64, error) {
	rev := m.Rev()
	if err := m.flusher.flush(ctx); err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	sum, err := m.backend.Hash(backend.IgnoredByHash)
	m.meters.MVCC.Hash.Observe(time.Since(begun).Seconds())
	return sum, rev, err
}

// HashKV hashes the history up to a revision.
func (m *Member) HashKV(_ context.Context, rev int64) (*pb.HashKVResponse, error) {
	v := m.View()
	defer v.Close()
	begun := time.Now()
	h, err := v.HashKV(rev)
	m.meters.MVCC.HashRev.Observe(time.Since(begun).Seconds())
	if err != nil {
		m.log.Warn("failed to get hashKV", "requested-revision", rev, "error", err)
		return nil, err
	}
	return &pb.HashKVResponse{
		Header: &pb.ResponseHeader{Revision: v.Rev()}, Hash: h.Hash, HashRevision: h.Rev, CompactRevision: h.CompactRev,
	}, nil
}

// Snapshot opens a copy of everything applied by now, followed by its SHA-256.
func (m *Member) Snapshot(ctx context.Context) (io.ReadCloser, int64, string, error) {
	if err := m.flusher.flush(ctx); err != nil {
		return nil, 0, "", err
	}
	s, err := m.backend.Snapshot()
	if err != nil {
		return nil, 0, "", err
	}
	v := ""
	if stored := *m.storage.Load(); !stored.IsZero() {
		v = stored.String()
	}
	return signed(s, m.meters.Disk.BackendSnapshot.Observe), s.Size() + sha256.Size, v, nil
}

// signed streams a snapshot and then its digest. Nothing is read ahead of the
// reader but one buffer of the copy. done is told the seconds it took.
func signed(s backend.Snapshot, done func(seconds float64)) io.ReadCloser {
	r, w := io.Pipe()
	begun := time.Now()
	go func() {
		defer func() { done(time.Since(begun).Seconds()) }()
		sum := sha256.New()
		_, err := s.WriteTo(io.MultiWriter(w, hash.Hash(sum)))
		s.Close()
		if err == nil {
			_, err = w.Write(sum.Sum(nil))
		}
		w.CloseWithError(err)
	}()
	return r
}

// MoveLeader hands the leadership to another member and waits until it has it.
func (m *Member) MoveLeader(ctx context.Context, to uint64) error {
	if !m.IsLeader() {
		return ErrNotLeader
	}
	m.state.RLock()
	target, ok := m.machine.Cluster.Member(to)
	m.state.RUnlock()
	if !ok || target.IsLearner {
		return ErrBadTransferee
	}
	if to == m.id {
		return nil
	}
	m.loop.add(func(in *inbox) { in.transferTo = to })
	ctx, cancel := context.WithTimeout(ctx, time.Duration(m.opt.ElectionTicks)*m.opt.Tick)
	defer cancel()
	for m.Leader() != to {
		if err := sleep(ctx, m.opt.Tick); err != nil {
			return ErrTransferTimeout
		}
	}
	return nil
}

// Outcomes of moving the leadership.
var (
	ErrNotLeader       = errors.New("etcdserver: not leader")
	ErrBadTransferee   = errors.New("etcdserver: bad leader transferee")
	ErrTransferTimeout = errors.New("etcdserver: request timed out, leader transfer took too long")
)

// ErrUnknownMethod answers a downgrade request of an unknown action.
var ErrUnknownMethod = errors.New("etcdserver: unknown method")

// Downgrade validates, begins or cancels a downgrade of the cluster.
func (m *Member) Downgrade(ctx context.Context, r *pb.DowngradeRequest) (*pb.DowngradeResponse, error) {
	if err := m.LinearizableRead(ctx); err != nil {
		return nil, err
	}
	m.state.RLock()
	current := m.machine.Cluster.Version()
	m.state.RUnlock()
	var err error
	switch r.Action {
	case pb.DowngradeRequest_VALIDATE:
		_, err = m.checkDowngrade(r.Version)
	case pb.DowngradeRequest_ENABLE:
		var target cluster.Version
		if target, err = m.checkDowngrade(r.Version); err == nil {
			err = m.setDowngrade(ctx, true, target.String())
		}
	case pb.DowngradeRequest_CANCEL:
		err = m.setDowngrade(ctx, false, "")
	default:
		err = ErrUnknownMethod
	}
	if err != nil {
		return nil, err
	}
	return &pb.DowngradeResponse{Version: current.Short()}, nil
}

func (m *Member) checkDowngrade(text string) (cluster.Version, error) {
	target, err := cluster.ParseTarget(text)
	if err != nil {
		return target, err
	}
	m.state.RLock()
	defer m.state.RUnlock()
	return target, m.machine.Cluster.CheckDowngrade(target)
}

// ClusterVersion is what all members speak, zero until it is decided.
func (m *Member) ClusterVersion() cluster.Version {
	m.state.RLock()
	defer m.state.RUnlock()
	return m.machine.Cluster.Version()
}

// StorageVersion is the version of the backend file, zero if unknown.
func (m *Member) StorageVersion() cluster.Version { return *m.storage.Load() }

// IsLearner reports whether this member does not vote.
func (m *Member) IsLearner() bool {
	m.state.RLock()
	defer m.state.RUnlock()
	me, ok := m.machine.Cluster.Member(m.id)
	return ok && me.IsLearner
}

// IsCorrupt reports whether a member is known to differ from the others.
func (m *Member) IsCorrupt() bool {
	return slices.ContainsFunc(m.Alarms(), func(a *pb.AlarmMember) bool { return a.Alarm == pb.AlarmType_CORRUPT })
}

var _ = mvcc.Never
