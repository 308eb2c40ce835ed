package blackbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/steledb/stele/test/rig"
)

// Goal: a snapshot taken under load is one moment of the store, and a directory
// restored from it holds that moment.
func TestSnapshotAndRestore(t *testing.T) {
	s, c := start(t)
	for i := range 50 {
		put(t, c, fmt.Sprintf("k%02d", i), "1")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var load sync.WaitGroup
	load.Go(func() {
		for n := 0; ctx.Err() == nil; n++ { // always both or neither
			v := fmt.Sprint(n)
			c.Txn(ctx).Then(clientv3.OpPut("left", v), clientv3.OpPut("right", v)).Commit()
		}
	})
	path := filepath.Join(t.TempDir(), "snapshot.db")
	save(t, c, path)
	cancel()
	load.Wait()
	s.Kill()

	dir := filepath.Join(t.TempDir(), "restored.etcd")
	peer := rig.FreeURL(t)
	restore := exec.Command(rig.Binary(t, "etcdutl"), "snapshot", "restore", path, "--data-dir", dir,
		"--name", "default", "--initial-cluster", "default="+peer, "--initial-advertise-peer-urls", peer)
	if out, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	again := rig.Start(t, rig.Options{Dir: dir, PeerURL: peer})
	c = connect(t, again)
	resp, err := c.Get(limited(t), "k", clientv3.WithPrefix())
	check(t, "get", err)
	same(t, "keys", resp.Count, 50)
	same(t, "both sides of a transaction", strings.TrimPrefix(text(t, c, "left"), "left"), strings.TrimPrefix(text(t, c, "right"), "right"))
	put(t, c, "k", "after")
}

func save(t *testing.T, c *clientv3.Client, path string) {
	t.Helper()
	r, err := c.Snapshot(limited(t))
	check(t, "snapshot", err)
	defer r.Close()
	f, err := os.Create(path)
	check(t, "create", err)
	defer f.Close()
	_, err = io.Copy(f, r)
	check(t, "copy", err)
}

// Goal: defragmentation goes on beside reads and writes, loses nothing and makes
// the file smaller.
func TestDefragmentUnderLoad(t *testing.T) {
	s, c := start(t)
	value := strings.Repeat("v", 50<<10)
	for i := range 300 {
		put(t, c, fmt.Sprintf("big%d", i%10), value)
	}
	rev := put(t, c, "k", "0")
	ctx, cancel := context.WithCancel(limited(t))
	var load sync.WaitGroup
	last := 0
	load.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if _, err := c.Put(ctx, "k", fmt.Sprint(n)); err == nil {
				last = n
			}
		}
	})
	_, err := c.Compact(ctx, rev, clientv3.WithCompactPhysical())
	check(t, "compact", err)
	before, err := c.Status(ctx, s.ClientURL)
	check(t, "status", err)
	for range 3 {
		_, err := c.Defragment(ctx, s.ClientURL)
		check(t, "defragment", err)
	}
	cancel()
	load.Wait()
	after, err := c.Status(limited(t), s.ClientURL)
	check(t, "status", err)
	if after.DbSize*2 > before.DbSize {
		t.Errorf("%d bytes of which %d were in use became %d", before.DbSize, before.DbSizeInUse, after.DbSize)
	}
	hash, err := c.HashKV(limited(t), s.ClientURL, 0)
	check(t, "hash", err)
	s = restart(t, s, true)
	c = connect(t, s)
	if got := text(t, c, "k"); got != fmt.Sprint("k=", last) && got != fmt.Sprint("k=", last+1) { // the last put was cancelled, not refused
		t.Errorf("after a kill: %s, acknowledged was %d", got, last)
	}
	again, err := c.HashKV(limited(t), s.ClientURL, hash.Header.Revision)
	check(t, "hash", err)
	same(t, "hash after a kill", again.Hash, hash.Hash)
}

// Goal: the life of a NOSPACE alarm: fill, be refused, tidy up, disarm, go on.
func TestNoSpace(t *testing.T) {
	const quota = 4 << 20
	s, c := start(t, "--quota-backend-bytes", fmt.Sprint(quota))
	ctx := limited(t)
	value := strings.Repeat("v", 100<<10)
	var full error
	for n := 0; full == nil && n < 100; n++ {
		_, full = c.Put(ctx, fmt.Sprintf("k%d", n%4), value)
	}
	if !errors.Is(full, rpctypes.ErrNoSpace) {
		t.Fatalf("filling the store ends with %v", full)
	}
	alarms, err := c.AlarmList(ctx)
	check(t, "alarms", err)
	same(t, "alarms", fmt.Sprint(len(alarms.Alarms), alarms.Alarms[0].Alarm), "1 NOSPACE")
	refused := func() {
		t.Helper()
		for _, op := range []clientv3.Op{clientv3.OpPut("small", "1"), clientv3.OpTxn(nil, nil, []clientv3.Op{clientv3.OpPut("small", "1")})} {
			if _, err := c.Do(ctx, op); !errors.Is(err, rpctypes.ErrNoSpace) {
				t.Errorf("under the alarm: %v", err)
			}
		}
		if _, err := c.Grant(ctx, 60); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("a lease under the alarm: %v", err)
		}
	}
	refused()
	s = restart(t, s, true, "--quota-backend-bytes", fmt.Sprint(quota))
	c = connect(t, s)
	refused() // the alarm is kept

	del, err := c.Delete(ctx, "k", clientv3.WithPrefix())
	check(t, "delete", err)
	_, err = c.Compact(ctx, del.Header.Revision, clientv3.WithCompactPhysical())
	check(t, "compact", err)
	_, err = c.Defragment(ctx, s.ClientURL)
	check(t, "defragment", err)
	refused() // until it is disarmed
	_, err = c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	check(t, "disarm", err)
	put(t, c, "small", "1")
	status, err := c.Status(ctx, s.ClientURL)
	check(t, "status", err)
	if status.DbSize > quota/4 || len(status.Errors) > 0 {
		t.Errorf("%d bytes, errors %q", status.DbSize, status.Errors)
	}
}

// Goal: users, roles, and what happens to those without rights; and that it is
// still so after a kill.
func TestAuth(t *testing.T) {
	s, c := start(t, "--bcrypt-cost", "4")
	ctx := limited(t)
	for what, do := range map[string]func() error{
		"root": func() error { _, err := c.UserAdd(ctx, "root", "r"); return err },
		"user": func() error { _, err := c.UserAdd(ctx, "u", "p"); return err },
		"role": func() error { _, err := c.RoleAdd(ctx, "reader"); return err },
	} {
		check(t, what, do())
	}
	_, err := c.RoleGrantPermission(ctx, "reader", "pub/", clientv3.GetPrefixRangeEnd("pub/"), clientv3.PermissionType(clientv3.PermRead))
	check(t, "permission", err)
	_, err = c.UserGrantRole(ctx, "u", "reader")
	check(t, "grant", err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	check(t, "grant", err)
	put(t, c, "pub/k", "1")
	_, err = c.AuthEnable(ctx)
	check(t, "enable", err)

	for range 2 {
		if _, err := c.Get(ctx, "pub/k"); !errors.Is(err, rpctypes.ErrUserEmpty) {
			t.Errorf("nobody reads: %v", err)
		}
		user, root := connectAs(t, s, "u", "p"), connectAs(t, s, "root", "r")
		same(t, "the user reads", text(t, user, "pub/k"), "pub/k=1")
		for what, try := range map[string]func() error{
			"put":    func() error { _, err := user.Put(ctx, "pub/k", "2"); return err },
			"get":    func() error { _, err := user.Get(ctx, "priv"); return err },
			"txn":    func() error { _, err := user.Txn(ctx).Then(clientv3.OpDelete("pub/k")).Commit(); return err },
			"manage": func() error { _, err := user.UserAdd(ctx, "x", "x"); return err },
		} {
			if err := try(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for resp := range user.Watch(ctx, "priv") {
			if resp.Err() == nil {
				t.Errorf("the user may watch what he may not read: %v", resp)
			}
			break
		}
		put(t, root, "priv", "1")
		if _, err := clientv3.New(clientv3.Config{Endpoints: []string{s.ClientURL}, Username: "u", Password: "wrong"}); !errors.Is(err, rpctypes.ErrAuthFailed) {
			t.Errorf("a wrong password: %v", err)
		}
		s = restart(t, s, true, "--bcrypt-cost", "4")
		c = connect(t, s)
	}
	root := connectAs(t, s, "root", "r")
	_, err = root.AuthDisable(ctx)
	check(t, "disable", err)
	put(t, c, "free", "1")
}

// Goal: what two hashes of the same store say, and what a snapshot's bytes are.
func TestHashes(t *testing.T) {
	s, c := start(t)
	put(t, c, "k", "1")
	m := pb.NewMaintenanceClient(c.ActiveConnection())
	one, err := m.Hash(limited(t), &pb.HashRequest{})
	check(t, "hash", err)
	two, err := m.Hash(limited(t), &pb.HashRequest{})
	check(t, "hash", err)
	same(t, "hash of a quiet store", two.Hash, one.Hash)
	kv, err := c.HashKV(limited(t), s.ClientURL, 0)
	check(t, "hash", err)
	put(t, c, "k", "2")
	past, err := c.HashKV(limited(t), s.ClientURL, 2)
	check(t, "hash", err)
	same(t, "hash of the past", past.Hash, kv.Hash)

	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	save(t, c, a)
	save(t, c, b)
	x, _ := os.ReadFile(a)
	y, _ := os.ReadFile(b)
	if !bytes.Equal(x, y) || len(x)%512 != 32 {
		t.Errorf("two snapshots of a quiet store have %d and %d bytes and differ", len(x), len(y))
	}
}
