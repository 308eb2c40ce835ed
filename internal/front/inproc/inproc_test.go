package inproc

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// kvTwin answers a range with what it saw of the call.
type kvTwin struct {
	pb.UnimplementedKVServer
	err  error
	seen *pb.RangeRequest
}

func (k *kvTwin) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	k.seen = r
	_ = grpc.SetTrailer(ctx, metadata.Pairs("late", "1"))
	if err := grpc.SetHeader(ctx, metadata.Pairs("early", "1")); err != nil {
		return nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return &pb.RangeResponse{Count: int64(len(md.Get("token"))), More: ctx.Value(valueKey{}) != nil}, k.err
}

type valueKey struct{}

// Goal: a call looks to both sides as one over the network does.
// Method: one call whose service tells what it saw; the interceptors note their
// order.
func TestCallArrivesAsOverTheNetwork(t *testing.T) {
	var order []string
	note := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			order = append(order, name+" "+info.FullMethod)
			return next(ctx, req)
		}
	}
	kv := &kvTwin{}
	c := New(Options{Unary: []grpc.UnaryServerInterceptor{note("outer"), note("inner")}})
	pb.RegisterKVServer(c, kv)
	ctx := context.WithValue(metadata.AppendToOutgoingContext(t.Context(), "token", "x"), valueKey{}, true)
	req := &pb.RangeRequest{Key: []byte("k")}
	var header, trailer metadata.MD
	resp, err := pb.NewKVClient(c).Range(ctx, req, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil || resp.Count != 1 || !resp.More {
		t.Fatalf("metadata or values did not arrive: %v, %v", resp, err)
	}
	if kv.seen == req || &kv.seen.Key[0] == &req.Key[0] {
		t.Error("the two sides share the request")
	}
	if want := []string{"outer " + pb.KV_Range_FullMethodName, "inner " + pb.KV_Range_FullMethodName}; !slices.Equal(order, want) {
		t.Errorf("interceptors: %v", order)
	}
	if len(header.Get("early")) != 1 || len(header.Get("content-type")) != 1 || len(trailer.Get("late")) != 1 {
		t.Errorf("metadata of the answer: %v, %v", header, trailer)
	}
}

// Errors come out as statuses, with no header before them.
func TestErrorsAreStatuses(t *testing.T) {
	kv := &kvTwin{}
	c := New(Options{RequestBytesMax: 10})
	pb.RegisterKVServer(c, kv)
	client := pb.NewKVClient(c)
	for _, want := range []struct {
		err  error
		code codes.Code
	}{
		{errors.New("plain"), codes.Unknown},
		{context.Canceled, codes.Canceled},
		{status.Error(codes.NotFound, "none"), codes.NotFound},
	} {
		kv.err = want.err
		var header metadata.MD
		if _, err := client.Range(t.Context(), &pb.RangeRequest{}, grpc.Header(&header)); status.Code(err) != want.code || header != nil {
			t.Errorf("%v became %v, header %v", want.err, err, header)
		}
	}
	if _, err := client.Put(t.Context(), &pb.PutRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that is not there: %v", err)
	}
	if _, err := pb.NewWatchClient(c).Watch(t.Context()); status.Code(err) != codes.Unimplemented {
		t.Errorf("a stream that is not there: %v", err)
	}
	_, err := client.Range(t.Context(), &pb.RangeRequest{Key: make([]byte, 20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too large: %v", err)
	}
}

// leaseTwin runs one function as its stream.
type leaseTwin struct {
	pb.UnimplementedLeaseServer
	serve func(pb.Lease_LeaseKeepAliveServer) error
}

func (l *leaseTwin) LeaseKeepAlive(s pb.Lease_LeaseKeepAliveServer) error { return l.serve(s) }

// open opens a stream to a service that is one function.
func open(t *testing.T, ctx context.Context, serve func(pb.Lease_LeaseKeepAliveServer) error) pb.Lease_LeaseKeepAliveClient {
	t.Helper()
	c := New(Options{})
	pb.RegisterLeaseServer(c, &leaseTwin{serve: serve})
	s, err := pb.NewLeaseClient(c).LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func echo(s pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.Send(&pb.LeaseKeepAliveResponse{ID: r.ID})
		}
		if err != nil {
			return err
		}
	}
}

// A conversation: what is sent comes back in order, and the end is the end.
func TestStreamConversation(t *testing.T) {
	s := open(t, t.Context(), echo)
	for id := range int64(3 * streamQueue) {
		if err := s.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || got.ID != id {
			t.Fatalf("%d came back as %v, %v", id, got, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, %v", got, err)
	}
}

// What a service sent before it failed is received before its failure.
func TestStreamDeliversBeforeItFails(t *testing.T) {
	s := open(t, t.Context(), func(s pb.Lease_LeaseKeepAliveServer) error {
		for id := range int64(streamQueue) {
			if err := s.Send(&pb.LeaseKeepAliveResponse{ID: id}); err != nil {
				return err
			}
		}
		return status.Error(codes.DataLoss, "broken")
	})
	if md, err := s.Header(); err != nil || len(md.Get("content-type")) != 1 {
		t.Errorf("header %v, %v", md, err)
	}
	for id := range int64(streamQueue) {
		if got, err := s.Recv(); err != nil || got.ID != id {
			t.Fatalf("%d: %v, %v", id, got, err)
		}
	}
	if _, err := s.Recv(); status.Code(err) != codes.DataLoss {
		t.Errorf("then %v", err)
	}
	if err := s.Send(&pb.LeaseKeepAliveRequest{}); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("sending to a stream that has ended: %v", err)
	}
}

// A sender waits when nobody reads, and everybody goes home with the context.
// The bubble fails if a goroutine of the stream stays.
func TestStreamIsBoundedAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		sent := 0
		var result error
		s := open(t, ctx, func(s pb.Lease_LeaseKeepAliveServer) error {
			for result == nil {
				if result = s.Send(&pb.LeaseKeepAliveResponse{}); result == nil {
					sent++
				}
			}
			return result
		})
		synctest.Wait()
		if sent != streamQueue {
			t.Errorf("%d messages wait, want %d", sent, streamQueue)
		}
		cancel()
		synctest.Wait()
		if status.Code(result) != codes.Canceled {
			t.Errorf("the service saw %v", result)
		}
		for { // what was queued may come, then the reason
			if _, err := s.Recv(); err != nil {
				if status.Code(err) != codes.Canceled {
					t.Errorf("the caller saw %v", err)
				}
				break
			}
		}
	})
}
