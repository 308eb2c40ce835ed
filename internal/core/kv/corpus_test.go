package kv

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
)

// Goal: every recorded request of etcd 3.7.1 gets the recorded answer.
// Method: send the KV requests of the recordings to this package on a real
// store, with leases as a map, and compare whole responses but for who answered.
// Recordings of leases and watches are replayed too, for the requests in them
// that are ours.
func TestRecordedAnswers(t *testing.T) {
	const where = "../../../../shared/oracle/corpus"
	total := 0
	for _, profile := range []string{"kv", "txn", "lease", "watch"} {
		files, _ := filepath.Glob(filepath.Join(where, profile+"-*.jsonl.gz"))
		if len(files) == 0 {
			t.Skipf("no recordings in %s", where)
		}
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl.gz"), func(t *testing.T) {
				total += replayFile(t, file)
			})
		}
	}
	if !t.Failed() && total < 6000 {
		t.Errorf("only %d steps were compared", total)
	}
	t.Logf("%d steps compared", total)
}

type step struct {
	N      int               `json:"n"`
	Op     string            `json:"op"`
	Method string            `json:"method"`
	Req    json.RawMessage   `json:"req"`
	Status *status           `json:"status"`
	Resp   json.RawMessage   `json:"resp"`
	Resps  []json.RawMessage `json:"resps"`
}

type status struct{ Code, Msg string }

func replayFile(t *testing.T, file string) (compared int) {
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	gz, err := gzip.NewReader(f)
	must(t, err)
	dec := json.NewDecoder(gz)
	must(t, dec.Decode(&struct{}{})) // who was recorded
	w := newWorld(t)
	for {
		var s step
		if err := dec.Decode(&s); err == io.EOF {
			return compared
		} else if err != nil {
			t.Fatal(err)
		}
		if s.Status != nil && (strings.Contains(s.Status.Msg, "too large") || strings.Contains(s.Status.Msg, "larger than max")) {
			continue // the edge refuses these
		}
		if w.step(&s) {
			compared++
		}
		if t.Failed() {
			t.Fatalf("line %d: %s %.2000s", s.N+2, s.Method, s.Req)
		}
	}
}

// world is one replayed server: a store, and the leases of it.
type world struct {
	t     *testing.T
	store *mvcc.Store
	book  *leaseBook
}

func newWorld(t *testing.T) *world {
	store, err := mvcc.Open(nil, mvcc.Options{FinishedCompact: mvcc.Never, ScheduledCompact: mvcc.Never})
	must(t, err)
	t.Cleanup(store.Close)
	return &world{t, store, newLeaseBook()}
}

// step replays one step and reports whether there was something to compare.
func (w *world) step(s *step) bool {
	switch s.Method[strings.LastIndex(s.Method, "/")+1:] {
	case "Range":
		if s.Op == "await-gone" {
			w.expire(s)
		}
		unary(w, s, &pb.RangeRequest{}, &pb.RangeResponse{}, w.rangeBoth)
	case "RangeStream":
		w.stream(s)
	case "Put":
		unary(w, s, &pb.PutRequest{}, &pb.PutResponse{}, w.put)
	case "DeleteRange":
		unary(w, s, &pb.DeleteRangeRequest{}, &pb.DeleteRangeResponse{}, w.deleteRange)
	case "Txn":
		unary(w, s, &pb.TxnRequest{}, &pb.TxnResponse{}, w.txn)
	case "Compact":
		unary(w, s, &pb.CompactionRequest{}, &pb.CompactionResponse{}, w.compact)
	case "HashKV":
		unary(w, s, &pb.HashKVRequest{}, &pb.HashKVResponse{}, w.hashKV)
	case "LeaseGrant":
		if s.Status == nil {
			resp := &pb.LeaseGrantResponse{}
			must(w.t, protojson.Unmarshal(s.Resp, resp))
			w.book.exist[resp.ID] = true
		}
		return false
	case "LeaseRevoke":
		if s.Status == nil {
			req := &pb.LeaseRevokeRequest{}
			must(w.t, protojson.Unmarshal(s.Req, req))
			w.revoke(req.ID)
		}
		return false
	default:
		return false
	}
	return true
}

// view runs fn on the published state.
func (w *world) view(fn func(Reader) error) error {
	w.store.Publish()
	v := w.store.View()
	defer v.Close()
	return fn(v)
}

// write runs fn as one transaction.
func (w *world) write(fn func(Writer) error) error {
	tx := w.store.Begin()
	if err := fn(tx); err != nil {
		if rev := tx.Rev(); rev != w.store.Rev() {
			w.t.Errorf("an error after something was changed: %v", err)
		}
		tx.Abort()
		return err
	}
	tx.Commit()
	return nil
}

func (w *world) rangeBoth(req *pb.RangeRequest) (resp *pb.RangeResponse, err error) {
	if err := CheckRange(req); err != nil {
		return nil, err
	}
	return resp, w.view(func(r Reader) error {
		if resp, err = Range(r, req); err != nil {
			return err
		}
		mustEncodeAlike(w.t, r, req, resp)
		return nil
	})
}

func (w *world) put(req *pb.PutRequest) (resp *pb.PutResponse, err error) {
	if err := CheckPut(req); err != nil {
		return nil, err
	}
	return resp, w.write(func(tx Writer) error {
		resp, err = Put(tx, w.book, req)
		return err
	})
}

func (w *world) deleteRange(req *pb.DeleteRangeRequest) (resp *pb.DeleteRangeResponse, err error) {
	if err := CheckDelete(req); err != nil {
		return nil, err
	}
	return resp, w.write(func(tx Writer) error {
		resp, err = DeleteRange(tx, w.book, req)
		return err
	})
}

func (w *world) txn(req *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
	if err := CheckTxn(req, 128); err != nil {
		return nil, err
	}
	if IsReadOnly(req) {
		return resp, w.view(func(r Reader) error {
			resp, err = ReadTxn(r, req)
			return err
		})
	}
	return resp, w.write(func(tx Writer) error {
		resp, err = Txn(tx, w.book, req)
		return err
	})
}

func (w *world) compact(req *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	if err := w.store.Compact(req.Revision); err != nil {
		return nil, err
	}
	for !w.store.CompactIndex(1000) {
	}
	return &pb.CompactionResponse{Header: &pb.ResponseHeader{Revision: w.store.Rev()}}, nil
}

func (w *world) hashKV(req *pb.HashKVRequest) (*pb.HashKVResponse, error) {
	w.store.Publish()
	v := w.store.View()
	defer v.Close()
	h, err := v.HashKV(req.Revision)
	if err != nil {
		return nil, err
	}
	return &pb.HashKVResponse{
		Header: &pb.ResponseHeader{Revision: v.Rev()},
		Hash:   h.Hash, CompactRevision: h.CompactRev, HashRevision: h.Rev,
	}, nil
}

func (w *world) revoke(id int64) {
	ks := w.book.keys(id)
	must(w.t, w.write(func(tx Writer) error {
		for _, k := range ks {
			tx.Delete([]byte(k))
			w.book.Detach([]byte(k))
		}
		return nil
	}))
	delete(w.book.exist, id)
}

// expire revokes the leases of the keys that the recording waited to see gone.
func (w *world) expire(s *step) {
	req := &pb.RangeRequest{}
	must(w.t, protojson.Unmarshal(s.Req, req))
	for id := range w.book.exist {
		for _, k := range w.book.keys(id) {
			if (keys.Span{Key: req.Key, End: req.RangeEnd}).Contains([]byte(k)) {
				w.revoke(id)
				return
			}
		}
	}
}

// stream replays a RangeStream with small chunks, and compares what they are
// together.
func (w *world) stream(s *step) {
	req := &pb.RangeRequest{}
	must(w.t, protojson.Unmarshal(s.Req, req))
	var got *pb.RangeResponse
	err := CheckStream(req)
	if err == nil {
		err = w.view(func(r Reader) (err error) {
			got, _, err = streamed(w.t, r, req, StreamOptions{ChunkKeys: 3, ChunkBytes: 5000})
			return err
		})
	}
	if w.sameStatus(s, err) && err == nil {
		want := &pb.RangeResponse{}
		for _, raw := range s.Resps {
			chunk := &pb.RangeStreamResponse{}
			must(w.t, protojson.Unmarshal(raw, chunk))
			proto.Merge(want, chunk.RangeResponse)
		}
		w.same(want, got)
	}
}

func unary[Req, Resp proto.Message](w *world, s *step, req Req, want Resp, do func(Req) (Resp, error)) {
	w.t.Helper()
	must(w.t, protojson.Unmarshal(s.Req, req))
	got, err := do(req)
	if w.sameStatus(s, err) && err == nil {
		must(w.t, protojson.Unmarshal(s.Resp, want))
		w.same(want, got)
	}
}

// sameStatus compares an error with the recorded one, by its text. The errors of
// the engine are prefixed by the edge.
func (w *world) sameStatus(s *step, err error) bool {
	w.t.Helper()
	got, want := "", ""
	if err != nil {
		got = err.Error()
	}
	if errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFutureRev) {
		got = "etcdserver: " + got
	}
	if s.Status != nil {
		want = s.Status.Msg
	}
	if got != want {
		w.t.Errorf("want status %q, got %q", want, got)
	}
	return got == want
}

func (w *world) same(want, got proto.Message) {
	w.t.Helper()
	forgetWho(want.ProtoReflect())
	if !proto.Equal(want, got) {
		w.t.Errorf("want %.3000s\ngot  %.3000s", short(want), short(got))
	}
}

func short(m proto.Message) string { return fmt.Sprint(m) }

// forgetWho clears from every header what names the recorded server.
func forgetWho(m protoreflect.Message) {
	if h, ok := m.Interface().(*pb.ResponseHeader); ok {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind || fd.IsMap():
		case fd.IsList():
			for i := range v.List().Len() {
				forgetWho(v.List().Get(i).Message())
			}
		default:
			forgetWho(v.Message())
		}
		return true
	})
}

// streamed answers a request in chunks and puts them together.
func streamed(t testing.TB, r Reader, req *pb.RangeRequest, opt StreamOptions) (merged *pb.RangeResponse, chunks int, err error) {
	t.Helper()
	s, err := NewStream(r, req, opt)
	if err != nil {
		return nil, 0, err
	}
	again, err := NewStream(r, req, opt)
	must(t, err)
	merged = &pb.RangeResponse{}
	for last := false; !last; chunks++ {
		var chunk *pb.RangeStreamResponse
		if chunk, last, err = s.Next(); err != nil {
			return nil, 0, err
		}
		mustEncodeChunk(t, again, chunk, last)
		part := chunk.RangeResponse
		if !last && (part.Header != nil || part.More || part.Count != 0 || len(part.Kvs) == 0) {
			t.Errorf("chunk before the last says too much or nothing: %v", part)
		}
		if len(part.Kvs) > max(opt.ChunkKeys, 1) && opt.ChunkKeys > 0 {
			t.Errorf("chunk of %d keys, the bound is %d", len(part.Kvs), opt.ChunkKeys)
		}
		proto.Merge(merged, part)
	}
	return merged, chunks, nil
}

var who = Header{ClusterID: 1, MemberID: 1 << 63, RaftTerm: 300}

// mustEncodeChunk compares a chunk with its encoded form.
func mustEncodeChunk(t testing.TB, s *Stream, want *pb.RangeStreamResponse, last bool) {
	t.Helper()
	b, end, err := s.AppendNext([]byte("x"), who)
	must(t, err)
	want = proto.Clone(want).(*pb.RangeStreamResponse)
	if h := want.RangeResponse.Header; h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = who.ClusterID, who.MemberID, who.RaftTerm
	}
	w, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	must(t, err)
	if end != last || string(b) != "x"+string(w) {
		t.Errorf("encoded chunk\n%q (last %v)\nwant\n%q (last %v)", b, end, w, last)
	}
}

// mustEncodeAlike compares AppendRange with the encoded response of Range.
func mustEncodeAlike(t testing.TB, r Reader, req *pb.RangeRequest, resp *pb.RangeResponse) {
	t.Helper()
	b, err := AppendRange([]byte("x"), r, req, who)
	must(t, err)
	want := proto.Clone(resp).(*pb.RangeResponse)
	want.Header.ClusterId, want.Header.MemberId, want.Header.RaftTerm = who.ClusterID, who.MemberID, who.RaftTerm
	w, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	must(t, err)
	if string(b) != "x"+string(w) {
		t.Errorf("AppendRange %.500q\nwant %.500q", b, w)
	}
}
