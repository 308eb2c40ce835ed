package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	cpb "github.com/steledb/stele/internal/base/concurrencypb"
)

// errTooLarge is what is left of a request that does not fit; in the words that
// net/http has for it.
var errTooLarge = errors.New("http: request body too large")

func registerLock(mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
	c := cpb.LockClient{Conn: conn}
	return errors.Join(
		handle(mux, "/v3/lock/lock", cpb.LockMethod, c.Lock),
		handle(mux, "/v3/lock/unlock", cpb.UnlockMethod, c.Unlock),
	)
}

func registerElection(mux *runtime.ServeMux, conn grpc.ClientConnInterface) error {
	c := cpb.ElectionClient{Conn: conn}
	return errors.Join(
		handle(mux, "/v3/election/campaign", cpb.CampaignMethod, c.Campaign),
		handle(mux, "/v3/election/proclaim", cpb.ProclaimMethod, c.Proclaim),
		handle(mux, "/v3/election/leader", cpb.LeaderMethod, c.Leader),
		handle(mux, "/v3/election/resign", cpb.ResignMethod, c.Resign),
		handleStream(mux, "/v3/election/observe", cpb.ObserveMethod, c.Observe),
	)
}

// message is a pointer to a T that is a protobuf message.
type message[T any] interface {
	*T
	proto.Message
}

// handle translates a method with one request and one answer.
func handle[Q, A any, Req message[Q], Resp message[A]](mux *runtime.ServeMux, path, method string, call func(context.Context, Req, ...grpc.CallOption) (Resp, error)) error {
	return mux.HandlePath(http.MethodPost, path, func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		in, out := runtime.MarshalerForRequest(mux, r)
		ctx, err := runtime.AnnotateContext(r.Context(), mux, r, method, runtime.WithHTTPPathPattern(path))
		if err != nil {
			runtime.HTTPError(r.Context(), mux, out, w, r, err)
			return
		}
		req, err := decode[Q, Req](in, r)
		var md runtime.ServerMetadata
		var resp Resp
		if err == nil {
			resp, err = call(ctx, req, grpc.Header(&md.HeaderMD), grpc.Trailer(&md.TrailerMD))
		}
		ctx = runtime.NewServerMetadataContext(ctx, md)
		if err != nil {
			runtime.HTTPError(ctx, mux, out, w, r, err)
			return
		}
		runtime.ForwardResponseMessage(ctx, mux, out, w, r, resp, mux.GetForwardResponseOptions()...)
	})
}

// handleStream translates a method with one request and a stream of answers.
func handleStream[Q, A any, Req message[Q], Resp message[A]](mux *runtime.ServeMux, path, method string, call func(context.Context, Req, ...grpc.CallOption) (grpc.ServerStreamingClient[A], error)) error {
	return mux.HandlePath(http.MethodPost, path, func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		in, out := runtime.MarshalerForRequest(mux, r)
		ctx, err := runtime.AnnotateContext(r.Context(), mux, r, method, runtime.WithHTTPPathPattern(path))
		if err != nil {
			runtime.HTTPError(r.Context(), mux, out, w, r, err)
			return
		}
		req, err := decode[Q, Req](in, r)
		var md runtime.ServerMetadata
		var stream grpc.ServerStreamingClient[A]
		if err == nil {
			stream, err = call(ctx, req)
		}
		if err == nil {
			md.HeaderMD, err = stream.Header()
		}
		ctx = runtime.NewServerMetadataContext(ctx, md)
		if err != nil {
			runtime.HTTPError(ctx, mux, out, w, r, err)
			return
		}
		recv := func() (proto.Message, error) {
			m, err := stream.Recv()
			return Resp(m), err
		}
		runtime.ForwardResponseStream(ctx, mux, out, w, r, recv, mux.GetForwardResponseOptions()...)
	})
}

// decode reads the one request of a body; an empty body is an empty request.
func decode[Q any, Req message[Q]](in runtime.Marshaler, r *http.Request) (Req, error) {
	req := Req(new(Q))
	if err := in.NewDecoder(r.Body).Decode(req); err != nil && !errors.Is(err, io.EOF) {
		return nil, status.Errorf(codes.InvalidArgument, "%v", err)
	}
	_, _ = io.Copy(io.Discard, r.Body) // lets net/http notice that the caller is gone
	return req, nil
}
