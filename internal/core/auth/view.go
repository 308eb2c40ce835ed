package auth

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/steledb/stele/internal/base/bucket"
)

// View is the auth state after some entry. It never changes.
type View struct {
	enabled  bool
	revision uint64
	users    map[string]*User
	roles    map[string]*Role
	rights   map[string]*rights // of each user that has a role
	shared   bool               // the maps belong to a published view, see own
}

func newView() *View {
	return &View{users: map[string]*User{}, roles: map[string]*Role{}, rights: map[string]*rights{}}
}

// IsEnabled reports whether rights are checked at all.
func (v *View) IsEnabled() bool { return v.enabled }

// Revision counts the changes of users, roles and permissions.
func (v *View) Revision() uint64 { return v.revision }

// Users returns the names of all users, in order.
func (v *View) Users() []string { return slices.Sorted(maps.Keys(v.users)) }

// Roles returns the names of all roles, in order.
func (v *View) Roles() []string { return slices.Sorted(maps.Keys(v.roles)) }

// User returns a user, nil if there is none of the name.
func (v *View) User(name string) *User { return v.users[name] }

// Role returns a role, nil if there is none of the name.
func (v *View) Role(name string) *Role { return v.roles[name] }

// HasRole reports whether a user has been granted a role.
func (v *View) HasRole(user, role string) bool {
	u := v.users[user]
	return u != nil && u.hasRole(role)
}

func (u *User) hasRole(role string) bool {
	_, found := slices.BinarySearch(u.Roles, role)
	return found
}

// next is a copy to be changed and then published. The maps are copied by the
// first change: logging in, the most frequent request, changes none of them.
func (v *View) next() *View {
	copied := *v
	copied.shared = true
	return &copied
}

// own makes the maps this view's own before they are changed.
func (v *View) own() {
	if !v.shared {
		return
	}
	v.users, v.roles, v.rights = maps.Clone(v.users), maps.Clone(v.roles), maps.Clone(v.rights)
	v.shared = false
}

// setUser puts a user in place of its former self.
func (v *View) setUser(u *User) {
	v.own()
	v.users[u.Name] = u
	v.setRights(u)
}

func (v *View) dropUser(name string) {
	v.own()
	delete(v.users, name)
	delete(v.rights, name)
}

// setRole puts a role in place of its former self.
func (v *View) setRole(r *Role) {
	v.own()
	v.roles[r.Name] = r
	for _, u := range v.users {
		if u.hasRole(r.Name) {
			v.setRights(u)
		}
	}
}

// dropRole removes a role that no user has any more.
func (v *View) dropRole(name string) {
	v.own()
	delete(v.roles, name)
}

// setRights works out a user's rights; the maps are this view's own by now.
func (v *View) setRights(u *User) {
	var roles []*Role
	for _, name := range u.Roles {
		if r := v.roles[name]; r != nil {
			roles = append(roles, r)
		}
	}
	v.rights[u.Name] = newRights(roles)
}

// load adds one record of the buckets auth, authUsers and authRoles.
func (v *View) load(b bucket.Name, key, value []byte) error {
	switch b {
	case bucket.Auth:
		return v.loadFact(string(key), value)
	case bucket.AuthUsers:
		u, err := decodeUser(key, value)
		if err != nil {
			return err
		}
		v.users[u.Name] = u
	case bucket.AuthRoles:
		r, err := decodeRole(key, value)
		if err != nil {
			return err
		}
		v.roles[r.Name] = r
	default:
		return fmt.Errorf("auth: bucket %s does not describe users", b)
	}
	return nil
}

func (v *View) loadFact(key string, value []byte) error {
	switch key {
	case keyEnabled:
		v.enabled = len(value) == 1 && value[0] == 1
	case keyRevision:
		if len(value) != 8 {
			return fmt.Errorf("auth: record %s has %d bytes, want 8", key, len(value))
		}
		v.revision = binary.BigEndian.Uint64(value)
	}
	return nil
}
