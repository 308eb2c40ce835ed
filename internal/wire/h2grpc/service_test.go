package h2grpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/wire/h2grpc"
)

// service is gRPC's own test service, with the behaviour that the interop
// specification asks of servers. block, when set, is called by EmptyCall.
type service struct {
	pb.UnimplementedTestServiceServer
	block func(ctx context.Context) error
	plain bool // UnaryCall does not look at metadata
}

func (s *service) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	if s.block != nil {
		if err := s.block(ctx); err != nil {
			return nil, err
		}
	}
	return &pb.Empty{}, nil
}

const (
	echoInitial  = "x-grpc-test-echo-initial"
	echoTrailing = "x-grpc-test-echo-trailing-bin"
)

// echo sends back what the specification calls custom metadata.
func echo(ctx context.Context) (head, trailer metadata.MD) {
	md, _ := metadata.FromIncomingContext(ctx)
	head, trailer = metadata.MD{}, metadata.MD{}
	if v := md.Get(echoInitial); len(v) > 0 {
		head.Set(echoInitial, v...)
	}
	if v := md.Get(echoTrailing); len(v) > 0 {
		trailer.Set(echoTrailing, v...)
	}
	return head, trailer
}

func (s *service) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s.plain {
		return &pb.SimpleResponse{Payload: payload(int(r.ResponseSize))}, nil
	}
	head, trailer := echo(ctx)
	if err := grpc.SetHeader(ctx, head); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, trailer); err != nil {
		return nil, err
	}
	if st := r.GetResponseStatus(); st.GetCode() != 0 {
		return nil, status.Error(codes.Code(st.Code), st.Message)
	}
	return &pb.SimpleResponse{Payload: &pb.Payload{Body: make([]byte, r.ResponseSize)}}, nil
}

func (s *service) StreamingOutputCall(r *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.ResponseParameters {
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(r.GetPayload().GetBody())
	}
}

func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	head, trailer := echo(stream.Context())
	if err := stream.SetHeader(head); err != nil {
		return err
	}
	stream.SetTrailer(trailer)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if st := r.GetResponseStatus(); st.GetCode() != 0 {
			return status.Error(codes.Code(st.Code), st.Message)
		}
		if err := s.StreamingOutputCall(r, outputOnly{stream}); err != nil {
			return err
		}
	}
}

type outputOnly struct {
	grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]
}

// quickEmpty declares the calls quick that do not wait.
func quickEmpty(s *service) map[string]func([]byte) bool {
	return map[string]func([]byte) bool{
		"/grpc.testing.TestService/EmptyCall": func([]byte) bool { return s.block == nil },
		"/grpc.testing.TestService/UnaryCall": func(r []byte) bool { return len(r) < 100 },
	}
}

// serve runs a server until the test ends and returns its address.
func serve(t testing.TB, opt h2grpc.Options, s *service) (addr string, server *h2grpc.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = h2grpc.NewServer(opt)
	pb.RegisterTestServiceServer(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error("Serve:", err)
		}
		if held, loaned, queued := server.Held(); held != 0 || loaned != 0 || queued != 0 {
			t.Errorf("after the last connection the server holds %d bytes, %d lent, %d queued", held, loaned, queued)
		}
	})
	return l.Addr().String(), server
}

// dial returns a client of grpc-go.
func dial(t testing.TB, addr string, opt ...grpc.DialOption) pb.TestServiceClient {
	t.Helper()
	opt = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opt...)
	cc, err := grpc.NewClient("passthrough:///"+addr, opt...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return pb.NewTestServiceClient(cc)
}

func plain() credentials.TransportCredentials { return insecure.NewCredentials() }
