// Package gateway serves the gRPC services as JSON over HTTP.
//
//	POST /v3/kv/put  {"key":"Zm9v","value":"YmFy"}
//
// Requests and answers are the messages in protobuf's JSON form: field names as
// in the protocol (camelCase is read too), bytes in base64, 64-bit numbers as
// text. A stream is a body of one JSON value after the other, each answer in a
// line of its own as {"result":...}; the same goes over a websocket, an answer
// a message (websocket.go). /v3beta/ is another name of /v3/.
//
// The translation of etcd's own services is the generated code of its api
// module; the concurrency services are translated in handlers.go. Calls go
// through a connection that the caller of New provides, which inside the server
// is package inproc: an HTTP request becomes a gRPC call with neither socket nor
// HTTP/2 in between, but with the same interceptors, limits and metadata.
//
// Who calls: the headers Authorization (with or without "Bearer") and
// Grpc-Metadata-Token become the metadata that carries tokens.
package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
)

// Options of a gateway.
type Options struct {
	// RequestBytesMax is the largest request as gRPC counts it. Its JSON form
	// may be jsonGrowth times as large.
	RequestBytesMax int
}

// jsonGrowth: base64 makes 4 bytes of 3, and a list of small messages spends a
// few bytes on each for which JSON spends the field names. What passes here and
// is too large after all is refused by the connection.
const jsonGrowth = 8

// Gateway is the handler of /v3/ and /v3beta/.
type Gateway struct {
	mux    *runtime.ServeMux
	opt    Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

// New returns a gateway to the services behind conn.
func New(conn grpc.ClientConnInterface, opt Options) *Gateway {
	g := &Gateway{opt: opt}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.mux = runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &marshaler{
		HTTPBodyMarshaler: &runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
		}},
		bytesMax: opt.RequestBytesMax * jsonGrowth,
	}))
	for _, register := range []func() error{
		func() error { return gw.RegisterKVHandlerClient(g.ctx, g.mux, pb.NewKVClient(conn)) },
		func() error { return gw.RegisterWatchHandlerClient(g.ctx, g.mux, pb.NewWatchClient(conn)) },
		func() error { return gw.RegisterLeaseHandlerClient(g.ctx, g.mux, pb.NewLeaseClient(conn)) },
		func() error { return gw.RegisterClusterHandlerClient(g.ctx, g.mux, pb.NewClusterClient(conn)) },
		func() error { return gw.RegisterMaintenanceHandlerClient(g.ctx, g.mux, pb.NewMaintenanceClient(conn)) },
		func() error { return gw.RegisterAuthHandlerClient(g.ctx, g.mux, pb.NewAuthClient(conn)) },
		func() error { return registerLock(g.mux, conn) },
		func() error { return registerElection(g.mux, conn) },
	} {
		if err := register(); err != nil {
			panic("gateway: a path of the table is wrong: " + err.Error())
		}
	}
	return g
}

// Close ends all requests under way, streams above all: those would last as
// long as their callers wish.
func (g *Gateway) Close() { g.cancel() }

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	r = r.WithContext(ctx)
	if rest, ok := strings.CutPrefix(r.URL.Path, "/v3beta/"); ok {
		u := *r.URL
		u.Path = "/v3/" + rest
		r.URL = &u
	}
	if isWebsocket(r) {
		g.serveWebsocket(w, r, cancel)
		return
	}
	if clientStreams[r.URL.Path] {
		// Without it HTTP/1.1 reads the whole request before it answers; an
		// error says that the protocol has no such restriction.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	g.mux.ServeHTTP(w, r)
}

// marshaler bounds the size of each value that is read, also where a body has
// many of them.
type marshaler struct {
	*runtime.HTTPBodyMarshaler
	bytesMax int
}

// NewDecoder implements runtime.Marshaler.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	if m.bytesMax <= 0 {
		return m.HTTPBodyMarshaler.NewDecoder(r)
	}
	budget := &budget{r: r}
	inner := m.HTTPBodyMarshaler.NewDecoder(budget)
	return runtime.DecoderFunc(func(v any) error {
		budget.left = m.bytesMax
		return inner.Decode(v)
	})
}

// budget is a reader that fails when it has given too much.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
