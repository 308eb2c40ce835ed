package auth

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/keys"
)

func roleGrantPermission(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	q := r.AuthRoleGrantPermission
	if q.GetPerm() == nil {
		return outcome{}, ErrPermissionNotGiven
	}
	p := Permission{Type: Type(q.Perm.GetPermType()), Key: bytes.Clone(q.Perm.GetKey()), End: bytes.Clone(q.Perm.GetRangeEnd())}
	if span := (keys.Span{Key: p.Key, End: p.End}); len(p.Key) == 0 || span.IsEmpty() {
		return outcome{}, ErrInvalidManagement
	}
	old := next.roles[q.GetName()]
	if old == nil {
		return outcome{}, ErrRoleNotFound
	}
	role := &Role{Name: old.Name, Permissions: granted(old.Permissions, p)}
	next.setRole(role)
	return outcome{resp: &pb.AuthRoleGrantPermissionResponse{}, ops: []bucket.Op{role.put()}, changed: true}, nil
}

// granted adds a permission in the order of keys, or gives the one for the same
// span another type. Only the first permission of a key is looked at for that,
// as etcd does: with two spans that start alike, granting the second again
// stores it again.
func granted(old []Permission, p Permission) []Permission {
	all := slices.Clone(old)
	at, found := slices.BinarySearchFunc(all, p.Key, func(o Permission, key []byte) int { return bytes.Compare(o.Key, key) })
	if found && bytes.Equal(all[at].End, p.End) {
		all[at].Type = p.Type
		return all
	}
	for at < len(all) && bytes.Equal(all[at].Key, p.Key) {
		at++
	}
	return slices.Insert(all, at, p)
}

func roleRevokePermission(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	q := r.AuthRoleRevokePermission
	old := next.roles[q.GetRole()]
	if old == nil {
		return outcome{}, ErrRoleNotFound
	}
	rest := slices.DeleteFunc(slices.Clone(old.Permissions), func(p Permission) bool {
		return bytes.Equal(p.Key, q.GetKey()) && bytes.Equal(p.End, q.GetRangeEnd())
	})
	if len(rest) == len(old.Permissions) {
		return outcome{}, ErrPermissionNotGranted
	}
	role := &Role{Name: old.Name, Permissions: rest}
	next.setRole(role)
	return outcome{resp: &pb.AuthRoleRevokePermissionResponse{}, ops: []bucket.Op{role.put()}, changed: true}, nil
}
