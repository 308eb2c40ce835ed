package embed

import (
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/front/concurrency"
	"github.com/steledb/stele/internal/front/inproc"
	"github.com/steledb/stele/internal/front/rpc"
	"github.com/steledb/stele/internal/member"
	"github.com/steledb/stele/internal/wire/h2grpc"
	"github.com/steledb/stele/internal/wire/listen"
)

// sendBytesMax is the largest message that may be sent: a client's limit is
// its own business.
const sendBytesMax = 1<<31 - 1

// transportVariable chooses who serves gRPC: "native" is internal/wire/h2grpc,
// anything else grpc-go. It is for comparing the two and no option yet.
const transportVariable = "STELE_GRPC_TRANSPORT"

// grpcServer makes the server of all gRPC services.
func (s *Server) grpcServer() listen.GRPC {
	if os.Getenv(transportVariable) == "native" {
		g := s.nativeServer()
		s.registerAll(g)
		return g
	}
	g := s.grpcGoServer()
	s.registerAll(g)
	return g
}

func (s *Server) grpcGoServer() *grpc.Server {
	c := s.cfg
	around := s.around()
	return grpc.NewServer(
		grpc.Creds(listen.Credentials()),
		grpc.ChainUnaryInterceptor(around.Unary...),
		grpc.ChainStreamInterceptor(around.Stream...),
		grpc.ForceServerCodecV2(s.metrics.GRPC.Codec()),
		grpc.MaxRecvMsgSize(c.RequestBytesMax()),
		grpc.MaxSendMsgSize(sendBytesMax),
		grpc.MaxConcurrentStreams(c.MaxConcurrentStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: c.GRPCKeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: c.GRPCKeepAliveInterval, Timeout: c.GRPCKeepAliveTimeout}),
	)
}

func (s *Server) nativeServer() *h2grpc.Server {
	c := s.cfg
	around := s.around()
	traffic := s.metrics.Network
	return h2grpc.NewServer(h2grpc.Options{
		Creds: listen.Credentials(),
		Unary: around.Unary, Stream: around.Stream,
		Received:       func(n int) { traffic.ClientGRPCReceivedBytes.Add(float64(n)) },
		Sent:           func(n int) { traffic.ClientGRPCSentBytes.Add(float64(n)) },
		RecvMessageMax: c.RequestBytesMax(), SendMessageMax: sendBytesMax,
		StreamsMax:  c.MaxConcurrentStreams,
		Enforcement: keepalive.EnforcementPolicy{MinTime: c.GRPCKeepAliveMinTime},
		Keepalive:   keepalive.ServerParameters{Time: c.GRPCKeepAliveInterval, Timeout: c.GRPCKeepAliveTimeout},
		Quick:       rpc.Quick(),
	})
}

// registerAll adds the services and gRPC's own health service.
func (s *Server) registerAll(g grpc.ServiceRegistrar) {
	s.registerServices(g)
	s.health = health.NewServer()
	s.setHealth(healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(g, s.health)
}

// setHealth sets what the gRPC health service answers. Alarms do not change
// it: reads still work.
func (s *Server) setHealth(status healthpb.HealthCheckResponse_ServingStatus) {
	s.log.Info("grpc service status changed", "service", "", "status", status.String())
	s.health.SetServingStatus("", status)
}

// defragmenting has clients go elsewhere during a defragmentation, for those
// who asked for that. There is no need here: requests go on.
func (s *Server) defragmenting(running bool) {
	if !s.cfg.FeatureGates.Enabled(StopGRPCServiceOnDefrag) || s.health == nil {
		return
	}
	if running {
		s.setHealth(healthpb.HealthCheckResponse_NOT_SERVING)
	} else {
		s.setHealth(healthpb.HealthCheckResponse_SERVING)
	}
}

// around is what every request passes on its way to a service, whether it
// comes over the network or through the JSON gateway.
func (s *Server) around() inproc.Options {
	guard := s.guard()
	return inproc.Options{
		Unary:           []grpc.UnaryServerInterceptor{s.metrics.GRPC.Unary, guard.Unary, rpc.UnaryGate(s.member, member.WithToken)},
		Stream:          []grpc.StreamServerInterceptor{s.metrics.GRPC.Stream, guard.Stream, rpc.StreamGate(s.member, member.WithToken)},
		Codec:           s.metrics.GRPC.Codec(),
		RequestBytesMax: s.cfg.RequestBytesMax(),
	}
}

func (s *Server) guard() *rpc.Guard {
	return &rpc.Guard{Log: s.log, WarnAfter: s.cfg.WarningUnaryRequestDuration}
}

// registerServices adds the services to a gRPC server, whichever it is.
// Locks and elections ask the store within the process, as the caller that was
// let in already.
func (s *Server) registerServices(g grpc.ServiceRegistrar) {
	s.registerStore(g)
	store := inproc.New(inproc.Options{Stream: []grpc.StreamServerInterceptor{s.guard().Stream}})
	s.registerStore(store)
	concurrency.Register(g, store)
}

// registerStore adds the services that the member itself answers.
func (s *Server) registerStore(g grpc.ServiceRegistrar) {
	c, m := s.cfg, s.member
	rpc.Register(g, m, rpc.Options{
		MaxTxnOps: int(c.MaxTxnOps), WarnRead: c.WarningApplyDuration, Metrics: s.metrics, Log: s.log,
	})
	pb.RegisterWatchServer(g, rpc.NewWatchServer(m.Hub(), m, rpc.WatchOptions{
		Auth: rpc.WatchGate{Gate: m}, ProgressInterval: c.WatchProgressNotifyInterval, FragmentBytes: c.RequestBytesMax(),
		Observe: s.watchObserver(),
	}))
}
