package blackbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// Goal: a reader's options, each and together. Method: five keys with known
// histories.
func TestGet(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	for _, kv := range []string{"a=3", "b=2", "c=1", "d=5", "e=4", "b=9"} {
		k, v, _ := strings.Cut(kv, "=")
		put(t, c, k, v) // revisions 2 to 7
	}
	prefix := clientv3.WithPrefix()
	for _, tc := range []struct {
		name string
		key  string
		opts []clientv3.OpOption
		want string
	}{
		{"one key", "b", nil, "b=9"},
		{"missing key", "x", nil, ""},
		{"all", "", []clientv3.OpOption{prefix}, "a=3 b=9 c=1 d=5 e=4"},
		{"range", "b", []clientv3.OpOption{clientv3.WithRange("d")}, "b=9 c=1"},
		{"from key", "d", []clientv3.OpOption{clientv3.WithFromKey()}, "d=5 e=4"},
		{"limit", "", []clientv3.OpOption{prefix, clientv3.WithLimit(2)}, "a=3 b=9"},
		{"older revision", "", []clientv3.OpOption{prefix, clientv3.WithRev(4)}, "a=3 b=2 c=1"},
		{"by value", "", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "c=1 a=3 e=4 d=5 b=9"},
		{"by key down, limited", "", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(2)}, "e=4 d=5"},
		{"by version down", "", []clientv3.OpOption{prefix, clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1)}, "b=9"},
		{"last changed", "", clientv3.WithLastRev(), "b=9"},
		{"first created", "", clientv3.WithFirstCreate(), "a=3"},
		{"changed since", "", []clientv3.OpOption{prefix, clientv3.WithMinModRev(5)}, "b=9 d=5 e=4"},
		{"created until", "", []clientv3.OpOption{prefix, clientv3.WithMaxCreateRev(3)}, "a=3 b=9"},
		{"keys only", "", []clientv3.OpOption{prefix, clientv3.WithKeysOnly(), clientv3.WithLimit(2)}, "a= b="},
		{"serializable", "c", []clientv3.OpOption{clientv3.WithSerializable()}, "c=1"},
		{"future", "a", []clientv3.OpOption{clientv3.WithRev(100)}, rpctypes.ErrFutureRev.Error()},
	} {
		same(t, tc.name, text(t, c, tc.key, tc.opts...), tc.want)
	}
	resp, err := c.Get(ctx, "", prefix, clientv3.WithCountOnly())
	check(t, "count", err)
	same(t, "count", resp.Count, 5)
	resp, err = c.Get(ctx, "", prefix, clientv3.WithLimit(2))
	check(t, "limit", err)
	same(t, "more", resp.More, true)
	same(t, "count beside a limit", resp.Count, 5)
	kv, err := c.Get(ctx, "b")
	check(t, "get", err)
	b := kv.Kvs[0]
	same(t, "b", fmt.Sprint(b.CreateRevision, b.ModRevision, b.Version), "3 7 2")
}

// Goal: what writes answer, and that a refused one changes nothing.
func TestWrite(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	put(t, c, "k", "1")
	resp, err := c.Put(ctx, "k", "2", clientv3.WithPrevKV())
	check(t, "put", err)
	same(t, "previous value", string(resp.PrevKv.GetValue()), "1")
	lease, err := c.Grant(ctx, 600)
	check(t, "grant", err)
	put(t, c, "k", "", clientv3.WithIgnoreValue(), clientv3.WithLease(lease.ID))
	put(t, c, "k", "3", clientv3.WithIgnoreLease())
	get, err := c.Get(ctx, "k")
	check(t, "get", err)
	same(t, "value and lease kept by turns", fmt.Sprint(string(get.Kvs[0].Value), " ", get.Kvs[0].Lease == int64(lease.ID)), "3 true")
	rev := get.Header.Revision

	for what, refused := range map[string]struct {
		op   clientv3.Op
		want error
	}{
		"empty key":          {clientv3.OpPut("", "v"), rpctypes.ErrEmptyKey},
		"unknown lease":      {clientv3.OpPut("k", "v", clientv3.WithLease(1)), rpctypes.ErrLeaseNotFound},
		"ignore without key": {clientv3.OpPut("none", "", clientv3.WithIgnoreValue()), rpctypes.ErrKeyNotFound},
		"value and ignore":   {clientv3.OpPut("k", "v", clientv3.WithIgnoreValue()), rpctypes.ErrValueProvided},
		"duplicate key":      {clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("k", "1"), clientv3.OpPut("k", "2")}, nil), rpctypes.ErrDuplicateKey},
		"late failure":       {clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("x", "1"), clientv3.OpPut("y", "", clientv3.WithIgnoreValue())}, nil), rpctypes.ErrKeyNotFound},
	} {
		if _, err := c.Do(ctx, refused.op); !errors.Is(err, refused.want) {
			t.Errorf("%s: got %v, want %v", what, err, refused.want)
		}
	}
	same(t, "revision after refusals", put(t, c, "end", ""), rev+1)
	same(t, "the first half of a failed txn", text(t, c, "x"), "")

	put(t, c, "p/1", "a")
	put(t, c, "p/2", "b")
	del, err := c.Delete(ctx, "p/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	check(t, "delete", err)
	same(t, "deleted", fmt.Sprint(del.Deleted, len(del.PrevKvs)), "2 2")
	del, err = c.Delete(ctx, "p/", clientv3.WithPrefix())
	check(t, "delete nothing", err)
	same(t, "deleting nothing makes no revision", del.Header.Revision, rev+4)
}

// Goal: transactions choose, nest, and are one revision.
func TestTxn(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	put(t, c, "k", "1")
	inner := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Value("k"), "=", "2")}, // sees the put before it
		[]clientv3.Op{clientv3.OpPut("inner", "then"), clientv3.OpGet("k")},
		[]clientv3.Op{clientv3.OpPut("inner", "else")},
	)
	resp, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.Version("k"), "=", 1), clientv3.Compare(clientv3.CreateRevision("none"), "=", 0)).
		Then(clientv3.OpPut("k", "2"), inner, clientv3.OpDelete("none")).
		Else(clientv3.OpPut("k", "wrong")).Commit()
	check(t, "txn", err)
	same(t, "succeeded", resp.Succeeded, true)
	nested := resp.Responses[1].GetResponseTxn()
	// etcd decides all branches before it applies any.
	same(t, "the nested branch", nested.Succeeded, false)
	same(t, "result", text(t, c, "", clientv3.WithPrefix()), "inner=else k=2")
	all, err := c.Get(ctx, "", clientv3.WithPrefix())
	check(t, "get", err)
	same(t, "one revision", all.Kvs[0].ModRevision == all.Kvs[1].ModRevision && all.Header.Revision == 3, true)

	resp, err = c.Txn(ctx).If(clientv3.Compare(clientv3.Value("i").WithRange("l"), "!=", "x")).
		Then(clientv3.OpGet("k"), clientv3.OpGet("", clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
	check(t, "read-only txn", err)
	same(t, "read-only txn", fmt.Sprint(resp.Succeeded, resp.Responses[1].GetResponseRange().Count, resp.Header.Revision), "true 2 3")
}

// Goal: the chunks of RangeStream put together are the answer of Range.
func TestRangeStream(t *testing.T) {
	_, c := start(t)
	value := strings.Repeat("v", 20<<10)
	for i := range 200 {
		put(t, c, fmt.Sprintf("k%03d", i), value)
	}
	r := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 150}
	kv := pb.NewKVClient(c.ActiveConnection())
	want, err := kv.Range(limited(t), r)
	check(t, "range", err)
	stream, err := kv.RangeStream(limited(t), r)
	check(t, "stream", err)
	got, chunks := &pb.RangeResponse{}, 0
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, "chunk", err)
		chunks++
		proto.Merge(got, part.RangeResponse)
	}
	if !proto.Equal(got, want) {
		t.Errorf("%d chunks with %d keys, count %d, more %v; range has %d, %d, %v",
			chunks, len(got.Kvs), got.Count, got.More, len(want.Kvs), want.Count, want.More)
	}
	if chunks < 2 {
		t.Errorf("3 MB came in %d chunk", chunks)
	}
}

// Goal: compaction hides the past and nothing else; auto-compaction does it by
// itself.
func TestCompaction(t *testing.T) {
	s, c := start(t)
	ctx := limited(t)
	for i := range 20 {
		put(t, c, "k", fmt.Sprint(i))
	}
	before, err := c.HashKV(ctx, s.ClientURL, 15)
	check(t, "hash", err)
	_, err = c.Compact(ctx, 15, clientv3.WithCompactPhysical())
	check(t, "compact", err)
	same(t, "before", text(t, c, "k", clientv3.WithRev(14)), rpctypes.ErrCompacted.Error())
	same(t, "at", text(t, c, "k", clientv3.WithRev(15)), "k=13")
	same(t, "after", text(t, c, "k"), "k=19")
	if _, err := c.Compact(ctx, 15); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("again: %v", err)
	}
	if _, err := c.Compact(ctx, 1000); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("the future: %v", err)
	}
	after, err := c.HashKV(ctx, s.ClientURL, 15)
	check(t, "hash", err)
	same(t, "the hash kept of a compaction", after.Hash, before.Hash)
	full, err := c.HashKV(ctx, s.ClientURL, 0)
	check(t, "hash", err)
	s = restart(t, s, true)
	c = connect(t, s)
	again, err := c.HashKV(limited(t), s.ClientURL, 0)
	check(t, "hash", err)
	same(t, "hash after a kill", fmt.Sprint(again.Hash, again.CompactRevision), fmt.Sprint(full.Hash, 15))
}

// Goal: with --auto-compaction-mode periodic and a short retention, history goes.
func TestAutoCompaction(t *testing.T) {
	_, c := start(t, "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1s")
	first := put(t, c, "k", "0")
	ctx := limited(t)
	for n := 1; ; n++ {
		put(t, c, "k", fmt.Sprint(n))
		_, err := c.Get(ctx, "k", clientv3.WithRev(first))
		if errors.Is(err, rpctypes.ErrCompacted) {
			return
		}
		check(t, "get", err)
		pause(ctx, t)
	}
}

// Goal: etcdctl of Debian, a client of an older version, works.
func TestOlderClient(t *testing.T) {
	path, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("no etcdctl installed")
	}
	s, _ := start(t)
	run := func(want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(limited(t), path, append([]string{"--endpoints", s.ClientURL}, args...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("etcdctl %s: %v\n%s\nwant\n%s", strings.Join(args, " "), err, out, want)
		}
	}
	run("OK", "put", "k", "v")
	run("k\nv", "get", "k")
	run("OK", "put", "k2", "v2")
	run("k\n\nk2\n", "get", "--prefix", "k", "--keys-only")
	run("k\nv\nk2\nv2", "get", "--prefix", "k")
	run("2", "del", "--prefix", "k")
	run(s.ClientURL+" is healthy", "endpoint", "health")
}

func pause(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := sleep(ctx); err != nil {
		t.Fatal("it does not happen")
	}
}
