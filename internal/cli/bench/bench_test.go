package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Goal: every command and flag of etcd's benchmark is here, with its type and
// default.
func TestCommandsAndFlagsOfEtcd(t *testing.T) {
	table, err := os.ReadFile("../../../../shared/reference/commands.tsv")
	if err != nil {
		t.Skip("no reference table: ", err)
	}
	root := (&app{}).rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	seen := 0
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) < 6 || f[0] != "benchmark" {
			continue
		}
		seen++
		checkRow(t, root, f)
	}
	if seen < 50 {
		t.Errorf("the table has only %d rows", seen)
	}
}

func checkRow(t *testing.T, root *cobra.Command, row []string) {
	t.Helper()
	cmd := root
	if row[1] != "(global)" {
		found, rest, err := root.Find(strings.Fields(row[1]))
		if err != nil || len(rest) > 0 {
			t.Errorf("command %q: %v %v", row[1], rest, err)
			return
		}
		cmd = found
	}
	name, isFlag := strings.CutPrefix(row[2], "--")
	if !isFlag {
		return
	}
	var flag *pflag.Flag
	for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		if f := set.Lookup(name); f != nil {
			flag = f
		}
	}
	// The table's columns: tool, command, flag, shorthand, type, default.
	if flag == nil {
		t.Errorf("%s has no --%s", row[1], name)
	} else if flag.Value.Type() != row[4] || flag.DefValue != row[5] {
		t.Errorf("%s --%s is %s %q, want %s %q", row[1], name, flag.Value.Type(), flag.DefValue, row[4], row[5])
	}
}

// tiny is as much of a server as the commands need: it keeps the newest value
// of each key and tells its watchers.
type tiny struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer

	mu      sync.Mutex
	rev     int64 // guarded by mu, as all below
	keys    map[string]*mvccpb.KeyValue
	watches map[string][]chan *pb.WatchResponse
	history []*mvccpb.Event
	fail    error // what puts answer, if set
}

func (s *tiny) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.putLocked(r)
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: s.rev}}, nil
}

func (s *tiny) putLocked(r *pb.PutRequest) {
	s.rev++
	kv := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, ModRevision: s.rev, CreateRevision: s.rev}
	s.keys[string(r.Key)] = kv
	e := &mvccpb.Event{Kv: kv}
	s.history = append(s.history, e)
	for _, c := range s.watches[string(r.Key)] {
		c <- &pb.WatchResponse{Events: []*mvccpb.Event{e}}
	}
}

func (s *tiny) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: s.rev}}
	if kv := s.keys[string(r.Key)]; kv != nil {
		resp.Kvs = append(resp.Kvs, kv)
	}
	return resp, nil
}

// Txn answers as if every comparison held.
func (s *tiny) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range r.Success {
		if put := op.GetRequestPut(); put != nil {
			s.putLocked(put)
		}
	}
	return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: s.rev}, Succeeded: true}, nil
}

func (s *tiny) LeaseGrant(context.Context, *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{ID: 7, TTL: 100}, nil
}

func (s *tiny) LeaseKeepAlive(st pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := st.Recv()
		if err != nil {
			return nil
		}
		if err := st.Send(&pb.LeaseKeepAliveResponse{ID: r.ID, TTL: 100}); err != nil {
			return err
		}
	}
}

func (s *tiny) Watch(st pb.Watch_WatchServer) error {
	out := make(chan *pb.WatchResponse, 10000)
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				return
			}
			create := r.GetCreateRequest()
			s.mu.Lock()
			out <- &pb.WatchResponse{Created: true}
			for _, e := range s.history {
				if create.StartRevision > 0 && e.Kv.ModRevision >= create.StartRevision {
					out <- &pb.WatchResponse{Events: []*mvccpb.Event{e}}
				}
			}
			s.watches[string(create.Key)] = append(s.watches[string(create.Key)], out)
			s.mu.Unlock()
		}
	}()
	for {
		select {
		case r := <-out:
			if err := st.Send(r); err != nil {
				return err
			}
		case <-st.Context().Done():
			return nil
		}
	}
}

func startTiny(t *testing.T) (*tiny, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tiny{rev: 1, keys: map[string]*mvccpb.KeyValue{}, watches: map[string][]chan *pb.WatchResponse{}}
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, s)
	pb.RegisterWatchServer(srv, s)
	pb.RegisterLeaseServer(srv, s)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return s, l.Addr().String()
}

// Goal: every command runs to its end and counts each of its requests once.
func TestCommandsCountTheirRequests(t *testing.T) {
	for _, c := range []struct {
		args string
		want map[string]int64
	}{
		{"put --total 500 --clients 20 --conns 3 --key-space-size 10", map[string]int64{"put": 500}},
		{"put --total 3 --clients 20", map[string]int64{"put": 3}},
		{"put --total 100 --rate 5000 --open-loop --clients 2", map[string]int64{"put": 100}},
		{"range k --total 300 --clients 10 --rate 10000", map[string]int64{"range": 300}},
		{"txn-put --total 50 --txn-ops 3 --key-space-size 5", map[string]int64{"txn-put": 50}},
		{"stm --total 50 --clients 4 --keys 9 --keys-per-txn 3 --isolation ss", map[string]int64{"stm": 50}},
		{"stm --total 20 --clients 3 --rate 1000", map[string]int64{"stm": 20}},
		{"lease-keepalive --total 60 --clients 3", map[string]int64{"lease-keepalive": 60}},
		{"lease-grant --total 60 --clients 3", map[string]int64{"lease-grant": 60}},
		{"watch --streams 3 --watch-per-stream 4 --put-total 20 --watched-key-total 5 --key-space-size 5 --sequential-keys --clients 2 --conns 2",
			map[string]int64{"watch-create": 12, "watch-events": 48}},
		{"watch-latency --streams 2 --watchers-per-stream 3 --put-total 10 --put-rate 1000",
			map[string]int64{"watch-put": 10, "watch-events": 60}},
		{"mvcc put --total 200 --batch-limit 50", map[string]int64{"mvcc-put": 200}},
		{"disk --total 3 " + t.TempDir(), map[string]int64{"disk": 3}},
	} {
		t.Run(strings.Fields(c.args)[0], func(t *testing.T) {
			_, addr := startTiny(t)
			got := map[string]int64{}
			for _, r := range runJSON(t, addr, c.args) {
				got[r.Name] = r.Requests
				if len(r.Errors) > 0 || r.Percentiles["99.9"] < r.Percentiles["50"] {
					t.Errorf("%+v", r)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("results %v, want %v", got, c.want)
			}
			for name, n := range c.want {
				if got[name] != n {
					t.Errorf("%s counts %d requests, want %d", name, got[name], n)
				}
			}
		})
	}
}

func runJSON(t *testing.T, addr, args string) []Result {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"--json", "--endpoints", addr}, strings.Fields(args)...), &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	var results []Result
	for dec := json.NewDecoder(&out); dec.More(); {
		var r Result
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
	return results
}

// Goal: a mix has the share of reads it was asked for, and watch-get lets its
// watches catch up.
func TestMixAndWatchGet(t *testing.T) {
	_, addr := startTiny(t)
	r := runJSON(t, addr, "txn-mixed k --total 2000 --clients 10 --rw-ratio 3")
	if n := r[0].Requests; n+r[1].Requests != 2000 || n < 1400 || n > 1600 {
		t.Errorf("reads %d, writes %d: want about 3 to 1", n, r[1].Requests)
	}
	if r := runJSON(t, addr, "watch-get --watchers 20 --streams 2 --events 3"); r[0].Requests == 0 {
		t.Error("no read while the watches caught up")
	}
}

// Goal: errors are reported with their number, and a run without a success
// fails.
func TestErrorsAreReported(t *testing.T) {
	s, addr := startTiny(t)
	s.fail = errors.New("out of paper")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"--endpoints", addr, "--clients", "3", "put", "--total", "10"}, &out, &errs)
	if code != 1 || !strings.Contains(out.String(), "[10]\t") || !strings.Contains(out.String(), "out of paper") {
		t.Errorf("code %d, output %s%s", code, &out, &errs)
	}
	for _, bad := range []string{"put --key-space-size 0", "put --open-loop", "range k --consistency x", "txn-put --txn-ops 2", "stm --isolation q", "range k l --prefix", "put extra"} {
		if code := run(t.Context(), append([]string{"--endpoints", addr}, strings.Fields(bad)...), &out, &errs); code == 0 {
			t.Errorf("%q should be refused", bad)
		}
	}
}

// Goal: the text is the one people know from etcd's benchmark.
func TestReportText(t *testing.T) {
	var a tally
	for i := 1; i <= 10; i++ {
		a.lat.add(time.Duration(i) * 100 * time.Millisecond)
	}
	a.failed(errors.New("oops"))
	var out bytes.Buffer
	newReport("put", "", 2*time.Second, &a).text(&out, "%4.4f")
	for _, want := range []string{
		"\nSummary:\n  Total:\t2.0000 secs.\n  Slowest:\t1.0000 secs.\n  Fastest:\t0.1000 secs.\n  Average:\t0.5500 secs.\n  Stddev:\t0.2872 secs.\n  Requests/sec:\t5.0000\n",
		"\nResponse time histogram:\n  0.1000 [1]\t|∎∎∎",
		"\nLatency distribution:\n  10% in 0.10",
		"  99.9% in 1.0000 secs.\n",
		"\nError distribution:\n  [1]\toops\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &out)
		}
	}
}

// Goal: scanning says what decoding says, and survives anything.
func FuzzScanWatch(f *testing.F) {
	add := func(m *pb.WatchResponse) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 5}, Created: true, WatchId: 3})
	add(&pb.WatchResponse{Canceled: true, CancelReason: "no", CompactRevision: 4})
	add(&pb.WatchResponse{Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("12345678")}}, {Type: mvccpb.Event_DELETE}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := scanWatch(b)
		var m pb.WatchResponse
		if derr := proto.Unmarshal(b, &m); derr != nil {
			return // decoding is stricter: it checks types and UTF-8
		}
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return // such as a known field of another type, which both skip in their own way
		}
		if err != nil || n.created != m.Created || n.canceled != m.Canceled || n.events != len(m.Events) {
			t.Errorf("scanned %+v, %v; decoded %v", n, err, &m)
		}
	})
}
