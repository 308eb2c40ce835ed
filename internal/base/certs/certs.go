// Package certs makes TLS configurations from files.
//
// Certificates are read again for each handshake, so that an operator renews
// them by replacing the files; the CA and the allowed names are read once. A
// revocation list, too, is read for each handshake. Server turns a Source into
// the configuration of a listener, Client into that of a caller; SelfSigned
// makes files for those who asked for certificates at start.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Source says where certificates are and whom to trust.
type Source struct {
	CertFile, KeyFile             string // shown by servers, and by clients without own ones
	ClientCertFile, ClientKeyFile string // shown by clients
	TrustedCAFile                 string
	CRLFile                       string
	// RequireClientCert turns away clients without a trusted certificate.
	RequireClientCert bool
	// A client's certificate must carry one of each, where given.
	AllowedCNs, AllowedHostnames []string
	// ServerName is compared with the certificate of the server called.
	ServerName         string
	InsecureSkipVerify bool

	VersionMin, VersionMax uint16 // of crypto/tls, 0 for its defaults
	CipherSuites           []uint16
}

// errNames is what etcd says for contradicting restrictions.
var errNames = errors.New("AllowedCN and AllowedHostname are mutually exclusive")

// Server returns the configuration of a listener that offers the protocols of
// alpn. Files that are missing or wrong are found now, not at the first
// handshake.
func Server(s Source, alpn []string) (*tls.Config, error) {
	if s.CertFile == "" || s.KeyFile == "" {
		return nil, fmt.Errorf("KeyFile and CertFile must both be present[key: %v, cert: %v]", s.KeyFile, s.CertFile)
	}
	config, err := s.base()
	if err != nil {
		return nil, err
	}
	if _, err := load(s.CertFile, s.KeyFile); err != nil {
		return nil, err
	}
	config.NextProtos = alpn
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load(s.CertFile, s.KeyFile) }
	if s.RequireClientCert || s.TrustedCAFile != "" {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if s.TrustedCAFile != "" {
		if config.ClientCAs, err = pool(s.TrustedCAFile); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// Client returns the configuration of a caller.
func Client(s Source) (*tls.Config, error) {
	config, err := s.base()
	if err != nil {
		return nil, err
	}
	config.ServerName, config.InsecureSkipVerify = s.ServerName, s.InsecureSkipVerify
	cert, key := s.ClientCertFile, s.ClientKeyFile
	if cert == "" {
		cert, key = s.CertFile, s.KeyFile
	}
	if cert != "" {
		if _, err := load(cert, key); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load(cert, key) }
	}
	if s.TrustedCAFile != "" {
		if config.RootCAs, err = pool(s.TrustedCAFile); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// base is what both sides have in common.
func (s Source) base() (*tls.Config, error) {
	if len(s.AllowedCNs) > 0 && len(s.AllowedHostnames) > 0 {
		return nil, errNames
	}
	config := &tls.Config{MinVersion: max(s.VersionMin, tls.VersionTLS12), MaxVersion: s.VersionMax, CipherSuites: s.CipherSuites}
	config.VerifyConnection = s.verify
	return config, nil
}

// verify adds the operator's restrictions to the usual checks. It also runs for
// resumed sessions, whose certificates may have been revoked since.
func (s Source) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil // whether one is required has been decided already
	}
	if s.CRLFile != "" {
		if err := checkRevoked(s.CRLFile, state.PeerCertificates); err != nil {
			return err
		}
	}
	leaf := state.PeerCertificates[0]
	switch {
	case len(s.AllowedCNs) > 0 && !slices.Contains(s.AllowedCNs, leaf.Subject.CommonName):
		return errors.New("client certificate authentication failed")
	case len(s.AllowedHostnames) > 0 && !carriesOne(leaf, s.AllowedHostnames):
		return errors.New("client certificate authentication failed")
	}
	return nil
}

func carriesOne(leaf *x509.Certificate, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) == nil })
}

func checkRevoked(file string, chain []*x509.Certificate) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		return fmt.Errorf("revocation list %s: %w", file, err)
	}
	for _, cert := range chain {
		for _, revoked := range list.RevokedCertificateEntries {
			if cert.SerialNumber.Cmp(revoked.SerialNumber) == 0 && bytes.Equal(cert.RawIssuer, list.RawIssuer) {
				return fmt.Errorf("certificate serial %s revoked", cert.SerialNumber)
			}
		}
	}
	return nil
}

// load reads a certificate and its key. Reading errors come first: they tell
// the file.
func load(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s, key %s: %w", certFile, keyFile, err)
	}
	return &pair, nil
}

func pool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("trusted CA file %s: no certificate in it", file)
	}
	return p, nil
}
