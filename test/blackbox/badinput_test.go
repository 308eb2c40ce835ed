package blackbox

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/test/rig"
)

// rawCodec sends bytes as they are under the name of the usual codec.
type rawCodec struct{}

func (rawCodec) Name() string                    { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }

func dial(t *testing.T, s *rig.Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30), grpc.MaxCallRecvMsgSize(1<<30)))
	check(t, "dial", err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func sendRaw(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) error {
	var answer []byte
	return conn.Invoke(ctx, method, &request, &answer, grpc.ForceCodec(rawCodec{}))
}

// unharmed checks that the server answers and that nothing has changed since
// the put that gave revision rev.
func unharmed(t *testing.T, s *rig.Server, rev int64) {
	t.Helper()
	if s.Exited() {
		t.Fatal("the server has ended")
	}
	resp, err := connect(t, s).Get(limited(t), "", clientv3.WithPrefix())
	check(t, "get", err)
	same(t, "revision", resp.Header.Revision, rev)
	same(t, "keys", resp.Count, 1)
}

func wantStatus(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	got := status.Convert(err)
	if got.Code() != code || !strings.Contains(got.Message(), text) {
		t.Errorf("%s: got %v %q, want %v %q", what, got.Code(), got.Message(), code, text)
	}
}

// unaryMethods are those that take one request, as the wire names them.
func unaryMethods() (out []string) {
	for _, service := range []grpc.ServiceDesc{
		pb.KV_ServiceDesc, pb.Lease_ServiceDesc, pb.Cluster_ServiceDesc, pb.Maintenance_ServiceDesc, pb.Auth_ServiceDesc,
	} {
		for _, m := range service.Methods {
			out = append(out, "/"+service.ServiceName+"/"+m.MethodName)
		}
	}
	return out
}

// Goal: bytes that are no message get a status on every method, and do no harm.
func TestMalformedMessages(t *testing.T) {
	s, c := start(t)
	rev := put(t, c, "k", "v")
	conn := dial(t, s)
	for _, method := range unaryMethods() {
		for _, b := range [][]byte{
			{0x0a, 0xff},                         // a length beyond the end
			{0x07},                               // a field of a wire type that does not exist
			{0x08, 0xff},                         // half a varint
			{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, // no field number ends here
		} {
			wantStatus(t, method, sendRaw(limited(t), conn, method, b), codes.Internal, "")
		}
	}
	unharmed(t, s, rev)
}

// Goal: random messages never end the server. Method: requests of every method
// with bytes changed at random; what they do to the data does not matter here.
func TestRandomMessages(t *testing.T) {
	s, _ := start(t)
	conn := dial(t, s)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	seeds := seedMessages()
	for range 60 {
		for _, method := range unaryMethods() {
			b := mutate(rng, seeds[rng.IntN(len(seeds))])
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			sendRaw(ctx, conn, method, b)
			cancel()
			if s.Exited() {
				t.Fatalf("seed %d: %s with %x ended the server", seed, method, b)
			}
		}
	}
	if _, err := pb.NewMaintenanceClient(conn).Status(limited(t), &pb.StatusRequest{}); err != nil {
		t.Errorf("seed %d: status: %v", seed, err)
	}
}

func seedMessages() (out [][]byte) {
	k := []byte("k")
	putOp := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: k, Value: k}}}
	for _, m := range []proto.Message{
		&pb.PutRequest{Key: k, Value: k, Lease: 3, PrevKv: true},
		&pb.RangeRequest{Key: k, RangeEnd: []byte("l"), Limit: 3, Revision: 1, SortOrder: 1, SortTarget: 2},
		&pb.DeleteRangeRequest{Key: k, RangeEnd: []byte{0}},
		&pb.TxnRequest{
			Compare: []*pb.Compare{{Key: k, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: k}}},
			Success: []*pb.RequestOp{putOp, {Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{putOp}}}}},
		},
		&pb.LeaseGrantRequest{ID: 7, TTL: 9}, &pb.CompactionRequest{Revision: 2, Physical: true},
		&pb.AlarmRequest{Action: 1, MemberID: 4, Alarm: 1},
		&pb.AuthUserAddRequest{Name: "u", Password: "p"}, &pb.AuthRoleGrantPermissionRequest{Name: "r"},
		&pb.DowngradeRequest{Action: 2, Version: "3.6"},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		out = append(out, b)
	}
	return out
}

func mutate(rng *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	for range 1 + rng.IntN(4) {
		switch i := rng.IntN(len(b) + 1); {
		case i == len(b):
			b = append(b, byte(rng.IntN(256)))
		case rng.IntN(3) == 0:
			b = b[:i]
		default:
			b[i] = byte(rng.IntN(256))
		}
	}
	return b
}

// Goal: what is too much, or makes no sense, is refused with etcd's status and
// changes nothing.
func TestRefusedRequests(t *testing.T) {
	s, c := start(t)
	rev := put(t, c, "k", "v")
	conn := dial(t, s)
	kv, ctx := pb.NewKVClient(conn), limited(t)
	lease, maintenance, members := pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn), pb.NewClusterClient(conn)
	k, big := []byte("k"), make([]byte, 3<<19)
	many := make([]*pb.RequestOp, 129)
	for i := range many {
		many[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: fmt.Append(nil, i)}}}
	}
	list, err := members.MemberList(ctx, &pb.MemberListRequest{})
	check(t, "member list", err)
	self := list.Members[0].ID
	for _, tc := range []struct {
		name string
		try  func() error
		code codes.Code
		text string
	}{
		{"put of 1.5 MiB", func() error { _, err := kv.Put(ctx, &pb.PutRequest{Key: k, Value: big}); return err },
			codes.InvalidArgument, "etcdserver: request is too large"},
		{"put beyond what a message may be", func() error { _, err := kv.Put(ctx, &pb.PutRequest{Key: k, Value: append(big, big...)}); return err },
			codes.ResourceExhausted, "grpc: received message larger than max"},
		{"put without key", func() error { _, err := kv.Put(ctx, &pb.PutRequest{}); return err },
			codes.InvalidArgument, "etcdserver: key is not provided"},
		{"range without key", func() error { _, err := kv.Range(ctx, &pb.RangeRequest{}); return err },
			codes.InvalidArgument, "etcdserver: key is not provided"},
		{"delete without key", func() error { _, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{}); return err },
			codes.InvalidArgument, "etcdserver: key is not provided"},
		{"sort by nothing known", func() error { _, err := kv.Range(ctx, &pb.RangeRequest{Key: k, SortTarget: 9}); return err },
			codes.InvalidArgument, "etcdserver: invalid sort option"},
		{"put on a lease that is not there", func() error { _, err := kv.Put(ctx, &pb.PutRequest{Key: k, Lease: 99}); return err },
			codes.NotFound, "etcdserver: requested lease not found"},
		{"future", func() error { _, err := kv.Range(ctx, &pb.RangeRequest{Key: k, Revision: 99}); return err },
			codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{"compact the future", func() error { _, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: 99}); return err },
			codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{"too many operations", func() error { _, err := kv.Txn(ctx, &pb.TxnRequest{Success: many}); return err },
			codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{"too many in the other branch", func() error { _, err := kv.Txn(ctx, &pb.TxnRequest{Failure: many}); return err },
			codes.InvalidArgument, "etcdserver: too many operations in txn request"},
		{"an operation that is none", func() error { _, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{}}}); return err },
			codes.InvalidArgument, "etcdserver: key not found"},
		{"one key twice", func() error { _, err := kv.Txn(ctx, &pb.TxnRequest{Success: append(many[:1:1], many[0])}); return err },
			codes.InvalidArgument, "etcdserver: duplicate key given in txn request"},
		{"lease of 300 years", func() error { _, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 9_000_000_001}); return err },
			codes.OutOfRange, "etcdserver: too large lease TTL"},
		{"revoke of nothing", func() error { _, err := lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: -5}); return err },
			codes.NotFound, "etcdserver: requested lease not found"},
		{"hash of the future", func() error { _, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: 99}); return err },
			codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{"unknown method", func() error { return sendRaw(ctx, conn, "/etcdserverpb.KV/Steal", nil) }, codes.Unimplemented, "unknown method Steal"},
		{"unknown service", func() error { return sendRaw(ctx, conn, "/etcdserverpb.None/Put", nil) }, codes.Unimplemented, "unknown service etcdserverpb.None"},
		{"remove of the only member", func() error { _, err := members.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: self}); return err },
			codes.Unknown, "re-configuration failed due to not enough started members"},
		// These two end etcd.
		{"unknown alarm action", func() error { _, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: 42}); return err }, codes.Unknown, ""},
		{"other member without URLs", func() error { _, err := members.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: self + 1}); return err },
			codes.NotFound, "etcdserver: member not found"},
		{"add without URLs", func() error { _, err := members.MemberAdd(ctx, &pb.MemberAddRequest{}); return err },
			codes.InvalidArgument, "etcdserver: given member URLs are invalid"},
	} {
		wantStatus(t, tc.name, tc.try(), tc.code, tc.text)
	}
	unharmed(t, s, rev)
}

// Goal: connections that speak no protocol, or stop in the middle of one, do not
// keep others from being served. Method: open them all, then be served.
func TestGarbageOnThePort(t *testing.T) {
	s, c := start(t)
	rev := put(t, c, "k", "v")
	random := make([]byte, 4<<10)
	for i := range random {
		random[i] = byte(rand.IntN(256))
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for name, bytes := range map[string]string{
		"nothing":                     "",
		"random":                      string(random),
		"zeros":                       string(make([]byte, 4096)),
		"half a request line":         "GET /health HT",
		"headers without end":         "GET /health HTTP/1.1\r\nHost: x\r\n",
		"body that does not come":     "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		"half a preface":              preface[:10],
		"preface and nothing":         preface,
		"preface and a frame too big": preface + "\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		"preface and garbage":         preface + string(random),
		"tls":                         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"window update of zero":       preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		conn, err := net.Dial("tcp", s.Endpoint())
		check(t, name, err)
		defer conn.Close()
		_, err = io.WriteString(conn, bytes)
		check(t, name, err)
	}
	unharmed(t, s, rev)
	same(t, "still served", text(t, c, "k"), "k=v")
}

// Goal: requests that a client gives up at any moment leave nothing behind that
// keeps the server from stopping in order.
func TestAbandonedRequests(t *testing.T) {
	s, c := start(t)
	conn := dial(t, s)
	for i := range 200 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(2000))*time.Microsecond)
		switch i % 4 {
		case 0:
			c.Put(ctx, "k", strings.Repeat("v", 10<<10))
		case 1:
			c.Get(ctx, "", clientv3.WithPrefix())
		case 2:
			if w, err := pb.NewWatchClient(conn).Watch(ctx); err == nil {
				w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1}}})
			}
		case 3:
			if r, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{}); err == nil {
				r.Recv()
			}
		}
		cancel()
	}
	put(t, c, "end", "1")
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
