package concurrencypb

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
)

func all() []proto.Message {
	key := &LeaderKey{Name: []byte("el"), Key: []byte("el/1f"), Rev: 7, Lease: 31}
	header := &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 4}
	return []proto.Message{
		&LockRequest{Name: []byte("n"), Lease: -5}, &LockResponse{Header: header, Key: []byte("n/1")},
		&UnlockRequest{Key: []byte("n/1")}, &UnlockResponse{Header: header},
		&CampaignRequest{Name: []byte("el"), Lease: 31, Value: []byte("v")}, &CampaignResponse{Header: header, Leader: key}, key,
		&LeaderRequest{Name: []byte("el")},
		&LeaderResponse{Header: header, Kv: &mvccpb.KeyValue{Key: []byte("el/1f"), CreateRevision: 7, ModRevision: 8, Version: 2}},
		&ResignRequest{Leader: key}, &ResignResponse{Header: header},
		&ProclaimRequest{Leader: key, Value: []byte("w")}, &ProclaimResponse{Header: header},
	}
}

// Goal: every message survives the wire and JSON, and what it does not know is
// kept.
// Method: encode, decode, compare; then with a field nobody has.
func TestMessagesSurviveTheWire(t *testing.T) {
	for _, m := range all() {
		name := m.ProtoReflect().Descriptor().FullName()
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		const stranger = "\xfa\x3e\x03abc" // field 1007
		data = append(data, stranger...)
		back := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(data, back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := string(back.ProtoReflect().GetUnknown()); got != stranger {
			t.Errorf("%s: the unknown field became %q", name, got)
		}
		back.ProtoReflect().SetUnknown(nil)
		if !proto.Equal(m, back) {
			t.Errorf("%s: %v became %v", name, m, back)
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back = m.ProtoReflect().New().Interface()
		if err := protojson.Unmarshal(text, back); err != nil || !proto.Equal(m, back) {
			t.Errorf("%s: %s became %v, %v", name, text, back, err)
		}
	}
}

// Goal: the bytes are those of etcd.
// Method: messages written by hand, from the field numbers of the protocol.
func TestBytesAreEtcds(t *testing.T) {
	for _, c := range []struct {
		m    proto.Message
		want string
	}{
		{&LockRequest{Name: []byte("lk"), Lease: 77}, "\x0a\x02lk\x10\x4d"},
		{&LockResponse{Header: &pb.ResponseHeader{Revision: 9}, Key: []byte("k")}, "\x0a\x02\x18\x09\x12\x01k"},
		{&CampaignRequest{Name: []byte("e"), Lease: 1, Value: []byte("v")}, "\x0a\x01e\x10\x01\x1a\x01v"},
		{&ResignRequest{Leader: &LeaderKey{Name: []byte("e"), Key: []byte("k"), Rev: 2, Lease: 1}}, "\x0a\x0a\x0a\x01e\x12\x01k\x18\x02\x20\x01"},
	} {
		got, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.m)
		if err != nil || string(got) != c.want {
			t.Errorf("%T: %q, %v; want %q", c.m, got, err, c.want)
		}
	}
}

// A program that links etcd's server module too must start: nothing of this
// package may be in the global registry, under whose roof names are unique.
func TestNothingIsRegistered(t *testing.T) {
	for _, m := range all() {
		name := m.ProtoReflect().Descriptor().FullName()
		if _, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
			t.Errorf("%s is registered", name)
		}
		if _, err := protoregistry.GlobalFiles.FindDescriptorByName(name); err == nil {
			t.Errorf("the descriptor of %s is registered", name)
		}
	}
}

// Bytes from the network must not break decoding, whatever they are.
func FuzzDecode(f *testing.F) {
	for _, m := range all() {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range all() {
			m = m.ProtoReflect().New().Interface()
			if proto.Unmarshal(data, m) != nil {
				continue
			}
			again, err := proto.Marshal(m)
			if err != nil {
				t.Fatalf("%T: decoded but not encoded: %v", m, err)
			}
			back := m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(again, back); err != nil || !proto.Equal(m, back) {
				t.Fatalf("%T: %v became %v, %v", m, m, back, err)
			}
		}
	})
}
