package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// sniffTimeout is how long a new connection may take for its handshake and
	// first bytes.
	sniffTimeout = 10 * time.Second
	// headerTimeout and idleTimeout bound HTTP/1 connections that say nothing.
	headerTimeout = 30 * time.Second
	idleTimeout   = 3 * time.Minute

	acceptPauseMin, acceptPauseMax = 5 * time.Millisecond, time.Second
)

// GRPC is the part of a gRPC server that Server needs; *grpc.Server has it.
type GRPC interface {
	Serve(net.Listener) error
	GracefulStop()
	Stop()
}

// Config is what a Server serves. At least one of GRPC and HTTP is set; what
// is meant for the missing one is cut off.
type Config struct {
	GRPC GRPC
	HTTP http.Handler
	// OnReject hears of connections that ended before they were either's, for
	// example in the TLS handshake. It may be nil.
	OnReject func(remote net.Addr, serverName string, err error)
	// Problems takes the lines of net/http's own error log. It may be nil.
	Problems io.Writer

	// sniffTimeout is changed by tests only.
	sniffTimeout time.Duration
}

// Server divides connections. It owns the goroutines of its listeners and of
// connections not yet divided, and both servers' ends.
type Server struct {
	cfg  Config
	http *http.Server
	grpc GRPC

	grpcConns, httpConns *queue
	backends             sync.WaitGroup // the two servers' accept loops
	work                 sync.WaitGroup // listeners and undecided connections

	ctx    context.Context // ends when shutdown begins
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners map[net.Listener]bool // guarded by mu; nil once closed
	undecided map[net.Conn]bool     // guarded by mu; closed at shutdown
}

// New starts both servers on queues of connections that Serve fills.
func New(cfg Config) *Server {
	if cfg.sniffTimeout == 0 {
		cfg.sniffTimeout = sniffTimeout
	}
	s := &Server{cfg: cfg, grpc: cfg.GRPC, listeners: map[net.Listener]bool{}, undecided: map[net.Conn]bool{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.GRPC != nil {
		s.grpcConns = newQueue()
		s.backends.Go(func() { _ = cfg.GRPC.Serve(s.grpcConns) }) // ends with the queue
	}
	if cfg.HTTP != nil {
		s.httpConns = newQueue()
		s.http = newHTTP(cfg)
		s.backends.Go(func() { _ = s.http.Serve(s.httpConns) }) // ends with the queue
	}
	return s
}

// newHTTP makes the HTTP server. It has no limit on a whole request or answer:
// watches through the JSON gateway are answers that do not end.
func newHTTP(cfg Config) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	if cfg.GRPC == nil { // nobody else would take HTTP/2
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
	}
	problems := cfg.Problems
	if problems == nil {
		problems = io.Discard
	}
	return &http.Server{
		Handler:           tlsRequests(cfg.HTTP),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       withTLS,
		ErrorLog:          log.New(problems, "", 0),
	}
}

// Serve accepts from l until Shutdown, when it returns nil, or until l fails.
// It may be called for several listeners at a time. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if !s.track(l) {
		_ = l.Close()
		return net.ErrClosed
	}
	defer s.work.Done()
	defer func() { _ = l.Close() }()
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.take(c)
		case s.ctx.Err() != nil:
			return nil
		case !isPassing(err):
			return err
		default: // out of files, for example: let connections end
			pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
			s.rest(pause)
		}
	}
}

// track registers a listener with the shutdown, unless that has begun.
func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners == nil {
		return false
	}
	s.listeners[l] = true
	s.work.Add(1)
	return true
}

// isPassing says that accepting may work again later.
func isPassing(err error) bool {
	var timeout interface{ Temporary() bool }
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &timeout) && timeout.Temporary()
}

func (s *Server) rest(pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// take decides about one connection on a goroutine of its own, so that a slow
// client holds up nobody.
func (s *Server) take(c net.Conn) {
	s.mu.Lock()
	if s.listeners == nil {
		s.mu.Unlock()
		_ = c.Close()
		return
	}
	s.undecided[c] = true
	s.work.Add(1)
	s.mu.Unlock()

	go func() {
		defer s.work.Done()
		s.divide(c)
	}()
}

// divide hands a connection to the server it is for, or closes it.
func (s *Server) divide(c net.Conn) {
	to, conn, err := s.decide(c)
	s.mu.Lock()
	delete(s.undecided, c)
	s.mu.Unlock()
	if err != nil {
		s.reject(c, err)
		return
	}
	if to == nil || !to.put(conn) {
		_ = c.Close()
	}
}

// decide finds the server by the protocol that TLS agreed on, else by the first
// bytes. Only one server needs no decision.
func (s *Server) decide(c net.Conn) (*queue, net.Conn, error) {
	if err := c.SetDeadline(time.Now().Add(s.cfg.sniffTimeout)); err != nil {
		return nil, nil, err
	}
	agreed := ""
	if t, ok := c.(*tls.Conn); ok {
		if err := t.HandshakeContext(s.ctx); err != nil {
			return nil, nil, err
		}
		agreed = t.ConnectionState().NegotiatedProtocol
	}
	to, conn, err := s.byProtocol(c, agreed)
	if err != nil {
		return nil, nil, err
	}
	return to, conn, c.SetDeadline(time.Time{})
}

func (s *Server) byProtocol(c net.Conn, agreed string) (*queue, net.Conn, error) {
	switch {
	case s.grpcConns == nil, agreed == "http/1.1":
		return s.httpConns, c, nil
	case agreed == "h2":
		return s.grpcConns, c, nil
	}
	isH2, conn, err := isHTTP2(c)
	if isH2 {
		return s.grpcConns, conn, err
	}
	return s.httpConns, conn, err
}

// reject closes a connection that is nobody's. One that was opened and closed
// without a byte is a probe and not worth a word.
func (s *Server) reject(c net.Conn, err error) {
	if errors.Is(err, errNotHTTP) {
		drain(c)
	}
	_ = c.Close()
	if s.cfg.OnReject == nil || s.ctx.Err() != nil || errors.Is(err, io.EOF) {
		return
	}
	name := ""
	if state := tlsState(c); state != nil {
		name = state.ServerName
	}
	s.cfg.OnReject(c.RemoteAddr(), name, err)
}

// drain takes in what a client has sent already. A connection closed over
// unread bytes is reset, and a reset can overtake the reason.
func drain(c net.Conn) {
	const enough, moment = 16 << 10, 20 * time.Millisecond
	if c.SetReadDeadline(time.Now().Add(moment)) == nil {
		_, _ = io.CopyN(io.Discard, c, enough)
	}
}

// Shutdown stops accepting, lets requests that run finish until ctx ends, then
// cuts off the rest. When it returns, nothing of the Server runs any more.
func (s *Server) Shutdown(ctx context.Context) {
	s.stopAccepting()
	var ending sync.WaitGroup
	if s.grpc != nil {
		ending.Go(func() { stopGRPC(ctx, s.grpc) })
	}
	if s.http != nil {
		ending.Go(func() {
			if s.http.Shutdown(ctx) != nil {
				_ = s.http.Close()
			}
		})
	}
	ending.Wait()
	s.backends.Wait()
	s.work.Wait()
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	for l := range s.listeners {
		_ = l.Close()
	}
	s.listeners = nil
	for c := range s.undecided {
		_ = c.Close()
	}
	for _, q := range []*queue{s.grpcConns, s.httpConns} {
		if q != nil {
			_ = q.Close()
		}
	}
}

// stopGRPC waits for open streams until ctx ends. GracefulStop returns as well
// once Stop was called, so waiting for it is bounded.
func stopGRPC(ctx context.Context, g GRPC) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		g.Stop()
		<-done
	}
}

// queue is a net.Listener whose connections were accepted elsewhere. It holds
// none itself: put waits until the server takes the connection.
type queue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), closed: make(chan struct{})} }

// put reports whether the server took the connection.
func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.closed:
		return false
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

func (q *queue) Addr() net.Addr { return queueAddr{} }

type queueAddr struct{}

func (queueAddr) Network() string { return "tcp" }
func (queueAddr) String() string  { return "divided" }
