package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair makes a self-signed pair that trusts itself.
func pair(t *testing.T, hosts ...string) Source {
	t.Helper()
	s, err := SelfSigned(t.TempDir(), hosts, 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.TrustedCAFile, s.InsecureSkipVerify = s.CertFile, false
	return s
}

// shake runs a handshake and returns both sides' results.
func shake(t *testing.T, server, client Source) (serverErr, clientErr error) {
	t.Helper()
	serverConfig, err := Server(server, []string{"h2"})
	if err != nil {
		t.Fatal(err)
	}
	clientConfig, err := Client(client)
	if err != nil {
		t.Fatal(err)
	}
	clientConfig.ServerName = "member"
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(a, serverConfig)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		a.Close()
		done <- err
	}()
	conn := tls.Client(b, clientConfig)
	_, clientErr = conn.Read(make([]byte, 1)) // with TLS 1.3 a refusal shows only here
	b.Close()
	return <-done, clientErr
}

// Each side shows its certificate and trusts the other's.
func TestHandshake(t *testing.T) {
	s := pair(t, "member:2380", "127.0.0.1")
	if serverErr, clientErr := shake(t, s, s); serverErr != nil || clientErr != nil {
		t.Errorf("server %v, client %v", serverErr, clientErr)
	}
	stranger := pair(t, "member")
	if _, err := shake(t, s, stranger); err == nil {
		t.Error("a stranger's CA vouches for this server")
	}
}

// Restrictions on the client's names: none, one that fits, one that does not.
func TestAllowedNames(t *testing.T) {
	s := pair(t, "member")
	for _, c := range []struct {
		cns, hosts []string
		ok         bool
	}{
		{nil, []string{"other", "member"}, true},
		{nil, []string{"other"}, false},
		{[]string{"root"}, nil, false},
		{[]string{""}, nil, true},
	} {
		server := s
		server.AllowedCNs, server.AllowedHostnames = c.cns, c.hosts
		if err, _ := shake(t, server, s); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
	s.AllowedCNs, s.AllowedHostnames = []string{"a"}, []string{"b"}
	if _, err := Server(s, nil); !errors.Is(err, errNames) {
		t.Errorf("both: %v", err)
	}
}

// A certificate on the revocation list is turned away; the list may change
// between handshakes.
func TestRevocation(t *testing.T) {
	s := pair(t, "member")
	s.CRLFile = filepath.Join(t.TempDir(), "crl")
	client := s
	client.CRLFile = ""
	revoke(t, s)
	if err, _ := shake(t, s, client); err != nil {
		t.Errorf("an empty list: %v", err)
	}
	cert, err := load(s.CertFile, s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	revoke(t, s, cert.Leaf.SerialNumber)
	if err, _ := shake(t, s, client); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("revoked: %v", err)
	}
}

func revoke(t *testing.T, s Source, serials ...*big.Int) {
	t.Helper()
	cert, err := load(s.CertFile, s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now()})
	}
	issuer := *cert.Leaf
	issuer.KeyUsage |= x509.KeyUsageCRLSign
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, cert.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.CRLFile, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Files replaced while serving count from the next handshake on.
func TestRenewal(t *testing.T) {
	old, renewed := pair(t, "member"), pair(t, "member")
	config, err := Server(Source{CertFile: old.CertFile, KeyFile: old.KeyFile}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{renewed.CertFile: old.CertFile, renewed.KeyFile: old.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	want, err := load(old.CertFile, old.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.GetCertificate(nil)
	if err != nil || !got.Leaf.Equal(want.Leaf) {
		t.Errorf("still the old one: %v", err)
	}
}

// A pair made once is kept; half a pair is made again.
func TestSelfSignedIsKept(t *testing.T) {
	dir := t.TempDir()
	make := func() string {
		s, err := SelfSigned(dir, []string{"a"}, 1, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(s.CertFile)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := make()
	if make() != first {
		t.Error("made twice")
	}
	if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	if make() == first {
		t.Error("a new certificate was due")
	}
	if _, err := SelfSigned(t.TempDir(), nil, 0, time.Now()); err == nil {
		t.Error("no validity")
	}
}

// Missing and wrong files are found when the listener is configured.
func TestWrongFiles(t *testing.T) {
	s := pair(t, "member")
	if _, err := Server(Source{CertFile: "/nonexistent", KeyFile: "/nonexistent"}, nil); !errors.Is(err, fs.ErrNotExist) || err.Error() != "open /nonexistent: no such file or directory" {
		t.Error(err)
	}
	if _, err := Server(Source{CertFile: s.CertFile}, nil); err == nil {
		t.Error("no key")
	}
	s.TrustedCAFile = s.KeyFile
	if _, err := Server(s, nil); err == nil {
		t.Error("a key is no CA")
	}
	if _, err := Client(s); err == nil {
		t.Error("a key is no CA")
	}
}
