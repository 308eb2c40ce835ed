package concurrencypb

import (
	"context"

	"google.golang.org/grpc"
)

// Full names of the methods.
const (
	LockMethod   = "/v3lockpb.Lock/Lock"
	UnlockMethod = "/v3lockpb.Lock/Unlock"

	CampaignMethod = "/v3electionpb.Election/Campaign"
	ProclaimMethod = "/v3electionpb.Election/Proclaim"
	LeaderMethod   = "/v3electionpb.Election/Leader"
	ObserveMethod  = "/v3electionpb.Election/Observe"
	ResignMethod   = "/v3electionpb.Election/Resign"
)

// LockServer is the Lock service.
type LockServer interface {
	// Lock returns once the caller holds the lock, or fails.
	Lock(context.Context, *LockRequest) (*LockResponse, error)
	Unlock(context.Context, *UnlockRequest) (*UnlockResponse, error)
}

// ElectionServer is the Election service.
type ElectionServer interface {
	// Campaign returns once the caller leads, or fails.
	Campaign(context.Context, *CampaignRequest) (*CampaignResponse, error)
	Proclaim(context.Context, *ProclaimRequest) (*ProclaimResponse, error)
	Leader(context.Context, *LeaderRequest) (*LeaderResponse, error)
	// Observe sends the leader and its values in their order.
	Observe(*LeaderRequest, grpc.ServerStreamingServer[LeaderResponse]) error
	Resign(context.Context, *ResignRequest) (*ResignResponse, error)
}

// LockServiceDesc describes the Lock service to a gRPC server.
var LockServiceDesc = grpc.ServiceDesc{
	ServiceName: "v3lockpb.Lock", HandlerType: (*LockServer)(nil), Metadata: "v3lock.proto",
	Methods: []grpc.MethodDesc{
		{MethodName: "Lock", Handler: unary(LockMethod, LockServer.Lock)},
		{MethodName: "Unlock", Handler: unary(UnlockMethod, LockServer.Unlock)},
	},
}

// ElectionServiceDesc describes the Election service to a gRPC server.
var ElectionServiceDesc = grpc.ServiceDesc{
	ServiceName: "v3electionpb.Election", HandlerType: (*ElectionServer)(nil), Metadata: "v3election.proto",
	Methods: []grpc.MethodDesc{
		{MethodName: "Campaign", Handler: unary(CampaignMethod, ElectionServer.Campaign)},
		{MethodName: "Proclaim", Handler: unary(ProclaimMethod, ElectionServer.Proclaim)},
		{MethodName: "Leader", Handler: unary(LeaderMethod, ElectionServer.Leader)},
		{MethodName: "Resign", Handler: unary(ResignMethod, ElectionServer.Resign)},
	},
	Streams: []grpc.StreamDesc{{StreamName: "Observe", ServerStreams: true, Handler: observe}},
}

// unary makes the handler that a gRPC server calls for one method.
func unary[S, Req, Resp any](full string, call func(S, context.Context, *Req) (*Resp, error)) grpc.MethodHandler {
	return func(srv any, ctx context.Context, dec func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		in := new(Req)
		if err := dec(in); err != nil {
			return nil, err
		}
		serve := func(ctx context.Context, req any) (any, error) { return call(srv.(S), ctx, req.(*Req)) }
		if around == nil {
			return serve(ctx, in)
		}
		return around(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, serve)
	}
}

func observe(srv any, stream grpc.ServerStream) error {
	in := new(LeaderRequest)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	return srv.(ElectionServer).Observe(in, &grpc.GenericServerStream[LeaderRequest, LeaderResponse]{ServerStream: stream})
}

// LockClient calls the Lock service.
type LockClient struct{ Conn grpc.ClientConnInterface }

// Lock returns once the lock is held.
func (c LockClient) Lock(ctx context.Context, r *LockRequest, opts ...grpc.CallOption) (*LockResponse, error) {
	return invoke[LockResponse](ctx, c.Conn, LockMethod, r, opts)
}

// Unlock gives up a lock.
func (c LockClient) Unlock(ctx context.Context, r *UnlockRequest, opts ...grpc.CallOption) (*UnlockResponse, error) {
	return invoke[UnlockResponse](ctx, c.Conn, UnlockMethod, r, opts)
}

// ElectionClient calls the Election service.
type ElectionClient struct{ Conn grpc.ClientConnInterface }

// Campaign returns once the caller leads.
func (c ElectionClient) Campaign(ctx context.Context, r *CampaignRequest, opts ...grpc.CallOption) (*CampaignResponse, error) {
	return invoke[CampaignResponse](ctx, c.Conn, CampaignMethod, r, opts)
}

// Proclaim changes the value of a leadership.
func (c ElectionClient) Proclaim(ctx context.Context, r *ProclaimRequest, opts ...grpc.CallOption) (*ProclaimResponse, error) {
	return invoke[ProclaimResponse](ctx, c.Conn, ProclaimMethod, r, opts)
}

// Leader asks who leads.
func (c ElectionClient) Leader(ctx context.Context, r *LeaderRequest, opts ...grpc.CallOption) (*LeaderResponse, error) {
	return invoke[LeaderResponse](ctx, c.Conn, LeaderMethod, r, opts)
}

// Resign gives up a leadership.
func (c ElectionClient) Resign(ctx context.Context, r *ResignRequest, opts ...grpc.CallOption) (*ResignResponse, error) {
	return invoke[ResignResponse](ctx, c.Conn, ResignMethod, r, opts)
}

// Observe follows the leader and its values.
func (c ElectionClient) Observe(ctx context.Context, r *LeaderRequest, opts ...grpc.CallOption) (grpc.ServerStreamingClient[LeaderResponse], error) {
	stream, err := c.Conn.NewStream(ctx, &ElectionServiceDesc.Streams[0], ObserveMethod, opts...)
	if err != nil {
		return nil, err
	}
	out := &grpc.GenericClientStream[LeaderRequest, LeaderResponse]{ClientStream: stream}
	if err := out.SendMsg(r); err != nil {
		return nil, err
	}
	return out, out.CloseSend()
}

func invoke[Resp any](ctx context.Context, conn grpc.ClientConnInterface, method string, r any, opts []grpc.CallOption) (*Resp, error) {
	out := new(Resp)
	if err := conn.Invoke(ctx, method, r, out, opts...); err != nil {
		return nil, err
	}
	return out, nil
}
