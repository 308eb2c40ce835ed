package h2grpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Server serves gRPC on connections that Serve is given. Its methods are those
// of grpc.Server that the product uses, with the same meaning.
type Server struct {
	opt      Options
	methods  map[string]*method // by path; not changed once Serve was called
	services map[string]grpc.ServiceInfo
	workers  workers

	// Bytes of all connections, against Limits.
	held, loaned, queued atomic.Int64

	mu        sync.Mutex
	listeners map[net.Listener]bool // guarded by mu
	conns     map[*conn]bool        // guarded by mu
	stopping  bool                  // guarded by mu
	keeping   bool                  // guarded by mu; the housekeeper runs
	quit      chan struct{}         // closed when stopping begins
	gone      chan struct{}         // a connection has ended; room for one word
	running   sync.WaitGroup        // connections and the housekeeper
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// method is how to call one method of a service.
type method struct {
	path   string
	impl   any
	unary  grpc.MethodHandler // nil for streaming methods
	stream *grpc.StreamDesc   // nil for unary methods
	quick  func(request []byte) bool
}

// NewServer returns a server without services.
func NewServer(opt Options) *Server {
	return &Server{
		opt:       opt.withDefaults(),
		methods:   map[string]*method{},
		services:  map[string]grpc.ServiceInfo{},
		listeners: map[net.Listener]bool{},
		conns:     map[*conn]bool{},
		quit:      make(chan struct{}),
		gone:      make(chan struct{}, 1),
	}
}

// RegisterService adds a service; generated code calls it. It panics, as
// grpc-go ends the program, when impl does not implement the service.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if impl != nil {
		want := reflect.TypeOf(desc.HandlerType).Elem()
		if got := reflect.TypeOf(impl); !got.Implements(want) {
			panic(fmt.Sprintf("h2grpc: %v does not implement %v", got, want))
		}
	}
	info := grpc.ServiceInfo{Metadata: desc.Metadata}
	add := func(m *method, name string, client, server bool) {
		m.impl, m.path = impl, "/"+desc.ServiceName+"/"+name
		m.quick = s.opt.Quick[m.path]
		s.methods[m.path] = m
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: name, IsClientStream: client, IsServerStream: server})
	}
	for i := range desc.Methods {
		add(&method{unary: desc.Methods[i].Handler}, desc.Methods[i].MethodName, false, false)
	}
	for i := range desc.Streams {
		d := &desc.Streams[i]
		add(&method{stream: d}, d.StreamName, d.ClientStreams, d.ServerStreams)
	}
	s.services[desc.ServiceName] = info
}

// GetServiceInfo lists the registered services.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo { return s.services }

// unknown says what is wrong with a path that is no method.
func (s *Server) unknown(path string) *status.Status {
	name := strings.TrimPrefix(path, "/")
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return status.Newf(codes.Unimplemented, "malformed method name: %q", path)
	}
	service, method := name[:i], name[i+1:]
	if _, ok := s.services[service]; !ok {
		return status.Newf(codes.Unimplemented, "unknown service %v", service)
	}
	return status.Newf(codes.Unimplemented, "unknown method %v for service %v", method, service)
}

// Serve serves every connection that l accepts, until Stop or GracefulStop,
// when it returns nil, or until l fails. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = l.Close()
		return grpc.ErrServerStopped
	}
	s.listeners[l] = true
	if !s.keeping {
		s.keeping = true
		s.running.Go(s.keepHouse)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		_ = l.Close()
	}()
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			s.take(nc)
		case s.isStopping():
			return nil
		case isPassing(err):
			time.Sleep(acceptPause) // out of files, for example: let connections end
		default:
			return err
		}
	}
}

const acceptPause = 50 * time.Millisecond

func isPassing(err error) bool {
	var t interface{ Temporary() bool }
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &t) && t.Temporary()
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// take serves one connection on goroutines of its own.
func (s *Server) take(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = true
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		defer func() {
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			wake(s.gone)
		}()
		if err := s.shakeHands(c); err != nil {
			_ = nc.Close()
			return
		}
		c.serve()
	}()
}

// shakeHands finds out who is at the other end.
func (s *Server) shakeHands(c *conn) error {
	creds := s.opt.Creds
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	if err := c.nc.SetDeadline(time.Now().Add(s.opt.Limits.HandshakeTimeout)); err != nil {
		return err
	}
	nc, info, err := creds.ServerHandshake(c.nc)
	if err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.setTransport(nc)
	c.peer = &peer.Peer{Addr: nc.RemoteAddr(), LocalAddr: nc.LocalAddr(), AuthInfo: info}
	return nil
}

// stopAccepting closes the listeners; later calls find nothing to do.
func (s *Server) stopAccepting() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.stopping = true
		close(s.quit)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// GracefulStop tells clients to go elsewhere and returns when all calls have
// ended, by themselves or by Stop.
func (s *Server) GracefulStop() {
	for _, c := range s.stopAccepting() {
		c.drain()
	}
	s.running.Wait()
	s.workers.stop()
}

// Stop cuts all connections off and returns when nothing of the server runs
// any more but handlers that do not look at their context.
func (s *Server) Stop() {
	for _, c := range s.stopAccepting() {
		c.abort()
	}
	s.running.Wait()
	s.workers.stop()
}

// keepHouse looks after time limits of all connections with one timer.
func (s *Server) keepHouse() {
	t := time.NewTicker(s.houseTick())
	defer t.Stop()
	quit := s.quit
	for {
		select {
		case now := <-t.C:
			s.workers.trim()
			for _, c := range s.allConns() {
				c.inspect(now)
			}
		case <-quit:
			quit = nil // from now on until the last connection has ended
		case <-s.gone:
		}
		if quit == nil && len(s.allConns()) == 0 {
			return
		}
	}
}

// houseTick is fine enough for the shortest limit.
func (s *Server) houseTick() time.Duration {
	l, k := s.opt.Limits, s.opt.Keepalive
	least := min(l.HandshakeTimeout, l.MessageTimeout, l.WriteTimeout, k.Time, k.Timeout, k.MaxConnectionIdle, k.MaxConnectionAge, k.MaxConnectionAgeGrace)
	return min(max(least/4, 5*time.Millisecond), time.Second)
}

func (s *Server) allConns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		out = append(out, c)
	}
	return out
}

// callUnary calls a unary method through the interceptors.
func (s *Server) callUnary(st *stream, dec func(any) error) (any, error) {
	var interceptor grpc.UnaryServerInterceptor
	switch len(s.opt.Unary) {
	case 0:
	case 1:
		interceptor = s.opt.Unary[0]
	default:
		interceptor = s.chainUnary
	}
	m := st.head.target
	return m.unary(m.impl, st, dec, interceptor)
}

func (s *Server) chainUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	next := handler
	for i := len(s.opt.Unary) - 1; i >= 0; i-- {
		inner, icpt := next, s.opt.Unary[i]
		next = func(ctx context.Context, req any) (any, error) { return icpt(ctx, req, info, inner) }
	}
	return next(ctx, req)
}

// callStream calls a streaming method through the interceptors.
func (s *Server) callStream(m *method, ss grpc.ServerStream) error {
	info := &grpc.StreamServerInfo{FullMethod: m.path, IsClientStream: m.stream.ClientStreams, IsServerStream: m.stream.ServerStreams}
	next := m.stream.Handler
	for i := len(s.opt.Stream) - 1; i >= 0; i-- {
		inner, icpt := next, s.opt.Stream[i]
		next = func(srv any, ss grpc.ServerStream) error { return icpt(srv, ss, info, inner) }
	}
	return next(m.impl, ss)
}
