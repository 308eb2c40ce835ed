package auth

// Need is what a method asks of its caller before it looks at the request.
type Need int

// The needs, from the strictest. The zero value is the one of methods that
// nobody thought of.
const (
	NeedAdmin Need = iota
	// NeedContent: what is needed depends on the request, which is checked by
	// the method itself; the caller must at least be a user.
	NeedContent
	NeedUser
	NeedNothing // a token that is given must still be valid
)

// methods is the one place that says what callers need. Whatever is not here
// needs the root role.
var methods = map[string]Need{
	"/etcdserverpb.KV/Range":       NeedContent,
	"/etcdserverpb.KV/RangeStream": NeedContent,
	"/etcdserverpb.KV/Put":         NeedContent,
	"/etcdserverpb.KV/DeleteRange": NeedContent,
	"/etcdserverpb.KV/Txn":         NeedContent,
	"/etcdserverpb.KV/Compact":     NeedAdmin,

	"/etcdserverpb.Watch/Watch": NeedNothing, // each watcher is checked when it is created

	"/etcdserverpb.Lease/LeaseGrant":      NeedUser,
	"/etcdserverpb.Lease/LeaseRevoke":     NeedContent,
	"/etcdserverpb.Lease/LeaseKeepAlive":  NeedContent,
	"/etcdserverpb.Lease/LeaseTimeToLive": NeedContent,
	"/etcdserverpb.Lease/LeaseLeases":     NeedContent,

	"/etcdserverpb.Cluster/MemberList":    NeedUser,
	"/etcdserverpb.Cluster/MemberAdd":     NeedAdmin,
	"/etcdserverpb.Cluster/MemberRemove":  NeedAdmin,
	"/etcdserverpb.Cluster/MemberUpdate":  NeedAdmin,
	"/etcdserverpb.Cluster/MemberPromote": NeedAdmin,

	"/etcdserverpb.Maintenance/Alarm":      NeedContent, // reading is free, see CheckAlarm
	"/etcdserverpb.Maintenance/Status":     NeedUser,
	"/etcdserverpb.Maintenance/Defragment": NeedAdmin,
	"/etcdserverpb.Maintenance/Hash":       NeedAdmin,
	"/etcdserverpb.Maintenance/HashKV":     NeedAdmin,
	"/etcdserverpb.Maintenance/Snapshot":   NeedAdmin,
	"/etcdserverpb.Maintenance/MoveLeader": NeedAdmin,
	"/etcdserverpb.Maintenance/Downgrade":  NeedAdmin,

	"/etcdserverpb.Auth/Authenticate":         NeedNothing,
	"/etcdserverpb.Auth/AuthStatus":           NeedNothing,
	"/etcdserverpb.Auth/AuthEnable":           NeedAdmin,
	"/etcdserverpb.Auth/AuthDisable":          NeedAdmin,
	"/etcdserverpb.Auth/UserAdd":              NeedAdmin,
	"/etcdserverpb.Auth/UserGet":              NeedContent,
	"/etcdserverpb.Auth/UserList":             NeedAdmin,
	"/etcdserverpb.Auth/UserDelete":           NeedAdmin,
	"/etcdserverpb.Auth/UserChangePassword":   NeedAdmin,
	"/etcdserverpb.Auth/UserGrantRole":        NeedAdmin,
	"/etcdserverpb.Auth/UserRevokeRole":       NeedAdmin,
	"/etcdserverpb.Auth/RoleAdd":              NeedAdmin,
	"/etcdserverpb.Auth/RoleGet":              NeedContent,
	"/etcdserverpb.Auth/RoleList":             NeedAdmin,
	"/etcdserverpb.Auth/RoleDelete":           NeedAdmin,
	"/etcdserverpb.Auth/RoleGrantPermission":  NeedAdmin,
	"/etcdserverpb.Auth/RoleRevokePermission": NeedAdmin,

	// These work on keys through the KV and Lease services, which check.
	"/v3lockpb.Lock/Lock":             NeedContent,
	"/v3lockpb.Lock/Unlock":           NeedContent,
	"/v3electionpb.Election/Campaign": NeedContent,
	"/v3electionpb.Election/Proclaim": NeedContent,
	"/v3electionpb.Election/Leader":   NeedContent,
	"/v3electionpb.Election/Observe":  NeedContent,
	"/v3electionpb.Election/Resign":   NeedContent,

	"/grpc.health.v1.Health/Check": NeedNothing,
	"/grpc.health.v1.Health/Watch": NeedNothing,
	"/grpc.health.v1.Health/List":  NeedNothing,
}

// NeedOf says what a gRPC method, by its full name, asks of its caller.
func NeedOf(method string) Need { return methods[method] }

// CheckMethod asks for what a method needs before its request is looked at.
func (v *View) CheckMethod(c Caller, method string) error {
	switch NeedOf(method) {
	case NeedNothing:
		return nil
	case NeedUser, NeedContent:
		return v.CheckUser(c)
	}
	return v.CheckAdmin(c)
}

// CheckAlarm asks for the rights of an alarm request: any user may look.
func (v *View) CheckAlarm(c Caller, reading bool) error {
	if reading {
		return v.CheckUser(c)
	}
	return v.CheckAdmin(c)
}
