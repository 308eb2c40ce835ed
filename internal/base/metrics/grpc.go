package metrics

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// clientVersionKey is the metadata in which clients name their version.
const clientVersionKey = "client-api-version"

// clientVersionsMax bounds the versions that get a series of their own: the
// name comes from the client, and series are never given back.
const clientVersionsMax = 64

// GRPC measures requests. Its interceptors, for whichever gRPC server runs the
// services, feed grpc_server_* and etcd_server_client_requests_total; its codec
// feeds the byte counters. Handles of each method are resolved once, so that a
// request costs a map look-up and a few atomic additions.
type GRPC struct {
	started, handled, received, sent *prometheus.CounterVec
	seconds                          *prometheus.HistogramVec // nil unless extensive
	inBytes, outBytes                prometheus.Counter

	methods  map[string]*method // by full name; never changed after init
	others   sync.Map           // methods of services outside the table, same keys and values
	requests *clientRequests
}

// method holds the handles of one method.
type method struct {
	started, received, sent prometheus.Counter
	handled                 [codesCount]prometheus.Counter
	seconds                 prometheus.Observer // nil unless extensive
}

const codesCount = int(codes.Unauthenticated) + 1

// Kinds of methods, as label values.
const (
	kindUnary        = "unary"
	kindClientStream = "client_stream"
	kindServerStream = "server_stream"
	kindBidiStream   = "bidi_stream"
)

// services are those whose series exist from the start.
var services = []grpc.ServiceDesc{
	pb.Auth_ServiceDesc, pb.Cluster_ServiceDesc, pb.KV_ServiceDesc, pb.Lease_ServiceDesc,
	pb.Maintenance_ServiceDesc, pb.Watch_ServiceDesc, healthpb.Health_ServiceDesc,
}

func (g *GRPC) init(m *Metrics, extensive bool) {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	g.started = m.counters("grpc_server_started_total", "Calls begun.", labels...)
	g.handled = m.counters("grpc_server_handled_total", "Calls ended, by result.", append(labels, "grpc_code")...)
	g.received = m.counters("grpc_server_msg_received_total", "Messages received.", labels...)
	g.sent = m.counters("grpc_server_msg_sent_total", "Messages sent.", labels...)
	if extensive {
		g.seconds = m.histograms("grpc_server_handling_seconds", "Time from the beginning of a call to its end.", prometheus.DefBuckets, labels...)
	}
	g.inBytes, g.outBytes = m.Network.ClientGRPCReceivedBytes, m.Network.ClientGRPCSentBytes
	g.requests = &clientRequests{vec: m.Server.ClientRequests}
	g.methods = map[string]*method{}
	for _, s := range services {
		for _, u := range s.Methods {
			g.methods["/"+s.ServiceName+"/"+u.MethodName] = g.resolve(kindUnary, s.ServiceName, u.MethodName)
		}
		for _, d := range s.Streams {
			kind := kindOf(d.ClientStreams, d.ServerStreams)
			g.methods["/"+s.ServiceName+"/"+d.StreamName] = g.resolve(kind, s.ServiceName, d.StreamName)
		}
	}
}

func kindOf(client, server bool) string {
	switch {
	case client && server:
		return kindBidiStream
	case client:
		return kindClientStream
	case server:
		return kindServerStream
	}
	return kindUnary
}

func (g *GRPC) resolve(kind, service, name string) *method {
	m := &method{
		started:  g.started.WithLabelValues(kind, service, name),
		received: g.received.WithLabelValues(kind, service, name),
		sent:     g.sent.WithLabelValues(kind, service, name),
	}
	for c := range m.handled {
		m.handled[c] = g.handled.WithLabelValues(kind, service, name, codes.Code(c).String())
	}
	if g.seconds != nil {
		m.seconds = g.seconds.WithLabelValues(kind, service, name)
	}
	return m
}

// method finds the handles of a registered method. Only registered methods
// reach interceptors, which bounds others.
func (g *GRPC) method(kind, full string) *method {
	if m, ok := g.methods[full]; ok {
		return m
	}
	if m, ok := g.others.Load(full); ok {
		return m.(*method)
	}
	service, name, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	m, _ := g.others.LoadOrStore(full, g.resolve(kind, service, name))
	return m.(*method)
}

// Unary measures calls with one request and one response.
func (g *GRPC) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	m := g.method(kindUnary, info.FullMethod)
	g.requests.count(ctx, "unary")
	call := m.begin()
	m.received.Inc()
	resp, err := next(ctx, req)
	call.end(err)
	if err == nil {
		m.sent.Inc()
	}
	return resp, err
}

// Stream measures calls with streams.
func (g *GRPC) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	m := g.method(kindOf(info.IsClientStream, info.IsServerStream), info.FullMethod)
	g.requests.count(ss.Context(), "stream")
	call := m.begin()
	err := next(srv, &measuredStream{ServerStream: ss, m: m})
	call.end(err)
	return err
}

type call struct {
	m     *method
	begun time.Time // zero unless the time is measured
}

func (m *method) begin() call {
	m.started.Inc()
	c := call{m: m}
	if m.seconds != nil {
		c.begun = time.Now()
	}
	return c
}

func (c call) end(err error) {
	code := int(status.Code(err))
	if code < 0 || code >= codesCount { // a code nobody defined
		code = int(codes.Unknown)
	}
	c.m.handled[code].Inc()
	if c.m.seconds != nil {
		c.m.seconds.Observe(time.Since(c.begun).Seconds())
	}
}

type measuredStream struct {
	grpc.ServerStream
	m *method
}

func (s *measuredStream) SendMsg(msg any) error {
	err := s.ServerStream.SendMsg(msg)
	if err == nil {
		s.m.sent.Inc()
	}
	return err
}

func (s *measuredStream) RecvMsg(msg any) error {
	err := s.ServerStream.RecvMsg(msg)
	if err == nil {
		s.m.received.Inc()
	}
	return err
}

// clientRequests counts requests by what the client says its version is.
type clientRequests struct {
	vec *prometheus.CounterVec

	mu   sync.RWMutex
	seen map[[2]string]prometheus.Counter // by type and version; guarded by mu
}

func (r *clientRequests) count(ctx context.Context, kind string) {
	version := "unknown"
	if values := metadata.ValueFromIncomingContext(ctx, clientVersionKey); len(values) > 0 {
		version = values[0]
	}
	key := [2]string{kind, version}
	r.mu.RLock()
	c := r.seen[key]
	r.mu.RUnlock()
	if c == nil {
		c = r.admit(key)
	}
	c.Inc()
}

// admit makes a series for a new version, or takes "unknown" for it when there
// are too many already or the name is no text.
func (r *clientRequests) admit(key [2]string) prometheus.Counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[[2]string]prometheus.Counter{}
	}
	if len(r.seen) >= clientVersionsMax {
		key[1] = "unknown"
	}
	c, err := r.vec.GetMetricWithLabelValues(key[0], key[1])
	if err != nil {
		key[1] = "unknown"
		c = r.vec.WithLabelValues(key[0], key[1])
	}
	r.seen[key] = c
	return c
}

// Codec counts the bytes of messages around grpc-go's own codec; pass it as
// grpc.ForceServerCodecV2. It costs less per call than a stats.Handler.
func (g *GRPC) Codec() encoding.CodecV2 {
	return countingCodec{encoding.GetCodecV2(proto.Name), g}
}

type countingCodec struct {
	encoding.CodecV2
	g *GRPC
}

func (c countingCodec) Marshal(v any) (mem.BufferSlice, error) {
	out, err := c.CodecV2.Marshal(v)
	if err == nil {
		c.g.outBytes.Add(float64(out.Len()))
	}
	return out, err
}

func (c countingCodec) Unmarshal(data mem.BufferSlice, v any) error {
	c.g.inBytes.Add(float64(data.Len()))
	return c.CodecV2.Unmarshal(data, v)
}
