package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Tokens gives out tokens and tells whose they are. It is safe for concurrent
// use: every request looks its token up.
type Tokens interface {
	// NeedsPrefix tells whether an authentication must be proposed with a random
	// prefix of PrefixLength letters, chosen by the proposing member.
	NeedsPrefix() bool
	// Assign gives a token to a user whose authentication was applied.
	Assign(g Grant, now time.Time) (string, error)
	// Index is the raft index to be applied before Lookup can know the token;
	// ok is false for what cannot be a token.
	Index(token string) (index uint64, ok bool)
	// Lookup tells whose a token is. revision is the auth revision of now.
	Lookup(token string, revision uint64, now time.Time) (Caller, bool)
	// Forget ends the tokens of a user, as far as they can be ended.
	Forget(user string)
	// Clear ends all tokens, as far as they can be ended.
	Clear()
}

// Grant is what a token is given for.
type Grant struct {
	User     string
	Revision uint64
	Prefix   string // of a simple token
	Index    uint64 // raft index of the authentication
	Answer   bool   // somebody waits for the token here
}

// PrefixLength is the length of a simple token's random part.
const PrefixLength = 16

// DefaultTTL is how long a token is valid unless an operator chose otherwise.
const DefaultTTL = 300 * time.Second

// TokenOptions is the value of --auth-token: a kind, and for JWT its options.
type TokenOptions struct {
	Kind           string // "simple" or "jwt"
	SignMethod     string // "RS256", ..., of a JWT
	PublicKeyFile  string // empty when not given
	PrivateKeyFile string // empty when not given
	TTL            time.Duration
}

// The kinds of token.
const (
	SimpleTokens = "simple"
	JWTTokens    = "jwt"
)

// Why an --auth-token is refused. A start-up error says ErrInvalidOptions; what
// lies behind it goes into the log.
var (
	ErrInvalidOptions    = errors.New("auth: invalid auth options")
	ErrInvalidSignMethod = errors.New("auth: invalid auth signature method")
	ErrMissingKey        = errors.New("auth: missing key data")
	ErrKeyMismatch       = errors.New("auth: public and private keys don't match")
)

// OptionError is a refused --auth-token.
type OptionError struct{ Cause error }

func (e *OptionError) Error() string { return ErrInvalidOptions.Error() }

// Unwrap gives the reason and the sentinel that all of these are.
func (e *OptionError) Unwrap() []error { return []error{ErrInvalidOptions, e.Cause} }

// ParseTokenOptions reads an --auth-token such as
// "jwt,pub-key=app.pub,priv-key=app.key,sign-method=RS256,ttl=10m".
func ParseTokenOptions(text string) (TokenOptions, error) {
	kind, rest, _ := strings.Cut(text, ",")
	o := TokenOptions{Kind: kind, TTL: DefaultTTL}
	given := map[string]string{}
	if rest != "" {
		for pair := range strings.SplitSeq(rest, ",") {
			key, value, ok := strings.Cut(pair, "=")
			if _, twice := given[key]; !ok || twice || strings.Contains(value, "=") {
				return o, &OptionError{fmt.Errorf("auth: token option %q is not key=value or given twice", pair)}
			}
			given[key] = value
		}
	}
	switch kind {
	case SimpleTokens, "":
		o.Kind = SimpleTokens
		return o, nil
	case JWTTokens:
		return o, o.takeJWT(given)
	}
	return o, &OptionError{fmt.Errorf("auth: unknown token type %q", kind)}
}

// takeJWT fills in the options of a JWT. Unknown ones are ignored, as by etcd.
func (o *TokenOptions) takeJWT(given map[string]string) error {
	o.SignMethod = given["sign-method"]
	o.PublicKeyFile, o.PrivateKeyFile = given["pub-key"], given["priv-key"]
	if ttl, ok := given["ttl"]; ok {
		d, err := time.ParseDuration(ttl)
		if err != nil {
			return &OptionError{err}
		}
		o.TTL = d
	}
	if signMethod(o.SignMethod) == nil {
		return &OptionError{ErrInvalidSignMethod}
	}
	return nil
}

// Keys are the contents of the key files of a JWT, nil when not given.
type Keys struct{ Public, Private []byte }

// NewTokens builds the keeper of tokens. simpleTTL is the --auth-token-ttl of
// simple tokens; a JWT has its own.
func NewTokens(o TokenOptions, k Keys, simpleTTL time.Duration) (Tokens, error) {
	if o.Kind == JWTTokens {
		return newJWT(o, k)
	}
	return newSimple(simpleTTL), nil
}
