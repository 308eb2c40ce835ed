package embed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/front/rpc"
	"github.com/steledb/stele/internal/member"
	"github.com/steledb/stele/internal/wire/listen"
)

// Server is a running member with its listeners.
type Server struct {
	cfg    *Config
	log    *slog.Logger
	member *member.Member
	client *listen.Server

	clientListeners []net.Listener
	peerListeners   []net.Listener

	stopOnce sync.Once
	done     chan struct{}
	err      error // why it ended by itself; read after done
}

// stopTimeout bounds how long requests under way may take when the server
// stops.
const stopTimeout = 5 * time.Second

// Start starts a member as cfg describes. It returns once the member serves
// clients, or ctx ends, or it cannot start. The server logs to cfg.Log.
func Start(ctx context.Context, cfg *Config) (*Server, error) {
	cfg.Settle()
	s := &Server{cfg: cfg, log: cfg.Log(), done: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		s.closeListeners()
		if s.member != nil {
			s.member.Stop()
		}
		return nil, err
	}
	go s.watch()
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	opt, err := s.memberOptions()
	if err != nil {
		return err
	}
	// Ports come first: a second server on the same ports must not touch the
	// data.
	if err := s.listen(); err != nil {
		return err
	}
	s.cfg.LogStarting(StartFacts{})
	if s.member, err = member.Start(opt); err != nil {
		return err
	}
	s.log.Info("starting etcd server", "local-member-id", ids.Text(s.member.ID()), "local-server-version", "3.7.1", "cluster-id", ids.Text(s.member.ClusterID()))
	if err := s.waitPublished(ctx); err != nil {
		return err
	}
	s.serve()
	return nil
}

// waitPublished waits until the cluster knows this member.
func (s *Server) waitPublished(ctx context.Context) error {
	select {
	case <-s.member.Published():
		return nil
	case err := <-s.member.Failed():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// memberOptions picks out of the configuration what the member uses.
func (s *Server) memberOptions() (member.Options, error) {
	c := s.cfg
	initial, err := cluster.ParseInitial(c.InitialCluster)
	if err != nil {
		return member.Options{}, fmt.Errorf("error setting up initial cluster: %w", err)
	}
	if err := initial.CheckAdvertised(c.Name, urlTexts(c.AdvertisePeerUrls), sameURLs(initial[c.Name], urlTexts(c.AdvertisePeerUrls))); err != nil && !s.hasLived() {
		return member.Options{}, err
	}
	compaction, err := c.Compaction()
	if err != nil {
		return member.Options{}, err
	}
	authOptions, err := c.authOptions()
	if err != nil {
		return member.Options{}, err
	}
	return member.Options{
		FS: files.OS, DataDir: c.DataDir(), WALDir: c.WalDir, Log: s.log,
		Name: c.Name, ClientURLs: urlTexts(c.AdvertiseClientUrls), PeerURLs: urlTexts(c.AdvertisePeerUrls),
		Initial: initial, Token: c.InitialClusterToken, JoinExisting: !c.IsNewCluster(),
		Tick: c.TickInterval(), ElectionTicks: c.ElectionTicks(), PreVote: c.PreVote,
		MaxLearners: c.MaxLearners, StrictReconfig: c.StrictReconfigCheck,
		SnapshotCount: c.SnapshotCount, CatchUpEntries: c.SnapshotCatchUpEntries,
		MaxSnapshots: int(c.MaxSnapFiles), MaxWALs: int(c.MaxWalFiles),
		QuotaBytes: c.QuotaBackendBytes, FlushInterval: c.BackendBatchInterval, FreelistType: c.BackendFreelistType,
		UnsafeNoSync: c.UnsafeNoFsync, MaxRequestBytes: int(c.MaxRequestBytes),
		CompactionBatch: c.CompactionBatchLimit, CompactionPause: c.CompactionSleepInterval,
		AutoCompact:       member.AutoCompact{Period: compaction.Period, Revisions: compaction.Revisions},
		LeaseCheckpoint:   c.FeatureGates.Enabled(LeaseCheckpoint),
		PersistCheckpoint: c.FeatureGates.Enabled(LeaseCheckpointPersist),
		Auth:              authOptions,
	}, nil
}

// authOptions reads the settings of authentication and the key files they name.
func (c *Config) authOptions() (member.AuthOptions, error) {
	token, err := auth.ParseTokenOptions(c.AuthToken)
	if err != nil {
		return member.AuthOptions{}, err
	}
	o := member.AuthOptions{Token: token, SimpleTTL: time.Duration(c.AuthTokenTTL) * time.Second, BcryptCost: int(c.BcryptCost)}
	for _, key := range []struct {
		file string
		to   *[]byte
	}{{token.PublicKeyFile, &o.Keys.Public}, {token.PrivateKeyFile, &o.Keys.Private}} {
		if key.file == "" {
			continue
		}
		if *key.to, err = os.ReadFile(key.file); err != nil {
			return o, fmt.Errorf("auth token key: %w", err)
		}
	}
	return o, nil
}

// hasLived reports whether the data directory holds a member already, whose
// identity is not a matter of flags any more.
func (s *Server) hasLived() bool {
	entries, err := os.ReadDir(s.cfg.WALDir())
	return err == nil && len(entries) > 0
}

// sameURLs compares two lists of URLs without regard to order; nil if they are
// the same. Names are resolved only if the texts differ.
func sameURLs(a, b []string) error {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	if slices.Equal(a, b) {
		return nil
	}
	return fmt.Errorf("resolved urls: %q != %q", join(b), join(a))
}

func join(urls []string) string {
	out := ""
	for i, u := range urls {
		if i > 0 {
			out += ","
		}
		out += u
	}
	return out
}

// listen opens all ports.
func (s *Server) listen() error {
	s.log.Info("configuring peer listeners", "listen-peer-urls", urlTexts(s.cfg.ListenPeerUrls))
	if err := s.open(s.cfg.ListenPeerUrls, &s.peerListeners); err != nil {
		s.log.Error("creating peer listener failed", "error", err)
		return err
	}
	s.log.Info("configuring client listeners", "listen-client-urls", urlTexts(s.cfg.ListenClientUrls))
	return s.open(s.cfg.ListenClientUrls, &s.clientListeners)
}

func (s *Server) open(urls []url.URL, to *[]net.Listener) error {
	for _, u := range urls {
		l, err := listen.Open(u, listen.Options{
			ConnsMax: listen.ConnsMaxByLimit(), ReuseAddress: s.cfg.SocketOpts.ReuseAddress, ReusePort: s.cfg.SocketOpts.ReusePort,
		})
		if err != nil {
			return err
		}
		*to = append(*to, l)
	}
	return nil
}

func (s *Server) closeListeners() {
	for _, l := range append(s.clientListeners, s.peerListeners...) {
		l.Close()
	}
}

// serve begins to answer clients.
func (s *Server) serve() {
	s.client = listen.New(listen.Config{
		GRPC: s.grpcServer(), HTTP: s.httpHandler(),
		OnReject: func(remote net.Addr, name string, err error) {
			s.log.Warn("rejected connection on client endpoint", "remote-addr", remote.String(), "server-name", name, "error", err)
		},
		Problems: io.Discard,
	})
	for i, l := range s.clientListeners {
		u := s.cfg.ListenClientUrls[i]
		s.log.Info("ready to serve client requests")
		s.log.Info("serving client traffic insecurely; this is strongly discouraged!", "traffic", "grpc+http", "address", l.Addr().String())
		go func() {
			if err := s.client.Serve(l); err != nil {
				s.log.Error("setting up serving from embedded etcd failed.", "address", u.Host, "error", err)
			}
		}()
	}
}

func (s *Server) grpcServer() *grpc.Server {
	c, m := s.cfg, s.member
	g := grpc.NewServer(
		grpc.ChainUnaryInterceptor(rpc.UnaryGate(m, member.WithToken)),
		grpc.ChainStreamInterceptor(rpc.StreamGate(m, member.WithToken)),
		grpc.MaxRecvMsgSize(c.RequestBytesMax()),
		grpc.MaxSendMsgSize(1<<31-1),
		grpc.MaxConcurrentStreams(c.MaxConcurrentStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: c.GRPCKeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: c.GRPCKeepAliveInterval, Timeout: c.GRPCKeepAliveTimeout}),
	)
	rpc.Register(g, m, rpc.Options{MaxTxnOps: int(c.MaxTxnOps)})
	pb.RegisterWatchServer(g, rpc.NewWatchServer(m.Hub(), m, rpc.WatchOptions{
		Auth: rpc.WatchGate{Gate: m}, ProgressInterval: c.WatchProgressNotifyInterval, FragmentBytes: c.RequestBytesMax(),
	}))
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(g, h)
	return g
}

// httpHandler answers what is not gRPC.
func (s *Server) httpHandler() http.Handler { return http.NotFoundHandler() }

// watch ends the server when the member cannot go on.
func (s *Server) watch() {
	select {
	case err := <-s.member.Failed():
		s.log.Error("the member cannot go on", "error", err)
		s.stop(err)
	case <-s.done:
	}
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server ended by itself; nil after Stop. Valid after Done.
func (s *Server) Err() error { return s.err }

// Stop ends the server in order: no new connections, requests under way get a
// moment to end, what is applied goes to disk.
func (s *Server) Stop() {
	s.stop(nil)
	<-s.done
}

func (s *Server) stop(reason error) {
	s.stopOnce.Do(func() {
		facts := []any{"name", s.cfg.Name, "data-dir", s.cfg.DataDir(),
			"advertise-peer-urls", urlTexts(s.cfg.AdvertisePeerUrls), "advertise-client-urls", urlTexts(s.cfg.AdvertiseClientUrls)}
		s.log.Info("closing etcd server", facts...)
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		s.member.Hub().Close() // watches would keep connections open for ever
		s.client.Shutdown(ctx)
		err := s.member.Stop()
		s.closeListeners()
		s.err = errors.Join(reason, err)
		s.log.Info("closed etcd server", facts...)
		close(s.done)
	})
}
