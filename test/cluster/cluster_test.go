// Package cluster runs several members as processes and treats them badly.
package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/steledb/stele/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, servers ...*rig.Server) *clientv3.Client {
	t.Helper()
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: urls, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually repeats try until it succeeds.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond) // other processes are at work
	}
}

// mustPut writes key = value through s, as soon as the cluster lets it.
func mustPut(t *testing.T, s *rig.Server, key, value string) {
	t.Helper()
	c := connect(t, s)
	eventually(t, "put "+key, func() error {
		_, err := c.Put(limited(t), key, value)
		return err
	})
}

// wantRead reads key through s, linearizably.
func wantRead(t *testing.T, s *rig.Server, key, value string) {
	t.Helper()
	resp, err := connect(t, s).Get(limited(t), key)
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value {
		t.Errorf("%s reads %s as %v, %v, want %s", s.Dir, key, resp, err, value)
	}
}

// leader is the place of the leading member.
func leader(t *testing.T, c *rig.Cluster) int {
	t.Helper()
	found := -1
	eventually(t, "a leader", func() error {
		for i, s := range c.Members {
			if s.Exited() {
				continue
			}
			st, err := connect(t, s).Status(limited(t), s.ClientURL)
			if err == nil && st.Leader == st.Header.MemberId {
				found = i
				return nil
			}
		}
		return fmt.Errorf("nobody leads")
	})
	return found
}

// wantEqual waits until all running members stand at one revision, and compares
// their hashes.
func wantEqual(t *testing.T, servers ...*rig.Server) {
	t.Helper()
	eventually(t, "equal members", func() error {
		var first *clientv3.HashKVResponse
		for _, s := range servers {
			h, err := connect(t, s).HashKV(limited(t), s.ClientURL, 0)
			switch {
			case err != nil:
				return err
			case first == nil:
				first = h
			case h.HashRevision != first.HashRevision || h.Hash != first.Hash:
				return fmt.Errorf("%d at %d here, %d at %d there", first.Hash, first.HashRevision, h.Hash, h.HashRevision)
			}
		}
		return nil
	})
}

// Goal: what is written through one member is read through every other; the
// loss of the leader stops nobody for long; who comes back catches up.
func TestTheClusterOutlivesItsLeader(t *testing.T) {
	c := rig.StartCluster(t, 3)
	for i, s := range c.Members {
		mustPut(t, s, fmt.Sprint("key", i), "v")
	}
	for _, s := range c.Members {
		for i := range c.Members {
			wantRead(t, s, fmt.Sprint("key", i), "v")
		}
	}
	lost := leader(t, c)
	c.Members[lost].Kill()
	next := (lost + 1) % 3
	mustPut(t, c.Members[next], "without", "the old leader")
	wantRead(t, c.Members[(lost+2)%3], "without", "the old leader")
	wantRead(t, c.Restart(lost), "without", "the old leader")
	wantEqual(t, c.Members...)
}

// Goal: a leader that is stopped hands over first, and all members can be
// stopped and started again.
func TestAStoppedLeaderHandsOver(t *testing.T) {
	c := rig.StartCluster(t, 3)
	old := leader(t, c)
	if err := c.Members[old].Stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Members[old].LogRecords("leadership transfer finished")); n != 1 {
		t.Errorf("%d transfers of the leadership, want one", n)
	}
	mustPut(t, c.Members[(old+1)%3], "k", "v")
	c.Restart(old)
	wantEqual(t, c.Members...)
	resp, err := connect(t, c.Members[old]).MemberList(limited(t))
	if err != nil || len(resp.Members) != 3 {
		t.Errorf("members after the restart: %v, %v", resp, err)
	}
}

// Goal: a learner is added, catches up, is promoted through a member that does
// not lead, takes part, and ends by itself once it is removed.
func TestAMemberComesAndGoes(t *testing.T) {
	c := rig.StartCluster(t, 3)
	follower := c.Members[(leader(t, c)+1)%3]
	client := connect(t, follower)
	mustPut(t, follower, "early", "bird")

	o := c.Next()
	var id uint64
	eventually(t, "add a learner", func() error { // members must know each other for a while
		resp, err := client.MemberAddAsLearner(limited(t), []string{o.PeerURL})
		if err == nil {
			id = resp.Member.ID
		}
		return err
	})
	s := c.Join(o)
	if _, err := connect(t, s).Put(limited(t), "k", "v"); err == nil || !strings.Contains(err.Error(), "learner") {
		t.Logf("a learner answers a put with %v", err)
	}
	eventually(t, "promote", func() error { _, err := client.MemberPromote(limited(t), id); return err })
	wantRead(t, s, "early", "bird")
	mustPut(t, s, "late", "worm")
	wantEqual(t, c.Members...)

	if _, err := client.MemberRemove(limited(t), id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(10 * time.Second); err != nil {
		t.Errorf("the removed member: %v", err)
	}
	mustPut(t, follower, "after", "all")
	wantEqual(t, c.Members[:3]...)
}

// Goal: a member that slept while the log was cut gets a snapshot, under the
// feet of a watcher, who misses nothing. Method: SIGSTOP, more bytes than the
// sockets take and more entries than the leader keeps, SIGCONT when the leader
// has given the connection up.
func TestASnapshotComesUnderAWatcher(t *testing.T) {
	c := rig.StartCluster(t, 3, "--snapshot-count", "50", "--snapshot-catchup-entries", "5")
	lead := leader(t, c)
	sleeper, awake := c.Members[(lead+1)%3], c.Members[lead]
	mustPut(t, awake, "w/first", "0")
	events := connect(t, sleeper).Watch(limited(t), "w/", clientv3.WithPrefix(), clientv3.WithRev(1))
	if first := <-events; len(first.Events) == 0 {
		t.Fatal("the watch does not begin")
	}
	if err := sleeper.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	client := connect(t, awake)
	const puts = 250
	padding := strings.Repeat(" ", 64<<10)
	for i := range puts {
		if _, err := client.Put(limited(t), "w/k", fmt.Sprint(i)+padding); err != nil {
			t.Fatal(err)
		}
	}
	if !awake.WaitLog(`"lost TCP streaming connection with remote peer","stream-writer-type":"stream MsgApp v2"`, 30*time.Second) {
		t.Fatal("the leader does not notice")
	}
	if err := sleeper.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if !sleeper.WaitLog("applied snapshot", 30*time.Second) {
		t.Fatal("no snapshot came")
	}
	for seen := 0; seen < puts; {
		resp, ok := <-events
		if !ok || resp.Err() != nil {
			t.Fatalf("watch ended after %d events: %v", seen, resp.Err())
		}
		for _, e := range resp.Events {
			if got := strings.TrimSpace(string(e.Kv.Value)); got != fmt.Sprint(seen) {
				t.Fatalf("event %d is %s", seen, got)
			}
			seen++
		}
	}
	mustPut(t, sleeper, "w/last", "1")
	wantEqual(t, c.Members...)

	// The snapshot is on disk as a restart needs it.
	at := (lead + 1) % 3
	sleeper.Kill()
	wantRead(t, c.Restart(at), "w/last", "1")
	wantEqual(t, c.Members...)
}

// Goal: leases are granted, kept alive and asked for through a member that does
// not lead, and end though their leader is lost.
func TestLeasesThroughAFollower(t *testing.T) {
	c := rig.StartCluster(t, 3)
	lead := leader(t, c)
	follower := connect(t, c.Members[(lead+1)%3])
	grant, err := follower.Grant(limited(t), 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Put(limited(t), "short", "lived", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	if alive, err := follower.KeepAliveOnce(limited(t), grant.ID); err != nil || alive.TTL != 3 {
		t.Errorf("kept alive: %v, %v", alive, err)
	}
	if ttl, err := follower.TimeToLive(limited(t), grant.ID, clientv3.WithAttachedKeys()); err != nil || len(ttl.Keys) != 1 || ttl.TTL < 1 || ttl.TTL > 3 {
		t.Errorf("time to live: %v, %v", ttl, err)
	}
	if _, err := follower.KeepAliveOnce(limited(t), 12345); err == nil || !strings.Contains(err.Error(), "requested lease not found") {
		t.Errorf("keeping an unknown lease alive: %v", err)
	}
	c.Members[lead].Kill()
	eventually(t, "the lease ends", func() error {
		resp, err := follower.Get(limited(t), "short")
		if err == nil && len(resp.Kvs) > 0 {
			err = fmt.Errorf("still there")
		}
		return err
	})
}

// TestThreeMemberFixtures opens the directories that three members of etcd left
// as a cluster, and compares what it holds.
func TestThreeMemberFixtures(t *testing.T) {
	shared := rig.Shared(t)
	for _, v := range []string{"v3.4", "v3.5", "v3.6", "v3.7"} {
		t.Run(v, func(t *testing.T) {
			var want struct {
				Revision int64
				HashKV   struct{ Hash uint32 }
				All      []uint32 `json:"hashkv_all_members"`
				Members  []struct {
					ID, Name string
					PeerURLs []string
				}
			}
			text, err := os.ReadFile(filepath.Join(shared, "fixtures", v+"-three.expected.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			rig.Untar(t, filepath.Join(shared, "fixtures", v+"-three.tar.gz"), dir)
			var servers []*rig.Server
			for _, m := range want.Members {
				servers = append(servers, rig.Launch(t, rig.Options{
					Name: m.Name, Dir: filepath.Join(dir, m.Name+".etcd"), PeerURL: m.PeerURLs[0],
				}))
			}
			for i, s := range servers {
				s.WaitReady()
				c := connect(t, s)
				if h, err := c.HashKV(limited(t), s.ClientURL, want.Revision); err != nil || h.Hash != want.HashKV.Hash || h.Hash != want.All[i] {
					t.Errorf("%s: %v, %v, want hash %d", want.Members[i].Name, h, err, want.HashKV.Hash)
				}
				if id := fmt.Sprintf("%x", must(c.Status(limited(t), s.ClientURL)).Header.MemberId); id != want.Members[i].ID {
					t.Errorf("%s has id %s, want %s", want.Members[i].Name, id, want.Members[i].ID)
				}
			}
			mustPut(t, servers[0], "new", "entry")
			for _, s := range servers {
				wantRead(t, s, "new", "entry")
			}
			wantEqual(t, servers...)
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
