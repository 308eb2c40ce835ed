package watch

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/core/mvcc"
)

// Events built from records are, byte for byte, what encoding a WatchResponse
// gives, and decode to the same event.
func FuzzEventIsWhatProtobufWrites(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), int64(3), int64(5), false, true)
	f.Add([]byte{0}, []byte{}, int64(0), int64(1), true, false)
	f.Add(bytes.Repeat([]byte("k"), 127), bytes.Repeat([]byte("v"), 16384), int64(1), int64(1<<62), false, true)
	f.Add([]byte("gone"), []byte("before"), int64(2), int64(300), true, true)
	f.Fuzz(func(t *testing.T, key, value []byte, create, mod int64, del, withPrev bool) {
		if mod <= 0 || len(key) == 0 {
			return
		}
		want := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: key, ModRevision: mod}}
		record := &mvccpb.KeyValue{Key: key}
		if del {
			want.Type = mvccpb.Event_DELETE
		} else {
			want.Kv.Value, want.Kv.CreateRevision, want.Kv.Version, want.Kv.Lease = value, create, 7, 9
			record = want.Kv
		}
		c := &mvcc.Change{Key: key, Mod: mvcc.Rev{Main: mod}, Create: create, Tombstone: del, Record: marshal(t, record)}
		var prev []byte
		if withPrev {
			want.PrevKv = &mvccpb.KeyValue{Key: key, Value: value, ModRevision: mod - 1}
			prev = marshal(t, want.PrevKv)
		}
		e := newEvent(c, prev)
		if !proto.Equal(e.Message(), want) {
			t.Errorf("decoded %v, want %v", e.Message(), want)
		}
		if b := marshal(t, &pb.WatchResponse{Events: []*mvccpb.Event{want}}); !bytes.Equal(e.Wire(), b) {
			t.Errorf("encoded %x, want %x", e.Wire(), b)
		}
	})
}

func marshal(t testing.TB, m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
