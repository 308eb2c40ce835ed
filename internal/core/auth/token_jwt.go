package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// jwtTokens signs and verifies JSON web tokens. A token names a user and the
// auth revision it was given at, so no member has to remember it, and any
// change of users or rights ends it: its requests fail with ErrOldRevision.
type jwtTokens struct {
	method jwt.SigningMethod
	sign   any // nil: this member can only verify
	verify any
	ttl    time.Duration
}

// signMethod finds a method by name, nil if it is not known or no protection.
func signMethod(name string) jwt.SigningMethod {
	if name == jwt.SigningMethodNone.Alg() {
		return nil
	}
	return jwt.GetSigningMethod(name)
}

func newJWT(o TokenOptions, k Keys) (*jwtTokens, error) {
	t := &jwtTokens{method: signMethod(o.SignMethod), ttl: o.TTL}
	if t.method == nil {
		return nil, &OptionError{ErrInvalidSignMethod}
	}
	if err := t.takeKeys(k); err != nil {
		return nil, &OptionError{err}
	}
	return t, nil
}

func (t *jwtTokens) takeKeys(k Keys) error {
	switch t.method.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return takePair(t, k, jwt.ParseRSAPrivateKeyFromPEM, jwt.ParseRSAPublicKeyFromPEM,
			func(p *rsa.PrivateKey) crypto.PublicKey { return &p.PublicKey })
	case *jwt.SigningMethodECDSA:
		return takePair(t, k, jwt.ParseECPrivateKeyFromPEM, jwt.ParseECPublicKeyFromPEM,
			func(p *ecdsa.PrivateKey) crypto.PublicKey { return &p.PublicKey })
	case *jwt.SigningMethodEd25519:
		return takePair(t, k, edPrivate, edPublic,
			func(p ed25519.PrivateKey) crypto.PublicKey { return p.Public() })
	case *jwt.SigningMethodHMAC:
		if len(k.Private) == 0 {
			return ErrMissingKey
		}
		t.sign, t.verify = k.Private, k.Private
		return nil
	}
	return fmt.Errorf("unsupported signing method: %T", t.method)
}

// takePair reads a private and a public key; one of them is enough, the public
// one only to verify.
func takePair[Private, Public any](t *jwtTokens, k Keys,
	parsePrivate func([]byte) (Private, error), parsePublic func([]byte) (Public, error),
	publicOf func(Private) crypto.PublicKey,
) error {
	if len(k.Private) == 0 && len(k.Public) == 0 {
		return ErrMissingKey
	}
	if len(k.Public) > 0 {
		public, err := parsePublic(k.Public)
		if err != nil {
			return err
		}
		t.verify = public
	}
	if len(k.Private) == 0 {
		return nil
	}
	private, err := parsePrivate(k.Private)
	if err != nil {
		return err
	}
	public := publicOf(private)
	if t.verify != nil && !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(t.verify) {
		return ErrKeyMismatch
	}
	t.sign, t.verify = private, public
	return nil
}

// The parsers of golang-jwt return interfaces for Ed25519.

func edPrivate(pem []byte) (ed25519.PrivateKey, error) {
	k, err := jwt.ParseEdPrivateKeyFromPEM(pem)
	if err != nil {
		return nil, err
	}
	return k.(ed25519.PrivateKey), nil
}

func edPublic(pem []byte) (ed25519.PublicKey, error) {
	k, err := jwt.ParseEdPublicKeyFromPEM(pem)
	if err != nil {
		return nil, err
	}
	return k.(ed25519.PublicKey), nil
}

// claims of a token: username, revision, exp.
type claims struct {
	User     string `json:"username"`
	Revision uint64 `json:"revision"`
	jwt.RegisteredClaims
}

var errIncompleteClaims = errors.New("auth: claims have no user or revision")

// Validate is called by the parser, after its own checks.
func (c claims) Validate() error {
	if c.User == "" || c.Revision == 0 {
		return errIncompleteClaims
	}
	return nil
}

func (t *jwtTokens) NeedsPrefix() bool { return false }

// Assign signs only where somebody waits: a signature costs up to milliseconds,
// which no member should spend for the client of another.
func (t *jwtTokens) Assign(g Grant, now time.Time) (string, error) {
	if !g.Answer {
		return "", nil
	}
	if t.sign == nil {
		return "", ErrVerifyOnly
	}
	c := claims{User: g.User, Revision: g.Revision}
	c.ExpiresAt = jwt.NewNumericDate(now.Add(t.ttl))
	signed, err := jwt.NewWithClaims(t.method, c).SignedString(t.sign)
	if err != nil {
		return "", fmt.Errorf("auth: signing a token with %s: %w", t.method.Alg(), err)
	}
	return signed, nil
}

func (t *jwtTokens) Index(string) (uint64, bool) { return 0, true }

func (t *jwtTokens) Lookup(token string, _ uint64, now time.Time) (Caller, bool) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c,
		func(*jwt.Token) (any, error) { return t.verify, nil },
		// Only the configured method: a token must not choose its own.
		jwt.WithValidMethods([]string{t.method.Alg()}),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	if err != nil {
		return Caller{}, false
	}
	return Caller{User: c.User, Revision: c.Revision}, true
}

// Forget does nothing: the revision in the tokens is old by now.
func (t *jwtTokens) Forget(string) {}

// Clear does nothing: with auth off nobody looks at tokens, and turning it off
// has raised the revision.
func (t *jwtTokens) Clear() {}
