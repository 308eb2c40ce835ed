package ctl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// selfSigned writes a certificate for 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "t"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Goal: a server with TLS is trusted through --cacert, not without, and takes
// the client's certificate; an endpoint without a scheme uses TLS when flags
// speak of it, one with http:// does not.
func TestTLS(t *testing.T) {
	cert, key := selfSigned(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
	})))
	pb.RegisterKVServer(s, &fake{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	addr := l.Addr().String()

	put := func(endpoint string, flags ...string) ran {
		return etcdctl(endpoint, "", nil, append([]string{"put", "k", "v", "--command-timeout", "300ms"}, flags...)...)
	}
	for name, got := range map[string]ran{
		"https and --cacert":    put("https://"+addr, "--cacert", cert),
		"no scheme":             put(addr, "--cacert", cert),
		"client certificate":    put(addr, "--cacert", cert, "--cert", cert, "--key", key),
		"verification given up": put("https://"+addr, "--insecure-skip-tls-verify"),
	} {
		if got.code != 0 || got.stdout != "OK\n" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, got := range map[string]ran{
		"unknown authority": put("https://" + addr),
		"http://":           put("http://"+addr, "--cacert", cert),
	} {
		if got.code != 1 || !strings.HasSuffix(got.stderr, "Error: context deadline exceeded\n") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := put(addr, "--cacert", key); got.code != 128 {
		t.Errorf("a key for an authority: %+v", got)
	}
}
