package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// preface is what every HTTP/2 client sends first (RFC 9113, section 3.4). No
// HTTP/1 method begins like it: they part from "PRI " at the second byte.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// ALPN are the protocols to offer on a TLS port that serves both kinds, in this
// order. gRPC clients offer h2 alone; whoever can do HTTP/1.1 as well is a
// browser or a tool and wants the HTTP server, which needs no HTTP/2.
func ALPN() []string { return []string{"http/1.1", "h2"} }

// sniffed is a connection of which some bytes have been read already.
type sniffed struct {
	net.Conn
	head []byte // read, not yet handed out; owned by the reader
}

func (c *sniffed) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// errNotHTTP ends a connection that begins like no HTTP request: with no word
// in capital letters. A TLS handshake on a plain port is such a one; its client
// understands a closed connection better than a page of text.
var errNotHTTP = errors.New("first bytes are not HTTP")

// NetConn is the connection underneath, whose first bytes are gone.
func (c *sniffed) NetConn() net.Conn { return c.Conn }

// isHTTP2 reads until the connection is known to begin with the HTTP/2 preface
// or not, at most the preface's length.
func isHTTP2(c net.Conn) (bool, *sniffed, error) {
	buf := make([]byte, 0, len(preface))
	for len(buf) < len(preface) {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 && (buf[0] < 'A' || buf[0] > 'Z') {
			return false, nil, errNotHTTP
		}
		if string(buf) != preface[:len(buf)] {
			return false, &sniffed{Conn: c, head: buf}, nil
		}
		if err != nil {
			return false, nil, err
		}
	}
	return true, &sniffed{Conn: c, head: buf}, nil
}

// tlsState returns what the handshake of a connection found, or nil.
func tlsState(c net.Conn) *tls.ConnectionState {
	switch c := c.(type) {
	case *sniffed:
		return tlsState(c.Conn)
	case *tls.Conn:
		state := c.ConnectionState()
		return &state
	}
	return nil
}

// tlsKey finds a connection's TLS state in the context of its requests.
type tlsKey struct{}

func withTLS(ctx context.Context, c net.Conn) context.Context {
	if state := tlsState(c); state != nil {
		return context.WithValue(ctx, tlsKey{}, state)
	}
	return ctx
}

// tlsRequests fills in Request.TLS, which net/http does only for connections
// that it knows to be TLS.
func tlsRequests(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if state, ok := r.Context().Value(tlsKey{}).(*tls.ConnectionState); ok && r.TLS == nil {
			r.TLS = state
		}
		h.ServeHTTP(w, r)
	})
}

// Credentials tell a grpc-go server who is at the other end of a connection
// that Server has already shaken hands with. Pass them as grpc.Creds.
func Credentials() credentials.TransportCredentials { return handshaken{insecure.NewCredentials()} }

type handshaken struct {
	credentials.TransportCredentials
}

func (h handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if state := tlsState(c); state != nil {
		info := credentials.TLSInfo{State: *state}
		info.SecurityLevel = credentials.PrivacyAndIntegrity
		return c, info, nil
	}
	return h.TransportCredentials.ServerHandshake(c)
}

func (h handshaken) Clone() credentials.TransportCredentials { return h }
