package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var start = time.Unix(1_700_000_000, 0)

func mustAssign(t *testing.T, tokens Tokens, g Grant, now time.Time) string {
	t.Helper()
	token, err := tokens.Assign(g, now)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A simple token lives as long as it is used, and not a moment longer than its
// time without use.
func TestSimpleTokenLivesWhileUsed(t *testing.T) {
	s := newSimple(10 * time.Second)
	token := mustAssign(t, s, Grant{User: "alice", Prefix: "abcdefghijklmnop", Index: 42}, start)
	if token != "abcdefghijklmnop.42" {
		t.Errorf("token %q", token)
	}
	if index, ok := s.Index(token); !ok || index != 42 {
		t.Errorf("index %d, %v", index, ok)
	}
	now := start
	for range 5 {
		now = now.Add(10*time.Second - 1)
		if c, ok := s.Lookup(token, 7, now); !ok || c != (Caller{"alice", 7}) {
			t.Fatalf("caller %+v, %v", c, ok)
		}
	}
	if _, ok := s.Lookup(token, 7, now.Add(10*time.Second)); ok {
		t.Error("the token outlived its time")
	}
	if len(s.tokens) != 0 || s.order.Len() != 0 {
		t.Error("an expired token is still remembered")
	}
}

// Neither halves nor nonsense are tokens.
func TestSimpleTokenNonsense(t *testing.T) {
	s := newSimple(0)
	for _, text := range []string{"", "nonsense", ".", "abc.def", "abc.-1", "abc.1.2"} {
		if _, ok := s.Index(text); ok {
			t.Errorf("%q has an index", text)
		}
		if _, ok := s.Lookup(text, 1, start); ok {
			t.Errorf("%q was known", text)
		}
	}
}

// A user who is deleted or has a new password loses all tokens; others keep
// theirs.
func TestForget(t *testing.T) {
	s := newSimple(time.Minute)
	a := mustAssign(t, s, Grant{User: "alice", Prefix: "a", Index: 1}, start)
	b := mustAssign(t, s, Grant{User: "bob", Prefix: "b", Index: 2}, start)
	a2 := mustAssign(t, s, Grant{User: "alice", Prefix: "a", Index: 3}, start)
	s.Forget("alice")
	for token, want := range map[string]bool{a: false, a2: false, b: true} {
		if _, ok := s.Lookup(token, 1, start); ok != want {
			t.Errorf("%s is known: %v", token, ok)
		}
	}
	s.Clear()
	if _, ok := s.Lookup(b, 1, start); ok {
		t.Error("a token outlived the clearing")
	}
}

// Memory for tokens is bounded: the one that would run out first makes room,
// one in use does not.
func TestSimpleTokensAreBounded(t *testing.T) {
	s := newSimple(time.Minute)
	s.max = 3
	var all []string
	for i := range 3 {
		all = append(all, mustAssign(t, s, Grant{User: "u", Prefix: "p", Index: uint64(i)}, start))
	}
	s.Lookup(all[0], 1, start.Add(time.Second))
	all = append(all, mustAssign(t, s, Grant{User: "u", Prefix: "p", Index: 9}, start.Add(time.Second)))
	for i, want := range []bool{true, false, true, true} {
		if _, ok := s.Lookup(all[i], 1, start.Add(time.Second)); ok != want {
			t.Errorf("token %d is known: %v", i, ok)
		}
	}
	if len(s.tokens) != 3 || s.order.Len() != 3 {
		t.Errorf("%d tokens are remembered", len(s.tokens))
	}
}

func TestParseTokenOptions(t *testing.T) {
	for _, text := range []string{"simple", "", "jwt,sign-method=RS256,pub-key=p,priv-key=k,ttl=10m", "jwt,sign-method=EdDSA,x=y"} {
		if _, err := ParseTokenOptions(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	o, _ := ParseTokenOptions("jwt,pub-key=p,priv-key=k,sign-method=PS384,ttl=10m")
	if o != (TokenOptions{JWTTokens, "PS384", "p", "k", 10 * time.Minute}) {
		t.Errorf("read as %+v", o)
	}
	for text, cause := range map[string]error{
		"bogus":                        nil,
		"jwt":                          ErrInvalidSignMethod,
		"jwt,sign-method=BOGUS":        ErrInvalidSignMethod,
		"jwt,sign-method=none":         ErrInvalidSignMethod,
		"jwt,sign-method":              nil,
		"jwt,a=b,a=c":                  nil,
		"jwt,a=b=c":                    nil,
		"jwt,sign-method=RS256,ttl=10": nil,
	} {
		_, err := ParseTokenOptions(text)
		if !errors.Is(err, ErrInvalidOptions) || err.Error() != "auth: invalid auth options" || cause != nil && !errors.Is(err, cause) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func pemOf(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// keyPair makes the key files for a method.
func keyPair(t *testing.T, method string) Keys {
	t.Helper()
	var private, public any
	switch method[:2] {
	case "RS", "PS":
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		private, public = k, &k.PublicKey
	case "ES":
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[method]
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, public = k, &k.PublicKey
	case "Ed":
		p, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, public = k, p
	default:
		return Keys{Private: []byte("shared secret of enough length")}
	}
	var k Keys
	der, err := x509.MarshalPKCS8PrivateKey(private)
	k.Private = pemOf(t, "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(public)
	k.Public = pemOf(t, "PUBLIC KEY", der, err)
	return k
}

func mustJWT(t *testing.T, method string, k Keys) Tokens {
	t.Helper()
	tokens, err := NewTokens(TokenOptions{Kind: JWTTokens, SignMethod: method, TTL: time.Minute}, k, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// With every method: what one member signs, another verifies, even one that
// has only the public key; after its time nobody does.
func TestJWT(t *testing.T) {
	for _, method := range []string{"HS256", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			k := keyPair(t, method)
			signer := mustJWT(t, method, k)
			token := mustAssign(t, signer, Grant{User: "alice", Revision: 9, Answer: true}, start)
			verifier := signer
			if k.Public != nil {
				verifier = mustJWT(t, method, Keys{Public: k.Public})
				if _, err := verifier.Assign(Grant{User: "alice", Revision: 9, Answer: true}, start); err != ErrVerifyOnly {
					t.Errorf("signing with a public key: %v", err)
				}
			}
			if c, ok := verifier.Lookup(token, 12, start.Add(59*time.Second)); !ok || c != (Caller{"alice", 9}) {
				t.Errorf("caller %+v, %v", c, ok)
			}
			if _, ok := verifier.Lookup(token, 12, start.Add(61*time.Second)); ok {
				t.Error("the token outlived its time")
			}
			if _, ok := mustJWT(t, method, other(t, method)).Lookup(token, 12, start); ok {
				t.Error("another key verified the token")
			}
			if token, err := signer.Assign(Grant{User: "alice", Revision: 9}, start); token != "" || err != nil {
				t.Errorf("signed %q, %v, though nobody waits", token, err)
			}
		})
	}
}

func other(t *testing.T, method string) Keys {
	if method[:2] == "HS" {
		return Keys{Private: []byte("another secret")}
	}
	return keyPair(t, method)
}

// A token cannot choose how it is verified: the public key is no shared secret,
// and "none" is no signature.
func TestJWTMethodIsFixed(t *testing.T) {
	k := keyPair(t, "RS256")
	tokens := mustJWT(t, "RS256", k)
	forged := mustAssign(t, mustJWT(t, "HS256", Keys{Private: k.Public}), Grant{User: Root, Revision: 1, Answer: true}, start)
	if _, ok := tokens.Lookup(forged, 1, start); ok {
		t.Error("a token signed with the public key was taken")
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims{User: Root, Revision: 1}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tokens.Lookup(none, 1, start); ok {
		t.Error("an unsigned token was taken")
	}
	for _, incomplete := range []claims{{Revision: 1}, {User: Root}} {
		hs := mustJWT(t, "HS256", Keys{Private: []byte("secret")})
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, incomplete).SignedString([]byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := hs.Lookup(token, 1, start); ok {
			t.Errorf("a token with the claims %+v was taken", incomplete)
		}
	}
}

// Keys that are missing, damaged or do not belong together are refused at start.
func TestJWTKeys(t *testing.T) {
	a, b := keyPair(t, "ES256"), keyPair(t, "ES256")
	for name, c := range map[string]struct {
		method string
		keys   Keys
		want   error
	}{
		"no secret": {"HS256", Keys{Public: []byte("x")}, ErrMissingKey},
		"no key":    {"RS256", Keys{}, ErrMissingKey},
		"strangers": {"ES256", Keys{Public: a.Public, Private: b.Private}, ErrKeyMismatch},
		"damaged":   {"ES256", Keys{Private: []byte("x")}, nil},
		"no pem":    {"EdDSA", Keys{Public: []byte("x")}, nil},
		"kind":      {"RS256", a, nil},
	} {
		_, err := NewTokens(TokenOptions{Kind: JWTTokens, SignMethod: c.method}, c.keys, 0)
		if !errors.Is(err, ErrInvalidOptions) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzJWT(f *testing.F) {
	k := Keys{Private: []byte("secret")}
	tokens, err := NewTokens(TokenOptions{Kind: JWTTokens, SignMethod: "HS256", TTL: time.Minute}, k, 0)
	if err != nil {
		f.Fatal(err)
	}
	good, _ := tokens.Assign(Grant{User: "alice", Revision: 1, Answer: true}, start)
	f.Add(good)
	f.Add("a.b.c")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if c, ok := tokens.Lookup(token, 1, start); ok && c != (Caller{"alice", 1}) {
			t.Fatalf("%q was taken for %+v", token, c)
		}
	})
}

func BenchmarkSimpleLookup(b *testing.B) {
	s := newSimple(time.Minute)
	for i := range 1000 {
		_, _ = s.Assign(Grant{User: "u", Prefix: fmt.Sprint(i), Index: 1}, start)
	}
	for b.Loop() {
		if _, ok := s.Lookup("500.1", 1, start); !ok {
			b.Fatal("unknown")
		}
	}
}
