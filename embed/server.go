package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc/health"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/metrics"
	"github.com/steledb/stele/internal/base/version"
	"github.com/steledb/stele/internal/front/gateway"
	"github.com/steledb/stele/internal/member"
)

// Server is a running member with its listeners.
//
//	server.go          life: start, the end by itself, stop
//	server_member.go   what the member is started with
//	server_ports.go    listeners, and what is served on each
//	server_grpc.go     the gRPC side of the client ports
//	server_web.go      the HTTP side of them, and the metrics ports
type Server struct {
	cfg     *Config
	log     *slog.Logger
	metrics *metrics.Metrics
	scrape  http.Handler // /metrics, on whichever port
	member  *member.Member
	health  *health.Server   // of the gRPC services
	gateway *gateway.Gateway // JSON over HTTP; nil if not wanted
	ports   ports

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
	s := &Server{
		cfg: cfg, log: cfg.Log(), done: make(chan struct{}),
		metrics: metrics.New(metrics.Options{Extensive: cfg.Metrics == "extensive"}),
	}
	s.scrape = s.metrics.Handler()
	if err := s.start(ctx); err != nil {
		s.log.Info("closing etcd server", s.facts()...)
		s.close()
		s.log.Info("closed etcd server", s.facts()...)
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
	s.checkPermission()
	s.cfg.LogStarting(StartFacts{MemberInitialized: s.hasLived()})
	if err := s.startMember(opt); err != nil {
		s.tellFailed(err)
		return err
	}
	s.servePeers()
	s.serveMetrics()
	if err := s.waitPublished(ctx); err != nil {
		return err
	}
	return s.serveClients()
}

// startMember starts the member, once it is clear who it is told to be.
func (s *Server) startMember(opt member.Options) (err error) {
	if err := s.checkIdentity(opt.Initial); err != nil {
		return err
	}
	if s.member, err = member.Start(opt); err != nil {
		return err
	}
	s.describe()
	s.log.Info("starting etcd server", "local-member-id", ids.Text(s.member.ID()),
		"local-server-version", version.Etcd, "cluster-id", ids.Text(s.member.ClusterID()), "cluster-version", clusterVersionText(s.member))
	s.log.Info("now serving peer/client/metrics", "local-member-id", ids.Text(s.member.ID()),
		"initial-advertise-peer-urls", urlTexts(s.cfg.AdvertisePeerUrls), "listen-peer-urls", urlTexts(s.cfg.ListenPeerUrls),
		"advertise-client-urls", urlTexts(s.cfg.AdvertiseClientUrls), "listen-client-urls", urlTexts(s.cfg.ListenClientUrls),
		"listen-metrics-urls", urlTexts(s.cfg.ListenMetricsUrls))
	return nil
}

// PanicError is a state of the data directory in which etcd panics at start.
type PanicError = member.PanicError

func (s *Server) tellFailed(err error) {
	if p := (*PanicError)(nil); errors.As(err, &p) {
		s.log.Log(context.Background(), logs.LevelPanic, p.Msg, "path", p.Path, "error", p.Err)
		return
	}
	s.log.Error("bootstrap failed", "error", err)
}

// describe sets the measurements that do not change.
func (s *Server) describe() {
	m := &s.metrics.Server
	m.ID.WithLabelValues(ids.Text(s.member.ID())).Set(1)
	m.Version.WithLabelValues(version.Etcd).Set(1)
	m.GoVersion.WithLabelValues(runtime.Version()).Set(1)
	for _, f := range Features() {
		on := 0.0
		if s.cfg.FeatureGates.Enabled(f.Name) {
			on = 1
		}
		m.FeatureEnabled.WithLabelValues(string(f.Name), f.Stage).Set(on)
	}
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

// dataDirMode is what a data directory should have: nobody else reads it.
const dataDirMode os.FileMode = 0o700

// checkPermission warns of a data directory that others may look into.
func (s *Server) checkPermission() {
	dir := s.cfg.DataDir()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() == dataDirMode {
		return
	}
	s.log.Warn("check file permission", "error", fmt.Sprintf("directory %q exist, but the permission is %q. "+
		"The recommended permission is %q to prevent possible unprivileged access to the data", dir, info.Mode(), dataDirMode))
}

// hasLived reports whether the data directory holds a member already, whose
// identity is not a matter of flags any more.
func (s *Server) hasLived() bool {
	entries, err := os.ReadDir(s.cfg.WALDir())
	return err == nil && len(entries) > 0
}

// watch ends the server when the member cannot go on.
func (s *Server) watch() {
	select {
	case err := <-s.member.Failed():
		if errors.Is(err, member.ErrRemoved) { // an end in order
			s.log.Warn("server error", "error", err)
			s.log.Warn("data-dir used by this member must be removed")
			s.stop(nil)
			return
		}
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
		s.log.Info("closing etcd server", s.facts()...)
		s.err = errors.Join(reason, s.close())
		s.log.Info("closed etcd server", s.facts()...)
		close(s.done)
	})
}

// close ends whatever has been started.
func (s *Server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	defer s.ports.serving.Wait()
	if s.member == nil {
		s.ports.close(ctx)
		for _, port := range s.ports.peers {
			port.Close()
		}
		return nil
	}
	s.member.HandOver(ctx)
	if s.gateway != nil {
		s.gateway.Close()
	}
	s.member.Hub().Close() // watches would keep connections open for ever
	s.ports.close(ctx)
	s.closePeers(ctx)
	return s.member.Stop()
}

// facts say which server a line is about.
func (s *Server) facts() []any {
	return []any{"name", s.cfg.Name, "data-dir", s.cfg.DataDir(),
		"advertise-peer-urls", urlTexts(s.cfg.AdvertisePeerUrls), "advertise-client-urls", urlTexts(s.cfg.AdvertiseClientUrls)}
}
