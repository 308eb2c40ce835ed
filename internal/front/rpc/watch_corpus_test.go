package rpc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
)

// What a real etcd answered on watch streams, in recorded conversations, is
// what this service answers: per watcher the same created, events, canceled
// and progress in the same order, however they are batched. The writes between
// them are applied by a few lines that know no failures; those are left out.
func TestWatchAnswersAsRecorded(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/oracle/corpus/watch-*.jsonl.gz")
	if len(files) == 0 {
		t.Skip("no recordings here")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replayWatch(t, file) })
	}
}

// watchStep is one line of a recording.
type watchStep struct {
	N      int
	Op     string
	Method string
	Stream string
	Req    json.RawMessage
	Resp   json.RawMessage
	Status json.RawMessage
	Watch  []struct {
		Stream string
		Resp   json.RawMessage
	}
}

type watchReplay struct {
	t       *testing.T
	rig     *watchRig
	streams map[string]*watchTalk
	leases  map[string]int64 // key to lease
	want    map[string][]string
	got     map[string][]string
	heard   chan watchMessage
}

type watchMessage struct {
	stream string
	resp   *pb.WatchResponse
}

func replayWatch(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := &watchReplay{
		t: t, rig: newWatchRig(t, WatchOptions{}), streams: map[string]*watchTalk{}, leases: map[string]int64{},
		want: map[string][]string{}, got: map[string][]string{}, heard: make(chan watchMessage, 100),
	}
	lines := bufio.NewReaderSize(z, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var step watchStep
		if err := json.Unmarshal(line, &step); err != nil {
			t.Fatal(err)
		}
		r.step(&step)
		if t.Failed() {
			return
		}
	}
}

func (r *watchReplay) step(s *watchStep) {
	switch s.Op {
	case "watch-open":
		r.open(s.Stream)
	case "watch-send":
		req := &pb.WatchRequest{}
		r.parse(s.Req, req)
		r.streams[s.Stream].send(req)
		r.settle(s)
	case "watch-half-close":
		if err := r.streams[s.Stream].stream.CloseSend(); err != nil {
			r.t.Fatal(err)
		}
	case "call":
		if s.Status == nil {
			r.call(s)
		}
	}
	for _, m := range s.Watch {
		resp := &pb.WatchResponse{}
		r.parse(m.Resp, resp)
		r.add(r.want, m.Stream, resp)
	}
	r.hear(s)
	if s.Op == "watch-close" {
		r.streams[s.Stream].cancel()
		delete(r.streams, s.Stream)
		for who := range r.got {
			if strings.HasPrefix(who, s.Stream+"/") {
				delete(r.got, who)
			}
		}
	}
}

func (r *watchReplay) open(name string) {
	h := r.rig.talk()
	r.streams[name] = h
	go func() {
		for {
			resp, err := h.stream.Recv()
			if err != nil {
				return
			}
			r.heard <- watchMessage{name, resp}
		}
	}()
}

// settle has the server work off the stream's requests before the next step:
// a watcher of its own is created and cancelled.
func (r *watchReplay) settle(s *watchStep) {
	r.streams[s.Stream].create(&pb.WatchCreateRequest{Key: []byte("settle"), WatchId: watchSettleID})
	r.streams[s.Stream].cancelID(watchSettleID)
	for settled := false; !settled; {
		select {
		case m := <-r.heard:
			settled = m.stream == s.Stream && m.resp.WatchId == watchSettleID && m.resp.Canceled
			r.hearOne(s, m)
		case <-time.After(5 * time.Second):
			r.t.Fatalf("step %d (%s): no answer", s.N, s.Op)
		}
	}
}

const watchSettleID = 987654321

func (r *watchReplay) hearOne(s *watchStep, m watchMessage) {
	if r.streams[m.stream] == nil || m.resp.WatchId == watchSettleID {
		return // closed meanwhile, or not part of the recording
	}
	if h := m.resp.Header; h.GetClusterId() != 11 || h.GetMemberId() != 22 || h.GetRaftTerm() != 3 {
		r.t.Fatalf("step %d: header %v", s.N, h)
	}
	r.add(r.got, m.stream, m.resp)
}

// hear waits until as much was heard as was recorded, and compares.
func (r *watchReplay) hear(s *watchStep) {
	timeout := time.After(5 * time.Second)
	for !r.complete() {
		select {
		case m := <-r.heard:
			r.hearOne(s, m)
		case <-timeout:
			r.report(s)
			r.t.Fatalf("step %d (%s): not all that was recorded has come", s.N, s.Op)
		}
	}
	r.report(s)
}

func (r *watchReplay) complete() bool {
	for who, want := range r.want {
		if len(r.got[who]) < len(want) {
			return false
		}
	}
	return true
}

// report compares as far as both have come; what was heard early stays.
func (r *watchReplay) report(s *watchStep) {
	for who, got := range r.got {
		n := min(len(got), len(r.want[who]))
		for i := range n {
			if g, w := got[i], r.want[who][i]; g != w {
				r.t.Errorf("step %d (%s): %s item %d\n want %.300s\n got  %.300s", s.N, s.Op, who, i, w, g)
			}
		}
		r.got[who], r.want[who] = got[n:], r.want[who][n:]
	}
}

// add takes a response apart into the items of its watcher.
func (r *watchReplay) add(to map[string][]string, stream string, m *pb.WatchResponse) {
	who := fmt.Sprintf("%s/%d", stream, m.WatchId)
	for _, e := range m.Events {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
		if err != nil {
			r.t.Fatal(err)
		}
		to[who] = append(to[who], fmt.Sprintf("%s %q rev %d prev %d %x", e.Type, e.Kv.Key, e.Kv.ModRevision, e.PrevKv.GetModRevision(), b))
	}
	if len(m.Events) == 0 {
		to[who] = append(to[who], fmt.Sprintf("created %v canceled %v compacted %d reason %q rev %d",
			m.Created, m.Canceled, m.CompactRevision, m.CancelReason, m.Header.GetRevision()))
	}
}

func (r *watchReplay) parse(raw json.RawMessage, m proto.Message) {
	if err := protojson.Unmarshal(raw, m); err != nil {
		r.t.Fatal(err)
	}
}

// call applies one write.
func (r *watchReplay) call(s *watchStep) {
	switch filepath.Base(s.Method) {
	case "Put":
		req := &pb.PutRequest{}
		r.parse(s.Req, req)
		r.rig.txn(func(txn *mvcc.Txn) { r.put(txn, req) })
	case "DeleteRange":
		req := &pb.DeleteRangeRequest{}
		r.parse(s.Req, req)
		r.rig.txn(func(txn *mvcc.Txn) { r.deleteRange(txn, req) })
	case "Txn":
		req := &pb.TxnRequest{}
		r.parse(s.Req, req)
		r.rig.txn(func(txn *mvcc.Txn) {
			for _, o := range req.Success {
				if p := o.GetRequestPut(); p != nil {
					r.put(txn, p)
				} else if d := o.GetRequestDeleteRange(); d != nil {
					r.deleteRange(txn, d)
				}
			}
		})
	case "LeaseRevoke":
		req := &pb.LeaseRevokeRequest{}
		r.parse(s.Req, req)
		r.rig.txn(func(txn *mvcc.Txn) { r.revoke(txn, req.ID) })
	case "Compact":
		req := &pb.CompactionRequest{}
		r.parse(s.Req, req)
		r.rig.compact(req.Revision)
	default:
		return
	}
	r.checkRevision(s)
}

func (r *watchReplay) put(txn *mvcc.Txn, p *pb.PutRequest) {
	txn.Put(p.Key, p.Value, p.Lease)
	r.leases[string(p.Key)] = p.Lease
}

func (r *watchReplay) deleteRange(txn *mvcc.Txn, d *pb.DeleteRangeRequest) {
	var found [][]byte
	err := txn.Scan(keys.Span{Key: d.Key, End: d.RangeEnd}, 0, func(h mvcc.Hit) bool {
		found = append(found, bytes.Clone(h.Key))
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, key := range found {
		txn.Delete(key)
		delete(r.leases, string(key))
	}
}

func (r *watchReplay) revoke(txn *mvcc.Txn, id int64) {
	var attached []string
	for key, lease := range r.leases {
		if lease == id {
			attached = append(attached, key)
		}
	}
	slices.Sort(attached)
	for _, key := range attached {
		txn.Delete([]byte(key))
		delete(r.leases, key)
	}
}

func (r *watchReplay) checkRevision(s *watchStep) {
	var resp struct{ Header struct{ Revision string } }
	if err := json.Unmarshal(s.Resp, &resp); err != nil {
		r.t.Fatal(err)
	}
	if want, _ := strconv.ParseInt(resp.Header.Revision, 10, 64); want != r.rig.store.Rev() {
		r.t.Fatalf("step %d (%s): the replay is at revision %d, the recording at %d", s.N, s.Method, r.rig.store.Rev(), want)
	}
}
