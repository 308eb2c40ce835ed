// Package auth keeps users, roles and permissions, and decides who may do what.
//
// A Store changes only by applied entries, and its changes come back as
// bucket.Ops. Each change builds a new View and publishes it; a View never
// changes, so every request checks its rights without a lock, and a run of
// checks sees one state. Authentication is optimistic: a caller carries the
// auth revision it was identified at, and a check under a newer revision fails
// with ErrOldRevision instead of deciding by rights that may be gone.
//
// Rights are denied by default. What a method needs stands in one table
// (method.go); a method that is not in it needs the root role.
//
// Nothing slow happens while an entry is applied: hashes are computed before a
// request is proposed, passwords are compared before an authentication is, and
// a JWT is signed only for the member that has the client. The package does no
// I/O: key files are read by the caller. See DESIGN.md.
package auth

// Error is an outcome a client is told, with the text of etcd.
type Error string

func (e Error) Error() string { return string(e) }

// The outcomes of authentication and of requests about users and roles.
const (
	ErrRootUserNotExist     Error = "etcdserver: root user does not exist"
	ErrRootRoleNotExist     Error = "etcdserver: root user does not have root role"
	ErrUserExists           Error = "etcdserver: user name already exists"
	ErrUserEmpty            Error = "etcdserver: user name is empty"
	ErrUserNotFound         Error = "etcdserver: user name not found"
	ErrRoleExists           Error = "etcdserver: role name already exists"
	ErrRoleNotFound         Error = "etcdserver: role name not found"
	ErrRoleEmpty            Error = "etcdserver: role name is empty"
	ErrAuthFailed           Error = "etcdserver: authentication failed, invalid user ID or password"
	ErrPermissionNotGiven   Error = "etcdserver: permission not given"
	ErrPermissionDenied     Error = "etcdserver: permission denied"
	ErrRoleNotGranted       Error = "etcdserver: role is not granted to the user"
	ErrPermissionNotGranted Error = "etcdserver: permission is not granted to the role"
	ErrNotEnabled           Error = "etcdserver: authentication is not enabled"
	ErrInvalidToken         Error = "etcdserver: invalid auth token"
	ErrInvalidManagement    Error = "etcdserver: invalid auth management"
	ErrOldRevision          Error = "etcdserver: revision of auth store is old"

	// These two reach clients with code Unknown, as they are.
	ErrNoPasswordUser Error = "auth: authentication failed, password was given for no password user"
	ErrVerifyOnly     Error = "auth: token signing attempted with verify-only key"
)

// Root is the name of the user and of the role that may do everything.
const Root = "root"

// Caller is who makes a request. The zero value is nobody.
type Caller struct {
	User     string
	Revision uint64 // auth revision at which the user was identified
}
