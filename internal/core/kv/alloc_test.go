package kv

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A read of one key into a buffer that is there allocates nothing.
func TestPointReadAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	must(t, w.write(func(tx Writer) error { tx.Put([]byte("a"), []byte("v"), 0); return nil }))
	w.store.Publish()
	v := w.store.View()
	defer v.Close()
	buf, req := make([]byte, 0, 1000), &pb.RangeRequest{Key: []byte("a")}
	n := testing.AllocsPerRun(100, func() {
		if out, err := AppendRange(buf, v, req, who); err != nil || len(out) == 0 {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
