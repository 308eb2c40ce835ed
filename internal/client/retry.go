package client

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Retries of one unary call: at once, then round after round of the endpoints
// with a pause of 25 ms +- 10% between rounds, at most 100 attempts. The
// caller's context usually ends it long before.
const (
	attemptsMax = 100
	roundPause  = 25 * time.Millisecond
	pauseJitter = 0.10
)

// repeatable lists the calls that do no harm when the server carried them out
// but its answer was lost. Everything else is repeated only if it provably
// never left.
var repeatable = map[string]bool{
	pb.KV_Range_FullMethodName:               true,
	pb.Lease_LeaseTimeToLive_FullMethodName:  true,
	pb.Lease_LeaseLeases_FullMethodName:      true,
	pb.Cluster_MemberList_FullMethodName:     true,
	pb.Maintenance_Alarm_FullMethodName:      true,
	pb.Maintenance_Status_FullMethodName:     true,
	pb.Maintenance_Hash_FullMethodName:       true,
	pb.Maintenance_HashKV_FullMethodName:     true,
	pb.Maintenance_Defragment_FullMethodName: true,
	pb.Maintenance_MoveLeader_FullMethodName: true,
	pb.Auth_AuthStatus_FullMethodName:        true,
	pb.Auth_UserGet_FullMethodName:           true,
	pb.Auth_UserList_FullMethodName:          true,
	pb.Auth_RoleGet_FullMethodName:           true,
	pb.Auth_RoleList_FullMethodName:          true,
}

// neverSent are the texts of Unavailable errors that gRPC gives before it has
// written a byte of the request.
var neverSent = []string{"there is no address available", "there is no connection available"}

// unary is the interceptor of all unary calls: version and token go out with
// it, failures are logged, and what may be repeated is.
func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx = withVersion(ctx)
	var err error
	for attempt := range attemptsMax {
		if pause(ctx, c.backoff(attempt)) != nil {
			break
		}
		var p peer.Peer
		err = invoke(c.login.attach(ctx, method), method, req, reply, cc, append(opts, grpc.Peer(&p))...)
		if err == nil {
			return nil
		}
		c.cfg.Logger.WarnContext(ctx, "retrying of unary invoker failed", "target", cc.CanonicalTarget(),
			"peer", p.String(), "method", method, "attempt", attempt, "error", err)
		if !c.shouldRepeat(ctx, method, err) {
			break
		}
	}
	return callError(ctx, err)
}

// stream is the interceptor of all streams. Their owners reopen them; here
// they only get version and token.
func (c *Client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(c.login.attach(withVersion(ctx), method), desc, cc, method, opts...)
}

func (c *Client) shouldRepeat(ctx context.Context, method string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if c.wantsLogin(method, err) {
		return c.authenticate(ctx) == nil
	}
	return c.safeToRepeat(method, err)
}

func (c *Client) safeToRepeat(method string, err error) bool {
	if rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCNotSupportedForLearner) {
		return len(c.cfg.Endpoints) > 1 // the next endpoint may be a voter
	}
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.Unavailable {
		return false
	}
	if repeatable[method] {
		return true
	}
	for _, text := range neverSent {
		if strings.Contains(s.Message(), text) {
			return true
		}
	}
	return false
}

// backoff is zero within a round of the endpoints, so that a failed one costs
// nothing while others may answer.
func (c *Client) backoff(attempt int) time.Duration {
	if attempt == 0 || attempt%len(c.cfg.Endpoints) != 0 {
		return 0
	}
	factor := 1 + pauseJitter*(2*rand.Float64()-1)
	return time.Duration(float64(roundPause) * factor)
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil // the call itself looks at ctx, and says more about it
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// callError turns a gRPC error into what callers compare and users read: the
// server's own error, or the caller's context error, or the status as it is.
func callError(ctx context.Context, err error) error {
	err = rpctypes.Error(err)
	if _, ok := err.(rpctypes.EtcdError); ok || err == nil {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	if (s.Code() == codes.DeadlineExceeded || s.Code() == codes.Canceled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// CallError is callError for the errors of streams, which keep their gRPC form.
func CallError(ctx context.Context, err error) error { return callError(ctx, err) }

// isHalt reports whether a stream's end is final: the server answered with a
// reason, instead of going away or losing its leader.
func isHalt(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	return s.Code() != codes.Unavailable && s.Code() != codes.Internal
}
