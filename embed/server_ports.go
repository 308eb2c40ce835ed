package embed

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/steledb/stele/internal/wire/listen"
)

// ports are the listeners of a server and those who serve on them.
type ports struct {
	peers, clients, metrics []port

	// clientTLS is why client certificates cannot be used. Like etcd the
	// server says so when it is about to serve, after it has started.
	clientTLS error

	servers    []*listen.Server // running
	peerServer *listen.Server   // the same for peers; ended last
	serving    sync.WaitGroup
}

// port is one listener.
type port struct {
	net.Listener
	url     url.URL
	traffic string // what clients may speak: one of the constants below
}

// Kinds of traffic on a client port. With --listen-client-http-urls the two are
// apart.
const (
	trafficBoth = "grpc+http"
	trafficGRPC = "grpc"
	trafficHTTP = "http"
)

// listen opens all ports.
func (s *Server) listen() error {
	s.log.Info("configuring peer listeners", "listen-peer-urls", urlTexts(s.cfg.ListenPeerUrls))
	if err := s.listenPeers(); err != nil {
		s.log.Error("creating peer listener failed", "error", err)
		return err
	}
	s.log.Info("configuring client listeners", "listen-client-urls", urlTexts(s.cfg.ListenClientUrls))
	return s.listenClients()
}

func (s *Server) listenPeers() error {
	c := s.cfg
	security, err := c.PeerServerTLS(nil)
	if err != nil {
		return err
	}
	for _, u := range c.ListenPeerUrls {
		if isSecure(u) && security == nil {
			return fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", u.Host)
		}
		if err := s.open(&s.ports.peers, u, "", security); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) listenClients() error {
	c, p := s.cfg, &s.ports
	if err := c.CheckClientTLS(); err != nil {
		return err
	}
	security, err := c.ClientServerTLS(listen.ALPN())
	if err != nil {
		p.clientTLS, security = err, &tls.Config{}
	}
	traffic := trafficBoth
	if len(c.ListenClientHttpUrls) > 0 {
		traffic = trafficGRPC
	}
	for _, group := range []struct {
		to      *[]port
		urls    []url.URL
		traffic string
	}{
		{&p.clients, c.ListenClientUrls, traffic},
		{&p.clients, c.ListenClientHttpUrls, trafficHTTP},
		{&p.metrics, c.ListenMetricsUrls, ""},
	} {
		for _, u := range group.urls {
			if err := s.open(group.to, u, group.traffic, security); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) open(to *[]port, u url.URL, traffic string, security *tls.Config) error {
	l, err := listen.Open(u, listen.Options{
		TLS: security, ConnsMax: listen.ConnsMaxByLimit(),
		ReuseAddress: s.cfg.SocketOpts.ReuseAddress, ReusePort: s.cfg.SocketOpts.ReusePort,
	})
	if err != nil {
		return err
	}
	*to = append(*to, port{l, u, traffic})
	return nil
}

// serveClients begins to answer clients.
func (s *Server) serveClients() error {
	p := &s.ports
	if err := p.clientTLS; err != nil {
		s.log.Error("registerGateway failed", "error", err)
		s.log.Error("setting up serving from embedded etcd failed.", "error", err)
		// The server did start; what follows is its end.
		go s.stop(err)
		return nil
	}
	web := s.clientWeb()
	byTraffic := map[string]*listen.Server{}
	for _, port := range p.clients {
		server := byTraffic[port.traffic]
		if server == nil {
			server = s.clientServer(port.traffic, web)
			byTraffic[port.traffic] = server
		}
		s.log.Info("ready to serve client requests")
		if isSecure(port.url) {
			s.log.Info("serving client traffic securely", "traffic", port.traffic, "address", port.Addr().String())
		} else {
			s.log.Info("serving client traffic insecurely; this is strongly discouraged!", "traffic", port.traffic, "address", port.Addr().String())
		}
		s.serve(server, port)
	}
	return nil
}

func (s *Server) clientServer(traffic string, web http.Handler) *listen.Server {
	conf := listen.Config{OnReject: s.rejected("client"), Problems: io.Discard}
	if traffic != trafficHTTP {
		conf.GRPC = s.grpcServer()
	}
	if traffic != trafficGRPC {
		conf.HTTP = web
	}
	return s.ports.run(conf)
}

// serveMetrics begins to answer on the metrics ports, before the member is
// ready for clients.
func (s *Server) serveMetrics() {
	if len(s.ports.metrics) == 0 {
		return
	}
	server := s.ports.run(listen.Config{HTTP: s.metricsWeb(), OnReject: s.rejected("metrics"), Problems: io.Discard})
	for _, port := range s.ports.metrics {
		s.log.Info("serving metrics", "address", port.url.String())
		s.serve(server, port)
	}
}

func (s *Server) rejected(side string) func(net.Addr, string, error) {
	return func(remote net.Addr, name string, err error) {
		s.log.Warn("rejected connection on "+side+" endpoint", "remote-addr", remote.String(), "server-name", name, "error", err)
	}
}

func (s *Server) serve(server *listen.Server, port port) {
	s.ports.serving.Go(func() {
		if err := server.Serve(port.Listener); err != nil {
			s.log.Error("setting up serving from embedded etcd failed.", "address", port.url.Host, "error", err)
		}
	})
}

// run starts a server that close will end.
func (p *ports) run(conf listen.Config) *listen.Server {
	server := listen.New(conf)
	p.servers = append(p.servers, server)
	return server
}

// close lets requests of clients end until ctx does and closes their ports.
func (p *ports) close(ctx context.Context) {
	var ending sync.WaitGroup
	for _, server := range p.servers {
		ending.Go(func() { server.Shutdown(ctx) })
	}
	ending.Wait()
	for _, group := range [][]port{p.clients, p.metrics} {
		for _, port := range group {
			port.Close() // again, for those that were served
		}
	}
}
