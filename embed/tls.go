package embed

import (
	"crypto/tls"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/steledb/stele/internal/base/certs"
)

// ClientServerTLS is the configuration of client listeners that offer alpn, or
// nil when no client URL asks for TLS.
func (c *Config) ClientServerTLS(alpn []string) (*tls.Config, error) {
	urls := slices.Concat(c.ListenClientUrls, c.ListenClientHttpUrls, c.ListenMetricsUrls)
	if !slices.ContainsFunc(urls, isSecure) {
		return nil, nil
	}
	source, err := c.clientCerts()
	if err != nil {
		return nil, err
	}
	return certs.Server(source, alpn)
}

// PeerServerTLS is the configuration of peer listeners that offer alpn, or nil
// when no peer URL asks for TLS or there is no certificate for it.
func (c *Config) PeerServerTLS(alpn []string) (*tls.Config, error) {
	if !slices.ContainsFunc(c.ListenPeerUrls, isSecure) || (c.PeerTLSInfo.Empty() && !c.PeerAutoTLS) {
		return nil, nil
	}
	source, err := c.peerCerts()
	if err != nil {
		return nil, err
	}
	return certs.Server(source, alpn)
}

// PeerClientTLS is the configuration for calling other members.
func (c *Config) PeerClientTLS() (*tls.Config, error) {
	source, err := c.peerCerts()
	if err != nil {
		return nil, err
	}
	source.AllowedCNs, source.AllowedHostnames = nil, nil // of those who call
	return certs.Client(source)
}

func (c *Config) clientCerts() (certs.Source, error) {
	return c.certSource(c.ClientTLSInfo, c.ClientAutoTLS, "client", slices.Concat(c.ListenClientUrls, c.ListenClientHttpUrls))
}

func (c *Config) peerCerts() (certs.Source, error) {
	return c.certSource(c.PeerTLSInfo, c.PeerAutoTLS, "peer", c.ListenPeerUrls)
}

// certSource joins what is known of one side's certificates; with auto TLS it
// makes them in the data directory.
func (c *Config) certSource(info TLSInfo, auto bool, side string, urls []url.URL) (certs.Source, error) {
	least, newest, err := c.TLSVersions()
	if err != nil {
		return certs.Source{}, err
	}
	suites, err := c.CipherSuiteIDs()
	if err != nil {
		return certs.Source{}, err
	}
	s := info.source()
	if auto && info.Empty() {
		dir := filepath.Join(c.DataDir(), "fixtures", side)
		if s, err = certs.SelfSigned(dir, hostsOf(urls), c.SelfSignedCertValidity, time.Now()); err != nil {
			return certs.Source{}, err
		}
	} else if auto {
		c.Log().Warn("ignoring " + side + " auto TLS since certs given")
	}
	s.VersionMin, s.VersionMax, s.CipherSuites = least, newest, suites
	return s, nil
}

func (t TLSInfo) source() certs.Source {
	return certs.Source{
		CertFile: t.CertFile, KeyFile: t.KeyFile,
		ClientCertFile: t.ClientCertFile, ClientKeyFile: t.ClientKeyFile,
		TrustedCAFile: t.TrustedCAFile, CRLFile: t.CRLFile,
		RequireClientCert: t.ClientCertAuth,
		AllowedCNs:        t.AllowedCNs, AllowedHostnames: t.AllowedHostnames,
	}
}

func hostsOf(urls []url.URL) []string {
	var hosts []string
	for _, u := range urls {
		if u.Host != "" {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}
