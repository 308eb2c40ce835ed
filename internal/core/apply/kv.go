package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/kv"
	"github.com/steledb/stele/internal/core/mvcc"
)

func (m *Machine) applyPut(r *pb.PutRequest) Result {
	txn := m.Store.Begin()
	resp, err := kv.Put(txn, m.Leases, r)
	if err != nil {
		txn.Abort()
		return Result{Err: err}
	}
	return Result{Resp: resp, Changes: txn.Commit()}
}

func (m *Machine) applyDeleteRange(r *pb.DeleteRangeRequest) Result {
	txn := m.Store.Begin()
	resp, err := kv.DeleteRange(txn, m.Leases, r)
	if err != nil {
		txn.Abort()
		return Result{Err: err}
	}
	return Result{Resp: resp, Changes: txn.Commit()}
}

func (m *Machine) applyTxn(r *pb.TxnRequest) Result {
	txn := m.Store.Begin()
	resp, err := kv.Txn(txn, m.Leases, r)
	if err != nil {
		txn.Abort()
		return Result{Err: err}
	}
	return Result{Resp: resp, Changes: txn.Commit()}
}

// applyRange serves a read that went through the log. No current version
// proposes one; old logs may hold them.
func (m *Machine) applyRange(r *pb.RangeRequest) Result {
	txn := m.Store.Begin()
	defer txn.Abort()
	resp, err := kv.Range(txn, r)
	return Result{Resp: resp, Err: err}
}

// applyCompaction makes everything before a revision unreadable. Deleting it
// is left to the background; the scheduled revision is stored first, so that
// an interrupted deletion is found and finished at the next start.
func (m *Machine) applyCompaction(r *pb.CompactionRequest) Result {
	prev := m.Store.CompactRev()
	if err := m.Store.Compact(r.Revision); err != nil {
		return Result{Err: err}
	}
	m.Keep(bucket.Put(bucket.Meta, []byte(bucket.ScheduledCompactRev), mvcc.Rev{Main: r.Revision}.AppendKey(nil, false)))
	return Result{
		Resp:    &pb.CompactionResponse{Header: m.header()},
		Compact: &Compaction{Prev: prev, Rev: r.Revision},
	}
}
