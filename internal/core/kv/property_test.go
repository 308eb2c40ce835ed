package kv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/core/mvcc"
)

// random makes requests over few keys, so that they meet.
type random struct{ *rand.Rand }

var keySpace = []string{"a", "a/1", "a/2", "b", "c", "\x00", "z\xff", "\xff"}

func (r random) key() []byte { return []byte(keySpace[r.Intn(len(keySpace))]) }

func (r random) span() (key, end []byte) {
	switch key = r.key(); r.Intn(4) {
	case 0:
		return key, nil
	case 1:
		return key, []byte{0}
	case 2:
		return []byte{0}, []byte{0}
	}
	return key, r.key()
}

func (r random) rangeRequest(rev int64) *pb.RangeRequest {
	req := &pb.RangeRequest{
		Limit:      int64(r.Intn(6) - 1),
		SortOrder:  pb.RangeRequest_SortOrder(r.Intn(3)),
		SortTarget: pb.RangeRequest_SortTarget(r.Intn(5)),
		KeysOnly:   r.Intn(4) == 0,
		CountOnly:  r.Intn(8) == 0,
	}
	req.Key, req.RangeEnd = r.span()
	if r.Intn(2) == 0 {
		req.Revision = r.Int63n(rev+3) - 1
	}
	bound := func() int64 { return int64(r.Intn(2)) * r.Int63n(rev+2) }
	if r.Intn(3) == 0 {
		req.MinModRevision, req.MaxModRevision = bound(), bound()
		req.MinCreateRevision, req.MaxCreateRevision = bound(), bound()
	}
	return req
}

// Goal: every range request means what naiveRange spells out, on the engine and
// on the twin, whole, encoded, and in chunks.
// Method: random writes to both, random requests to all.
func TestRangeMeansWhatTheTwinSays(t *testing.T) {
	for seed := range int64(30) {
		r, twin, w := random{rand.New(rand.NewSource(seed))}, newTwin(), newWorld(t)
		for range 40 {
			key, value := r.key(), fmt.Appendf(nil, "v%d", r.Intn(8))
			deleteFirst := r.Intn(4) == 0
			change := func(tx Writer) {
				if deleteFirst {
					tx.Delete(key)
				}
				tx.Put(key, value, 0)
			}
			twin.changes = 0
			change(twin)
			must(t, w.write(func(tx Writer) error { change(tx); return nil }))
		}
		if seed%3 == 0 {
			twin.compacted = 20
			must(t, w.store.Compact(20))
		}
		for range 150 {
			oneRange(t, r, twin, w)
		}
	}
}

func oneRange(t *testing.T, r random, twin *twin, w *world) {
	req := r.rangeRequest(twin.Rev())
	want, wantErr := naiveRange(twin, req)
	if quirk := req.SortOrder == pb.RangeRequest_NONE && req.SortTarget != pb.RangeRequest_KEY && req.Limit > 0; quirk && !isFiltered(req) {
		return // sorts what the limit left; the recordings and a story tell
	}
	must(t, w.view(func(reader Reader) error {
		for name, from := range map[string]Reader{"engine": reader, "twin": twin} {
			got, err := Range(from, req)
			if !errors.Is(err, wantErr) {
				t.Fatalf("%s: %v: error %v, want %v", name, req, err, wantErr)
			}
			if err != nil {
				continue
			}
			forgetLeases(got, want)
			if !proto.Equal(got, want) {
				t.Fatalf("%s: %v\ngot  %v\nwant %v", name, req, got, want)
			}
			mustEncodeAlike(t, from, req, got)
			merged, _, err := streamed(t, from, req, StreamOptions{ChunkKeys: 1 + r.Intn(3), ChunkBytes: 1 + r.Intn(60)})
			must(t, err)
			if !proto.Equal(merged, want) {
				t.Fatalf("%s: %v\nstream %v\nwant   %v", name, req, merged, want)
			}
		}
		return nil
	}))
}

// forgetLeases is where keys_only differs from naive reading.
func forgetLeases(resps ...*pb.RangeResponse) {
	for _, resp := range resps {
		for _, kv := range resp.Kvs {
			kv.Lease = 0
		}
	}
}

// A limit with an order keeps the first of all keys, although only about twice
// the limit is remembered on the way.
func TestOrderedLimitOverManyKeys(t *testing.T) {
	w, r := newWorld(t), rand.New(rand.NewSource(1))
	const n = 5000
	must(t, w.write(func(tx Writer) error {
		for _, i := range r.Perm(n) {
			tx.Put(fmt.Appendf(nil, "k%05d", i), fmt.Appendf(nil, "v%05d", (i*7919)%n), 0)
		}
		return nil
	}))
	req := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), Limit: 5, SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_DESCEND}
	resp, err := w.rangeBoth(req)
	must(t, err)
	var got [][]byte
	for _, kv := range resp.Kvs {
		got = append(got, kv.Value)
	}
	if s := string(bytes.Join(got, []byte(" "))); s != "v04999 v04998 v04997 v04996 v04995" || !resp.More || resp.Count != n {
		t.Errorf("got %s, more %v, count %d", s, resp.More, resp.Count)
	}
	p := newPicker(nil, &pb.RangeRequest{Limit: 5, SortOrder: pb.RangeRequest_DESCEND})
	for i := range int64(100_000) {
		p.take(mvcc.Hit{Key: fmt.Appendf(nil, "%06d", i), Create: 1})
		if len(p.items) > 2*5+sortSlack+1 {
			t.Fatalf("%d items are remembered for a limit of 5", len(p.items))
		}
	}
}

// A chunk is bounded by bytes, but a single key always fits.
func TestStreamChunksAreBounded(t *testing.T) {
	w := newWorld(t)
	must(t, w.write(func(tx Writer) error {
		for i := range 20 {
			tx.Put(fmt.Appendf(nil, "k%02d", i), make([]byte, 1000), 0)
		}
		tx.Put([]byte("k99"), make([]byte, 100_000), 0)
		return nil
	}))
	must(t, w.view(func(r Reader) error {
		req := &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
		merged, chunks, err := streamed(t, r, req, StreamOptions{ChunkBytes: 5200})
		must(t, err)
		if len(merged.Kvs) != 21 || chunks != 5 {
			t.Errorf("%d keys in %d chunks, want 21 in 5", len(merged.Kvs), chunks)
		}
		return nil
	}))
}

// overlaps is the rule about writing a key twice, told pair by pair: each write
// of the branches that may run together is compared with those before it.
func overlaps(ops []*pb.RequestOp) bool {
	_, bad := overlapIn(ops)
	return bad
}

type write struct {
	put      bool
	key, end []byte
}

func (w write) hits(key []byte) bool {
	if w.put || len(w.end) == 0 {
		return bytes.Equal(w.key, key)
	}
	return bytes.Compare(w.key, key) <= 0 && bytes.Compare(key, w.end) < 0
}

func overlapIn(ops []*pb.RequestOp) (all []write, bad bool) {
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			all = append(all, write{key: d.Key, end: d.RangeEnd})
		}
	}
	clash := func(list []write, w write) bool {
		return w.put && slices.ContainsFunc(list, func(o write) bool { return o.hits(w.key) })
	}
	for _, op := range ops {
		n := op.GetRequestTxn()
		if n == nil {
			continue
		}
		var inside []write
		for _, branch := range [][]*pb.RequestOp{n.Success, n.Failure} {
			writes, b := overlapIn(branch)
			if b {
				return nil, true
			}
			for _, w := range writes {
				if clash(all, w) {
					return nil, true
				}
			}
			inside = append(inside, writes...)
		}
		all = append(all, inside...)
	}
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			w := write{put: true, key: p.Key}
			if clash(all, w) {
				return nil, true
			}
			all = append(all, w)
		}
	}
	return all, false
}

func (r random) ops(depth int) (out []*pb.RequestOp) {
	for range r.Intn(4) {
		switch n := r.Intn(6); {
		case n < 2:
			out = append(out, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: r.key()}}})
		case n < 4:
			key, end := r.span()
			out = append(out, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: key, RangeEnd: end}}})
		case depth < 3:
			out = append(out, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
				Success: r.ops(depth + 1), Failure: r.ops(depth + 1)}}})
		}
	}
	return out
}

// CheckTxn finds the same overlaps as comparing each pair of writes.
func TestOverlapEqualsPairwiseComparison(t *testing.T) {
	r := random{rand.New(rand.NewSource(1))}
	found := 0
	for range 20_000 {
		ops := r.ops(0)
		want := overlaps(ops)
		err := CheckTxn(&pb.TxnRequest{Success: ops}, 128)
		if errors.Is(err, ErrDuplicateKey) != want || err != nil && !want {
			t.Fatalf("%v: %v, want overlap %v", ops, err, want)
		}
		if want {
			found++
		}
	}
	if found < 2000 || found > 18_000 {
		t.Errorf("%d of 20000 overlap: the test says little", found)
	}
}

// Spans stay ordered and apart whatever is added, and hold what was added.
func TestSpansEqualASet(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for range 500 {
		var s spans
		set := map[byte]bool{}
		for range 12 {
			from, to := byte(r.Intn(40)), byte(r.Intn(40))
			s = s.with(span{[]byte{from}, []byte{to}})
			for k := from; k < to; k++ {
				set[k] = true
			}
		}
		for k := range byte(40) {
			if s.has([]byte{k}) != set[k] {
				t.Fatalf("%v: key %d", s, k)
			}
		}
		for i := 1; i < len(s); i++ {
			if bytes.Compare(s[i-1].to, s[i].from) >= 0 {
				t.Fatalf("spans touch: %v", s)
			}
		}
	}
}

func FuzzRecord(f *testing.F) {
	twin := newTwin()
	twin.Put([]byte("key"), []byte("value"), 7)
	rev := twin.Put([]byte("key"), nil, 0)
	for _, b := range twin.records {
		f.Add(b)
	}
	f.Add([]byte{0x0a, 0xff})
	f.Add(append(slices.Clone(twin.records[rev]), 0x7a, 1, 'x'))
	f.Fuzz(func(t *testing.T, record []byte) {
		it := item{record: record}
		if err := whole.decode(newKV(), &it); err != nil {
			if _, _, err := valueAndLease(record); err == nil {
				t.Fatal("one reader takes what the other refuses")
			}
			return
		}
		kv := newKV()
		must(t, whole.decode(kv, &it))
		value, lease, err := valueAndLease(record)
		must(t, err)
		if !bytes.Equal(value, kv.Value) || lease != kv.Lease {
			t.Fatalf("value %q lease %d, decoded %v", value, lease, kv)
		}
		it.record = withoutValue(record)
		lean := newKV()
		must(t, valueless.decode(lean, &it))
		kv.Value = nil
		if !proto.Equal(kv, lean) {
			t.Fatalf("without value %v, want %v", lean, kv)
		}
	})
}
