package auth

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/fixture"
	"github.com/steledb/stele/internal/base/keys"
)

// expected is what a server on the data directory must know.
type expected struct {
	Users []struct {
		Name  string
		Roles []string
	}
	Roles []struct {
		Name string
		Perm []struct {
			PermType string
			Key      string // base64
			RangeEnd string `json:"range_end"`
		}
	}
	Access       [][]any // user, key, operation, allowed
	Passwords    map[string]string
	AuthEnabled  bool   `json:"auth_enabled"`
	AuthRevision uint64 `json:"auth_revision"` // absent before 3.5
}

// Goal: users, rights and passwords of databases that etcd 3.4 to 3.7 wrote mean
// the same here, and are written back byte for byte.
func TestRecordedDatabases(t *testing.T) {
	for _, version := range []string{"3.4", "3.5", "3.6", "3.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			name := "v" + version + "-single-auth"
			var want expected
			fixture.Expected(t, name, &want)
			s := New(newSimple(0), Options{})
			fixture.EachRecord(t, name, []bucket.Name{bucket.Auth, bucket.AuthUsers, bucket.AuthRoles},
				func(b bucket.Name, key, value []byte) {
					if err := s.Load(b, key, value); err != nil {
						t.Fatal(err)
					}
					checkWrittenBack(t, s.loading, b, string(key), value)
				})
			if ops := s.Start(); len(ops) != 0 {
				t.Errorf("an old database is told %v", ops)
			}
			checkRecorded(t, s.View(), want)
		})
	}
}

func checkWrittenBack(t *testing.T, v *View, b bucket.Name, key string, value []byte) {
	var got []byte
	switch b {
	case bucket.AuthUsers:
		got = v.users[key].put().Value
	case bucket.AuthRoles:
		got = v.roles[key].put().Value
	default:
		got = putRevision(v.revision).Value
		if key == keyEnabled {
			got = putEnabled(v.enabled).Value
		}
	}
	if !bytes.Equal(got, value) {
		t.Errorf("%s %s is written as %q, was %q", b, key, got, value)
	}
}

func checkRecorded(t *testing.T, v *View, want expected) {
	if v.IsEnabled() != want.AuthEnabled || want.AuthRevision != 0 && v.Revision() != want.AuthRevision {
		t.Errorf("enabled %v at revision %d", v.IsEnabled(), v.Revision())
	}
	var users []string
	for _, u := range want.Users {
		users = append(users, u.Name)
		if !slices.Equal(v.User(u.Name).Roles, u.Roles) {
			t.Errorf("%s has roles %v, want %v", u.Name, v.User(u.Name).Roles, u.Roles)
		}
	}
	if !slices.Equal(v.Users(), users) {
		t.Errorf("users %v, want %v", v.Users(), users)
	}
	for _, r := range want.Roles {
		var perms, got []string
		for _, p := range r.Perm {
			key, _ := base64.StdEncoding.DecodeString(p.Key)
			end, _ := base64.StdEncoding.DecodeString(p.RangeEnd)
			perms = append(perms, fmt.Sprintf("%d %q %q", authpb.Permission_Type_value[p.PermType], key, end))
		}
		for _, p := range v.Role(r.Name).Permissions {
			got = append(got, fmt.Sprintf("%d %q %q", p.Type, p.Key, p.End))
		}
		if r.Name != Root && !slices.Equal(got, perms) {
			t.Errorf("role %s has %v, want %v", r.Name, got, perms)
		}
	}
	for _, a := range want.Access {
		check := v.CheckRange
		if a[2] == "write" {
			check = v.CheckWrite
		}
		err := check(v.Identify(a[0].(string)), keys.One([]byte(a[1].(string))))
		if (err == nil) != a[3].(bool) {
			t.Errorf("%v: %v", a, err)
		}
	}
	for user, password := range want.Passwords {
		if rev, err := v.CheckPassword(user, password); err != nil || rev != v.Revision() {
			t.Errorf("%s cannot log in: %v", user, err)
		}
		if _, err := v.CheckPassword(user, password+"x"); err != ErrAuthFailed {
			t.Errorf("%s with a wrong password: %v", user, err)
		}
	}
	if _, err := v.CheckPassword("nopass", ""); err != ErrNoPasswordUser {
		t.Errorf("nopass: %v", err)
	}
}
