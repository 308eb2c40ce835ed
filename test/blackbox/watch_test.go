package blackbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// next returns the next n events of a watch: "PUT a=1@2".
func next(t *testing.T, w clientv3.WatchChan, n int) string {
	t.Helper()
	var out []string
	limit := time.After(20 * time.Second)
	for len(out) < n {
		select {
		case resp, ok := <-w:
			if !ok || resp.Err() != nil {
				t.Fatalf("watch ended after %q: %v", out, resp.Err())
			}
			for _, e := range resp.Events {
				line := fmt.Sprintf("%s %s=%s@%d", e.Type, e.Kv.Key, e.Kv.Value, e.Kv.ModRevision)
				if e.PrevKv != nil {
					line += fmt.Sprintf(" was %s@%d", e.PrevKv.Value, e.PrevKv.ModRevision)
				}
				out = append(out, line)
			}
		case <-limit:
			t.Fatalf("only %q came, want %d events", out, n)
		}
	}
	return strings.Join(out, "; ")
}

// Goal: watchers of all kinds on one stream each get their own events, in
// order. Method: the same six changes, looked at in many ways.
func TestWatchKinds(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	future := c.Watch(ctx, "b", clientv3.WithRev(7), clientv3.WithPrevKV())
	live := c.Watch(ctx, "", clientv3.WithPrefix())
	put(t, c, "sync", "0") // 2: both are in place once this comes
	next(t, live, 1)
	put(t, c, "a", "1") // 3
	put(t, c, "b", "1") // 4
	put(t, c, "b", "2") // 5
	if _, err := c.Delete(ctx, "a"); err != nil {
		t.Fatal(err)
	} // 6
	_, err := c.Txn(ctx).Then(clientv3.OpPut("b", "3"), clientv3.OpPut("c", "3")).Commit() // 7
	check(t, "txn", err)
	put(t, c, "b", "4") // 8

	same(t, "live", next(t, live, 7), "PUT a=1@3; PUT b=1@4; PUT b=2@5; DELETE a=@6; PUT b=3@7; PUT c=3@7; PUT b=4@8")
	same(t, "future", next(t, future, 2), "PUT b=3@7 was 2@5; PUT b=4@8 was 3@7")
	same(t, "past", next(t, c.Watch(ctx, "b", clientv3.WithRev(4)), 4), "PUT b=1@4; PUT b=2@5; PUT b=3@7; PUT b=4@8")
	same(t, "range", next(t, c.Watch(ctx, "a", clientv3.WithRange("c"), clientv3.WithRev(5)), 4), "PUT b=2@5; DELETE a=@6; PUT b=3@7; PUT b=4@8")
	same(t, "no deletes", next(t, c.Watch(ctx, "a", clientv3.WithFromKey(), clientv3.WithRev(6), clientv3.WithFilterDelete()), 3), "PUT b=3@7; PUT c=3@7; PUT b=4@8")
	same(t, "no puts", next(t, c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithFilterPut()), 1), "DELETE a=@6")
	same(t, "previous of a delete", next(t, c.Watch(ctx, "a", clientv3.WithRev(6), clientv3.WithPrevKV()), 1), "DELETE a=@6 was 1@3")
}

// Goal: a watch that starts before the compact revision is told so; one that
// stands behind it is, too.
func TestWatchCompacted(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	for i := range 10 {
		put(t, c, "k", fmt.Sprint(i))
	}
	_, err := c.Compact(ctx, 8)
	check(t, "compact", err)
	for resp := range c.Watch(ctx, "k", clientv3.WithRev(3)) {
		if !errors.Is(resp.Err(), rpctypes.ErrCompacted) || resp.CompactRevision != 8 {
			t.Errorf("got %v, compact revision %d", resp.Err(), resp.CompactRevision)
		}
	}
	same(t, "at the compact revision", next(t, c.Watch(ctx, "k", clientv3.WithRev(8)), 1)[:9], "PUT k=6@8")
}

// Goal: progress on request says how far the stream is, and no event before that
// comes afterwards.
func TestWatchProgress(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	w := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
	if resp := <-w; !resp.Created {
		t.Fatalf("first answer: %v", resp)
	}
	rev := put(t, c, "other", "1")
	eventually(t, "progress", func() bool {
		check(t, "request", c.RequestProgress(ctx))
		resp := <-w
		return resp.IsProgressNotify() && resp.Header.Revision >= rev
	})
}

// Goal: a response too large for one message comes in fragments that make up
// one whole. Method: a transaction of large values, with the values before.
func TestWatchFragments(t *testing.T) {
	_, c := start(t)
	ctx := limited(t)
	value := strings.Repeat("v", 450<<10)
	for range 2 {
		_, err := c.Txn(ctx).Then(clientv3.OpPut("k1", value), clientv3.OpPut("k2", value), clientv3.OpPut("k3", value)).Commit()
		check(t, "txn", err)
	}
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	check(t, "watch", err)
	check(t, "create", stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte("k"), RangeEnd: []byte("l"), StartRevision: 3, Fragment: true, PrevKv: true,
	}}}))
	events, fragments := 0, 0
	for events < 3 {
		resp, err := stream.Recv()
		check(t, "receive", err)
		events += len(resp.Events)
		if resp.Fragment {
			fragments++
		}
	}
	if fragments == 0 {
		t.Error("2.7 MB of one revision came without fragments")
	}
}

// Goal: each watcher sees each revision of its keys, in order and once, while
// many write and the server is killed and started again. Method: writers on
// several keys, watchers of the stock client (which resume where they stopped);
// at the end every watcher's list is the history as it stands in the store.
func TestWatchCompleteOverRestarts(t *testing.T) {
	s, c := start(t, "--snapshot-count", "200")
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	const watchers, writers, rounds = 20, 4, 3

	var seen sync.WaitGroup
	got := make([][]string, watchers)
	for i := range watchers {
		o := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(2)}
		if i%2 == 1 {
			o = append(o, clientv3.WithPrevKV())
		}
		w := c.Watch(ctx, prefixOf(i), o...)
		seen.Go(func() { got[i] = collect(w) })
	}

	for range rounds {
		load, halt := context.WithCancel(ctx)
		var done sync.WaitGroup
		for i := range writers {
			done.Go(func() { write(load, c, i) })
		}
		from, err := c.Get(ctx, "none")
		check(t, "get", err)
		eventually(t, "writes", func() bool {
			resp, err := c.Get(ctx, "none")
			return err == nil && resp.Header.Revision > from.Header.Revision+200
		})
		s.Kill()
		halt()
		done.Wait()
		s = restart(t, s, true, "--snapshot-count", "200")
	}
	end := put(t, c, "w0/end", "")
	for i := 1; i < writers; i++ {
		end = put(t, c, fmt.Sprintf("w%d/end", i), "")
	}
	seen.Wait()
	for i := range watchers {
		want := history(t, c, prefixOf(i), end)
		if have := strings.Join(got[i], "\n"); have != want {
			t.Fatalf("watcher %d of %q saw %d events, the history has %d; first difference: %s",
				i, prefixOf(i), len(got[i]), strings.Count(want, "\n")+1, difference(have, want))
		}
	}
}

func prefixOf(watcher int) string { return []string{"w0/", "w1/", "w2/", "w3/"}[watcher%4] }

func write(ctx context.Context, c *clientv3.Client, id int) {
	for n := 0; ctx.Err() == nil; n++ {
		k := fmt.Sprintf("w%d/%d", id, n%5)
		switch n % 7 {
		case 3:
			c.Delete(ctx, k)
		case 5:
			c.Txn(ctx).Then(clientv3.OpPut(k, fmt.Sprint(n)), clientv3.OpPut(fmt.Sprintf("w%d/t", id), fmt.Sprint(n))).Commit()
		default:
			c.Put(ctx, k, fmt.Sprint(n))
		}
	}
}

// collect lists events until the key that ends it.
func collect(w clientv3.WatchChan) (out []string) {
	for resp := range w {
		for _, e := range resp.Events {
			out = append(out, eventLine(e))
			if strings.HasSuffix(string(e.Kv.Key), "/end") {
				return out
			}
		}
	}
	return append(out, "the watch ended")
}

func eventLine(e *clientv3.Event) string {
	return fmt.Sprintf("%d %s %s=%s", e.Kv.ModRevision, e.Type, e.Kv.Key, e.Kv.Value)
}

// history reads the past revision by revision, without any watch.
func history(t *testing.T, c *clientv3.Client, prefix string, end int64) string {
	t.Helper()
	var out []string
	before := map[string]int64{}
	for rev := int64(2); rev <= end; rev++ {
		resp, err := c.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithRev(rev), clientv3.WithSerializable())
		check(t, "history", err)
		now := map[string]int64{}
		var puts []*mvccpb.KeyValue
		for _, kv := range resp.Kvs {
			now[string(kv.Key)] = kv.ModRevision
			if kv.ModRevision == rev {
				puts = append(puts, kv)
			}
		}
		for k := range before {
			if _, ok := now[k]; !ok {
				out = append(out, fmt.Sprintf("%d DELETE %s=", rev, k))
			}
		}
		for _, kv := range puts {
			out = append(out, fmt.Sprintf("%d PUT %s=%s", rev, kv.Key, kv.Value))
		}
		before = now
	}
	return strings.Join(out, "\n")
}

func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%q, want %q", x[i], y[i])
		}
	}
	return fmt.Sprintf("length %d, want %d", len(x), len(y))
}
