package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/lease"
)

func (m *Machine) applyLeaseGrant(at Entry, r *pb.LeaseGrantRequest) Result {
	ttl, ops, err := m.Leases.Grant(r.ID, r.TTL, at.Now)
	if err != nil {
		return Result{Err: err}
	}
	m.Keep(ops...)
	return Result{Resp: &pb.LeaseGrantResponse{Header: m.header(), ID: r.ID, TTL: ttl}}
}

// applyLeaseRevoke ends a lease and deletes its keys in one revision. Without
// keys the revision stays.
func (m *Machine) applyLeaseRevoke(r *pb.LeaseRevokeRequest) Result {
	keys, ops, err := m.Leases.Revoke(r.ID)
	if err != nil {
		return Result{Err: err}
	}
	m.Keep(ops...)
	txn := m.Store.Begin()
	for _, key := range keys {
		txn.Delete(key)
	}
	changes := txn.Commit()
	return Result{Resp: &pb.LeaseRevokeResponse{Header: m.header()}, Changes: changes}
}

func (m *Machine) applyLeaseCheckpoint(at Entry, r *pb.LeaseCheckpointRequest) Result {
	for _, c := range r.Checkpoints {
		ops, err := m.Leases.Checkpoint(lease.Checkpoint{ID: c.ID, Remaining: c.Remaining_TTL}, m.opt.PersistCheckpoints, at.Now)
		if err != nil {
			return Result{Err: err}
		}
		m.Keep(ops...)
	}
	return Result{Resp: &pb.LeaseCheckpointResponse{Header: m.header()}}
}
