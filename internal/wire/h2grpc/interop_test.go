package h2grpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/wire/h2grpc"
)

// Goal: every form of call works with grpc-go's client, whether calls run on
// the connection's goroutine or on workers. Method: the cases of gRPC's interop
// specification, on both.
func TestInterop(t *testing.T) {
	cases := map[string]func(*testing.T, context.Context, pb.TestServiceClient){
		"empty_unary":                 emptyUnary,
		"large_unary":                 largeUnary,
		"client_compressed_unary":     compressedUnary,
		"client_streaming":            clientStreaming,
		"server_streaming":            serverStreaming,
		"ping_pong":                   pingPong,
		"empty_stream":                emptyStream,
		"custom_metadata":             customMetadata,
		"status_code_and_message":     statusCodeAndMessage,
		"special_status_message":      specialStatusMessage,
		"unimplemented":               unimplemented,
		"cancel_after_begin":          cancelAfterBegin,
		"cancel_after_first_response": cancelAfterFirstResponse,
		"timeout_on_sleeping_server":  timeoutOnSleepingServer,
	}
	for _, mode := range []string{"workers", "quick"} {
		s := &service{}
		opt := h2grpc.Options{}
		if mode == "quick" {
			opt.Quick = quickEmpty(s)
		}
		addr, _ := serve(t, opt, s)
		for name, run := range cases {
			t.Run(mode+"/"+name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				run(t, ctx, dial(t, addr))
			})
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("error %v, want code %v", err, code)
	}
}

func emptyUnary(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	for range 100 {
		must[*pb.Empty](t)(c.EmptyCall(ctx, &pb.Empty{}))
	}
}

func payload(n int) *pb.Payload { return &pb.Payload{Body: make([]byte, n)} }

func largeUnary(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	for _, n := range []int{0, 1, 1000, 16384, 65535, 271828, 1 << 20} {
		r := must[*pb.SimpleResponse](t)(c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(n), ResponseSize: int32(n)}))
		if len(r.Payload.Body) != n {
			t.Fatalf("%d bytes came back, want %d", len(r.Payload.Body), n)
		}
	}
}

func compressedUnary(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	for _, n := range []int{0, 1000, 271828} {
		r := must[*pb.SimpleResponse](t)(c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(n), ResponseSize: int32(n)}, grpc.UseCompressor(gzip.Name)))
		if len(r.Payload.Body) != n {
			t.Fatalf("%d bytes came back, want %d", len(r.Payload.Body), n)
		}
	}
}

func clientStreaming(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	stream, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range []int{27182, 8, 1828, 45904, 1 << 20, 0, 300000} {
		if err := stream.Send(&pb.StreamingInputCallRequest{Payload: payload(n)}); err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if r := must[*pb.StreamingInputCallResponse](t)(stream.CloseAndRecv()); int(r.AggregatedPayloadSize) != sum {
		t.Fatalf("%d bytes arrived, want %d", r.AggregatedPayloadSize, sum)
	}
}

func parameters(sizes ...int32) []*pb.ResponseParameters {
	var out []*pb.ResponseParameters
	for _, n := range sizes {
		out = append(out, &pb.ResponseParameters{Size: n})
	}
	return out
}

func serverStreaming(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	sizes := []int32{31415, 9, 2653, 58979, 1 << 20, 0, 100000}
	stream, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: parameters(sizes...)})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		if r := must[*pb.StreamingOutputCallResponse](t)(stream.Recv()); len(r.Payload.Body) != int(n) {
			t.Fatalf("%d bytes came, want %d", len(r.Payload.Body), n)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func pingPong(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		n := int32(i * 317)
		if err := stream.Send(&pb.StreamingOutputCallRequest{ResponseParameters: parameters(n), Payload: payload(i * 1000)}); err != nil {
			t.Fatal(err)
		}
		if r := must[*pb.StreamingOutputCallResponse](t)(stream.Recv()); len(r.Payload.Body) != int(n) {
			t.Fatalf("%d bytes came, want %d", len(r.Payload.Body), n)
		}
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func emptyStream(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func customMetadata(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	const value, binary = "test_initial_metadata_value", "\x0a\x0b\x0a\x0b\x0a\x0b\x00\xff"
	ctx = metadata.AppendToOutgoingContext(ctx, echoInitial, value, echoTrailing, binary)
	check := func(head, trailer metadata.MD) {
		t.Helper()
		if got := head.Get(echoInitial); len(got) != 1 || got[0] != value {
			t.Fatalf("header %q", got)
		}
		if got := trailer.Get(echoTrailing); len(got) != 1 || got[0] != binary {
			t.Fatalf("trailer %q", got)
		}
	}
	var head, trailer metadata.MD
	must[*pb.SimpleResponse](t)(c.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 3}, grpc.Header(&head), grpc.Trailer(&trailer)))
	check(head, trailer)

	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.StreamingOutputCallRequest{ResponseParameters: parameters(1)}); err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	for err = error(nil); err == nil; _, err = stream.Recv() {
	}
	head, err = stream.Header()
	if err != nil {
		t.Fatal(err)
	}
	check(head, stream.Trailer())
}

func statusCodeAndMessage(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	want := &pb.EchoStatus{Code: int32(codes.Unknown), Message: "test status message"}
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: want})
	checkStatus(t, err, want)
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.StreamingOutputCallRequest{ResponseStatus: want}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	checkStatus(t, err, want)
}

func checkStatus(t *testing.T, err error, want *pb.EchoStatus) {
	t.Helper()
	if st := status.Convert(err); st.Code() != codes.Code(want.Code) || st.Message() != want.Message {
		t.Fatalf("status %v, want %v", st, want)
	}
}

func specialStatusMessage(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	want := &pb.EchoStatus{Code: 2, Message: "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n 100%"}
	_, err := c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: want})
	checkStatus(t, err, want)
}

func unimplemented(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	_, err := c.UnimplementedCall(ctx, &pb.Empty{})
	wantCode(t, err, codes.Unimplemented)
}

func cancelAfterBegin(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = stream.CloseAndRecv()
	wantCode(t, err, codes.Canceled)
}

func cancelAfterFirstResponse(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.StreamingOutputCallRequest{ResponseParameters: parameters(31415), Payload: payload(27182)}); err != nil {
		t.Fatal(err)
	}
	must[*pb.StreamingOutputCallResponse](t)(stream.Recv())
	cancel()
	_, err = stream.Recv()
	wantCode(t, err, codes.Canceled)
}

func timeoutOnSleepingServer(t *testing.T, ctx context.Context, c pb.TestServiceClient) {
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	stream, err := c.FullDuplexCall(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	wantCode(t, err, codes.DeadlineExceeded)
}

// Goal: many calls at once on one connection each get their own answer.
func TestManyAtOnce(t *testing.T) {
	s := &service{}
	addr, _ := serve(t, h2grpc.Options{}, s)
	c := dial(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	failed := make(chan error, 64)
	for i := range cap(failed) {
		go func() {
			failed <- func() error {
				for j := range 50 {
					n := (i*7919 + j*104729) % 100000
					r, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(n / 3), ResponseSize: int32(n)})
					if err != nil {
						return err
					}
					if len(r.Payload.Body) != n {
						return fmt.Errorf("%d bytes, want %d", len(r.Payload.Body), n)
					}
				}
				return nil
			}()
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
}
