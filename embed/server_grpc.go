package embed

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/front/rpc"
	"github.com/steledb/stele/internal/member"
	"github.com/steledb/stele/internal/wire/listen"
)

// sendBytesMax is the largest message that may be sent: a client's limit is
// its own business.
const sendBytesMax = 1<<31 - 1

// grpcServer makes the server of all gRPC services.
func (s *Server) grpcServer() *grpc.Server {
	c, m := s.cfg, s.member
	guard := &rpc.Guard{Log: s.log, WarnAfter: c.WarningUnaryRequestDuration}
	g := grpc.NewServer(
		grpc.Creds(listen.Credentials()),
		grpc.ChainUnaryInterceptor(s.metrics.GRPC.Unary, guard.Unary, rpc.UnaryGate(m, member.WithToken)),
		grpc.ChainStreamInterceptor(s.metrics.GRPC.Stream, guard.Stream, rpc.StreamGate(m, member.WithToken)),
		grpc.ForceServerCodecV2(s.metrics.GRPC.Codec()),
		grpc.MaxRecvMsgSize(c.RequestBytesMax()),
		grpc.MaxSendMsgSize(sendBytesMax),
		grpc.MaxConcurrentStreams(c.MaxConcurrentStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: c.GRPCKeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: c.GRPCKeepAliveInterval, Timeout: c.GRPCKeepAliveTimeout}),
	)
	s.registerServices(g)
	return g
}

// registerServices adds every service to a gRPC server, whichever it is.
func (s *Server) registerServices(g grpc.ServiceRegistrar) {
	c, m := s.cfg, s.member
	rpc.Register(g, m, rpc.Options{
		MaxTxnOps: int(c.MaxTxnOps), WarnRead: c.WarningApplyDuration, Metrics: s.metrics, Log: s.log,
	})
	pb.RegisterWatchServer(g, rpc.NewWatchServer(m.Hub(), m, rpc.WatchOptions{
		Auth: rpc.WatchGate{Gate: m}, ProgressInterval: c.WatchProgressNotifyInterval, FragmentBytes: c.RequestBytesMax(),
		Observe: s.watchObserver(),
	}))
	s.health = health.NewServer()
	s.log.Info("grpc service status changed", "service", "", "status", healthpb.HealthCheckResponse_SERVING.String())
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(g, s.health)
}
