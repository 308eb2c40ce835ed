package blackbox

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func grant(t *testing.T, c *clientv3.Client, seconds int64) clientv3.LeaseID {
	t.Helper()
	resp, err := c.Grant(limited(t), seconds)
	check(t, "grant", err)
	return resp.ID
}

func ttl(t *testing.T, c *clientv3.Client, id clientv3.LeaseID) *clientv3.LeaseTimeToLiveResponse {
	t.Helper()
	resp, err := c.TimeToLive(limited(t), id, clientv3.WithAttachedKeys())
	check(t, "time to live", err)
	return resp
}

// Goal: a lease keeps its keys while it is kept alive, and takes them along when
// it runs out: not before its time, and soon after.
func TestLeaseExpiry(t *testing.T) {
	_, c := start(t)
	began := time.Now()
	short, kept := grant(t, c, 2), grant(t, c, 2)
	put(t, c, "short", "1", clientv3.WithLease(short))
	put(t, c, "kept", "1", clientv3.WithLease(kept))
	alive, err := c.KeepAlive(limited(t), kept)
	check(t, "keep alive", err)
	go func() {
		for range alive {
		}
	}()
	gone := c.Watch(limited(t), "short", clientv3.WithFilterPut())
	event := next(t, gone, 1)
	if took := time.Since(began); took < 2*time.Second || took > 8*time.Second {
		t.Errorf("%s after %v, with a lease of 2 s", event, took)
	}
	same(t, "what hung on the other lease", text(t, c, "kept"), "kept=1")
	same(t, "time to live of a lease that is gone", ttl(t, c, short).TTL, -1)
	if _, err := c.KeepAliveOnce(limited(t), short); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("keeping it alive: %v", err)
	}
}

// Goal: what hangs on a lease follows the last put, and goes with a revocation
// in one revision.
func TestLeaseAttachment(t *testing.T) {
	_, c := start(t)
	a, b := grant(t, c, 600), grant(t, c, 600)
	put(t, c, "x", "1", clientv3.WithLease(a))
	put(t, c, "y", "1", clientv3.WithLease(a))
	put(t, c, "z", "1", clientv3.WithLease(a))
	put(t, c, "y", "2", clientv3.WithLease(b))
	rev := put(t, c, "z", "2")
	same(t, "keys of the first", fmt.Sprintf("%s", ttl(t, c, a).Keys), "[x]")
	same(t, "keys of the second", fmt.Sprintf("%s", ttl(t, c, b).Keys), "[y]")
	put(t, c, "w", "1", clientv3.WithLease(a))
	resp, err := c.Revoke(limited(t), a)
	check(t, "revoke", err)
	same(t, "revision", resp.Header.Revision, rev+2)
	same(t, "left", text(t, c, "", clientv3.WithPrefix()), "y=2 z=2")
	if _, err := c.Revoke(limited(t), a); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	list, err := c.Leases(limited(t))
	check(t, "leases", err)
	same(t, "leases", fmt.Sprint(len(list.Leases), list.Leases[0].ID == b), "1 true")
}

// Goal: leases and what hangs on them outlive the server, and never run out
// early because of it.
func TestLeaseOverRestart(t *testing.T) {
	for name, args := range map[string][]string{
		"plain":       nil,
		"checkpoints": {"--feature-gates", "LeaseCheckpoint=true,LeaseCheckpointPersist=true"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := start(t, args...)
			long, short := grant(t, c, 900), grant(t, c, 3)
			began := time.Now()
			put(t, c, "long", "1", clientv3.WithLease(long))
			put(t, c, "short", "1", clientv3.WithLease(short))
			_, err := c.KeepAliveOnce(limited(t), long)
			check(t, "keep alive", err)
			for _, kill := range []bool{true, false} {
				s = restart(t, s, kill, args...)
				got := ttl(t, c, long)
				same(t, "lease", fmt.Sprintf("%d %s", got.GrantedTTL, got.Keys), "900 [long]")
				if got.TTL < 890 || got.TTL > 910 {
					t.Errorf("%d s left of 900", got.TTL)
				}
			}
			eventually(t, "expiry", func() bool { return text(t, c, "short") == "" })
			if took := time.Since(began); took < 3*time.Second {
				t.Errorf("a lease of 3 s ran out after %v", took)
			}
		})
	}
}
