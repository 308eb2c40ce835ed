package rpc

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Goal: only reads that wait for nothing and touch one key are quick.
func TestPointReads(t *testing.T) {
	key := []byte("k")
	for _, c := range []struct {
		r    *pb.RangeRequest
		want bool
	}{
		{&pb.RangeRequest{Key: key, Serializable: true}, true},
		{&pb.RangeRequest{Key: key, Serializable: true, Revision: 7, Limit: 1, KeysOnly: true}, true},
		{&pb.RangeRequest{Key: key}, false},
		{&pb.RangeRequest{Key: key, RangeEnd: []byte("z"), Serializable: true}, false},
		{&pb.RangeRequest{Key: key, RangeEnd: []byte{0}, Serializable: true}, false},
		{&pb.RangeRequest{Serializable: true}, false},
	} {
		b, err := proto.Marshal(c.r)
		if err != nil {
			t.Fatal(err)
		}
		if got := isPointRead(b); got != c.want {
			t.Errorf("%v is quick: %v, want %v", c.r, got, c.want)
		}
	}
}

// Goal: bytes that are no request are not quick, and do no harm.
func FuzzPointRead(f *testing.F) {
	b, _ := proto.Marshal(&pb.RangeRequest{Key: []byte("k"), Serializable: true})
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		var r pb.RangeRequest
		if proto.Unmarshal(in, &r) == nil && isPointRead(in) && (len(r.RangeEnd) > 0 || !r.Serializable) {
			t.Fatalf("%v is not quick", &r)
		}
	})
}
