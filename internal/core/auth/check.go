package auth

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/keys"
)

// LeaseKeys tells which keys hang on a lease.
type LeaseKeys interface {
	Keys(id int64) [][]byte
}

// Root returns the caller that the server itself is: for what it proposes on
// its own, such as revoking an expired lease.
func (v *View) Root() Caller { return v.Identify(Root) }

// Identify returns the caller of a request whose user was established by other
// means than a token, such as a certificate.
func (v *View) Identify(user string) Caller { return Caller{User: user, Revision: v.revision} }

// CheckUser asks for a user of any rights.
func (v *View) CheckUser(c Caller) error {
	_, err := v.user(c)
	return err
}

// CheckAdmin asks for the root role.
func (v *View) CheckAdmin(c Caller) error {
	u, err := v.user(c)
	if err == nil && u != nil && !u.hasRole(Root) {
		err = ErrPermissionDenied
	}
	return err
}

// user is the user behind a caller, nil when auth is off.
func (v *View) user(c Caller) (*User, error) {
	if !v.enabled {
		return nil, nil
	}
	if c.User == "" {
		return nil, ErrUserEmpty
	}
	u := v.users[c.User]
	if u == nil {
		return nil, ErrPermissionDenied
	}
	return u, nil
}

// CheckRange asks for the right to read all keys of a span.
func (v *View) CheckRange(c Caller, s keys.Span) error {
	return v.checkKeys(c, func(r *rights) bool { return r.read.covers(s) })
}

// CheckWrite asks for the right to write or delete all keys of a span.
func (v *View) CheckWrite(c Caller, s keys.Span) error {
	return v.checkKeys(c, func(r *rights) bool { return r.write.covers(s) })
}

func (v *View) checkKeys(c Caller, allowed func(*rights) bool) error {
	if !v.enabled {
		return nil
	}
	if c.Revision == 0 { // nobody was identified
		return ErrUserEmpty
	}
	if c.Revision < v.revision {
		return ErrOldRevision
	}
	u := v.users[c.User]
	if u == nil {
		return ErrPermissionDenied
	}
	if u.hasRole(Root) || allowed(v.rights[u.Name]) {
		return nil
	}
	return ErrPermissionDenied
}

// isUnchecked reports whether rights on keys need not be looked at one by one.
func (v *View) isUnchecked(c Caller) bool { return !v.enabled || v.HasRole(c.User, Root) }

// CheckRangeRequest asks for the rights of a range.
func (v *View) CheckRangeRequest(c Caller, r *pb.RangeRequest) error {
	return v.CheckRange(c, keys.Span{Key: r.GetKey(), End: r.GetRangeEnd()})
}

// CheckPutRequest asks for the rights of a put. Hanging a key on a lease lets
// the lease's end delete the key together with the others on it, so all of
// them must be writable.
func (v *View) CheckPutRequest(c Caller, r *pb.PutRequest, leases LeaseKeys) error {
	span := keys.One(r.GetKey())
	if err := v.CheckWrite(c, span); err != nil {
		return err
	}
	if r.GetLease() != 0 {
		if err := v.CheckLeaseWrite(c, r.GetLease(), leases); err != nil {
			return err
		}
	}
	if r.GetPrevKv() {
		return v.CheckRange(c, span)
	}
	return nil
}

// CheckDeleteRequest asks for the rights of a deletion.
func (v *View) CheckDeleteRequest(c Caller, r *pb.DeleteRangeRequest) error {
	span := keys.Span{Key: r.GetKey(), End: r.GetRangeEnd()}
	if err := v.CheckWrite(c, span); err != nil {
		return err
	}
	if r.GetPrevKv() {
		return v.CheckRange(c, span)
	}
	return nil
}

// CheckTxnRequest asks for the rights of everything a transaction could do, in
// both branches and at every level.
func (v *View) CheckTxnRequest(c Caller, r *pb.TxnRequest) error {
	for _, cmp := range r.GetCompare() {
		if err := v.CheckRange(c, keys.Span{Key: cmp.GetKey(), End: cmp.GetRangeEnd()}); err != nil {
			return err
		}
	}
	for _, branch := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range branch {
			if err := v.checkOp(c, op); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *View) checkOp(c Caller, op *pb.RequestOp) error {
	switch {
	case op.GetRequestRange() != nil:
		return v.CheckRangeRequest(c, op.GetRequestRange())
	case op.GetRequestPut() != nil:
		return v.CheckWrite(c, keys.One(op.GetRequestPut().GetKey()))
	case op.GetRequestDeleteRange() != nil:
		return v.CheckDeleteRequest(c, op.GetRequestDeleteRange())
	case op.GetRequestTxn() != nil:
		return v.CheckTxnRequest(c, op.GetRequestTxn())
	}
	return nil
}

// CheckLeaseWrite asks for the right to write every key on a lease: to revoke
// it, keep it alive or hang another key on it. A lease that is not there has no
// keys.
func (v *View) CheckLeaseWrite(c Caller, id int64, leases LeaseKeys) error {
	return v.checkLease(c, id, leases, v.CheckWrite)
}

// CheckLeaseRead asks for the right to read every key on a lease: to see them.
func (v *View) CheckLeaseRead(c Caller, id int64, leases LeaseKeys) error {
	return v.checkLease(c, id, leases, v.CheckRange)
}

func (v *View) checkLease(c Caller, id int64, leases LeaseKeys, check func(Caller, keys.Span) error) error {
	if v.isUnchecked(c) {
		return nil
	}
	for _, key := range leases.Keys(id) {
		if err := check(c, keys.One(key)); err != nil {
			return err
		}
	}
	return nil
}

// CheckWatch asks for the right to watch a span. An empty key stands for the
// first key there can be.
func (v *View) CheckWatch(c Caller, s keys.Span) error {
	if len(s.Key) == 0 {
		s.Key = []byte{0}
	}
	return v.CheckRange(c, s)
}

// CheckUserGet asks for the right to see a user: root's, or one's own.
func (v *View) CheckUserGet(c Caller, name string) error {
	err := v.CheckAdmin(c)
	if err != nil && c.User != "" && c.User == name {
		return nil
	}
	return err
}

// CheckRoleGet asks for the right to see a role: root's, or one has it.
func (v *View) CheckRoleGet(c Caller, role string) error {
	err := v.CheckAdmin(c)
	if err != nil && v.HasRole(c.User, role) {
		return nil
	}
	return err
}

// CheckEntry asks, when an entry is applied, for what members of every version
// ask for at that point. It must not be stricter or laxer than they are, or the
// members of a mixed cluster would come to differ; what is missing here is
// asked for by CheckMethod, before a request is proposed.
func (v *View) CheckEntry(c Caller, r *pb.InternalRaftRequest, leases LeaseKeys) error {
	switch {
	case !v.enabled:
		return nil
	case r.Range != nil:
		return v.CheckRangeRequest(c, r.Range)
	case r.Put != nil:
		return v.CheckPutRequest(c, r.Put, leases)
	case r.DeleteRange != nil:
		return v.CheckDeleteRequest(c, r.DeleteRange)
	case r.Txn != nil:
		return v.CheckTxnRequest(c, r.Txn)
	case r.LeaseRevoke != nil:
		return v.CheckLeaseWrite(c, r.LeaseRevoke.GetID(), leases)
	case r.AuthUserGet != nil:
		return v.CheckUserGet(c, r.AuthUserGet.GetName())
	case r.AuthRoleGet != nil:
		return v.CheckRoleGet(c, r.AuthRoleGet.GetRole())
	case isManagement(r):
		return v.CheckAdmin(c)
	}
	return nil
}

// isManagement reports whether the entry is about users and roles as a whole.
func isManagement(r *pb.InternalRaftRequest) bool {
	return r.AuthEnable != nil || r.AuthDisable != nil ||
		r.AuthUserAdd != nil || r.AuthUserDelete != nil || r.AuthUserChangePassword != nil ||
		r.AuthUserGrantRole != nil || r.AuthUserRevokeRole != nil || r.AuthUserList != nil ||
		r.AuthRoleAdd != nil || r.AuthRoleDelete != nil || r.AuthRoleList != nil ||
		r.AuthRoleGrantPermission != nil || r.AuthRoleRevokePermission != nil
}
