package auth

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/bucket"
)

// Goal: a view that was handed out never moves, refused requests change nothing,
// the rights of every view are those its users and roles say, and what was
// stored rebuilds the last one. Method: random requests.
func TestViewsNeverMove(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		s, stored := newStore(), map[string]bucket.Op{}
		for step := range 200 {
			before := s.View()
			seen := describe(before)
			result, err := s.Apply(randomRequest(r), Entry{})
			if err != nil && s.View() != before {
				t.Fatalf("seed %d step %d: a refused request published something", seed, step)
			}
			if got := describe(before); got != seen {
				t.Fatalf("seed %d step %d: a view moved from %s to %s", seed, step, seen, got)
			}
			if after := s.View(); len(result.Ops) == 0 && describe(after) != seen {
				t.Fatalf("seed %d step %d: a change was not stored", seed, step)
			}
			for _, op := range result.Ops {
				at := string(op.Bucket) + "/" + string(op.Key)
				stored[at] = op
				if op.Delete {
					delete(stored, at)
				}
			}
			checkRights(t, s.View())
		}
		again := New(newSimple(0), Options{})
		for _, op := range stored {
			if err := again.Load(op.Bucket, op.Key, op.Value); err != nil {
				t.Fatal(err)
			}
		}
		again.Start()
		if describe(again.View()) != describe(s.View()) {
			t.Fatalf("seed %d: a restart finds %s, had %s", seed, describe(again.View()), describe(s.View()))
		}
	}
}

func describe(v *View) string {
	text := fmt.Sprint(v.enabled, v.revision)
	for _, name := range v.Users() {
		text += fmt.Sprintf(" %q", v.users[name].encode())
	}
	for _, name := range v.Roles() {
		text += fmt.Sprintf(" %q", v.roles[name].encode())
	}
	return text
}

func checkRights(t *testing.T, v *View) {
	t.Helper()
	if len(v.rights) != len(v.users) {
		t.Fatalf("%d rights of %d users", len(v.rights), len(v.users))
	}
	for name, u := range v.users {
		var roles []*Role
		for _, role := range u.Roles {
			if r := v.roles[role]; r != nil {
				roles = append(roles, r)
			}
		}
		if !reflect.DeepEqual(v.rights[name], newRights(roles)) {
			t.Fatalf("%s has the rights %q", name, v.rights[name])
		}
	}
}

func randomRequest(r *rand.Rand) *pb.InternalRaftRequest {
	user := []string{Root, "alice", "bob"}[r.IntN(3)]
	role := []string{Root, "one", "two"}[r.IntN(3)]
	key, end := []byte{byte('a' + r.IntN(3))}, []byte{byte('a' + r.IntN(4))}
	switch r.IntN(12) {
	case 0:
		return &pb.InternalRaftRequest{AuthEnable: &pb.AuthEnableRequest{}}
	case 1:
		return &pb.InternalRaftRequest{AuthDisable: &pb.AuthDisableRequest{}}
	case 2, 3:
		return &pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: user, HashedPassword: "aGFzaGVk"}}
	case 4:
		return &pb.InternalRaftRequest{AuthUserDelete: &pb.AuthUserDeleteRequest{Name: user}}
	case 5:
		return &pb.InternalRaftRequest{AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{Name: user, HashedPassword: "bmV3"}}
	case 6, 7:
		return &pb.InternalRaftRequest{AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: user, Role: role}}
	case 8:
		return &pb.InternalRaftRequest{AuthUserRevokeRole: &pb.AuthUserRevokeRoleRequest{Name: user, Role: role}}
	case 9:
		return &pb.InternalRaftRequest{AuthRoleAdd: &pb.AuthRoleAddRequest{Name: role}}
	case 10:
		if r.IntN(3) == 0 {
			return &pb.InternalRaftRequest{AuthRoleDelete: &pb.AuthRoleDeleteRequest{Role: role}}
		}
		return &pb.InternalRaftRequest{AuthRoleRevokePermission: &pb.AuthRoleRevokePermissionRequest{Role: role, Key: key, RangeEnd: end}}
	}
	return &pb.InternalRaftRequest{AuthRoleGrantPermission: &pb.AuthRoleGrantPermissionRequest{
		Name: role, Perm: &authpb.Permission{PermType: authpb.Permission_Type(r.IntN(3)), Key: key, RangeEnd: end},
	}}
}
