package auth

import (
	"encoding/base64"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/bucket"
)

func enable(_ *Store, next *View, _ *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	o := outcome{resp: &pb.AuthEnableResponse{}}
	if next.enabled {
		return o, nil
	}
	if next.users[Root] == nil {
		return o, ErrRootUserNotExist
	}
	if !next.HasRole(Root, Root) {
		return o, ErrRootRoleNotExist
	}
	next.enabled = true
	o.ops = []bucket.Op{putEnabled(true)}
	return o, nil
}

// disable counts as a change: what was refused by rights until now is allowed.
func disable(_ *Store, next *View, _ *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	o := outcome{resp: &pb.AuthDisableResponse{}}
	if next.enabled {
		next.enabled = false
		o.ops, o.changed = []bucket.Op{putEnabled(false)}, true
	}
	return o, nil
}

func status(_ *Store, next *View, _ *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	return outcome{resp: next.Status()}, nil
}

// Status is the answer of AuthStatus, without header.
func (v *View) Status() *pb.AuthStatusResponse {
	return &pb.AuthStatusResponse{Enabled: v.enabled, AuthRevision: v.revision}
}

// authenticate gives out a token. The password was compared by the member that
// proposed it, at a revision that it compares with the one of now.
func authenticate(s *Store, next *View, r *pb.InternalRaftRequest, e Entry) (outcome, error) {
	name := r.Authenticate.GetName()
	if _, err := next.passwordOf(name); err != nil {
		return outcome{}, err
	}
	token, err := s.tokens.Assign(Grant{
		User:     name,
		Revision: next.revision,
		Prefix:   r.Authenticate.GetSimpleToken(),
		Index:    e.Index,
		Answer:   e.Answer,
	}, e.Now)
	if err != nil {
		return outcome{}, err
	}
	return outcome{resp: &pb.AuthenticateResponse{Token: token}}, nil
}

func userAdd(s *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	q := r.AuthUserAdd
	if q.GetName() == "" {
		return outcome{}, ErrUserEmpty
	}
	if next.users[q.GetName()] != nil {
		return outcome{}, ErrUserExists
	}
	// The record has options even if the request had none.
	u := &User{Name: q.GetName(), NoPassword: q.GetOptions().GetNoPassword(), hasOptions: true}
	if !u.NoPassword {
		hash, err := s.hashOf(q.GetPassword(), q.GetHashedPassword())
		if err != nil {
			return outcome{}, err
		}
		u.Password = hash
	}
	next.setUser(u)
	return outcome{resp: &pb.AuthUserAddResponse{}, ops: []bucket.Op{u.put()}, changed: true}, nil
}

// hashOf reads the hash out of a request. Requests before 3.5 hold the password
// itself.
func (s *Store) hashOf(plain, hashed string) ([]byte, error) {
	if plain != "" && hashed == "" && s.opt.LegacyHash != nil {
		hash, err := s.opt.LegacyHash(plain)
		if err != nil {
			return nil, ErrNoPasswordUser
		}
		return hash, nil
	}
	hash, err := base64.StdEncoding.DecodeString(hashed)
	if err != nil {
		return nil, ErrNoPasswordUser
	}
	return hash, nil
}

// userDelete leaves root in place while auth is on: nobody could turn it off.
func userDelete(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	name := r.AuthUserDelete.GetName()
	if next.enabled && name == Root {
		return outcome{}, ErrInvalidManagement
	}
	if next.users[name] == nil {
		return outcome{}, ErrUserNotFound
	}
	next.dropUser(name)
	return outcome{
		resp:    &pb.AuthUserDeleteResponse{},
		ops:     []bucket.Op{bucket.Drop(bucket.AuthUsers, []byte(name))},
		changed: true,
		forget:  name,
	}, nil
}

func userGet(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	u := next.users[r.AuthUserGet.GetName()]
	if u == nil {
		return outcome{}, ErrUserNotFound
	}
	return outcome{resp: &pb.AuthUserGetResponse{Roles: slices.Clone(u.Roles)}}, nil
}

func userList(_ *Store, next *View, _ *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	return outcome{resp: &pb.AuthUserListResponse{Users: next.Users()}}, nil
}

func userChangePassword(s *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	q := r.AuthUserChangePassword
	old := next.users[q.GetName()]
	if old == nil {
		return outcome{}, ErrUserNotFound
	}
	u := *old
	u.Password = nil
	if !u.NoPassword {
		hash, err := s.hashOf(q.GetPassword(), q.GetHashedPassword())
		if err != nil {
			return outcome{}, err
		}
		u.Password = hash
	}
	next.setUser(&u)
	return outcome{
		resp:    &pb.AuthUserChangePasswordResponse{},
		ops:     []bucket.Op{u.put()},
		changed: true,
		forget:  u.Name,
	}, nil
}

// userGrantRole lets root have its role even if no record of the role exists.
func userGrantRole(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	q := r.AuthUserGrantRole
	old := next.users[q.GetUser()]
	if old == nil {
		return outcome{}, ErrUserNotFound
	}
	if q.GetRole() != Root && next.roles[q.GetRole()] == nil {
		return outcome{}, ErrRoleNotFound
	}
	o := outcome{resp: &pb.AuthUserGrantRoleResponse{}}
	at, found := slices.BinarySearch(old.Roles, q.GetRole())
	if found {
		return o, nil
	}
	u := *old
	u.Roles = slices.Insert(slices.Clone(old.Roles), at, q.GetRole())
	next.setUser(&u)
	o.ops, o.changed = []bucket.Op{u.put()}, true
	return o, nil
}

func userRevokeRole(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	q := r.AuthUserRevokeRole
	if next.enabled && q.GetName() == Root && q.GetRole() == Root {
		return outcome{}, ErrInvalidManagement
	}
	old := next.users[q.GetName()]
	if old == nil {
		return outcome{}, ErrUserNotFound
	}
	if !old.hasRole(q.GetRole()) {
		return outcome{}, ErrRoleNotGranted
	}
	u := old.without(q.GetRole())
	next.setUser(u)
	return outcome{resp: &pb.AuthUserRevokeRoleResponse{}, ops: []bucket.Op{u.put()}, changed: true}, nil
}

// without is the user without a role.
func (u *User) without(role string) *User {
	copied := *u
	copied.Roles = slices.DeleteFunc(slices.Clone(u.Roles), func(r string) bool { return r == role })
	return &copied
}

func roleAdd(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	name := r.AuthRoleAdd.GetName()
	if name == "" {
		return outcome{}, ErrRoleEmpty
	}
	if next.roles[name] != nil {
		return outcome{}, ErrRoleExists
	}
	role := &Role{Name: name}
	next.setRole(role)
	return outcome{resp: &pb.AuthRoleAddResponse{}, ops: []bucket.Op{role.put()}, changed: true}, nil
}

func roleDelete(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	name := r.AuthRoleDelete.GetRole()
	if next.enabled && name == Root {
		return outcome{}, ErrInvalidManagement
	}
	if next.roles[name] == nil {
		return outcome{}, ErrRoleNotFound
	}
	o := outcome{
		resp:    &pb.AuthRoleDeleteResponse{},
		ops:     []bucket.Op{bucket.Drop(bucket.AuthRoles, []byte(name))},
		changed: true,
	}
	for _, user := range next.Users() {
		if u := next.users[user]; u.hasRole(name) {
			u = u.without(name)
			next.setUser(u)
			o.ops = append(o.ops, u.put())
		}
	}
	next.dropRole(name)
	return o, nil
}

func roleGet(_ *Store, next *View, r *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	role := next.roles[r.AuthRoleGet.GetRole()]
	if role == nil {
		return outcome{}, ErrRoleNotFound
	}
	resp := &pb.AuthRoleGetResponse{}
	for _, p := range role.reported() {
		resp.Perm = append(resp.Perm, &authpb.Permission{PermType: authpb.Permission_Type(p.Type), Key: p.Key, RangeEnd: p.End})
	}
	return outcome{resp: resp}, nil
}

// reported are the permissions that clients see. Those of root are not stored.
func (r *Role) reported() []Permission {
	if r.Name == Root {
		return []Permission{{Type: ReadWrite, Key: []byte{}, End: []byte{0}}}
	}
	return r.Permissions
}

func roleList(_ *Store, next *View, _ *pb.InternalRaftRequest, _ Entry) (outcome, error) {
	return outcome{resp: &pb.AuthRoleListResponse{Roles: next.Roles()}}, nil
}
