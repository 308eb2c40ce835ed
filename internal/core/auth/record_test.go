package auth

import (
	"bytes"
	"reflect"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
)

// Records from a database that etcd 3.7.1 wrote.
var (
	aliceRecord  = []byte("\n\x05alice\x12<$2a$04$42SJtvGudydDykrMVxHa0efjUoLvXGABdgJpprZfT7RKFMMzkPJvC\x1a\x06reader\x1a\x06writer\"\x00")
	nopassRecord = []byte("\n\x06nopass\"\x02\b\x01")
	writerRecord = []byte("\n\x06writer\x12\a\b\x01\x12\x03big\x12\t\b\x02\x12\x05empty")
	prefixRecord = []byte("\n\x06prefix\x12\v\b\x02\x12\x04txn/\x1a\x01\x00")
)

// What etcd wrote comes back byte for byte, empty options included.
func TestEtcdRecordsRoundTrip(t *testing.T) {
	for name, record := range map[string][]byte{"alice": aliceRecord, "nopass": nopassRecord} {
		u, err := decodeUser([]byte(name), record)
		if err != nil || !bytes.Equal(u.encode(), record) {
			t.Errorf("%s: %+v, %v\nwritten as %q", name, u, err, u.encode())
		}
	}
	for name, record := range map[string][]byte{"writer": writerRecord, "prefix": prefixRecord} {
		r, err := decodeRole([]byte(name), record)
		if err != nil || !bytes.Equal(r.encode(), record) {
			t.Errorf("%s: %+v, %v\nwritten as %q", name, r, err, r.encode())
		}
	}
}

// The bytes are those of the API's own messages, for odd values too.
func TestRecordsEqualTheAPI(t *testing.T) {
	for _, c := range []struct {
		ours []byte
		api  proto.Message
	}{
		{(&User{}).encode(), &authpb.User{}},
		{
			(&User{Name: "u", Password: []byte("h"), Roles: []string{"", "r"}}).encode(),
			&authpb.User{Name: []byte("u"), Password: []byte("h"), Roles: []string{"", "r"}},
		},
		{
			(&User{Name: "u", hasOptions: true, NoPassword: true}).encode(),
			&authpb.User{Name: []byte("u"), Options: &authpb.UserAddOptions{NoPassword: true}},
		},
		{
			(&Role{Name: "r", Permissions: []Permission{{}, {Type: -1, Key: []byte("k")}, {9, []byte("a"), []byte("b")}}}).encode(),
			&authpb.Role{Name: []byte("r"), KeyPermission: []*authpb.Permission{
				{}, {PermType: -1, Key: []byte("k")}, {PermType: 9, Key: []byte("a"), RangeEnd: []byte("b")},
			}},
		},
	} {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.api)
		if err != nil || !bytes.Equal(c.ours, want) {
			t.Errorf("written as %x, want %x (%v)", c.ours, want, err)
		}
	}
}

// A damaged record stops the start and is named.
func TestDamagedRecords(t *testing.T) {
	for _, c := range []struct {
		b          bucket.Name
		key, value string
	}{
		{bucket.AuthUsers, "bob", string(aliceRecord)},
		{bucket.AuthUsers, "alice", string(aliceRecord[:20])},
		{bucket.AuthUsers, "u", "\n\x01u\"\x01\x08"},
		{bucket.AuthRoles, "writer", string(writerRecord[:12])},
		{bucket.AuthRoles, "r", "\n\x01r\x12\x01\x08"},
		{bucket.Auth, keyRevision, "short"},
		{bucket.Key, "k", "v"},
	} {
		if err := New(newSimple(0), Options{}).Load(c.b, []byte(c.key), []byte(c.value)); err == nil {
			t.Errorf("%s %q = %q was taken", c.b, c.key, c.value)
		} else if !bytes.Contains([]byte(err.Error()), []byte(c.b)) {
			t.Errorf("the error does not name the bucket %s: %v", c.b, err)
		}
	}
}

func FuzzUser(f *testing.F) {
	f.Add(aliceRecord)
	f.Add(nopassRecord)
	f.Fuzz(func(t *testing.T, record []byte) {
		u := &User{}
		u, err := decodeUser(nameIn(record), record)
		if err != nil {
			return
		}
		back, err := decodeUser([]byte(u.Name), u.encode())
		if err != nil || !reflect.DeepEqual(normal(u), normal(back)) {
			t.Fatalf("%+v came back as %+v, %v", u, back, err)
		}
	})
}

func FuzzRole(f *testing.F) {
	f.Add(writerRecord)
	f.Add(prefixRecord)
	f.Fuzz(func(t *testing.T, record []byte) {
		r, err := decodeRole(nameIn(record), record)
		if err != nil {
			return
		}
		back, err := decodeRole([]byte(r.Name), r.encode())
		if err != nil || !bytes.Equal(r.encode(), back.encode()) {
			t.Fatalf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

// nameIn is the last name in a record, so that the fuzzer gets past the check
// of the key.
func nameIn(record []byte) (name []byte) {
	_ = eachField(record, func(f field) error {
		if f.number == userName && f.bytes != nil {
			name = f.bytes
		}
		return nil
	})
	return name
}

// normal has no difference between no bytes and none given.
func normal(u *User) User {
	copied := *u
	copied.Password = append([]byte{}, u.Password...)
	return copied
}
