// Package crash kills a real server in the middle of real work and looks at
// what is left.
package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/steledb/stele/test/rig"
)

var kills = flag.Int("kills", 3, "how often the server is killed")

func TestMain(m *testing.M) { rig.Main(m) }

// writers put to their own keys only, so that what each key must hold follows
// from one writer's notes.
const (
	writers       = 16
	keysPerWriter = 40
)

// note is what a writer knows of one of its keys.
type note struct {
	acked  int64 // highest number whose put was acknowledged, 0 for none
	ackRev int64 // revision of that acknowledgement
	tried  int64 // highest number sent
}

type writer struct {
	id    int
	notes [keysPerWriter]note
}

func (w *writer) key(i int) string { return fmt.Sprintf("w/%02d/%03d", w.id, i) }

// run puts until ctx ends or the server goes away. Every fifth write is a
// transaction over two keys.
func (w *writer) run(ctx context.Context, kv clientv3.KV, acks *atomic.Int64) {
	for n := 0; ctx.Err() == nil; n++ {
		i := rand.IntN(keysPerWriter)
		if n%5 == 0 {
			i &^= 1
			w.notes[i].tried++
			w.notes[i+1].tried = max(w.notes[i+1].tried, w.notes[i].tried)
			w.notes[i].tried = w.notes[i+1].tried
			v := strconv.FormatInt(w.notes[i].tried, 10)
			resp, err := kv.Txn(ctx).Then(clientv3.OpPut(w.key(i), v), clientv3.OpPut(w.key(i+1), v)).Commit()
			if err != nil {
				continue
			}
			for _, k := range []int{i, i + 1} {
				w.notes[k].acked, w.notes[k].ackRev = w.notes[k].tried, resp.Header.Revision
			}
		} else {
			w.notes[i].tried++
			resp, err := kv.Put(ctx, w.key(i), strconv.FormatInt(w.notes[i].tried, 10))
			if err != nil {
				continue
			}
			w.notes[i].acked, w.notes[i].ackRev = w.notes[i].tried, resp.Header.Revision
		}
		acks.Add(1)
	}
}

// Goal: SIGKILL at any moment loses nothing acknowledged and invents nothing.
// Method: writers with increasing numbers on keys of their own, a kill at a
// random moment, a restart on the same directory, and a look at every key.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	server := rig.Start(t, rig.Options{Args: []string{"--snapshot-count", "500"}})
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{id: i}
	}
	var acks atomic.Int64
	var revision int64
	for round := range *kills {
		load(t, server, all, &acks)
		server = rig.Start(t, rig.Options{
			Dir: server.Dir, ClientURL: server.ClientURL, PeerURL: server.PeerURL, Args: []string{"--snapshot-count", "500"},
		})
		revision = check(t, server, all, revision)
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	if acks.Load() < int64(*kills)*50 {
		t.Errorf("only %d writes were acknowledged over %d rounds: the test did not test", acks.Load(), *kills)
	}
	t.Logf("%d kills, %d acknowledged writes, revision %d", *kills, acks.Load(), revision)
}

// load runs the writers and kills the server under them. From time to time a
// compaction and a defragmentation are under way as well.
func load(t *testing.T, server *rig.Server, all []*writer, acks *atomic.Int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client := connect(t, server)
	var wg sync.WaitGroup
	for _, w := range all {
		wg.Go(func() { w.run(ctx, client, acks) })
	}
	wg.Go(func() { tidy(ctx, client, server.Endpoint()) })
	before := acks.Load()
	deadline := time.Now().Add(10 * time.Second)
	atLeast := before + 50 + rand.Int64N(2000)
	for acks.Load() < atLeast && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	server.Kill()
	cancel()
	wg.Wait()
	client.Close()
}

func tidy(ctx context.Context, client *clientv3.Client, endpoint string) {
	for ctx.Err() == nil {
		resp, err := client.Get(ctx, "none")
		if err == nil && resp.Header.Revision > 200 {
			client.Compact(ctx, resp.Header.Revision-100)
			client.Defragment(ctx, endpoint)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// check compares every key with its writer's notes and returns the revision.
func check(t *testing.T, server *rig.Server, all []*writer, atLeast int64) int64 {
	t.Helper()
	client := connect(t, server)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, "w/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, kv := range resp.Kvs {
		n, err := strconv.ParseInt(string(kv.Value), 10, 64)
		if err != nil {
			t.Fatalf("%s holds %q, which nobody wrote", kv.Key, kv.Value)
		}
		found[string(kv.Key)] = n
	}
	if resp.Header.Revision < atLeast {
		t.Errorf("revision went back from %d to %d", atLeast, resp.Header.Revision)
	}
	for _, w := range all {
		for i := range w.notes {
			n, got := &w.notes[i], found[w.key(i)]
			if got < n.acked {
				t.Errorf("%s holds %d, but %d was acknowledged at revision %d", w.key(i), got, n.acked, n.ackRev)
			}
			if got > n.tried {
				t.Errorf("%s holds %d, but nothing above %d was ever sent", w.key(i), got, n.tried)
			}
			if n.ackRev > resp.Header.Revision {
				t.Errorf("%s was acknowledged at revision %d, the store is at %d", w.key(i), n.ackRev, resp.Header.Revision)
			}
			n.acked = got // an unacknowledged write that took effect stays
		}
	}
	return resp.Header.Revision
}

func connect(t *testing.T, server *rig.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.ClientURL}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return client
}
