package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/term"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/wire/h2client"
)

var (
	methodPut          = h2client.NewMethod(pb.KV_Put_FullMethodName)
	methodRange        = h2client.NewMethod(pb.KV_Range_FullMethodName)
	methodRangeStream  = h2client.NewMethod(pb.KV_RangeStream_FullMethodName)
	methodTxn          = h2client.NewMethod(pb.KV_Txn_FullMethodName)
	methodCompact      = h2client.NewMethod(pb.KV_Compact_FullMethodName)
	methodWatch        = h2client.NewMethod(pb.Watch_Watch_FullMethodName)
	methodLeaseGrant   = h2client.NewMethod(pb.Lease_LeaseGrant_FullMethodName)
	methodLeaseRevoke  = h2client.NewMethod(pb.Lease_LeaseRevoke_FullMethodName)
	methodKeepAlive    = h2client.NewMethod(pb.Lease_LeaseKeepAlive_FullMethodName)
	methodAuthenticate = h2client.NewMethod(pb.Auth_Authenticate_FullMethodName)
	methodStatus       = h2client.NewMethod(pb.Maintenance_Status_FullMethodName)
	methodHashKV       = h2client.NewMethod(pb.Maintenance_HashKV_FullMethodName)
	methodMemberList   = h2client.NewMethod(pb.Cluster_MemberList_FullMethodName)
	methodLock         = h2client.NewMethod("/v3lockpb.Lock/Lock")
)

// call is one request with one answer.
func call(ctx context.Context, c *h2client.Conn, m *h2client.Method, req, resp proto.Message) error {
	body, err := proto.Marshal(req)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Path(), err)
	}
	answer, err := c.Call(ctx, m, body)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(answer, resp); err != nil {
		return fmt.Errorf("%s: %w", m.Path(), err)
	}
	return nil
}

// target is an endpoint taken apart.
type target struct {
	network, addr string
	tls           bool
}

// parseEndpoint understands host:port, http(s)://host:port, unix(s)://path.
func parseEndpoint(ep string, secure bool) (target, error) {
	scheme, rest, found := strings.Cut(ep, "://")
	if !found {
		return target{"tcp", strings.TrimSuffix(ep, "/"), secure}, nil
	}
	switch scheme {
	case "http":
		return target{"tcp", strings.TrimSuffix(rest, "/"), false}, nil
	case "https":
		return target{"tcp", strings.TrimSuffix(rest, "/"), true}, nil
	case "unix":
		return target{"unix", rest, false}, nil
	case "unixs":
		return target{"unix", rest, true}, nil
	}
	return target{}, fmt.Errorf("endpoint %q: unknown scheme %q", ep, scheme)
}

// connect opens --conns connections, spread over the endpoints.
func (a *app) connect(ctx context.Context) ([]*h2client.Conn, error) {
	g := &a.flags
	if g.conns == 0 || g.clients == 0 {
		return nil, errors.New("--conns and --clients must be at least 1")
	}
	endpoints := g.endpoints
	if g.targetLeader {
		leader, err := a.leader(ctx)
		if err != nil {
			return nil, fmt.Errorf("--target-leader: %w", err)
		}
		endpoints = leader
	}
	token, err := a.login(ctx, endpoints)
	if err != nil {
		return nil, err
	}
	var conns []*h2client.Conn
	for i := range min(g.conns, g.clients) {
		c, err := a.dial(ctx, endpoints[int(i)%len(endpoints)], token)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// dial opens one connection, which the run closes.
func (a *app) dial(ctx context.Context, endpoint, token string) (*h2client.Conn, error) {
	secure, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	t, err := parseEndpoint(endpoint, secure != nil)
	if err != nil {
		return nil, err
	}
	opt := h2client.Options{Token: token}
	if t.tls {
		if opt.TLS = secure; secure == nil {
			opt.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	timeout := a.flags.dialTimeout
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := h2client.Dial(ctx, t.network, t.addr, opt)
	if err != nil {
		return nil, err
	}
	a.conns = append(a.conns, c)
	return c, nil
}

// tlsConfig is nil when no flag asks for TLS.
func (a *app) tlsConfig() (*tls.Config, error) {
	g := &a.flags
	if g.cert == "" && g.key == "" && g.ca == "" && !g.skipVerify {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: g.skipVerify}
	if g.cert != "" || g.key != "" {
		pair, err := tls.LoadX509KeyPair(g.cert, g.key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if g.ca != "" {
		pem, err := os.ReadFile(g.ca)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: no PEM certificate in %s", g.ca)
		}
	}
	return cfg, nil
}

// login buys a token if --user asks for it.
func (a *app) login(ctx context.Context, endpoints []string) (token string, err error) {
	if a.flags.user == "" {
		return "", nil
	}
	name, password, given := strings.Cut(a.flags.user, ":")
	if !given {
		fmt.Fprint(a.stderr, "Password: ")
		typed, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return "", fmt.Errorf("reading the password of --user: %w", err)
		}
		password = string(typed)
	}
	c, err := a.dial(ctx, endpoints[0], "")
	if err != nil {
		return "", err
	}
	var resp pb.AuthenticateResponse
	if err := call(ctx, c, methodAuthenticate, &pb.AuthenticateRequest{Name: name, Password: password}, &resp); err != nil {
		return "", err
	}
	return resp.Token, nil
}

// leader returns the client URLs of the leader.
func (a *app) leader(ctx context.Context) ([]string, error) {
	token, err := a.login(ctx, a.flags.endpoints)
	if err != nil {
		return nil, err
	}
	c, err := a.dial(ctx, a.flags.endpoints[0], token)
	if err != nil {
		return nil, err
	}
	var status pb.StatusResponse
	if err := call(ctx, c, methodStatus, &pb.StatusRequest{}, &status); err != nil {
		return nil, err
	}
	var members pb.MemberListResponse
	if err := call(ctx, c, methodMemberList, &pb.MemberListRequest{}, &members); err != nil {
		return nil, err
	}
	for _, m := range members.Members {
		if m.ID == status.Leader && len(m.ClientURLs) > 0 {
			return m.ClientURLs, nil
		}
	}
	return nil, errors.New("the member list does not have the leader")
}
