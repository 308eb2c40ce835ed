package kv

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
)

// twin is a store in the most naive form: the whole contents at each revision.
// It is the oracle for what requests read and write.
type twin struct {
	at        []map[string]*mvccpb.KeyValue // index is the revision
	records   map[mvcc.Rev][]byte
	compacted int64
	changes   int64 // of the transaction under way
}

func newTwin() *twin {
	return &twin{
		at:        []map[string]*mvccpb.KeyValue{{}, {}},
		records:   map[mvcc.Rev][]byte{},
		compacted: mvcc.Never,
	}
}

func (w *twin) Rev() int64        { return int64(len(w.at) - 1) }
func (w *twin) CompactRev() int64 { return w.compacted }

func (w *twin) state(at int64) (map[string]*mvccpb.KeyValue, error) {
	switch {
	case at <= 0:
		return w.at[w.Rev()], nil
	case at > w.Rev():
		return nil, ErrFutureRev
	case at < w.compacted:
		return nil, ErrCompacted
	}
	return w.at[at], nil
}

func (w *twin) hit(kv *mvccpb.KeyValue) mvcc.Hit {
	for rev := range w.records {
		if rev.Main == kv.ModRevision && bytes.Equal(w.decoded(rev).Key, kv.Key) {
			return mvcc.Hit{Key: kv.Key, Mod: rev, Create: kv.CreateRevision, Version: kv.Version}
		}
	}
	panic("no record of " + string(kv.Key))
}

func (w *twin) decoded(rev mvcc.Rev) *mvccpb.KeyValue {
	kv := &mvccpb.KeyValue{}
	if err := proto.Unmarshal(w.records[rev], kv); err != nil {
		panic(err)
	}
	return kv
}

func (w *twin) Get(key []byte, at int64) (mvcc.Hit, bool, error) {
	state, err := w.state(at)
	if err != nil || state[string(key)] == nil {
		return mvcc.Hit{}, false, err
	}
	return w.hit(state[string(key)]), true, nil
}

func (w *twin) Count(span keys.Span, at int64) (n int64, err error) {
	err = w.Scan(span, at, func(mvcc.Hit) bool { n++; return true })
	return n, err
}

func (w *twin) Scan(span keys.Span, at int64, fn func(mvcc.Hit) bool) error {
	state, err := w.state(at)
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(state)) {
		if span.Contains([]byte(k)) && !fn(w.hit(state[k])) {
			break
		}
	}
	return nil
}

func (w *twin) Load(mod mvcc.Rev) ([]byte, error) {
	if b, ok := w.records[mod]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("no record %s", mod)
}

func (w *twin) change() mvcc.Rev {
	if w.changes == 0 {
		w.at = append(w.at, maps.Clone(w.at[w.Rev()]))
	}
	w.changes++
	return mvcc.Rev{Main: w.Rev(), Sub: w.changes - 1}
}

func (w *twin) Put(key, value []byte, lease int64) mvcc.Rev {
	rev := w.change()
	state := w.at[rev.Main]
	kv := &mvccpb.KeyValue{Key: key, Value: value, Lease: lease, ModRevision: rev.Main, CreateRevision: rev.Main, Version: 1}
	if old := state[string(key)]; old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	state[string(key)] = kv
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(kv)
	if err != nil {
		panic(err)
	}
	w.records[rev] = b
	return rev
}

func (w *twin) Delete(key []byte) bool {
	if w.at[w.Rev()][string(key)] == nil {
		return false
	}
	delete(w.at[w.change().Main], string(key))
	return true
}

// naiveRange is the meaning of a range request, step by step.
func naiveRange(w *twin, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	state, err := w.state(req.Revision)
	if err != nil {
		return nil, err
	}
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: w.Rev()}}
	span := keys.Span{Key: req.Key, End: req.RangeEnd}
	for _, k := range slices.Sorted(maps.Keys(state)) {
		if !span.Contains([]byte(k)) {
			continue
		}
		resp.Count++
		kv := state[k]
		below := func(v, bound int64) bool { return bound != 0 && v < bound }
		above := func(v, bound int64) bool { return bound != 0 && v > bound }
		if !below(kv.ModRevision, req.MinModRevision) && !above(kv.ModRevision, req.MaxModRevision) &&
			!below(kv.CreateRevision, req.MinCreateRevision) && !above(kv.CreateRevision, req.MaxCreateRevision) {
			resp.Kvs = append(resp.Kvs, proto.Clone(kv).(*mvccpb.KeyValue))
		}
	}
	if req.CountOnly {
		resp.Kvs = nil
		return resp, nil
	}
	slices.SortStableFunc(resp.Kvs, func(a, b *mvccpb.KeyValue) int {
		c := 0
		switch req.SortTarget {
		case pb.RangeRequest_KEY:
			c = bytes.Compare(a.Key, b.Key)
		case pb.RangeRequest_VERSION:
			c = cmp.Compare(a.Version, b.Version)
		case pb.RangeRequest_CREATE:
			c = cmp.Compare(a.CreateRevision, b.CreateRevision)
		case pb.RangeRequest_MOD:
			c = cmp.Compare(a.ModRevision, b.ModRevision)
		case pb.RangeRequest_VALUE:
			c = bytes.Compare(a.Value, b.Value)
		}
		if req.SortOrder == pb.RangeRequest_DESCEND {
			c = -c
		}
		return c
	})
	if req.Limit > 0 && int64(len(resp.Kvs)) > req.Limit {
		resp.Kvs, resp.More = resp.Kvs[:req.Limit], true
	}
	if req.KeysOnly {
		for _, kv := range resp.Kvs {
			kv.Value = nil
		}
	}
	return resp, nil
}

// leaseBook is leases as a map.
type leaseBook struct {
	exist map[int64]bool
	of    map[string]int64
}

func newLeaseBook(ids ...int64) *leaseBook {
	b := &leaseBook{map[int64]bool{}, map[string]int64{}}
	for _, id := range ids {
		b.exist[id] = true
	}
	return b
}

func (b *leaseBook) Exists(id int64) bool        { return b.exist[id] }
func (b *leaseBook) LeaseOf(key []byte) int64    { return b.of[string(key)] }
func (b *leaseBook) Attach(id int64, key []byte) { b.of[string(key)] = id }
func (b *leaseBook) Detach(key []byte)           { delete(b.of, string(key)) }

func (b *leaseBook) keys(id int64) (ks []string) {
	for k, l := range b.of {
		if l == id {
			ks = append(ks, k)
		}
	}
	slices.Sort(ks)
	return ks
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKV() *mvccpb.KeyValue { return &mvccpb.KeyValue{} }
