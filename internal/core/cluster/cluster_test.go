package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/fixture"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// twin is the membership as a list that is searched.
type twin struct {
	members []Member
	removed []uint64
}

func (w *twin) find(id uint64) int {
	return slices.IndexFunc(w.members, func(m Member) bool { return m.ID == id })
}

// apply says whether the change is accepted and carries it out.
func (w *twin) apply(cc raftpb.ConfChange, ctx changeContext) error {
	at := w.find(cc.NodeID)
	taken := func() bool {
		return slices.ContainsFunc(w.members, func(m Member) bool {
			return m.ID != cc.NodeID && slices.ContainsFunc(ctx.PeerURLs, func(u string) bool { return slices.Contains(m.PeerURLs, u) })
		})
	}
	switch {
	case slices.Contains(w.removed, cc.NodeID):
		return ErrRemoved
	case ctx.IsPromote && at < 0, cc.Type == raftpb.ConfChangeRemoveNode && at < 0, cc.Type == raftpb.ConfChangeUpdateNode && at < 0:
		return ErrNotFound
	case ctx.IsPromote && !w.members[at].IsLearner:
		return ErrNotLearner
	case ctx.IsPromote:
		w.members[at].IsLearner = false
	case cc.Type == raftpb.ConfChangeRemoveNode:
		w.members = slices.Delete(w.members, at, at+1)
		w.removed = append(w.removed, cc.NodeID)
	case cc.Type != raftpb.ConfChangeUpdateNode && at >= 0:
		return ErrExists
	case taken():
		return ErrPeerURLExists
	case cc.Type == raftpb.ConfChangeUpdateNode:
		w.members[at].PeerURLs = ctx.PeerURLs
	case ctx.IsLearner && slices.ContainsFunc(w.members, func(m Member) bool { return m.IsLearner }):
		return ErrTooManyLearners
	default:
		w.members = append(w.members, ctx.Member)
	}
	return nil
}

// Goal: whatever changes come, a cluster is what a plain list would be, what it
// stored rebuilds it, and a copy handed out before does not move. Method: random
// changes to a cluster and its naive twin.
func TestAgainstTwin(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		c, w, stored := New(0xc1, DefaultMaxLearners), &twin{}, map[string]bucket.Op{}
		for step := range 150 {
			cc := randomChange(r)
			var ctx changeContext
			_ = json.Unmarshal(cc.Context, &ctx)
			before, seen := c.Clone(), c.Members()
			_, ops, err := c.Apply(cc)
			if want := w.apply(cc, ctx); !errors.Is(err, want) {
				t.Fatalf("seed %d step %d: %v %s: %v, want %v", seed, step, cc.Type, cc.Context, err, want)
			}
			if err != nil && !reflect.DeepEqual(before, c) {
				t.Fatalf("seed %d step %d: a refused change changed something", seed, step)
			}
			for _, op := range ops {
				keep(stored, op)
			}
			if !reflect.DeepEqual(before.Members(), seen) {
				t.Fatalf("seed %d step %d: a copy moved", seed, step)
			}
			sorted := slices.SortedFunc(slices.Values(w.members), func(a, b Member) int { return int(int64(a.ID) - int64(b.ID)) })
			if !slices.EqualFunc(c.Members(), sorted, func(a, b Member) bool { return reflect.DeepEqual(a, b) }) {
				t.Fatalf("seed %d step %d: members %v, want %v", seed, step, c.Members(), sorted)
			}
		}
		if again := loaded(t, stored); !reflect.DeepEqual(again, c) {
			t.Fatalf("seed %d: a restart finds %v, had %v", seed, again, c)
		}
	}
}

func randomChange(r *rand.Rand) raftpb.ConfChange {
	id := uint64(r.IntN(12) + 1)
	urls := []string{fmt.Sprintf("http://m:%d", r.IntN(12))}
	switch r.IntN(8) {
	case 0:
		return Remove(id)
	case 1:
		return Promote(id)
	case 2:
		return Update(id, urls)
	case 3:
		return Add(Member{ID: id, PeerURLs: urls, IsLearner: true})
	}
	return Add(Member{ID: id, PeerURLs: urls})
}

// The contexts are byte for byte those that etcd writes.
func TestContexts(t *testing.T) {
	for _, c := range []struct {
		cc   raftpb.ConfChange
		kind raftpb.ConfChangeType
		want string
	}{
		{Add(Member{ID: 1 << 63, PeerURLs: []string{"http://b:1", "http://a:1"}}), 0, `{"id":9223372036854775808,"peerURLs":["http://a:1","http://b:1"]}`},
		{Add(Member{ID: 7, PeerURLs: []string{"http://a:1"}, IsLearner: true}), 3, `{"id":7,"peerURLs":["http://a:1"],"isLearner":true}`},
		{Add(Member{ID: 7, PeerURLs: []string{"http://a:1"}, Name: "m1"}), 0, `{"id":7,"peerURLs":["http://a:1"],"name":"m1"}`},
		{Promote(7), 0, `{"id":7,"peerURLs":null,"isPromote":true}`},
		{Update(7, []string{"http://a:1"}), 2, `{"id":7,"peerURLs":["http://a:1"]}`},
		{Remove(7), 1, ``},
	} {
		if string(c.cc.Context) != c.want || c.cc.Type != c.kind {
			t.Errorf("type %d %s, want %d %s", c.cc.Type, c.cc.Context, c.kind, c.want)
		}
	}
}

// The strings of --initial-cluster that a start refuses, with etcd's words.
func TestInitialCluster(t *testing.T) {
	for text, want := range map[string]string{
		"bogus":                             "URL scheme must be http, https, unix, or unixs: ",
		"default=localhost:2380":            "URL scheme must be http, https, unix, or unixs: localhost:2380",
		"default=http://localhost":          `URL address does not have the form "host:port": http://localhost`,
		"default=http://localhost:2380/x":   "URL must not contain a path: http://localhost:2380/x",
		"default=http://[::1]":              `URL address does not have the form "host:port": http://[::1]`,
		"a=http://x:1,b=http://x:1":         "initial cluster a=http://x:1,b=http://x:1 has duplicate url",
		"default=http://a:1,default2=ftp:x": "URL scheme must be http, https, unix, or unixs: ftp:x",
		"b=http://localhost:2380":           `couldn't find local name "a" in the initial cluster configuration`,
		"":                                  `couldn't find local name "a" in the initial cluster configuration`,
	} {
		initial, err := ParseInitial(text)
		if err == nil {
			err = initial.Check("a")
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	good, err := ParseInitial("a= http://[::1]:1,,=unix://localhost:2,a=https://h:3,")
	if err != nil || good.String() != "=unix://localhost:2,a=http://[::1]:1,a=https://h:3" || good.Check("a") != nil {
		t.Errorf("read as %v, %v", good, err)
	}
}

// What a member advertises must be what the cluster was told about it.
func TestAdvertised(t *testing.T) {
	differ := errors.New(`resolved urls: "http://0.0.0.0:2380" != "http://localhost:2380"`)
	initial := Initial{"default": {"http://localhost:2380"}}
	for want, advertised := range map[string][]string{
		`--initial-cluster has default=http://localhost:2380 but missing from --initial-advertise-peer-urls=http://0.0.0.0:2380 (resolved urls: "http://0.0.0.0:2380" != "http://localhost:2380")`: {"http://0.0.0.0:2380"},
		"--initial-advertise-peer-urls has http://x:1 but missing from --initial-cluster=default=http://localhost:2380,default=http://x:1":                                                         {"http://x:1", "http://localhost:2380"},
		`failed to resolve http://localhost:2380 to match --initial-cluster=default=http://localhost:2380 (resolved urls: "http://0.0.0.0:2380" != "http://localhost:2380")`:                       {"http://localhost:2380"},
	} {
		if err := initial.CheckAdvertised("default", advertised, differ); err == nil || err.Error() != want {
			t.Errorf("%v: %v\nwant %s", advertised, err, want)
		}
		if err := initial.CheckAdvertised("default", advertised, nil); err != nil {
			t.Errorf("resolved to the same: %v", err)
		}
	}
}

// A joiner takes over the ids that the running cluster has, whatever its own
// token would give.
func TestAdopt(t *testing.T) {
	running := []Member{{ID: 5, Name: "x", PeerURLs: []string{"http://a:1"}}, {ID: 6, PeerURLs: []string{"http://b:1"}, IsLearner: true}}
	equal := func(a, b []string) error {
		if slices.Equal(a, b) {
			return nil
		}
		return fmt.Errorf("%v is not %v", a, b)
	}
	members, err := Initial{"one": {"http://a:1"}, "two": {"http://b:1"}}.Adopt(running, equal)
	want := []Member{{ID: 5, Name: "one", PeerURLs: []string{"http://a:1"}}, {ID: 6, Name: "two", PeerURLs: []string{"http://b:1"}, IsLearner: true}}
	if err != nil || !reflect.DeepEqual(members, want) {
		t.Errorf("%v, %v", members, err)
	}
	for text, initial := range map[string]Initial{
		"member count is unequal": {"one": {"http://a:1"}},
		"PeerURLs: no match found for existing member (6, [http://b:1]), last resolver error ([http://b:1] is not [http://c:1])": {"one": {"http://a:1"}, "two": {"http://c:1"}},
	} {
		if _, err := initial.Adopt(running, equal); err == nil || err.Error() != text {
			t.Errorf("%v: %v, want %s", initial, err, text)
		}
	}
}

// A limit on learners holds for the members a cluster starts with, too.
func TestLearnerLimit(t *testing.T) {
	members := []Member{{ID: 1}, {ID: 2, IsLearner: true}}
	if err := CheckLearners(members, 0); err != ErrTooManyLearners {
		t.Errorf("%v", err)
	}
	if err := CheckLearners(members, 1); err != nil {
		t.Errorf("%v", err)
	}
	if err := CheckLearners(members[:1], -1); err != ErrTooManyLearners || ErrTooManyLearners.Internal() != "membership: too many learner members in cluster" {
		t.Errorf("%v", err)
	}
}

func TestCheckInSync(t *testing.T) {
	if CheckInSync(90, 100) != nil || CheckInSync(89, 100) != ErrLearnerNotReady || CheckInSync(0, 0) != nil {
		t.Error("a learner may be a tenth behind, and no more")
	}
}

// The version of a backend file, from 3.4 without a term to one of the future,
// and how it follows the cluster's.
func TestStorageVersion(t *testing.T) {
	v := func(minor int64) Version { return Version{3, minor} }
	for _, c := range []struct {
		record string
		term   uint64
		want   Version
	}{{"", 0, Version{}}, {"", 2, v(5)}, {"3.6.0", 2, v(6)}, {"3.7.0", 0, v(7)}} {
		if got, err := StorageVersion(c.record, c.term); err != nil || got != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	if _, err := StorageVersion("x", 1); err == nil {
		t.Error("a damaged record was taken")
	}
	if CheckStorage(v(7), v(7)) != nil || CheckStorage(Version{}, v(7)) != nil || CheckStorage(v(8), v(7)) == nil {
		t.Error("a file of the future was opened, or one of today refused")
	}
	for _, c := range []struct {
		stored, cluster Version
		term            uint64
		want            string
	}{
		{v(7), v(7), 1, "[]"},
		{v(6), Version{}, 1, "[]"},
		{v(6), v(7), 1, "[meta storageVersion=3.7.0]"},
		{v(5), v(6), 1, "[meta storageVersion=3.6.0]"},
		{v(7), v(6), 1, "[meta storageVersion=3.6.0]"},
		{v(6), v(5), 1, "[drop meta storageVersion]"},
		{Version{}, v(7), 0, "missing term information"},
		{Version{}, v(4), 0, "[]"},
	} {
		ops, err := MigrateStorage(c.stored, c.cluster, c.term)
		got := []string{}
		for _, op := range ops {
			text := fmt.Sprintf("%s %s=%s", op.Bucket, op.Key, op.Value)
			if op.Delete {
				text = fmt.Sprintf("drop %s %s", op.Bucket, op.Key)
			}
			got = append(got, text)
		}
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%v to %v with term %d: %s, want %s", c.stored, c.cluster, c.term, text, c.want)
		}
	}
}

// A membership from the dump of the v2 store is written into the buckets and
// found there after a restart.
func TestRestore(t *testing.T) {
	c, stored := New(0xc1, DefaultMaxLearners), map[string]bucket.Op{}
	for _, op := range c.Restore([]Member{{ID: 1, PeerURLs: []string{"http://b:1", "http://a:1"}, Name: "m"}}, []uint64{9}, Version{3, 5}) {
		keep(stored, op)
	}
	if !reflect.DeepEqual(loaded(t, stored), c) || !c.IsRemoved(9) || c.Version() != (Version{3, 5}) {
		t.Errorf("restored as %+v", c)
	}
}

// Damaged records stop the start and are named.
func TestDamagedRecords(t *testing.T) {
	for _, c := range []struct {
		b          bucket.Name
		key, value string
	}{
		{bucket.Members, "xyz", "{}"},
		{bucket.Members, "ab", `{"id":1}`},
		{bucket.Members, "ab", `{`},
		{bucket.MembersRemoved, "", "removed"},
		{bucket.Cluster, keyVersion, "3"},
		{bucket.Cluster, keyDowngrade, "{"},
		{bucket.Key, "k", "v"},
	} {
		if err := New(0, 1).Load(c.b, []byte(c.key), []byte(c.value)); err == nil || !strings.HasPrefix(err.Error(), "cluster: ") {
			t.Errorf("%s %s = %s: %v", c.b, c.key, c.value, err)
		}
	}
}

// Goal: databases of etcd 3.4 to 3.7 load, give what that etcd answered, and are
// written back byte for byte.
func TestRecordedDatabases(t *testing.T) {
	for _, name := range []string{"v3.4-three", "v3.5-three", "v3.6-three", "v3.7-three", "v3.4-single-auth", "v3.7-single-raftsnap"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want struct {
				ClusterID      string            `json:"cluster_id"`
				ClusterVersion string            `json:"cluster_version"`
				Members        []json.RawMessage `json:"members"`
			}
			fixture.Expected(t, name, &want)
			c := New(0, DefaultMaxLearners)
			fixture.EachRecord(t, name, []bucket.Name{bucket.Members, bucket.MembersRemoved, bucket.Cluster},
				func(b bucket.Name, key, value []byte) {
					if err := c.Load(b, key, value); err != nil {
						t.Fatal(err)
					}
					if b != bucket.Members {
						return
					}
					id, _ := ids.Parse(string(key))
					if m, _ := c.Member(id); string(m.encode()) != string(value) || string(m.key()) != string(key) {
						t.Errorf("member is written as %s, was %s", m.encode(), value)
					}
				})
			if len(c.Members()) != len(want.Members) {
				t.Errorf("%d members, want %d", len(c.Members()), len(want.Members))
			}
			if v := c.Version().String(); v != want.ClusterVersion && c.Version().Short() != want.ClusterVersion {
				t.Errorf("version %s, want %s", v, want.ClusterVersion)
			}
			if strings.HasSuffix(name, "three") {
				checkThree(t, c, want.ClusterID)
			}
		})
	}
}

// checkThree derives what the directory says about itself from what its flags
// were.
func checkThree(t *testing.T, c *Cluster, clusterID string) {
	if len(c.Removed()) != 1 || len(c.ConfState().Voters) != 3 {
		t.Errorf("removed %x, voters %x", c.Removed(), c.ConfState().Voters)
	}
	initial := Initial{}
	for _, m := range c.Members() {
		initial[m.Name] = m.PeerURLs[:1] // infra3 got its second URL later
		if found, ok := c.MemberNamed(m.Name); !ok || found.ID != m.ID {
			t.Errorf("%s is not found by name", m.Name)
		}
	}
	members, err := initial.Members("fixture-token")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if _, ok := c.Member(m.ID); !ok {
			t.Errorf("%s would get the id %s", m.Name, ids.Text(m.ID))
		}
	}
	if got := ClusterID(members); clusterID != ids.Text(got) {
		t.Errorf("cluster id %d (%s), want %s", got, ids.Text(got), clusterID)
	}
}

// Payloads of v2 requests are told from those of today, in either place where
// they were kept.
func TestParseV2(t *testing.T) {
	bare := v2Payload(77, "PUT", "/0/version", "3.5.0")
	want := V2Request{ID: 77, Method: "PUT", Path: "/0/version", Value: "3.5.0"}
	wrapped := protowire.AppendBytes(protowire.AppendTag(nil, internalFieldV2, protowire.BytesType), bare)
	for _, payload := range [][]byte{bare, wrapped} {
		if r, ok := ParseV2(payload); !ok || r != want {
			t.Errorf("%x read as %+v, %v", payload, r, ok)
		}
	}
	today := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), []byte("\n\x01k\x12\x01v"))
	for _, payload := range [][]byte{nil, today, bare[:len(bare)-3], {0x12, 0x03, 'F', 'O', 'O'}} {
		if r, ok := ParseV2(payload); ok {
			t.Errorf("%x was taken for %+v", payload, r)
		}
	}
}

// Goal: the requests of the v2 store are found among all entries of real logs,
// and what they leave is what the member told about itself. Only 3.4 and 3.5
// wrote them.
func TestV2InRecordedLogs(t *testing.T) {
	for name, want := range map[string]int{"v3.4-single-basic": 2, "v3.5-single-basic": 2, "v3.6-single-basic": 0, "v3.7-single-basic": 0} {
		t.Run(name, func(t *testing.T) {
			c := New(0, DefaultMaxLearners)
			_, _, err := c.Apply(Add(Member{ID: 0xe697d22d07b24764, PeerURLs: []string{"http://127.0.0.1:2380"}}))
			if err != nil {
				t.Fatal(err)
			}
			entries, found := 0, 0
			fixture.EachEntry(t, name, func(payload []byte) {
				entries++
				r, ok := ParseV2(payload)
				if !ok {
					return
				}
				found++
				if _, err := c.ApplyV2(r); err != nil {
					t.Errorf("%+v: %v", r, err)
				}
			})
			if found < want || want == 0 && found > 0 || entries < 100 {
				t.Errorf("%d requests in %d entries, want at least %d", found, entries, want)
			}
			if m := c.Members()[0]; want > 0 && (m.Name != "m1" || c.Version().IsZero()) {
				t.Errorf("they leave %+v of version %s", m, c.Version())
			}
		})
	}
}

// v2Payload writes a request as etcd 3.4 does, zero fields included.
func v2Payload(id uint64, method, path, value string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, v2FieldID, protowire.VarintType), id)
	for i, text := range []string{method, path, value} {
		b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(i+2), protowire.BytesType), text)
	}
	for _, zero := range []protowire.Number{5, 7, 9, 10, 11, 12, 13, 14, 15, 16} {
		b = protowire.AppendVarint(protowire.AppendTag(b, zero, protowire.VarintType), 0)
	}
	return protowire.AppendString(protowire.AppendTag(b, 6, protowire.BytesType), "")
}

func FuzzV2(f *testing.F) {
	f.Add(v2Payload(1, "PUT", "/0/members/ab/attributes", `{"name":"a"}`))
	f.Add(v2Payload(1, "SYNC", "", ""))
	f.Add([]byte{0x12, 0x00})
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, ok := ParseV2(payload)
		if !ok {
			return
		}
		if again, ok := ParseV2(v2Payload(r.ID, r.Method, r.Path, r.Value)); !ok || again != r {
			t.Fatalf("%+v came back as %+v", r, again)
		}
		c := New(0, 1)
		_, _, _ = c.Apply(Add(Member{ID: 0xab}))
		_, _ = c.ApplyV2(r)
	})
}

func FuzzApply(f *testing.F) {
	f.Add(int32(0), uint64(7), []byte(`{"id":7,"peerURLs":["http://a:1"],"isPromote":true}`))
	f.Add(int32(3), uint64(7), []byte(`{"id":7,"peerURLs":["http://a:1"],"isLearner":true,"name":"x"}`))
	f.Add(int32(2), uint64(1), []byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, kind int32, id uint64, context []byte) {
		c, stored := New(0xc1, DefaultMaxLearners), map[string]bucket.Op{}
		_, ops, _ := c.Apply(Add(Member{ID: 1, PeerURLs: []string{"http://m:1"}}))
		_, more, err := c.Apply(raftpb.ConfChange{Type: raftpb.ConfChangeType(kind), NodeID: id, Context: context})
		for _, op := range append(ops, more...) {
			keep(stored, op)
		}
		if err != nil && len(more) > 0 {
			t.Fatal("a refused change was stored")
		}
		if again := loaded(t, stored); again.members[1].ID != c.members[1].ID || len(again.members) != len(c.members) {
			t.Fatalf("a restart finds %v, had %v", again.members, c.members)
		}
	})
}

func FuzzInitial(f *testing.F) {
	f.Add("a=http://x:1,b=unix://y:2")
	f.Add("a=http://[::1]:1")
	f.Fuzz(func(t *testing.T, text string) {
		initial, err := ParseInitial(text)
		if err != nil {
			return
		}
		again, err := ParseInitial(initial.String())
		if err == nil && again.String() != initial.String() {
			t.Fatalf("%q came back as %q", initial, again)
		}
	})
}
