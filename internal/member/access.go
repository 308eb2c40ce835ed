package member

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/auth"
)

// AuthOptions are the settings of authentication.
type AuthOptions struct {
	Token      auth.TokenOptions
	Keys       auth.Keys // contents of the key files that Token names
	SimpleTTL  time.Duration
	BcryptCost int
}

// hashesAtOnce bounds how many passwords are hashed or compared at a time, so
// that a storm of logins cannot take all processors from the store.
const hashesAtOnce = 2

// tokenKey is where a context holds the token of its request.
type tokenKey struct{}

// WithToken notes the token that came with a request.
func WithToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}

// Caller is who makes a request: nobody when auth is off or no token came.
func (m *Member) Caller(ctx context.Context) (auth.Caller, error) {
	token, ok := ctx.Value(tokenKey{}).(string)
	if !ok || !m.machine.Auth.View().IsEnabled() {
		return auth.Caller{}, nil
	}
	if index, ok := m.machine.Auth.Tokens().Index(token); ok && index > 0 {
		// The token may have been given by another member: wait until the
		// entry that gave it is applied here too.
		wait, cancel := context.WithTimeout(ctx, m.opt.RequestTimeout())
		defer cancel()
		if index <= m.loop.raftStatus().Committed {
			if err := m.applied.wait(wait, m.stopping, index); err != nil {
				return auth.Caller{}, m.timeoutError(ctx, err)
			}
		}
	}
	return m.machine.Auth.Authenticate(token, m.now())
}

// Admit says whether the caller may use a method at all.
func (m *Member) Admit(ctx context.Context, method string) error {
	view := m.machine.Auth.View()
	if !view.IsEnabled() {
		return nil
	}
	caller, err := m.Caller(ctx)
	if err != nil {
		return err
	}
	return view.CheckMethod(caller, method)
}

// check asks for rights with the caller of ctx.
func (m *Member) check(ctx context.Context, ask func(v *auth.View, c auth.Caller) error) error {
	view := m.machine.Auth.View()
	if !view.IsEnabled() {
		return nil
	}
	caller, err := m.Caller(ctx)
	if err != nil {
		return err
	}
	return ask(view, caller)
}

// MayRange says whether the caller may read what a range request asks for.
func (m *Member) MayRange(ctx context.Context, r *pb.RangeRequest) error {
	return m.check(ctx, func(v *auth.View, c auth.Caller) error { return v.CheckRangeRequest(c, r) })
}

// MayTxn says whether the caller may do all that a transaction could do.
func (m *Member) MayTxn(ctx context.Context, r *pb.TxnRequest) error {
	return m.check(ctx, func(v *auth.View, c auth.Caller) error { return v.CheckTxnRequest(c, r) })
}

// MayWatch says whether the caller may watch a span.
func (m *Member) MayWatch(ctx context.Context, span keys.Span) error {
	return m.check(ctx, func(v *auth.View, c auth.Caller) error { return v.CheckWatch(c, span) })
}

// root is the caller that the member itself is.
func (m *Member) root() auth.Caller {
	if view := m.machine.Auth.View(); view.IsEnabled() {
		return view.Root()
	}
	return auth.Caller{}
}

// HashPassword returns what may be stored and replicated of a password.
func (m *Member) HashPassword(ctx context.Context, password string) (string, error) {
	if err := m.hashSlot(ctx); err != nil {
		return "", err
	}
	defer func() { <-m.hashing }()
	return auth.HashPassword(password, m.opt.Auth.BcryptCost)
}

func (m *Member) hashSlot(ctx context.Context) error {
	select {
	case m.hashing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return m.timeoutError(ctx, ctx.Err())
	case <-m.stopping:
		return ErrStopped
	}
}

// maxLoginTries bounds how often a login starts over because users or roles
// changed while it was under way.
const maxLoginTries = 8

// Authenticate checks a name and password and returns a token.
func (m *Member) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if err := m.LinearizableRead(ctx); err != nil {
		return nil, err
	}
	for range maxLoginTries {
		resp, err := m.login(ctx, r)
		if !errors.Is(err, errAuthMoved) {
			return resp, err
		}
	}
	return nil, auth.ErrOldRevision
}

// errAuthMoved says that the password was compared against a state of users
// that is no longer the current one.
var errAuthMoved = errors.New("users changed during login")

func (m *Member) login(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	revision, err := m.checkPassword(ctx, r)
	if err != nil {
		return nil, err
	}
	in := &pb.InternalAuthenticateRequest{Name: r.Name}
	if m.machine.Auth.Tokens().NeedsPrefix() {
		in.SimpleToken = tokenPrefix()
	}
	res, err := m.proposeAs(ctx, auth.Caller{}, &pb.InternalRaftRequest{Authenticate: in})
	if err != nil {
		return nil, err
	}
	if m.machine.Auth.View().Revision() != revision {
		return nil, errAuthMoved
	}
	return res.Resp.(*pb.AuthenticateResponse), nil
}

func (m *Member) checkPassword(ctx context.Context, r *pb.AuthenticateRequest) (revision uint64, err error) {
	if err := m.hashSlot(ctx); err != nil {
		return 0, err
	}
	defer func() { <-m.hashing }()
	revision, err = m.machine.Auth.View().CheckPassword(r.Name, r.Password)
	if err != nil {
		m.log.Warn("invalid authentication was requested", "user", r.Name, "error", err)
	}
	return revision, err
}

// tokenPrefix is the part of a simple token that cannot be guessed.
func tokenPrefix() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	b := make([]byte, auth.PrefixLength)
	rand.Read(b)
	for i := range b {
		b[i] = letters[int(b[i])*len(letters)>>8] // nearly even: 52 letters on 256 values
	}
	return string(b)
}

// AuthStatus says whether auth is on.
func (m *Member) AuthStatus(ctx context.Context) (*pb.AuthStatusResponse, error) {
	if err := m.LinearizableRead(ctx); err != nil {
		return nil, err
	}
	return m.machine.Auth.View().Status(), nil
}

// loadAuth reads users, roles and whether auth is on.
func (b *boot) loadAuth() error {
	if b.machine.Auth == nil {
		tokens, err := auth.NewTokens(b.opt.Auth.Token, b.opt.Auth.Keys, b.opt.Auth.SimpleTTL)
		if err != nil {
			return fmt.Errorf("auth token: %w", err)
		}
		b.machine.Auth = auth.New(tokens, auth.Options{LegacyHash: auth.LegacyHash(b.opt.Auth.BcryptCost)})
	} else {
		b.machine.Auth.Reload()
	}
	for _, name := range []bucket.Name{bucket.Auth, bucket.AuthUsers, bucket.AuthRoles} {
		err := b.backend.Load(name, func(k, v []byte) error { return b.machine.Auth.Load(name, k, v) })
		if err != nil {
			return err
		}
	}
	b.authOps = b.machine.Auth.Start()
	return nil
}
