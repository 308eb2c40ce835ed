package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

// world is one port with a real gRPC server and a real HTTP server behind it.
type world struct {
	*Server
	addr   string
	served chan error
	// peers receives who called over gRPC.
	peers chan *peer.Peer
}

func open(t *testing.T, rawURL string, opt Options, change func(*Config)) *world {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(*u, opt)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{addr: l.Addr().String(), served: make(chan error, 1), peers: make(chan *peer.Peer, 10)}
	see := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if p, ok := peer.FromContext(ctx); ok {
			w.peers <- p
		}
		return next(ctx, req)
	}
	g := grpc.NewServer(grpc.Creds(Credentials()), grpc.UnaryInterceptor(see))
	healthpb.RegisterHealthServer(g, health.NewServer())
	cfg := Config{GRPC: g, HTTP: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s tls=%v body=", r.Proto, r.TLS != nil)
		_, _ = io.Copy(rw, r.Body)
	})}
	if change != nil {
		change(&cfg)
	}
	w.Server = New(cfg)
	go func() { w.served <- w.Serve(l) }()
	t.Cleanup(func() { w.stop(t) })
	return w
}

func (w *world) stop(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	w.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("shutdown ran into its bound")
	}
}

func dial(t *testing.T, target string, creds credentials.TransportCredentials) healthpb.HealthClient {
	t.Helper()
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return healthpb.NewHealthClient(cc)
}

func check(t *testing.T, c healthpb.HealthClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
}

func post(t *testing.T, client *http.Client, url, want string) {
	t.Helper()
	resp, err := client.Post(url, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Errorf("HTTP: %v", err)
		return
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != want {
		t.Errorf("HTTP: got %q, want %q", body, want)
	}
}

// Both kinds of client find their server on one port, over TCP and over a
// socket whose file an earlier process left behind.
func TestBothProtocolsOnOnePort(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	abandon(t, socket)
	for _, where := range []string{"http://127.0.0.1:0", "unix://" + socket} {
		w := open(t, where, Options{ReuseAddress: true, ReusePort: true, ConnsMax: 100}, nil)
		network, target := "tcp", w.addr
		if strings.HasPrefix(where, "unix") {
			network, target = "unix", "unix:"+w.addr
		}
		httpClient := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, w.addr)
			},
		}}
		post(t, httpClient, "http://member/", "HTTP/1.1 tls=false body=hello")
		check(t, dial(t, target, insecure.NewCredentials()))
		post(t, httpClient, "http://member/", "HTTP/1.1 tls=false body=hello")
		httpClient.CloseIdleConnections()
	}
}

// abandon leaves a socket file as a killed process does.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A file that is no socket is never removed.
func TestForeignFileStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(url.URL{Scheme: "unix", Path: file}, Options{}); err == nil {
		t.Error("listened on a file")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// Over TLS the agreed protocol decides; clients that agree on none are sniffed.
// The gRPC server learns the client's certificate, the HTTP server the state.
func TestBothProtocolsOverTLS(t *testing.T) {
	cert, pool := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: ALPN(), ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	w := open(t, "https://127.0.0.1:0", Options{TLS: config}, nil)
	trust := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}

	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}}
	post(t, browser, "https://"+w.addr, "HTTP/1.1 tls=true body=hello")
	browser.CloseIdleConnections()

	simple := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone()}} // no ALPN
	post(t, simple, "https://"+w.addr, "HTTP/1.1 tls=true body=hello")
	simple.CloseIdleConnections()

	check(t, dial(t, w.addr, credentials.NewTLS(trust.Clone())))
	if len(w.peers) != 1 {
		t.Fatal("no call arrived")
	}
	info, ok := (<-w.peers).AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) != 1 || info.State.PeerCertificates[0].Subject.CommonName != "member" {
		t.Errorf("the caller's certificate is lost: %+v", info)
	}
}

// A handshake that fails is told once, with the reason.
func TestFailedHandshakeIsTold(t *testing.T) {
	cert, _ := certificate(t)
	told := make(chan error, 1)
	w := open(t, "https://127.0.0.1:0", Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}, func(c *Config) {
		c.OnReject = func(_ net.Addr, name string, err error) { told <- fmt.Errorf("%s: %w", name, err) }
	})
	if _, err := tls.Dial("tcp", w.addr, &tls.Config{ServerName: "member"}); err == nil {
		t.Error("trusted an unknown certificate")
	}
	if err := <-told; !strings.HasPrefix(err.Error(), "member: remote error: tls:") {
		t.Errorf("told %v", err)
	}
}

func TestTLSWithoutCertificate(t *testing.T) {
	_, err := Open(url.URL{Scheme: "https", Host: "127.0.0.1:2380"}, Options{})
	if err == nil || err.Error() != "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented" {
		t.Error(err)
	}
}

// A connection that never says what it is is closed; others do not notice.
func TestSilentConnectionIsClosed(t *testing.T) {
	told := make(chan error, 1)
	w := open(t, "http://127.0.0.1:0", Options{}, func(c *Config) {
		c.sniffTimeout = 20 * time.Millisecond
		c.OnReject = func(_ net.Addr, _ string, err error) { told <- err }
	})
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, preface[:10]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	if err := <-told; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("told %v", err)
	}
}

// Without an HTTP server, plain HTTP is cut off; without a gRPC server, HTTP/2
// is HTTP too.
func TestOneServerOnly(t *testing.T) {
	w := open(t, "http://127.0.0.1:0", Options{}, func(c *Config) { c.HTTP = nil })
	if resp, err := http.Get("http://" + w.addr); err == nil {
		resp.Body.Close()
		t.Error("HTTP answered on a gRPC-only port")
	}
	check(t, dial(t, w.addr, insecure.NewCredentials()))

	w = open(t, "http://127.0.0.1:0", Options{}, func(c *Config) { c.GRPC = nil })
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: h2}}
	post(t, client, "http://"+w.addr, "HTTP/2.0 tls=false body=hello")
	client.CloseIdleConnections()
}

// No more connections are served than the limit says; the next one waits for
// one to end.
func TestConnectionLimit(t *testing.T) {
	w := open(t, "http://127.0.0.1:0", Options{ConnsMax: 1}, nil)
	ask := func() net.Conn {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := ask()
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatalf("first: %q %v", line, err)
	}
	second := ask()
	defer second.Close()
	_ = second.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("second was served beside the first: %v", err)
	}
	first.Close()
	_ = second.SetReadDeadline(time.Now().Add(5 * time.Second))
	if line, err := bufio.NewReader(second).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatalf("second: %q %v", line, err)
	}
}

// A stream that does not end is cut at the bound; Serve reports an orderly end,
// and a server that is down refuses listeners.
func TestShutdownIsBounded(t *testing.T) {
	w := open(t, "http://127.0.0.1:0", Options{}, nil)
	stream, err := dial(t, w.addr, insecure.NewCredentials()).Watch(context.Background(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", w.addr) // undecided
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for w.undecidedCount() == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	begun := time.Now()
	w.Shutdown(ctx)
	if took := time.Since(begun); took > sniffTimeout/2 {
		t.Errorf("shutdown waited %v, for the undecided connection surely", took)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream lives on")
	}
	if err := <-w.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the undecided connection lives on")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after the end: %v", err)
	}
}

func (s *Server) undecidedCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.undecided)
}

// Whatever a client sends first, however it is cut into packets, the server
// behind reads exactly that, and only the preface counts as HTTP/2.
func FuzzSniff(f *testing.F) {
	f.Add([]byte(preface+"more"), uint8(3))
	f.Add([]byte("PUT /v3/kv/put HTTP/1.1\r\n"), uint8(1))
	f.Add([]byte("PRI * HTTP/1.1\r\n\r\n"), uint8(24))
	f.Add([]byte{0x16, 3, 1}, uint8(2))
	f.Fuzz(func(t *testing.T, sent []byte, piece uint8) {
		c := &pieces{left: sent, size: int(piece)%30 + 1}
		isH2, conn, err := isHTTP2(c)
		if errors.Is(err, errNotHTTP) {
			if len(sent) == 0 || sent[0] >= 'A' && sent[0] <= 'Z' {
				t.Fatalf("%q: %v", sent, err)
			}
			return
		}
		if err != nil {
			if !strings.HasPrefix(preface, string(sent)) || len(sent) == len(preface) {
				t.Fatalf("%q: %v", sent, err)
			}
			return
		}
		if isH2 != bytes.HasPrefix(sent, []byte(preface)) {
			t.Fatalf("%q: HTTP/2 is %v", sent, isH2)
		}
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("read %q of %q: %v", got, sent, err)
		}
	})
}

// pieces is a connection that delivers its bytes size at a time.
type pieces struct {
	net.Conn
	left []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[:min(p.size, len(p.left))])
	p.left = p.left[n:]
	return n, nil
}

// certificate makes one for "member" and 127.0.0.1, good for both sides, and a
// pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "member"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		DNSNames: []string{"member"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
