package member

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// tellAuth writes what an applied change of users and roles was. Every member
// writes it: each is a witness of who could do what from when on.
func (a *applier) tellAuth(kind op, r *pb.InternalRaftRequest) {
	log := a.m.log
	switch kind {
	case opAuthEnable:
		log.Info("enabled authentication")
	case opAuthDisable:
		log.Info("disabled authentication")
	case opAuthUserAdd:
		log.Info("added a user", "user-name", r.AuthUserAdd.Name)
	case opAuthUserDelete:
		log.Info("deleted a user", "user-name", r.AuthUserDelete.Name)
	case opAuthUserChangePassword:
		name := r.AuthUserChangePassword.Name
		log.Info("changed a password of a user", "user-name", name, "user-roles", a.rolesOf(name))
	case opAuthUserGrantRole:
		g := r.AuthUserGrantRole
		log.Info("granted a role to a user", "user-name", g.User, "user-roles", a.rolesOf(g.User), "added-role-name", g.Role)
	case opAuthUserRevokeRole:
		g := r.AuthUserRevokeRole
		log.Info("revoked a role from a user", "user-name", g.Name, "new-user-roles", a.rolesOf(g.Name), "revoked-role-name", g.Role)
	case opAuthRoleAdd:
		log.Info("created a role", "role-name", r.AuthRoleAdd.Name)
	case opAuthRoleDelete:
		log.Info("deleted a role", "role-name", r.AuthRoleDelete.Role)
	case opAuthRoleGrantPermission:
		g := r.AuthRoleGrantPermission
		log.Info("granted/updated a permission to a user", "user-name", g.Name, "permission-name", g.Perm.GetPermType().String(),
			"key", g.Perm.GetKey(), "range-end", g.Perm.GetRangeEnd())
	case opAuthRoleRevokePermission:
		g := r.AuthRoleRevokePermission
		log.Info("revoked a permission on range", "role-name", g.Role, "key", string(g.Key), "range-end", string(g.RangeEnd))
	}
}

// rolesOf are the roles of a user as they are now.
func (a *applier) rolesOf(user string) []string {
	if u := a.m.machine.Auth.View().User(user); u != nil {
		return u.Roles
	}
	return nil
}
