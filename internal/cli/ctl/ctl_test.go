package ctl

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

func someKeys() *pb.RangeResponse {
	return &pb.RangeResponse{Header: header, Count: 2, Kvs: []*mvccpb.KeyValue{
		{Key: []byte("bin"), CreateRevision: 20, ModRevision: 20, Version: 1, Value: []byte("\x00\x01\x7f\"\\\t")},
		{Key: []byte("foo"), CreateRevision: 2, ModRevision: 18, Version: 13, Value: []byte("v"), Lease: 694},
	}}
}

// Goal: one answer, all its forms, byte for byte as recorded from etcdctl.
func TestGetInEveryFormat(t *testing.T) {
	f := &fake{rangeOK: someKeys()}
	ep := f.serve(t)
	json := `{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":20,"raft_term":2},"kvs":[` +
		`{"key":"Ymlu","create_revision":20,"mod_revision":20,"version":1,"value":"AAF/IlwJ"},` +
		`{"key":"Zm9v","create_revision":2,"mod_revision":18,"version":13,"value":"dg==","lease":694}],"count":2}` + "\n"
	fields := `"ClusterID" : %s
"MemberID" : %s
"Revision" : 20
"RaftTerm" : 2
"Key" : "bin"
"CreateRevision" : 20
"ModRevision" : 20
"Version" : 1
"Value" : "\x00\x01\x7f\"\\\t"
"Lease" : %s
"Key" : "foo"
"CreateRevision" : 2
"ModRevision" : 18
"Version" : 13
"Value" : "v"
"Lease" : %s
"More" : false
"Count" : 2
`
	wire, err := proto.Marshal(someKeys())
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]ran{
		"get x":                            {"bin\n\x00\x01\x7f\"\\\t\nfoo\nv\n", "", 0},
		"get x --hex":                      {"\\x62\\x69\\x6e\n\\x00\\x01\\x7f\\x22\\x5c\\x09\n\\x66\\x6f\\x6f\n\\x76\n", "", 0},
		"get x -w json":                    {json, "", 0},
		"get x --stream -w json":           {json, "", 0},
		"get x -w fields":                  {fmt.Sprintf(fields, "14841639068965178418", "10276657743932975437", "0", "694"), "", 0},
		"get x --hex -w fields":            {fmt.Sprintf(fields, "cdf818194e3a8c32", "8e9e05c52164694d", "0000000000000000", "00000000000002b6"), "", 0},
		"get x -w protobuf":                {string(wire), "", 0},
		"get x -w table":                   {"", "Error: table not supported as output format\n", 4},
		"get x -w xml":                     {"", "Error: unsupported output format\n", 4},
		"get x --print-value-only":         {"\x00\x01\x7f\"\\\t\nv\n", "", 0},
		"get x --print-value-only -w json": {"", "Error: print-value-only is only for `--write-out=simple`\n", 128},
		"get x --count-only":               {"", "Error: --count-only is only for `--write-out=fields`\n", 128},
	} {
		if got := etcdctl(ep, "", nil, strings.Fields(args)...); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", args, got, want)
		}
	}
}

// Goal: arguments become the request they mean. Method: look at what arrives.
func TestRequests(t *testing.T) {
	f := &fake{rangeOK: &pb.RangeResponse{Header: header}}
	ep := f.serve(t)
	for args, want := range map[string]proto.Message{
		"get a":            &pb.RangeRequest{Key: []byte("a")},
		"get a b c":        &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")},
		"get a --prefix":   &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")},
		"get '' --prefix":  &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}},
		"get a --from-key": &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte{0}},
		"get a --consistency s --rev -1 --limit 3": &pb.RangeRequest{Key: []byte("a"), Serializable: true, Revision: -1, Limit: 3},
		"get a --order DESCEND":                    &pb.RangeRequest{Key: []byte("a"), SortOrder: pb.RangeRequest_DESCEND},
		"get a --sort-by value":                    &pb.RangeRequest{Key: []byte("a"), SortTarget: pb.RangeRequest_VALUE},
		"put k v --lease 1f --prev-kv":             &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 31, PrevKv: true},
		"put k --ignore-value":                     &pb.PutRequest{Key: []byte("k"), IgnoreValue: true},
		"put k":                                    &pb.PutRequest{Key: []byte("k"), Value: []byte("from stdin\n")},
		"put -- -k -v":                             &pb.PutRequest{Key: []byte("-k"), Value: []byte("-v")},
	} {
		words := argify(args)
		if got := etcdctl(ep, "from stdin\n", nil, words...); got.code != 0 || got.stderr != "" {
			t.Errorf("%s: %+v", args, got)
		}
		if !proto.Equal(f.last, want) {
			t.Errorf("%s: sent %v, want %v", args, f.last, want)
		}
	}
}

// Goal: mistakes are told before anything is sent, in etcdctl's words and with
// its codes.
func TestMistakes(t *testing.T) {
	for args, want := range map[string]ran{
		"put":                             {"", "Error: put command needs 1 argument and input from stdin or 2 arguments\n", 128},
		"put k v --lease zz":              {"", "Error: bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex\n", 128},
		"get a b --prefix":                {"", "Error: too many arguments, only accept one argument when `--prefix` or `--from-key` is set\n", 128},
		"get a --sort-by BAD":             {"", "Error: bad sort target BAD\n", 4},
		"get a --consistency x":           {"", "Error: unknown consistency flag \"x\"\n", 4},
		"compaction abc":                  {"", "Error: strconv.ParseInt: parsing \"abc\": invalid syntax\n", 1},
		"lease grant 1 2":                 {"", "Error: lease grant command needs TTL argument\n", 128},
		"member add x http://a:1":         {"", "Error: too many arguments, did you mean --peer-urls=http://a:1\n", 128},
		"member add x --peer-urls b":      {"", "Error: URL scheme must be http, https, unix, or unixs: b\n", 1},
		"watch a -- ":                     {"", "Error: bad number of arguments (found separator --, but no commands)\n", 128},
		"get a --cert /nonexistent":       {"", "Error: KeyFile and CertFile must both be present[key: , cert: /nonexistent]\n", 128},
		"role grant-permission r bogus k": {"", "Error: invalid permission type: bogus\n", 128},
		"move-leader zz":                  {"", "Error: strconv.ParseUint: parsing \"zz\": invalid syntax\n", 128},
	} {
		if got := etcdctl("127.0.0.1:1", "", nil, strings.Fields(args)...); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", args, got, want)
		}
	}
	if got := etcdctl("", "", nil, "--endpoints", "", "get", "a"); got.code != 2 || got.stderr != "Error: etcdclient: no available endpoints\n" {
		t.Errorf("no endpoints: %+v", got)
	}
}

// Goal: variables fill flags, unknown ones are pointed out, contradictions end
// the command.
func TestEnvironment(t *testing.T) {
	f := &fake{rangeOK: &pb.RangeResponse{Header: header}}
	ep := f.serve(t)
	got := etcdctl("", "", []string{"ETCDCTL_ENDPOINTS=" + ep, "ETCDCTL_WRITE_OUT=json", "ETCDCTL_API=3", "ETCDCTL_WATCH_KEY=k", "OTHER=1"}, "get", "a")
	if got.code != 0 || !strings.HasPrefix(got.stdout, `{"header":`) {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got.stderr, `"msg":"unrecognized environment variable","environment-variable":"ETCDCTL_API=3"}`) ||
		strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("warnings: %s", got.stderr)
	}
	got = etcdctl(ep, "", []string{"ETCDCTL_ENDPOINTS=127.0.0.1:2"}, "get", "a")
	if got.code != 1 || !strings.Contains(got.stderr, `"level":"fatal"`) || !strings.Contains(got.stderr, `"environment-variable":"ETCDCTL_ENDPOINTS"`) {
		t.Errorf("%+v", got)
	}
	if strings.Contains(got.stderr, "Error:") {
		t.Errorf("said twice: %s", got.stderr)
	}
}

// Goal: a refusal of the server is one warning with the details and one line
// with the sense.
func TestServerError(t *testing.T) {
	f := &fake{err: errCompacted}
	got := etcdctl(f.serve(t), "", nil, "get", "a")
	lines := strings.Split(got.stderr, "\n")
	if got.code != 1 || len(lines) != 3 || lines[1] != "Error: etcdserver: mvcc: required revision has been compacted" {
		t.Errorf("%+v", got)
	}
	for _, part := range []string{`"level":"warn"`, `"logger":"etcd-client"`, `"target":"etcd-endpoints://0x`, `"peer":"Peer{Addr: '127.0.0.1:`,
		`"method":"/etcdserverpb.KV/Range","attempt":0,"error":"rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted"}`} {
		if !strings.Contains(lines[0], part) {
			t.Errorf("no %s in %s", part, lines[0])
		}
	}
}

// Goal: a transaction is read in three parts, with the flags of the single
// commands, and prompts only when asked to.
func TestTxn(t *testing.T) {
	f := &fake{}
	ep := f.serve(t)
	input := "mod(\"k\") > \"0\"\n\nput k \"a b\" --prev-kv\nget k --prefix --keys-only\n\ndel k x\n\n"
	got := etcdctl(ep, input, nil, "txn", "-i")
	if got.stdout != "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\nSUCCESS\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	want := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("k"), Result: pb.Compare_GREATER, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{}}},
		Success: []*pb.RequestOp{
			putOp(&pb.PutRequest{Key: []byte("k"), Value: []byte("a b"), PrevKv: true}),
			rangeOp(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), KeysOnly: true}),
		},
		Failure: []*pb.RequestOp{deleteOp(&pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("x")})},
	}
	if !proto.Equal(f.last, want) {
		t.Errorf("sent %v", f.last)
	}
	for input, want := range map[string]ran{
		"\nput a 1":       {"", "Error: EOF\n", 3},
		"\nfoo bar\n\n\n": {"", "Error: invalid txn request: foo bar\n", 3},
		"\nput\n\n\n":     {"", "Error: invalid txn compare request: put\n", 3},
		"\nput a\n\n\n":   {"", "Error: put command needs 1 argument and input from stdin or 2 arguments\n", 128},
	} {
		if got := etcdctl(ep, input, nil, "txn"); got != want {
			t.Errorf("%q: %+v", input, got)
		}
	}
}

// Goal: a snapshot appears under its name whole and checked, private to its
// owner, or not at all; an older file survives a failed attempt.
func TestSnapshotSave(t *testing.T) {
	data := bytes.Repeat([]byte("page"), 3*4096/4)
	whole := signed(data)
	torn := bytes.Clone(whole)
	torn[100] ^= 1
	path := filepath.Join(t.TempDir(), "snap.db")

	save := func(blob []byte) ran {
		f := &fake{}
		for len(blob) > 0 { // chunks that cut the digest
			n := min(5000, len(blob))
			f.blobs, blob = append(f.blobs, blob[:n]), blob[n:]
		}
		return etcdctl(f.serve(t), "", nil, "snapshot", "save", path)
	}
	got := save(whole)
	if got.code != 0 || got.stdout != fmt.Sprintf("Snapshot saved at %s\nServer version 3.7.0\n", path) {
		t.Fatalf("%+v", got)
	}
	saved, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(saved, whole) {
		t.Fatalf("file differs: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	for name, blob := range map[string][]byte{"expected sha256 [": torn, "sha256 checksum not found [bytes: 12288]": data} {
		got := save(blob)
		if got.code != 5 || !strings.Contains(got.stderr, "Error: "+name) {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := os.Stat(path + ".part"); !os.IsNotExist(err) {
			t.Errorf("%s: the part is still there", name)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, whole) {
			t.Errorf("%s: the older snapshot is gone", name)
		}
	}
}

// Goal: the forms of an endpoint's status, and that a dead endpoint does not
// hide a living one.
func TestEndpointStatus(t *testing.T) {
	f := &fake{status: &pb.StatusResponse{
		Header: header, Version: "3.7.1", StorageVersion: "3.7.0", DbSize: 20480, DbSizeInUse: 16384, DbSizeQuota: 2147483648,
		Leader: header.MemberId, RaftIndex: 8, RaftTerm: 2, RaftAppliedIndex: 8, DowngradeInfo: &pb.DowngradeInfo{},
	}}
	ep := f.serve(t)
	line := ep + ", 8e9e05c52164694d, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 8, 8, , , false\n"
	if got := etcdctl(ep, "", nil, "endpoint", "status"); got.stdout != line || got.code != 0 {
		t.Errorf("%+v", got)
	}
	got := etcdctl("127.0.0.1:1,"+ep, "", nil, "endpoint", "status", "--command-timeout", "100ms")
	if got.stdout != line || got.code != 1 || !strings.Contains(got.stderr, "Failed to get the status of endpoint 127.0.0.1:1 (context deadline exceeded)\n") {
		t.Errorf("%+v", got)
	}
	json := `[{"Endpoint":"` + ep + `","Status":{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":20,"raft_term":2},` +
		`"version":"3.7.1","dbSize":20480,"leader":10276657743932975437,"raftIndex":8,"raftTerm":2,"raftAppliedIndex":8,"dbSizeInUse":16384,` +
		`"storageVersion":"3.7.0","dbSizeQuota":2147483648,"downgradeInfo":{}}}]` + "\n"
	if got := etcdctl(ep, "", nil, "endpoint", "status", "-w", "json"); got.stdout != json {
		t.Errorf("got  %s\nwant %s", got.stdout, json)
	}
}

// Goal: mistakes in the command line itself get usage on standard error; help
// that was asked for is output.
func TestUsageAndHelp(t *testing.T) {
	got := etcdctl("", "", nil, "get", "--rev", "abc")
	if got.code != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr,
		"Error: invalid argument \"abc\" for \"--rev\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax\nUsage:") {
		t.Errorf("%+v", got)
	}
	got = etcdctl("", "", nil, "lease", "bogus")
	if got.code != 0 || got.stderr != "" || !strings.HasPrefix(got.stdout, "Lease related commands\n\nUsage:") {
		t.Errorf("%+v", got)
	}
	got = etcdctl("", "", nil, "getx")
	if want := "Error: unknown command \"getx\" for \"etcdctl\"\n\nDid you mean this?\n\tget\n\nRun 'etcdctl --help' for usage.\n"; got.stderr != want || got.code != 1 {
		t.Errorf("%+v", got)
	}
	got = etcdctl("", "", nil, "options")
	if !strings.Contains(got.stdout, "--command-timeout") {
		t.Errorf("options: %s", got.stdout)
	}
}
