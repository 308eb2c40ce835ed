package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// ErrNoEndpoints answers a configuration without a single address.
var ErrNoEndpoints = errors.New("etcdclient: no available endpoints")

// The bounds of one message when Config does not say otherwise.
const (
	sendBytesMax = 2 << 20 // room above the server's request limit, so that the server gets to explain itself
	recvBytesMax = math.MaxInt32
)

// Config says whom to connect to, and as whom.
type Config struct {
	Endpoints []string // tried in this order; see endpoint for the forms

	// TLS is used for https:// and unixs:// endpoints, and for endpoints
	// without a scheme when it is not nil. One connection has one kind of
	// transport: that of the first endpoint.
	TLS *tls.Config

	// Token is sent as it is. Without it, Username and Password (both must be
	// set) buy one from the cluster, again whenever it is refused.
	Token              string
	Username, Password string

	DialTimeout      time.Duration // bound of the login inside Dial; 0 is no bound but the context
	KeepAliveTime    time.Duration // 0: no pings
	KeepAliveTimeout time.Duration

	MaxSendBytes int // 0: 2 MiB
	MaxRecvBytes int // 0: no bound but gRPC's

	Logger *slog.Logger // failed attempts, as warnings; nil is silence
}

// Client is one connection to a cluster. It is safe for concurrent use.
type Client struct {
	pb.KVClient
	pb.WatchClient
	pb.LeaseClient
	pb.ClusterClient
	pb.MaintenanceClient
	pb.AuthClient

	cfg   Config // never changes
	conn  *grpc.ClientConn
	login *login // shared with the clients made by At
}

// Dial prepares a client and logs in if the configuration says as whom. The
// connection itself comes up with the first call: Dial does not fail because
// nobody answers unless it has to log in.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := dial(cfg, newLogin(cfg))
	if err != nil {
		return nil, err
	}
	if err := c.firstLogin(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// At returns a client of one endpoint only, with c's credentials. It must be
// closed on its own.
func (c *Client) At(ep string) (*Client, error) {
	cfg := c.cfg
	cfg.Endpoints = []string{ep}
	return dial(cfg, c.login)
}

// Close ends the connection; calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Conn is the connection itself, for services Client does not embed. Calls on
// it carry the token and are retried like all others.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Endpoints returns the addresses as the user gave them.
func (c *Client) Endpoints() []string { return c.cfg.Endpoints }

func dial(cfg Config, l *login) (*Client, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, ErrNoEndpoints
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, login: l}

	builder, target := newResolver(cfg.Endpoints)
	opts := append(transportOptions(cfg),
		grpc.WithResolvers(builder),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
	)
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, err
	}
	c.conn = conn
	c.KVClient = pb.NewKVClient(conn)
	c.WatchClient = pb.NewWatchClient(conn)
	c.LeaseClient = pb.NewLeaseClient(conn)
	c.ClusterClient = pb.NewClusterClient(conn)
	c.MaintenanceClient = pb.NewMaintenanceClient(conn)
	c.AuthClient = pb.NewAuthClient(conn)
	return c, nil
}

// newResolver gives gRPC the fixed list of addresses. The target names the
// list by a pointer and the first authority; logs show it in that form.
func newResolver(endpoints []string) (resolver.Builder, string) {
	b := manual.NewBuilderWithScheme("etcd-endpoints")
	var state resolver.State
	for _, text := range endpoints {
		ep := parseEndpoint(text)
		addr := resolver.Address{Addr: ep.addr, ServerName: ep.authority}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{addr}})
	}
	b.InitialState(state)
	return b, fmt.Sprintf("etcd-endpoints://%p/%s", b, parseEndpoint(endpoints[0]).authority)
}

func transportOptions(cfg Config) []grpc.DialOption {
	send, recv := cfg.MaxSendBytes, cfg.MaxRecvBytes
	if send <= 0 {
		send = sendBytesMax
	}
	if recv <= 0 {
		recv = recvBytesMax
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transportCredentials(cfg)),
		grpc.WithContextDialer(dialAddr),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDisableServiceConfig(),
		// A call waits for the first endpoint that comes up; its own context is its bound.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(send), grpc.MaxCallRecvMsgSize(recv)),
	}
	if cfg.KeepAliveTime > 0 {
		opts = append(opts, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: cfg.KeepAliveTime, Timeout: cfg.KeepAliveTimeout,
		}))
	}
	return opts
}

func transportCredentials(cfg Config) credentials.TransportCredentials {
	s := parseEndpoint(cfg.Endpoints[0]).security
	if s == securityNone || s == securityOptional && cfg.TLS == nil {
		return insecure.NewCredentials()
	}
	if cfg.TLS == nil {
		return credentials.NewTLS(&tls.Config{})
	}
	return credentials.NewTLS(cfg.TLS.Clone())
}

func dialAddr(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if socket, ok := strings.CutPrefix(addr, "unix:"); ok {
		return d.DialContext(ctx, "unix", socket)
	}
	return d.DialContext(ctx, "tcp", addr)
}

// RequireLeader marks a stream so that a member without a leader refuses or
// ends it, instead of leaving it silent on the minority side of a partition.
func RequireLeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
}

func withVersion(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataClientAPIVersionKey, version.APIVersion)
}
