package apply

import (
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/kv"
)

// Outcomes of the gates. Texts are those clients of etcd see.
var (
	ErrNoSpace = errors.New("etcdserver: mvcc: database space exceeded")
	ErrCorrupt = errors.New("etcdserver: corrupt cluster")
)

// gate may turn a request down before it changes anything.
type gate struct {
	name  string
	admit func(m *Machine, r *pb.InternalRaftRequest) error
}

// gates in the order in which they are asked. Corruption wins over a lack of
// space, and both over permissions: alarms are about the store as a whole.
var gates = []gate{
	{"corrupt", gateCorrupt},
	{"space", gateSpace},
	{"permission", gatePermission},
}

func (m *Machine) admit(r *pb.InternalRaftRequest) error {
	for _, g := range gates {
		if err := g.admit(m, r); err != nil {
			return err
		}
	}
	return nil
}

// gateCorrupt keeps everything that changes keys or leases away from a store
// that is known to differ between members.
func gateCorrupt(m *Machine, r *pb.InternalRaftRequest) error {
	if !m.Alarms.Has(pb.AlarmType_CORRUPT) {
		return nil
	}
	if r.Put != nil || r.DeleteRange != nil || r.Txn != nil || r.Compaction != nil || r.LeaseGrant != nil || r.LeaseRevoke != nil || r.Range != nil {
		return ErrCorrupt
	}
	return nil
}

// gateSpace stops growth while any member is out of space. What frees space
// (deletes, compaction, revocation) goes on.
func gateSpace(m *Machine, r *pb.InternalRaftRequest) error {
	if !m.Alarms.Has(pb.AlarmType_NOSPACE) {
		return nil
	}
	if r.Put != nil || r.LeaseGrant != nil || r.Txn != nil && kv.HasPut(r.Txn) {
		return ErrNoSpace
	}
	return nil
}

// Costs of what a request adds to the backend beyond its own bytes. They are
// estimates: a record's key, its metadata and the page it is on.
const (
	recordOverheadBytes = 512
	leaseOverheadBytes  = 64
)

// Cost estimates how many bytes a request adds to the backend.
func Cost(r *pb.InternalRaftRequest) int64 {
	switch {
	case r.Put != nil:
		return recordOverheadBytes + int64(len(r.Put.Key)+len(r.Put.Value))
	case r.Txn != nil:
		return txnCost(r.Txn)
	case r.LeaseGrant != nil:
		return leaseOverheadBytes
	}
	return 0
}

// txnCost is the cost of the dearer branch.
func txnCost(r *pb.TxnRequest) int64 {
	return max(opsCost(r.Success), opsCost(r.Failure))
}

func opsCost(ops []*pb.RequestOp) (sum int64) {
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			sum += recordOverheadBytes + int64(len(p.Key)+len(p.Value))
		}
		if t := op.GetRequestTxn(); t != nil {
			sum += txnCost(t)
		}
	}
	return sum
}

func (m *Machine) isOverQuota(r *pb.InternalRaftRequest) bool {
	cost := Cost(r)
	return cost > 0 && m.opt.OverQuota != nil && m.opt.OverQuota(cost)
}
