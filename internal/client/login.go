package client

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// login is who we are to the cluster and the token that proves it.
type login struct {
	username, password string // both empty: nobody, or a fixed token

	mu    sync.Mutex
	token string // guarded by mu; "" sends none
}

func newLogin(cfg Config) *login {
	if cfg.Token != "" {
		return &login{token: cfg.Token}
	}
	if cfg.Username == "" || cfg.Password == "" {
		return &login{}
	}
	return &login{username: cfg.Username, password: cfg.Password}
}

func (l *login) current() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

func (l *login) set(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = token
}

// attach puts the token into the call's metadata, except for the login call.
func (l *login) attach(ctx context.Context, method string) context.Context {
	token := l.current()
	if token == "" || method == pb.Auth_Authenticate_FullMethodName {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// firstLogin buys the first token. A cluster without authentication is fine
// with anybody.
func (c *Client) firstLogin(ctx context.Context) error {
	if c.login.username == "" {
		return nil
	}
	if c.cfg.DialTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.DialTimeout)
		defer cancel()
	}
	err := c.authenticate(ctx)
	if errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return nil
	}
	return err
}

func (c *Client) authenticate(ctx context.Context) error {
	resp, err := c.Authenticate(ctx, &pb.AuthenticateRequest{Name: c.login.username, Password: c.login.password})
	if err != nil {
		return err
	}
	c.login.set(resp.Token)
	return nil
}

// wantsLogin tells whether a new token may cure err: the old one expired or
// rights changed since, or auth was switched on after we connected.
func (c *Client) wantsLogin(method string, err error) bool {
	if c.login.username == "" || method == pb.Auth_Authenticate_FullMethodName {
		return false
	}
	switch rpctypes.Error(err) {
	case rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty:
		return true
	}
	return false
}
