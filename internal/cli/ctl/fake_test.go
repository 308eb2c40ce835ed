package ctl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// header is that of the recordings.
var header = &pb.ResponseHeader{ClusterId: 14841639068965178418, MemberId: 10276657743932975437, Revision: 20, RaftTerm: 2}

// fake answers what a test put into it, and keeps the last request.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	pb.UnimplementedLeaseServer

	mu      sync.Mutex
	last    proto.Message // guarded by mu
	rangeOK *pb.RangeResponse
	err     error
	status  *pb.StatusResponse
	blobs   [][]byte // of a snapshot
}

func (f *fake) keep(m proto.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = m
	return f.err
}

func (f *fake) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return f.rangeOK, f.keep(r)
}

func (f *fake) RangeStream(r *pb.RangeRequest, s grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	if err := f.keep(r); err != nil {
		return err
	}
	for i, kv := range f.rangeOK.Kvs { // one chunk a key; the last one has the rest
		chunk := &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{kv}}
		if i == len(f.rangeOK.Kvs)-1 {
			chunk.Header, chunk.Count, chunk.More = f.rangeOK.Header, f.rangeOK.Count, f.rangeOK.More
		}
		if err := s.Send(&pb.RangeStreamResponse{RangeResponse: chunk}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Put(_ context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: header}, f.keep(r)
}

func (f *fake) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return &pb.TxnResponse{Header: header, Succeeded: true}, f.keep(r)
}

func (f *fake) Alarm(_ context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return &pb.AlarmResponse{Header: header}, nil
}

func (f *fake) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return f.status, f.err
}

func (f *fake) Snapshot(_ *pb.SnapshotRequest, s pb.Maintenance_SnapshotServer) error {
	if f.err != nil {
		return f.err
	}
	for _, b := range f.blobs {
		if err := s.Send(&pb.SnapshotResponse{Blob: b, Version: "3.7.0"}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, f)
	pb.RegisterMaintenanceServer(s, f)
	pb.RegisterClusterServer(s, f)
	pb.RegisterLeaseServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// ran is what one run of etcdctl did.
type ran struct {
	stdout, stderr string
	code           int
}

// etcdctl runs the command line words against endpoint, with environment.
func etcdctl(endpoint, stdin string, environ []string, args ...string) ran {
	var stdout, stderr bytes.Buffer
	if endpoint != "" {
		args = append([]string{"--endpoints", endpoint}, args...)
	}
	code := Main(args, IO{Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr, Environ: environ})
	return ran{stdout.String(), stderr.String(), code}
}

// signed is data of a believable length with its digest behind.
func signed(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append(bytes.Clone(data), sum[:]...)
}

var errCompacted = rpctypes.ErrGRPCCompacted
