package apply_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/alarm"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/lease"
	"github.com/steledb/stele/internal/core/mvcc"
)

// noBase is an empty file.
type noBase struct{}

func (noBase) Get([]byte) []byte                            { return nil }
func (noBase) Ascend(_, _ []byte, _ func(k, v []byte) bool) {}
func (noBase) Retain()                                      {}
func (noBase) Release()                                     {}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a machine and the position of its log.
type world struct {
	t     *testing.T
	m     *apply.Machine
	index uint64
	now   time.Time
}

func newWorld(t *testing.T, opt apply.Options) *world {
	t.Helper()
	store, err := mvcc.Open(noBase{}, mvcc.Options{FinishedCompact: mvcc.Never, ScheduledCompact: mvcc.Never})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokenOptions{}, auth.Keys{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	m := apply.New(apply.Machine{
		Store: store, Leases: lease.New(lease.Options{MinTTL: 2}, start), Alarms: alarm.New(),
		Cluster: cluster.New(1, 1), Auth: auth.New(tokens, auth.Options{}),
	}, opt)
	return &world{t: t, m: m, now: start}
}

func (w *world) apply(r *pb.InternalRaftRequest) apply.Result {
	w.index++
	return w.m.Apply(apply.Entry{Index: w.index, Term: 1, Now: w.now}, r)
}

func (w *world) must(r *pb.InternalRaftRequest) apply.Result {
	w.t.Helper()
	res := w.apply(r)
	if res.Err != nil {
		w.t.Fatalf("%v: %v", r, res.Err)
	}
	return res
}

func put(key, value string, lease int64) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}
}

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put(key, "v", 0)}}
}

func deleteOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

func nestedOp(t *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: t}}
}

func raise(a pb.AlarmType) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{MemberID: 9, Action: pb.AlarmRequest_ACTIVATE, Alarm: a}}
}

func clear(a pb.AlarmType) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{MemberID: 9, Action: pb.AlarmRequest_DEACTIVATE, Alarm: a}}
}

// secure turns auth on with root and a user who may do nothing.
func (w *world) secure() {
	w.t.Helper()
	for _, r := range []*pb.InternalRaftRequest{
		{AuthUserAdd: &pb.AuthUserAddRequest{Name: "root", Options: &authpb.UserAddOptions{NoPassword: true}}},
		{AuthUserAdd: &pb.AuthUserAddRequest{Name: "guest", Options: &authpb.UserAddOptions{NoPassword: true}}},
		{AuthRoleAdd: &pb.AuthRoleAddRequest{Name: "root"}},
		{AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}},
		{AuthEnable: &pb.AuthEnableRequest{}},
	} {
		w.must(r)
	}
}

func (w *world) header(user string) *pb.RequestHeader {
	return &pb.RequestHeader{Username: user, AuthRevision: w.m.Auth.View().Revision()}
}

// Goal: which gate closes for which request, and which of several closed gates
// is the one the client hears of.
func TestGates(t *testing.T) {
	requests := []struct {
		name                   string
		r                      *pb.InternalRaftRequest
		noSpace, corrupt, free bool // turned down under NOSPACE, under CORRUPT; open to any user
	}{
		{name: "put", r: &pb.InternalRaftRequest{Put: put("k", "v", 0)}, noSpace: true, corrupt: true},
		{name: "delete", r: &pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}, corrupt: true},
		{name: "txn with put", r: &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{putOp("k")}}}, noSpace: true, corrupt: true},
		{name: "txn with put in the branch not taken", r: &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Failure: []*pb.RequestOp{putOp("k")}}}, noSpace: true, corrupt: true},
		{name: "txn with nested put", r: &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{nestedOp(&pb.TxnRequest{Failure: []*pb.RequestOp{putOp("k")}})}}}, noSpace: true, corrupt: true},
		{name: "txn with delete", r: &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{deleteOp("k")}}}, corrupt: true},
		{name: "lease grant", r: &pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: 5, TTL: 10}}, noSpace: true, corrupt: true, free: true},
		{name: "lease revoke", r: &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: 4}}, corrupt: true},
		{name: "compaction", r: &pb.InternalRaftRequest{Compaction: &pb.CompactionRequest{Revision: 1}}, corrupt: true, free: true},
		{name: "alarm", r: raise(pb.AlarmType_NONE)},
	}
	for _, tc := range requests {
		t.Run(tc.name, func(t *testing.T) {
			try := func(what string, want error, alarms ...pb.AlarmType) {
				t.Helper()
				w := newWorld(t, apply.Options{})
				w.must(&pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: 4, TTL: 10}})
				w.must(&pb.InternalRaftRequest{Put: put("k", "v", 4)})
				for _, a := range alarms {
					w.must(raise(a))
				}
				rev, ops := w.m.Store.Rev(), len(w.m.TakeOps())
				res := w.apply(tc.r)
				if !errors.Is(res.Err, want) {
					t.Errorf("%s: got %v, want %v", what, res.Err, want)
				}
				if want != nil && (w.m.Store.Rev() != rev || len(w.m.TakeOps()) > 0 || len(res.Changes) > 0) {
					t.Errorf("%s: turned down, and still something changed (%d)", what, ops)
				}
			}
			try("no alarm", nil)
			try("no space", when(tc.noSpace, apply.ErrNoSpace), pb.AlarmType_NOSPACE)
			try("corrupt", when(tc.corrupt, apply.ErrCorrupt), pb.AlarmType_CORRUPT)
			both := when(tc.corrupt, apply.ErrCorrupt)
			try("both", both, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)
		})
	}
}

func when(yes bool, err error) error {
	if yes {
		return err
	}
	return nil
}

// Goal: alarms are about the store as a whole, so they are heard of before a
// lack of rights.
func TestAlarmsBeforePermissions(t *testing.T) {
	w := newWorld(t, apply.Options{})
	w.secure()
	r := func() *pb.InternalRaftRequest {
		return &pb.InternalRaftRequest{Header: w.header("guest"), Put: put("k", "v", 0)}
	}
	want := func(want error) {
		t.Helper()
		if res := w.apply(r()); !errors.Is(res.Err, want) {
			t.Errorf("got %v, want %v", res.Err, want)
		}
	}
	want(auth.ErrPermissionDenied)
	w.must(raise(pb.AlarmType_NOSPACE))
	want(apply.ErrNoSpace)
	w.must(raise(pb.AlarmType_CORRUPT))
	want(apply.ErrCorrupt)
	w.must(clear(pb.AlarmType_CORRUPT))
	want(apply.ErrNoSpace)
	w.must(clear(pb.AlarmType_NOSPACE))
	want(auth.ErrPermissionDenied)
	if rev := w.m.Store.Rev(); rev != 1 {
		t.Errorf("revision %d after nothing but refusals", rev)
	}
}

// Goal: rights are those of the moment at which the entry is applied; a caller
// judged under older rights is told to come again.
func TestRightsAtApply(t *testing.T) {
	w := newWorld(t, apply.Options{})
	w.secure()
	asked := w.header("root")
	w.must(&pb.InternalRaftRequest{Header: w.header("root"), AuthRoleAdd: &pb.AuthRoleAddRequest{Name: "more"}})
	if res := w.apply(&pb.InternalRaftRequest{Header: asked, Put: put("k", "v", 0)}); !errors.Is(res.Err, auth.ErrOldRevision) {
		t.Errorf("got %v, want %v", res.Err, auth.ErrOldRevision)
	}
	w.must(&pb.InternalRaftRequest{Header: w.header("root"), Put: put("k", "v", 0)})
}

// Goal: a request beyond the quota is carried out like on every other member;
// only the answer here differs. Whether it fits is asked of the moment before.
func TestQuotaAtApply(t *testing.T) {
	var used, limit int64 = 0, 1000
	var w *world
	w = newWorld(t, apply.Options{OverQuota: func(bytes int64) bool { return used+w.m.Store.BufferedBytes()+bytes > limit }})
	res := w.apply(&pb.InternalRaftRequest{Put: put("k", string(make([]byte, 300)), 0)})
	if res.Err != nil {
		t.Errorf("a put that fits: %v", res.Err)
	}
	used = 900
	res = w.apply(&pb.InternalRaftRequest{Put: put("k", "v", 0)})
	if !errors.Is(res.Err, apply.ErrNoSpace) || len(res.Changes) != 1 || w.m.Store.Rev() != 3 {
		t.Errorf("a put too many: %v, %d changes, revision %d", res.Err, len(res.Changes), w.m.Store.Rev())
	}
	if res = w.apply(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}); res.Err != nil {
		t.Errorf("a delete costs nothing: %v", res.Err)
	}
	if res = w.apply(&pb.InternalRaftRequest{Put: put("k", "v", 77)}); res.Err == nil || res.Err.Error() != lease.ErrNotFound.Error() {
		t.Errorf("an outcome of its own goes before the quota: %v", res.Err)
	}
}

// Goal: the cost of a transaction is that of its dearer branch, nested ones
// included.
func TestCost(t *testing.T) {
	one := apply.Cost(&pb.InternalRaftRequest{Put: put("k", "v", 0)})
	for _, tc := range []struct {
		name string
		r    *pb.InternalRaftRequest
		want int64
	}{
		{"nothing", &pb.InternalRaftRequest{}, 0},
		{"delete", &pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}, 0},
		{"value", &pb.InternalRaftRequest{Put: put("k", "v23", 0)}, one + 2},
		{"dearer branch", &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{putOp("k")}, Failure: []*pb.RequestOp{putOp("k"), putOp("l")}}}, 2 * one},
		{"nested", &pb.InternalRaftRequest{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{putOp("k"), nestedOp(&pb.TxnRequest{Success: []*pb.RequestOp{putOp("l")}})}}}, 2 * one},
	} {
		if got := apply.Cost(tc.r); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	if apply.Cost(&pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: 1, TTL: 1}}) <= 0 {
		t.Error("a lease costs nothing")
	}
}

// Goal: revoking a lease deletes its keys in one revision, in key order; an
// empty one leaves the revision; keys that have moved on stay.
func TestRevoke(t *testing.T) {
	w := newWorld(t, apply.Options{})
	for id := int64(1); id <= 2; id++ {
		w.must(&pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: id, TTL: 60}})
	}
	for _, k := range []string{"c", "a", "b", "moved", "freed"} {
		w.must(&pb.InternalRaftRequest{Put: put(k, "v", 1)})
	}
	w.must(&pb.InternalRaftRequest{Put: put("moved", "v", 2)})
	w.must(&pb.InternalRaftRequest{Put: put("freed", "v", 0)})
	before := w.m.Store.Rev()
	w.m.TakeOps()
	res := w.must(&pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: 1}})
	got := ""
	for _, c := range res.Changes {
		got += fmt.Sprintf("%s@%d ", c.Key, c.Mod.Main)
	}
	at := before + 1
	if want := fmt.Sprintf("a@%d b@%d c@%d ", at, at, at); got != want {
		t.Errorf("deleted %s, want %s", got, want)
	}
	if ops := w.m.TakeOps(); len(ops) != 1 || !ops[0].Delete || ops[0].Bucket != bucket.Lease {
		t.Errorf("bucket changes %v", ops)
	}
	w.must(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte("moved")}})
	before = w.m.Store.Rev()
	if res := w.must(&pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: 2}}); len(res.Changes) != 0 || w.m.Store.Rev() != before {
		t.Errorf("an empty lease: %v, revision %d after %d", res.Changes, w.m.Store.Rev(), before)
	}
	if res := w.apply(&pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: 2}}); !errors.Is(res.Err, lease.ErrNotFound) {
		t.Errorf("twice: %v", res.Err)
	}
}

// Goal: a request that fails in the middle changes nothing at all.
func TestFailedTxnChangesNothing(t *testing.T) {
	w := newWorld(t, apply.Options{})
	w.must(&pb.InternalRaftRequest{Put: put("k", "v", 0)})
	w.m.TakeOps()
	bad := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put("x", "v", 404)}}
	res := w.apply(&pb.InternalRaftRequest{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{putOp("k"), deleteOp("k"), bad}}})
	if res.Err == nil || len(res.Changes) > 0 || w.m.Store.Rev() != 2 || len(w.m.TakeOps()) > 0 {
		t.Errorf("got %v, %d changes, revision %d", res.Err, len(res.Changes), w.m.Store.Rev())
	}
}

// Goal: an entry that holds no request known here is an applied entry with an
// error, never a stop.
func TestUnknownRequest(t *testing.T) {
	w := newWorld(t, apply.Options{})
	if res := w.apply(&pb.InternalRaftRequest{}); res.Err == nil {
		t.Error("an empty request was carried out")
	}
	if res := w.apply(&pb.InternalRaftRequest{Alarm: &pb.AlarmRequest{Action: 77}}); res.Err == nil {
		t.Error("an unknown alarm action was carried out")
	}
}

// Goal: machines fed the same entries answer the same, collect the same bucket
// changes and have the same hash, whatever their clocks say, who waits for the
// answers, and how often they are trimmed and published in between.
func TestSameEntriesSameState(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		a, b := newWorld(t, apply.Options{PersistCheckpoints: true}), newWorld(t, apply.Options{PersistCheckpoints: true})
		b.now = start.Add(time.Hour)
		b.m.Leases.Promote(b.now, 0)
		for n := range 400 {
			r := randomRequest(rng, a.m.Store.Rev())
			x, y := a.apply(proto.Clone(r).(*pb.InternalRaftRequest)), b.apply(proto.Clone(r).(*pb.InternalRaftRequest))
			if fmt.Sprint(x.Err) != fmt.Sprint(y.Err) || !proto.Equal(x.Resp, y.Resp) || len(x.Changes) != len(y.Changes) {
				t.Fatalf("seed %d, entry %d, %v:\n%v\n%v", seed, n, r, x, y)
			}
			if rng.IntN(10) == 0 {
				b.m.Store.CompactIndex(5)
				b.m.Store.Publish()
			}
			b.now = b.now.Add(time.Second)
		}
		if x, y := fmt.Sprint(a.m.TakeOps()), fmt.Sprint(b.m.TakeOps()); x != y {
			t.Fatalf("seed %d: bucket changes differ\n%s\n%s", seed, x, y)
		}
		if x, y := a.hash(), b.hash(); x != y {
			t.Fatalf("seed %d: %v and %v", seed, x, y)
		}
		for _, id := range a.m.Leases.List() {
			if x, y := a.m.Leases.Keys(id), b.m.Leases.Keys(id); !bytes.Equal(bytes.Join(x, []byte{0}), bytes.Join(y, []byte{0})) {
				t.Fatalf("seed %d: lease %d: %q and %q", seed, id, x, y)
			}
		}
	}
}

func (w *world) hash() mvcc.KeyHash {
	w.t.Helper()
	w.m.Store.Publish()
	v := w.m.Store.View()
	defer v.Close()
	h, err := v.HashKV(0)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func randomRequest(rng *rand.Rand, rev int64) *pb.InternalRaftRequest {
	key := func() string { return fmt.Sprint("k", rng.IntN(8)) }
	id := rng.Int64N(6)
	switch rng.IntN(12) {
	case 0, 1, 2:
		return &pb.InternalRaftRequest{Put: put(key(), fmt.Sprint(rng.IntN(100)), 0)}
	case 3, 4:
		return &pb.InternalRaftRequest{Put: put(key(), "leased", id)}
	case 5:
		return &pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte(key()), RangeEnd: []byte("l"), PrevKv: true}}
	case 6:
		return &pb.InternalRaftRequest{Txn: &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte(key()), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: rng.Int64N(3)}}},
			Success: []*pb.RequestOp{putOp(key()), deleteOp(key())}, Failure: []*pb.RequestOp{deleteOp(key())},
		}}
	case 7:
		return &pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: id + 1, TTL: rng.Int64N(100)}}
	case 8:
		return &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: id}}
	case 9:
		return &pb.InternalRaftRequest{LeaseCheckpoint: &pb.LeaseCheckpointRequest{Checkpoints: []*pb.LeaseCheckpoint{{ID: id, Remaining_TTL: rng.Int64N(50)}}}}
	case 10:
		return &pb.InternalRaftRequest{Compaction: &pb.CompactionRequest{Revision: rev - rng.Int64N(20)}}
	}
	return raise(pb.AlarmType_NONE)
}
