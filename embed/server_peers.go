package embed

import (
	"context"
	"crypto/tls"
	"io"

	"github.com/steledb/stele/internal/wire/listen"
)

// peerTLS is the configuration for calling other members, nil if no URL of a
// peer can need one.
func (c *Config) peerTLS() (*tls.Config, error) {
	if c.PeerTLSInfo.Empty() && !c.PeerAutoTLS {
		return nil, nil
	}
	return c.PeerClientTLS()
}

// servePeers begins to answer other members, before this one is ready for
// clients: it takes the others to become so.
func (s *Server) servePeers() {
	server := listen.New(listen.Config{HTTP: s.member.PeerHandler(), OnReject: s.rejected("peer"), Problems: io.Discard})
	s.ports.peerServer = server
	for _, port := range s.ports.peers {
		s.log.Info("serving peer traffic", "address", port.Addr().String())
		s.serve(server, port)
	}
}

// closePeers ends the talk with other members: after clients were answered,
// which may have taken the others.
func (s *Server) closePeers(ctx context.Context) {
	s.member.Disconnect()
	if s.ports.peerServer != nil {
		s.ports.peerServer.Shutdown(ctx)
	}
	for _, port := range s.ports.peers {
		port.Close()
	}
}
