package kv

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/mvcc"
)

func filled(b *testing.B, n int) *mvcc.View {
	store, err := mvcc.Open(nil, mvcc.Options{FinishedCompact: mvcc.Never, ScheduledCompact: mvcc.Never})
	must(b, err)
	tx := store.Begin()
	for i := range n {
		tx.Put(fmt.Appendf(nil, "key/%08d", i), make([]byte, 256), 0)
	}
	tx.Commit()
	store.Publish()
	v := store.View()
	b.Cleanup(func() { v.Close(); store.Close() })
	return v
}

func BenchmarkAppendPoint(b *testing.B) {
	v := filled(b, 10_000)
	req := &pb.RangeRequest{Key: []byte("key/00005000")}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendRange(buf[:0], v, req, who)
	}
}

func BenchmarkRangePoint(b *testing.B) {
	v := filled(b, 10_000)
	req := &pb.RangeRequest{Key: []byte("key/00005000")}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Range(v, req)
	}
}

func BenchmarkAppendThousand(b *testing.B) {
	v := filled(b, 10_000)
	req := &pb.RangeRequest{Key: []byte("key/00005"), RangeEnd: []byte("key/00006")}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendRange(buf[:0], v, req, who)
	}
}
