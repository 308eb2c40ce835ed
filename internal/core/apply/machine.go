// Package apply turns committed entries into state: one entry in, one result
// out, the same on every member.
//
// Machine owns everything that is replicated: the store, leases, alarms,
// membership and auth. It is deterministic: given the same entries it reaches
// the same state and collects the same bucket changes. What it leaves to its
// shell: decoding order, publishing views, telling watchers and waiters, and
// moving records and bucket changes to disk.
//
// A request passes the gates of gates.go before it may change anything; a
// request that a gate turns down is an applied entry all the same.
package apply

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/alarm"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/lease"
	"github.com/steledb/stele/internal/core/mvcc"
)

// Machine is the replicated state of one member. It is not safe for concurrent
// use: one applier calls Apply, and whoever reads leases, alarms, membership or
// auth beside it holds the lock that the shell keeps around it. Views of the
// store need no lock.
type Machine struct {
	Store   *mvcc.Store
	Leases  *lease.Lessor
	Alarms  *alarm.Set
	Cluster *cluster.Cluster
	Auth    *auth.Store

	opt Options
	ops []bucket.Op // collected since TakeOps
}

// Options are the local settings that applying depends on. They must be equal
// on all members where they change a result (checkpoints), or concern only
// what this member answers (quota).
type Options struct {
	// PersistCheckpoints stores the remaining time of leases.
	PersistCheckpoints bool
	// OverQuota reports whether a request of this many bytes is more than the
	// backend may hold; nil for no quota.
	OverQuota func(bytes int64) bool
}

// New returns a machine over loaded parts.
func New(parts Machine, opt Options) *Machine {
	m := &parts
	m.opt = opt
	return m
}

// Result is what became of one entry.
type Result struct {
	Resp proto.Message // the response, nil with Err
	Err  error         // an outcome for the client; the entry is applied all the same

	Changes []mvcc.Change // events for watchers, all of one revision
	Compact *Compaction   // a compaction was begun
	// Alarmed and Membership say that something others may wait for changed.
	Alarmed bool
}

// Compaction is work that an applied Compact leaves to the background.
type Compaction struct {
	Prev, Rev int64 // previous and new compact revision
}

// Entry is where and when a request is applied.
type Entry struct {
	Index, Term uint64
	Now         time.Time // local: leases count from it on the primary
	Answer      bool      // somebody at this member waits for the result
}

// TakeOps returns the bucket changes collected since the last call.
func (m *Machine) TakeOps() []bucket.Op {
	ops := m.ops
	m.ops = nil
	return ops
}

// Keep adds bucket changes that do not come from a request.
func (m *Machine) Keep(ops ...bucket.Op) { m.ops = append(m.ops, ops...) }

// Apply carries out one request.
func (m *Machine) Apply(at Entry, r *pb.InternalRaftRequest) Result {
	if err := m.admit(r); err != nil {
		return Result{Err: err}
	}
	full := m.isOverQuota(r) // before the request itself takes room
	res := m.dispatch(at, r)
	if res.Err == nil && full {
		// The change is made on every member alike; only this member's answer
		// says that its disk is full.
		res.Err = ErrNoSpace
	}
	return res
}

// dispatch calls the handler of the one request that is set.
func (m *Machine) dispatch(at Entry, r *pb.InternalRaftRequest) Result {
	switch {
	case r.Put != nil:
		return m.applyPut(r.Put)
	case r.Txn != nil:
		return m.applyTxn(r.Txn)
	case r.DeleteRange != nil:
		return m.applyDeleteRange(r.DeleteRange)
	case r.Range != nil:
		return m.applyRange(r.Range)
	case r.Compaction != nil:
		return m.applyCompaction(r.Compaction)
	case r.LeaseGrant != nil:
		return m.applyLeaseGrant(at, r.LeaseGrant)
	case r.LeaseRevoke != nil:
		return m.applyLeaseRevoke(r.LeaseRevoke)
	case r.LeaseCheckpoint != nil:
		return m.applyLeaseCheckpoint(at, r.LeaseCheckpoint)
	case r.Alarm != nil:
		return m.applyAlarm(r.Alarm)
	case r.ClusterVersionSet != nil, r.ClusterMemberAttrSet != nil, r.DowngradeInfoSet != nil:
		return m.applyCluster(r)
	case auth.Handles(r):
		return m.applyAuth(at, r)
	case r.DowngradeVersionTest != nil:
		return Result{} // exists for tests of other versions, changes nothing
	}
	return Result{Err: fmt.Errorf("apply: entry %d holds no request known here", at.Index)}
}

// header is a response header that names the current revision; the edge fills
// in the rest.
func (m *Machine) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: m.Store.Rev()}
}
