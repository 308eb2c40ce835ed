package auth

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/bucket"
)

// The buckets, as etcd writes them (protobuf, fields in number order, those
// that are empty left out):
//
//	auth       authEnabled   1 byte, 1 or 0; absent before the first enable
//	           authRevision  8 bytes, big endian
//	authUsers  name          User: 1 name, 2 bcrypt hash, 3 role.., 4 options
//	                         options: 1 no_password; written even when empty
//	authRoles  name          Role: 1 name, 2 permission..
//	                         permission: 1 type, 2 key, 3 range end
const (
	keyEnabled  = "authEnabled"
	keyRevision = "authRevision"

	userName, userPassword, userRoles, userOptions = 1, 2, 3, 4
	optionNoPassword                               = 1
	roleName, rolePermission                       = 1, 2
	permType, permKey, permEnd                     = 1, 2, 3
)

// Type is what a permission allows. Values this version does not know are kept
// and allow nothing.
type Type int32

// The types of permission.
const (
	Read      Type = 0
	Write     Type = 1
	ReadWrite Type = 2
)

// Permission allows something on a span of keys.
type Permission struct {
	Type     Type
	Key, End []byte // as in keys.Span
}

// User is one user. Users and roles are replaced, never changed in place.
type User struct {
	Name       string
	Password   []byte   // bcrypt hash; nothing compares equal to an empty one
	Roles      []string // sorted
	NoPassword bool     // can only be identified by a certificate
	hasOptions bool     // the record has an options message, maybe an empty one
}

// Role is one role.
type Role struct {
	Name        string
	Permissions []Permission // sorted by key
}

func putEnabled(on bool) bucket.Op {
	value := []byte{0}
	if on {
		value[0] = 1
	}
	return bucket.Put(bucket.Auth, []byte(keyEnabled), value)
}

func putRevision(rev uint64) bucket.Op {
	return bucket.Put(bucket.Auth, []byte(keyRevision), binary.BigEndian.AppendUint64(nil, rev))
}

func (u *User) put() bucket.Op {
	return bucket.Put(bucket.AuthUsers, []byte(u.Name), u.encode())
}

func (r *Role) put() bucket.Op {
	return bucket.Put(bucket.AuthRoles, []byte(r.Name), r.encode())
}

func (u *User) encode() []byte {
	b := appendBytes(nil, userName, u.Name)
	b = appendBytes(b, userPassword, string(u.Password))
	for _, role := range u.Roles {
		b = protowire.AppendTag(b, userRoles, protowire.BytesType)
		b = protowire.AppendString(b, role)
	}
	if !u.hasOptions {
		return b
	}
	b = protowire.AppendTag(b, userOptions, protowire.BytesType)
	return protowire.AppendBytes(b, appendVarint(nil, optionNoPassword, protowire.EncodeBool(u.NoPassword)))
}

func (r *Role) encode() []byte {
	b := appendBytes(nil, roleName, r.Name)
	for _, p := range r.Permissions {
		b = protowire.AppendTag(b, rolePermission, protowire.BytesType)
		b = protowire.AppendBytes(b, p.encode())
	}
	return b
}

func (p Permission) encode() []byte {
	b := appendVarint(nil, permType, uint64(int64(p.Type)))
	b = appendBytes(b, permKey, string(p.Key))
	return appendBytes(b, permEnd, string(p.End))
}

func appendBytes(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func decodeUser(key, value []byte) (*User, error) {
	u := &User{}
	err := eachField(value, func(f field) error {
		switch {
		case f.is(userName, protowire.BytesType):
			u.Name = string(f.bytes)
		case f.is(userPassword, protowire.BytesType):
			u.Password = bytes.Clone(f.bytes)
		case f.is(userRoles, protowire.BytesType):
			u.Roles = append(u.Roles, string(f.bytes))
		case f.is(userOptions, protowire.BytesType):
			u.hasOptions = true
			return u.decodeOptions(f.bytes)
		}
		return nil
	})
	return u, checkRecord(bucket.AuthUsers, key, u.Name, err)
}

func (u *User) decodeOptions(value []byte) error {
	return eachField(value, func(f field) error {
		if f.is(optionNoPassword, protowire.VarintType) {
			u.NoPassword = protowire.DecodeBool(f.varint)
		}
		return nil
	})
}

func decodeRole(key, value []byte) (*Role, error) {
	r := &Role{}
	err := eachField(value, func(f field) error {
		switch {
		case f.is(roleName, protowire.BytesType):
			r.Name = string(f.bytes)
		case f.is(rolePermission, protowire.BytesType):
			p, err := decodePermission(f.bytes)
			r.Permissions = append(r.Permissions, p)
			return err
		}
		return nil
	})
	return r, checkRecord(bucket.AuthRoles, key, r.Name, err)
}

func decodePermission(value []byte) (p Permission, err error) {
	err = eachField(value, func(f field) error {
		switch {
		case f.is(permType, protowire.VarintType):
			p.Type = Type(f.varint)
		case f.is(permKey, protowire.BytesType):
			p.Key = bytes.Clone(f.bytes)
		case f.is(permEnd, protowire.BytesType):
			p.End = bytes.Clone(f.bytes)
		}
		return nil
	})
	return p, err
}

func checkRecord(b bucket.Name, key []byte, name string, err error) error {
	if err == nil && name != string(key) {
		err = fmt.Errorf("it belongs to %q", name)
	}
	if err != nil {
		return fmt.Errorf("auth: %s record %q: %w", b, key, err)
	}
	return nil
}

// field is one field of a protobuf message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	varint uint64
	bytes  []byte
}

func (f field) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

// eachField calls fn for the fields of a message in turn. Fields of other kinds
// than varint and bytes come without content.
func eachField(b []byte, fn func(field) error) error {
	for len(b) > 0 {
		var f field
		var n int
		if f.number, f.kind, n = protowire.ConsumeTag(b); n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch f.kind {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(f.number, f.kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}
