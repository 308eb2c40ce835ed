package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/core/cluster"
)

func (m *Machine) applyAlarm(r *pb.AlarmRequest) Result {
	about, ops, err := m.Alarms.Apply(r)
	if err != nil {
		return Result{Err: err}
	}
	m.Keep(ops...)
	resp := &pb.AlarmResponse{Header: m.header()}
	for _, a := range about {
		resp.Alarms = append(resp.Alarms, a.Proto())
	}
	return Result{Resp: resp, Alarmed: r.Action != pb.AlarmRequest_GET}
}

// applyCluster handles what members say to each other about themselves.
func (m *Machine) applyCluster(r *pb.InternalRaftRequest) Result {
	switch {
	case r.ClusterVersionSet != nil:
		v, err := cluster.ParseVersion(r.ClusterVersionSet.Ver)
		if err != nil {
			return Result{Err: err}
		}
		m.Keep(m.Cluster.SetVersion(v)...)
	case r.ClusterMemberAttrSet != nil:
		set := r.ClusterMemberAttrSet
		ops, _ := m.Cluster.SetAttributes(set.Member_ID, cluster.Attributes{
			Name: set.MemberAttributes.GetName(), ClientURLs: set.MemberAttributes.GetClientUrls(),
		})
		m.Keep(ops...)
	case r.DowngradeInfoSet != nil:
		set := r.DowngradeInfoSet
		m.Keep(m.Cluster.SetDowngrade(cluster.Downgrade{Target: set.Ver, Enabled: set.Enabled})...)
	}
	return Result{}
}

// ApplyV2 carries out what etcd 3.4 and 3.5 wrote about members in the form of
// requests to the v2 store.
func (m *Machine) ApplyV2(r cluster.V2Request) error {
	ops, err := m.Cluster.ApplyV2(r)
	m.Keep(ops...)
	return err
}

// ApplyConfChange carries out a membership change on the membership. The
// change that comes back is what raft must be told: an invalid one is turned
// into one that changes nobody.
func (m *Machine) ApplyConfChange(cc raftpb.ConfChange) (cluster.Change, raftpb.ConfChange, error) {
	change, ops, err := m.Cluster.Apply(cc)
	if err != nil {
		cc.NodeID = 0
		return cluster.Change{}, cc, err
	}
	m.Keep(ops...)
	return change, cc, nil
}
