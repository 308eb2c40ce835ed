package member

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/version"
	"github.com/steledb/stele/internal/core/cluster"
)

// publisher tells the cluster this member's name and client URLs after each
// start, and as leader sees to the cluster version.
type publisher struct {
	m    *Member
	done chan struct{} // closed once published
}

// versionRound is how often the leader looks at the cluster version.
const versionRound = 4 * time.Second

func (p *publisher) run(stop <-chan struct{}) {
	ctx, cancel := untilClosed(stop)
	defer cancel()
	if !p.publish(ctx) {
		return
	}
	p.m.decideVersion(ctx) // a founder serves with the version settled
	close(p.done)
	ticker := time.NewTicker(versionRound)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.m.decideVersion(ctx)
		case <-stop:
			return
		}
	}
}

// publish proposes the attributes until they are in.
func (p *publisher) publish(ctx context.Context) bool {
	m := p.m
	attributes := cluster.Attributes{Name: m.opt.Name, ClientURLs: m.opt.ClientURLs}
	text, _ := json.Marshal(attributes)
	for {
		_, err := m.proposeAs(ctx, m.root(), &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
			Member_ID:        m.id,
			MemberAttributes: &membershippb.Attributes{Name: attributes.Name, ClientUrls: attributes.ClientURLs},
		}})
		switch {
		case err == nil:
			m.log.Info("published local member to cluster through raft", "local-member-id", ids.Text(m.id),
				"local-member-attributes", string(text), "cluster-id", ids.Text(m.clusterID), "publish-timeout", m.opt.RequestTimeout())
			return true
		case errors.Is(err, ErrStopped), ctx.Err() != nil:
			return false
		}
		m.log.Warn("failed to publish local member to cluster through raft", "local-member-id", ids.Text(m.id),
			"local-member-attributes", string(text), "publish-timeout", m.opt.RequestTimeout(), "error", err)
		if sleep(ctx, roundRetry) != nil {
			return false
		}
	}
}

// serverVersion is the version this member speaks.
var serverVersion = func() cluster.Version {
	v, err := cluster.ParseVersion(version.Etcd)
	if err != nil {
		panic(err)
	}
	return v
}()

// decideVersion proposes the cluster version that all members can speak, when
// this member leads.
func (m *Member) decideVersion(ctx context.Context) {
	if !m.IsLeader() {
		return
	}
	versions := m.memberVersions(ctx)
	m.state.RLock()
	next, ok := m.machine.Cluster.DecideVersion(versions)
	current := m.machine.Cluster.Version()
	downgraded := m.machine.Cluster.Downgrade().Enabled && m.machine.Cluster.IsDowngraded(versions)
	m.state.RUnlock()
	if downgraded {
		if err := m.setDowngrade(ctx, false, ""); err != nil && !errors.Is(err, ErrStopped) {
			m.log.Warn("failed to cancel downgrade", "error", err)
		}
	}
	if !ok {
		return
	}
	if current.IsZero() {
		m.log.Info("setting up initial cluster version using v3 API", "cluster-version", next.Short())
	} else {
		m.log.Info("updating cluster version using v3 API", "from", current.Short(), "to", next.Short())
	}
	_, err := m.proposeAs(ctx, m.root(), &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: next.String()}})
	if err != nil && !errors.Is(err, ErrStopped) {
		m.log.Error("failed to update cluster version", "cluster-version", next.Short(), "error", err)
	}
}

// versionChanged brings the backend file to the cluster's version, in the
// commit that carries the new version. The state lock is held.
func (m *Member) versionChanged(term uint64) {
	v := m.machine.Cluster.Version()
	m.log.Info("cluster version is updated", "cluster-version", v.Short())
	m.log.Info("enabled capabilities for version", "cluster-version", v.Short())
	m.migrateStorage(term)
}

// migrateStorage is also called at start, for a file whose last server did not
// come to it. The state lock is held.
func (m *Member) migrateStorage(term uint64) {
	v := m.machine.Cluster.Version()
	if v.IsZero() {
		return
	}
	stored := *m.storage.Load()
	ops, err := cluster.MigrateStorage(stored, v, term)
	if err != nil {
		m.log.Error("failed to update storage version", "cluster-version", v.Short(), "error", err)
		return
	}
	if len(ops) == 0 {
		return
	}
	m.machine.Keep(ops...)
	m.storage.Store(&v)
	m.log.Info("updated storage version", "new-storage-version", v.String())
}

// setDowngrade proposes the start or the end of a downgrade.
func (m *Member) setDowngrade(ctx context.Context, enabled bool, target string) error {
	_, err := m.proposeAs(ctx, m.root(), &pb.InternalRaftRequest{DowngradeInfoSet: &membershippb.DowngradeInfoSetRequest{Enabled: enabled, Ver: target}})
	return err
}
