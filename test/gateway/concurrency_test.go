package gateway

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cpb "github.com/steledb/stele/internal/base/concurrencypb"
)

// party is somebody who takes locks: a connection and a lease.
type party struct {
	conn     *grpc.ClientConn
	lock     cpb.LockClient
	election cpb.ElectionClient
	lease    int64
}

func join(t *testing.T, server string, ttl int64) *party {
	t.Helper()
	p := &party{conn: dial(t, server)}
	p.lock, p.election = cpb.LockClient{Conn: p.conn}, cpb.ElectionClient{Conn: p.conn}
	resp, err := pb.NewLeaseClient(p.conn).LeaseGrant(limited(t), &pb.LeaseGrantRequest{TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	p.lease = resp.ID
	return p
}

// waitKeys waits until prefix has n keys and returns them.
func (p *party) waitKeys(t *testing.T, prefix string, n int) []string {
	t.Helper()
	ctx := limited(t)
	for {
		resp, err := pb.NewKVClient(p.conn).Range(ctx, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: []byte(prefix + "\xff")})
		if err != nil {
			t.Fatalf("waiting for %d keys of %s: %v", n, prefix, err)
		}
		if len(resp.Kvs) == n {
			var out []string
			for _, kv := range resp.Kvs {
				out = append(out, string(kv.Key))
			}
			return out
		}
	}
}

func (p *party) revoke(t *testing.T) {
	t.Helper()
	if _, err := pb.NewLeaseClient(p.conn).LeaseRevoke(limited(t), &pb.LeaseRevokeRequest{ID: p.lease}); err != nil {
		t.Fatal(err)
	}
}

// later runs f and returns its result.
func later[T any](f func() (T, error)) <-chan result[T] {
	out := make(chan result[T], 1)
	go func() {
		v, err := f()
		out <- result[T]{v, err}
	}()
	return out
}

type result[T any] struct {
	v   T
	err error
}

// Goal: a lock has one holder, and goes to those who wait in their order.
// Method: three parties, whose candidates are there before the next one comes;
// the first unlocks, the second loses its lease.
func TestLockGoesAroundInOrder(t *testing.T) {
	server := serve(t, nil)
	ctx := limited(t)
	a, b, c := join(t, server, 60), join(t, server, 60), join(t, server, 60)
	first, err := a.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: a.lease})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("l/%x", a.lease); string(first.Key) != want {
		t.Fatalf("key %s, want %s", first.Key, want)
	}
	again, err := a.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: a.lease})
	if err != nil || !bytes.Equal(again.Key, first.Key) {
		t.Fatalf("the holder locks again: %v, %v", again, err)
	}
	second := later(func() (*cpb.LockResponse, error) {
		return b.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: b.lease})
	})
	a.waitKeys(t, "l/", 2)
	third := later(func() (*cpb.LockResponse, error) {
		return c.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: c.lease})
	})
	a.waitKeys(t, "l/", 3)
	if _, err := a.lock.Unlock(ctx, &cpb.UnlockRequest{Key: first.Key}); err != nil {
		t.Fatal(err)
	}
	got := <-second
	if got.err != nil || string(got.v.Key) != fmt.Sprintf("l/%x", b.lease) || got.v.Header.Revision < 5 {
		t.Fatalf("the second has %v, %v", got.v, got.err)
	}
	select {
	case r := <-third:
		t.Fatalf("two have the lock: %v, %v", r.v, r.err)
	default:
	}
	b.revoke(t)
	if got := <-third; got.err != nil {
		t.Fatal(got.err)
	}
}

// A caller that gives up leaves no candidate behind, for that would stand in the
// way of all after it.
func TestLockGivenUpLeavesNothing(t *testing.T) {
	server := serve(t, nil)
	a, b := join(t, server, 60), join(t, server, 60)
	if _, err := a.lock.Lock(limited(t), &cpb.LockRequest{Name: []byte("l"), Lease: a.lease}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(limited(t))
	waiting := later(func() (*cpb.LockResponse, error) {
		return b.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: b.lease})
	})
	a.waitKeys(t, "l/", 2)
	cancel()
	if got := <-waiting; status.Code(got.err) != codes.Canceled {
		t.Errorf("given up with %v", got.err)
	}
	if keys := a.waitKeys(t, "l/", 1); keys[0] != fmt.Sprintf("l/%x", a.lease) {
		t.Errorf("left behind: %v", keys)
	}
}

// A candidate whose lease ends while it waits does not get the lock.
func TestLockWithoutLeaseIsNoLock(t *testing.T) {
	server := serve(t, nil)
	a, b := join(t, server, 60), join(t, server, 60)
	ctx := limited(t)
	held, err := a.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: a.lease})
	if err != nil {
		t.Fatal(err)
	}
	waiting := later(func() (*cpb.LockResponse, error) {
		return b.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: b.lease})
	})
	a.waitKeys(t, "l/", 2)
	b.revoke(t)
	if _, err := a.lock.Unlock(ctx, &cpb.UnlockRequest{Key: held.Key}); err != nil {
		t.Fatal(err)
	}
	got := <-waiting
	if status.Code(got.err) != codes.Unknown || status.Convert(got.err).Message() != "mutex: session is expired" {
		t.Errorf("got %v, %v", got.v, got.err)
	}
}

// Goal: while Lock waits it keeps the lease alive, which the caller of a unary
// method over HTTP has no way to do.
// Method: a lease of one second, and a lock that is free after two.
func TestLockKeepsItsLeaseWhileItWaits(t *testing.T) {
	server := serve(t, nil)
	a, b := join(t, server, 60), join(t, server, 1)
	ctx := limited(t)
	held, err := a.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: a.lease})
	if err != nil {
		t.Fatal(err)
	}
	ttl, err := pb.NewLeaseClient(b.conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: b.lease})
	if err != nil {
		t.Fatal(err)
	}
	waiting := later(func() (*cpb.LockResponse, error) {
		return b.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: b.lease})
	})
	a.waitKeys(t, "l/", 2)
	<-time.After(time.Duration(ttl.GrantedTTL)*time.Second + 1500*time.Millisecond) // the lease would be over
	if _, err := a.lock.Unlock(ctx, &cpb.UnlockRequest{Key: held.Key}); err != nil {
		t.Fatal(err)
	}
	if got := <-waiting; got.err != nil {
		t.Errorf("the lease ended while waiting: %v", got.err)
	}
}

// Goal: the service and etcd's client library exclude each other.
// Method: the library holds, the service waits; then the other way round.
func TestLockAndClientLibraryShareALock(t *testing.T) {
	server := serve(t, nil)
	ctx := limited(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server}, DialTimeout: testLimit})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := concurrency.NewSession(client)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "l")
	if err := mutex.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	p := join(t, server, 60)
	waiting := later(func() (*cpb.LockResponse, error) {
		return p.lock.Lock(ctx, &cpb.LockRequest{Name: []byte("l"), Lease: p.lease})
	})
	p.waitKeys(t, "l/", 2)
	if err := mutex.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	got := <-waiting
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := mutex.TryLock(ctx); err != concurrency.ErrLocked {
		t.Fatalf("the library took a lock that is held: %v", err)
	}
	if _, err := p.lock.Unlock(ctx, &cpb.UnlockRequest{Key: got.v.Key}); err != nil {
		t.Fatal(err)
	}
	if err := mutex.Lock(ctx); err != nil {
		t.Fatal(err)
	}
}

// Goal: an election as seen by somebody who observes it from the beginning.
// Method: one party after the other leads, proclaims and resigns; each change is
// made when the one before has been seen.
func TestElectionAsObserved(t *testing.T) {
	server := serve(t, nil)
	ctx := limited(t)
	a, b := join(t, server, 60), join(t, server, 60)
	name := []byte("e")
	if _, err := a.election.Leader(ctx, &cpb.LeaderRequest{Name: name}); status.Convert(err).Message() != "election: no leader" {
		t.Errorf("nobody leads: %v", err)
	}
	seen, err := b.election.Observe(ctx, &cpb.LeaderRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	wantSeen := func(value string, lease int64) {
		t.Helper()
		got, err := seen.Recv()
		if err != nil || string(got.Kv.Value) != value || got.Kv.Lease != lease || got.Header.Revision < got.Kv.ModRevision {
			t.Fatalf("observed %v, %v; want %s of %x", got, err, value, lease)
		}
	}
	led, err := a.election.Campaign(ctx, &cpb.CampaignRequest{Name: name, Lease: a.lease, Value: []byte("a1")})
	if err != nil {
		t.Fatal(err)
	}
	wantSeen("a1", a.lease)
	if _, err := a.election.Proclaim(ctx, &cpb.ProclaimRequest{Leader: led.Leader, Value: []byte("a2")}); err != nil {
		t.Fatal(err)
	}
	wantSeen("a2", a.lease)
	if _, err := a.election.Campaign(ctx, &cpb.CampaignRequest{Name: name, Lease: a.lease, Value: []byte("a3")}); err != nil {
		t.Fatalf("a leader campaigns with another value: %v", err)
	}
	wantSeen("a3", a.lease)
	next := later(func() (*cpb.CampaignResponse, error) {
		return b.election.Campaign(ctx, &cpb.CampaignRequest{Name: name, Lease: b.lease, Value: []byte("b1")})
	})
	a.waitKeys(t, "e/", 2)
	if _, err := a.election.Resign(ctx, &cpb.ResignRequest{Leader: led.Leader}); err != nil {
		t.Fatal(err)
	}
	if got := <-next; got.err != nil || got.v.Leader.Lease != b.lease {
		t.Fatalf("the next leader: %v, %v", got.v, got.err)
	}
	wantSeen("b1", b.lease)
	_, err = a.election.Proclaim(ctx, &cpb.ProclaimRequest{Leader: led.Leader, Value: []byte("late")})
	if status.Convert(err).Message() != "election: not leader" {
		t.Errorf("a former leader proclaims: %v", err)
	}
	if _, err := a.election.Resign(ctx, &cpb.ResignRequest{Leader: led.Leader}); err != nil {
		t.Errorf("a former leader resigns again: %v", err)
	}
}

// Requests without the leader's key are refused in etcd's words.
func TestElectionNeedsTheLeaderKey(t *testing.T) {
	p := join(t, serve(t, nil), 60)
	const want = `"leader" field must be provided`
	if _, err := p.election.Proclaim(limited(t), &cpb.ProclaimRequest{}); status.Convert(err).Message() != want {
		t.Errorf("proclaim: %v", err)
	}
	if _, err := p.election.Resign(limited(t), &cpb.ResignRequest{}); status.Convert(err).Message() != want {
		t.Errorf("resign: %v", err)
	}
}
