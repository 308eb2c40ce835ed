package member

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/base/metrics"
	"github.com/steledb/stele/internal/core/apply"
)

// meters are the member's measurements. What happens often is counted by its
// owner in plain integers and added once a run; what can be asked for is asked
// for when somebody looks (sample). So measuring costs a request two readings
// of the clock and two additions to a histogram.
type meters struct {
	*metrics.Metrics

	applied  [opsCount]*metrics.Outcomes // time to apply, by kind of request
	answered [opsCount]*metrics.Outcomes // time from proposal to result; nil where etcd has none

	mu      sync.Mutex
	events  uint64            // guarded by mu; events of the watch hub counted so far
	version string            // guarded by mu; cluster version shown
	alarms  map[[2]string]int // guarded by mu; alarms shown, by member and type
}

// op is a kind of request, as metrics name it.
type op int

const (
	opUnknown op = iota
	opRange
	opPut
	opDeleteRange
	opTxn
	opCompaction
	opLeaseGrant
	opLeaseRevoke
	opLeaseCheckpoint
	opAlarm
	opClusterVersionSet
	opClusterMemberAttrSet
	opDowngradeInfoSet
	opAuthenticate
	opAuthEnable
	opAuthDisable
	opAuthStatus
	opAuthUserAdd
	opAuthUserDelete
	opAuthUserChangePassword
	opAuthUserGrantRole
	opAuthUserRevokeRole
	opAuthUserGet
	opAuthUserList
	opAuthRoleAdd
	opAuthRoleDelete
	opAuthRoleGrantPermission
	opAuthRoleRevokePermission
	opAuthRoleGet
	opAuthRoleList
	opsCount
)

// opNames are the values of the labels "op" and "type". Of those that are not
// timed etcd measures only applying.
var opNames = [opsCount]struct {
	name  string
	timed bool
}{
	opUnknown: {"unknown", false},
	opRange:   {"Range", false}, opPut: {"Put", true}, opDeleteRange: {"DeleteRange", true}, opTxn: {"Txn", true},
	opCompaction: {"Compaction", false}, opLeaseGrant: {"LeaseGrant", true}, opLeaseRevoke: {"LeaseRevoke", true},
	opLeaseCheckpoint: {"LeaseCheckpoint", false}, opAlarm: {"Alarm", true},
	opClusterVersionSet: {"ClusterVersionSet", true}, opClusterMemberAttrSet: {"ClusterMemberAttrSet", true},
	opDowngradeInfoSet: {"DowngradeInfoSet", true},
	opAuthenticate:     {"Authenticate", false}, opAuthEnable: {"AuthEnable", false}, opAuthDisable: {"AuthDisable", false},
	opAuthStatus: {"AuthStatus", false}, opAuthUserAdd: {"AuthUserAdd", false}, opAuthUserDelete: {"AuthUserDelete", false},
	opAuthUserChangePassword: {"AuthUserChangePassword", false}, opAuthUserGrantRole: {"AuthUserGrantRole", false},
	opAuthUserRevokeRole: {"AuthUserRevokeRole", false}, opAuthUserGet: {"AuthUserGet", false}, opAuthUserList: {"AuthUserList", false},
	opAuthRoleAdd: {"AuthRoleAdd", false}, opAuthRoleDelete: {"AuthRoleDelete", false},
	opAuthRoleGrantPermission: {"AuthRoleGrantPermission", false}, opAuthRoleRevokePermission: {"AuthRoleRevokePermission", false},
	opAuthRoleGet: {"AuthRoleGet", false}, opAuthRoleList: {"AuthRoleList", false},
}

// opOf names a request; the frequent ones come first.
func opOf(r *pb.InternalRaftRequest) op {
	switch {
	case r.Put != nil:
		return opPut
	case r.Txn != nil:
		return opTxn
	case r.DeleteRange != nil:
		return opDeleteRange
	case r.Range != nil:
		return opRange
	case r.Compaction != nil:
		return opCompaction
	case r.LeaseGrant != nil:
		return opLeaseGrant
	case r.LeaseRevoke != nil:
		return opLeaseRevoke
	case r.LeaseCheckpoint != nil:
		return opLeaseCheckpoint
	case r.Alarm != nil:
		return opAlarm
	case r.ClusterVersionSet != nil:
		return opClusterVersionSet
	case r.ClusterMemberAttrSet != nil:
		return opClusterMemberAttrSet
	case r.DowngradeInfoSet != nil:
		return opDowngradeInfoSet
	}
	return authOpOf(r)
}

func authOpOf(r *pb.InternalRaftRequest) op {
	switch {
	case r.Authenticate != nil:
		return opAuthenticate
	case r.AuthEnable != nil:
		return opAuthEnable
	case r.AuthDisable != nil:
		return opAuthDisable
	case r.AuthStatus != nil:
		return opAuthStatus
	case r.AuthUserAdd != nil:
		return opAuthUserAdd
	case r.AuthUserDelete != nil:
		return opAuthUserDelete
	case r.AuthUserChangePassword != nil:
		return opAuthUserChangePassword
	case r.AuthUserGrantRole != nil:
		return opAuthUserGrantRole
	case r.AuthUserRevokeRole != nil:
		return opAuthUserRevokeRole
	case r.AuthUserGet != nil:
		return opAuthUserGet
	case r.AuthUserList != nil:
		return opAuthUserList
	case r.AuthRoleAdd != nil:
		return opAuthRoleAdd
	case r.AuthRoleDelete != nil:
		return opAuthRoleDelete
	case r.AuthRoleGrantPermission != nil:
		return opAuthRoleGrantPermission
	case r.AuthRoleRevokePermission != nil:
		return opAuthRoleRevokePermission
	case r.AuthRoleGet != nil:
		return opAuthRoleGet
	case r.AuthRoleList != nil:
		return opAuthRoleList
	}
	return opUnknown
}

func newMeters(m *metrics.Metrics) *meters {
	if m == nil {
		m = metrics.New(metrics.Options{})
	}
	out := &meters{Metrics: m, alarms: map[[2]string]int{}}
	for o, info := range opNames {
		out.applied[o] = metrics.NewOutcomes(m.Server.ApplyDuration, prometheus.Labels{"version": "v3", "op": info.name})
		if info.timed {
			out.answered[o] = metrics.NewOutcomes(m.Server.Request, prometheus.Labels{"type": info.name})
		}
	}
	return out
}

// answer notes how a proposal of this member ended.
func (m *meters) answer(o op, took time.Duration, err error) {
	if s := m.answered[o]; s != nil {
		s.Observe(err == nil, took)
	}
}

// tally counts what the entries of a run did to the store. Owned by the applier.
type tally struct {
	puts, putBytes, deletes, ranges, txns int
	leasesGranted, leasesRevoked          int
}

// add counts one applied request.
func (t *tally) add(o op, r *pb.InternalRaftRequest, res *apply.Result, m *meters) {
	before := t.puts + t.deletes + t.ranges
	switch o {
	case opPut:
		t.put(r.Put)
	case opDeleteRange:
		t.delete(r.DeleteRange)
	case opRange:
		t.ranges++
	case opTxn:
		t.txn(r.Txn, res.Resp)
	case opLeaseGrant:
		t.leasesGranted++
		if granted, ok := res.Resp.(*pb.LeaseGrantResponse); ok {
			m.Lease.TTL.Observe(float64(granted.TTL))
		}
	case opLeaseRevoke:
		t.leasesRevoked++
		t.deletes += len(res.Changes)
	}
	if t.puts+t.deletes+t.ranges > before+1 {
		t.txns++ // as etcd counts: what does more than one thing
	}
}

func (t *tally) put(r *pb.PutRequest) {
	t.puts++
	t.putBytes += len(r.Key) + len(r.Value)
	if r.PrevKv || r.IgnoreValue || r.IgnoreLease {
		t.ranges++
	}
}

func (t *tally) delete(r *pb.DeleteRangeRequest) {
	t.deletes++
	if r.PrevKv {
		t.ranges++
	}
}

// txn counts the branch that was taken.
func (t *tally) txn(r *pb.TxnRequest, resp proto.Message) {
	taken, ok := resp.(*pb.TxnResponse)
	if !ok {
		return
	}
	ops := r.Success
	if !taken.Succeeded {
		ops = r.Failure
	}
	for i, o := range ops {
		switch o := o.Request.(type) {
		case *pb.RequestOp_RequestPut:
			t.put(o.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			t.delete(o.RequestDeleteRange)
		case *pb.RequestOp_RequestRange:
			t.ranges++
		case *pb.RequestOp_RequestTxn:
			if i < len(taken.Responses) {
				t.txn(o.RequestTxn, taken.Responses[i].GetResponseTxn())
			}
		}
	}
}

// flush adds the run's counts to what is shown.
func (t *tally) flush(m *meters) {
	for _, c := range []struct {
		n  int
		to interface{ Add(float64) }
	}{
		{t.puts, m.MVCC.Puts}, {t.putBytes, m.MVCC.TotalPutSize}, {t.deletes, m.MVCC.Deletes},
		{t.ranges, m.MVCC.Ranges}, {t.txns, m.MVCC.Txns},
		{t.leasesGranted, m.Lease.Granted}, {t.leasesRevoked, m.Lease.Revoked},
	} {
		if c.n > 0 {
			c.to.Add(float64(c.n))
		}
	}
	*t = tally{}
}

// judge tells of requests that took too long to apply, or failed.
func (a *applier) judge(r *pb.InternalRaftRequest, res *apply.Result, took time.Duration) {
	m := a.m
	if limit := m.opt.WarnApply; limit > 0 && took > limit {
		m.meters.Server.SlowApplies.Inc()
		m.log.Warn("apply request took too long", "took", took, "expected-duration", limit, "prefix", "",
			"request", (&pb.InternalRaftStringer{Request: r}).String(), "response", responseText(res), "error", res.Err)
	}
	if res.Err != nil {
		m.log.Warn("failed to apply request", "took", took,
			"request", (&pb.InternalRaftStringer{Request: r}).String(), "response", responseText(res), "error", res.Err)
	}
}

// responseText says how large a response is; its content is the client's.
func responseText(res *apply.Result) string {
	if res.Resp == nil {
		return ""
	}
	return fmt.Sprintf("size:%d", proto.Size(res.Resp))
}

// sample sets what is cheaper to ask for than to follow. It is called for each
// scrape.
func (m *Member) sample() {
	select {
	case <-m.stopping:
		return
	default:
	}
	m.sampleRaft()
	m.sampleStore()
	m.sampleState()
	m.sampleWatch()
}

func (m *Member) sampleRaft() {
	s, status, leader := &m.meters.Server, m.loop.raftStatus(), m.Leader()
	s.HasLeader.Set(one(leader != 0))
	s.IsLeader.Set(one(leader == m.id))
	s.ProposalsCommitted.Set(float64(status.Committed))
	s.ProposalsApplied.Set(float64(m.applied.load()))
	s.ProposalsPending.Set(float64(m.waiters.count()))
}

func (m *Member) sampleStore() {
	d, s := &m.meters.Disk, &m.meters.MVCC
	d.DBSize.Set(float64(m.backend.Size()))
	d.DBSizeInUse.Set(float64(m.backend.SizeInUse()))
	d.DBOpenReadTxns.Set(float64(m.backend.OpenReads()))
	view := m.View()
	defer view.Close()
	s.CurrentRev.Set(float64(view.Rev()))
	s.CompactRev.Set(float64(view.CompactRev()))
	if n, err := view.Count(keys.All(), 0); err == nil {
		s.Keys.Set(float64(n))
	}
}

// sampleState asks the machine.
func (m *Member) sampleState() {
	version, alarms := m.ClusterVersion(), m.Alarms()
	m.meters.Auth.Revision.Set(float64(m.machine.Auth.View().Revision()))
	m.meters.Server.IsLearner.Set(one(m.IsLearner()))

	t := m.meters
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := version.Short(); !version.IsZero() && text != t.version {
		t.Server.ClusterVersion.Reset()
		t.Server.ClusterVersion.WithLabelValues(text).Set(1)
		t.version = text
	}
	for label := range t.alarms {
		t.alarms[label] = 0 // cleared, unless it is still there
	}
	for _, a := range alarms {
		t.alarms[[2]string{ids.Text(a.MemberID), a.Alarm.String()}] = 1
	}
	for label, raised := range t.alarms {
		t.Server.Alarms.WithLabelValues(label[0], label[1]).Set(float64(raised))
	}
}

func (m *Member) sampleWatch() {
	stats, w := m.hub.Stats(), &m.meters.Watch
	w.Streams.Set(float64(stats.Streams))
	w.Watchers.Set(float64(stats.Watchers))
	w.SlowWatchers.Set(float64(stats.Behind))
	w.PendingEvents.Set(float64(stats.Pending))

	t := m.meters
	t.mu.Lock()
	defer t.mu.Unlock()
	if sent := stats.Events - uint64(stats.Pending); sent > t.events {
		t.MVCC.Events.Add(float64(sent - t.events))
		t.events = sent
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
