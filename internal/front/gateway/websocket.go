package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/websocket"
)

// A websocket carries what would be the body of a POST and its answer: what the
// client sends is JSON, and each line of the answer comes back as one text
// message. Browsers cannot set headers on it, so a token may also come as
//
//	Sec-WebSocket-Protocol: Bearer, <token>
//	Cookie: token=<token>

// protocolBearer is the subprotocol of those who send a token with it.
const protocolBearer = "Bearer"

// clientStreams are the paths to which a client may send more than one value.
var clientStreams = map[string]bool{"/v3/watch": true, "/v3/lease/keepalive": true}

func isWebsocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

// serveWebsocket serves r, which asks for a websocket, as the request it stands
// for. cancel ends r.
func (g *Gateway) serveWebsocket(w http.ResponseWriter, r *http.Request, cancel context.CancelFunc) {
	if _, ok := w.(http.Hijacker); !ok {
		http.Error(w, "websockets need HTTP/1.1", http.StatusBadRequest)
		return
	}
	websocket.Server{Handshake: acceptProtocol, Handler: func(conn *websocket.Conn) {
		conn.MaxPayloadBytes = g.opt.RequestBytesMax * jsonGrowth
		// Whoever reads from the connection learns that the client has gone;
		// whoever writes to it must not wait when the request is over.
		defer context.AfterFunc(r.Context(), func() { conn.Close() })()
		body, err := requestBody(conn, r.URL.Path, cancel)
		if err != nil {
			return
		}
		out := &lineWriter{conn: conn, header: http.Header{}}
		g.mux.ServeHTTP(out, plainRequest(r, body))
		out.finish()
	}}.ServeHTTP(w, r)
}

// acceptProtocol takes any origin, like the gateway without websockets: it is
// CORS and the host whitelist that keep strangers out.
func acceptProtocol(config *websocket.Config, _ *http.Request) error {
	if len(config.Protocol) > 0 && strings.HasPrefix(config.Protocol[0], protocolBearer) {
		config.Protocol = []string{protocolBearer}
	} else {
		config.Protocol = nil
	}
	return nil
}

// requestBody is what the client sends: all of it to streams, else the first
// message. cancel is called when the client has gone.
func requestBody(conn *websocket.Conn, path string, cancel context.CancelFunc) (io.Reader, error) {
	all := &untilGone{conn, cancel}
	if clientStreams[path] {
		return all, nil
	}
	var first []byte
	if err := websocket.Message.Receive(conn, &first); err != nil {
		return nil, err
	}
	// Ends with the connection, which serveWebsocket closes.
	go func() { _, _ = io.Copy(io.Discard, all) }()
	return bytes.NewReader(first), nil
}

// untilGone tells when there is nothing more to read.
type untilGone struct {
	r    io.Reader
	gone func()
}

func (u *untilGone) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil {
		u.gone()
	}
	return n, err
}

// plainRequest is the POST that a websocket request stands for.
func plainRequest(r *http.Request, body io.Reader) *http.Request {
	out := r.Clone(r.Context())
	out.Method, out.Body, out.ContentLength = http.MethodPost, io.NopCloser(body), -1
	for _, name := range []string{"Connection", "Upgrade", "Content-Length", "Sec-Websocket-Protocol", "Cookie"} {
		out.Header.Del(name)
	}
	if _, token, ok := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), protocolBearer+","); ok {
		out.Header.Set("Authorization", protocolBearer+" "+strings.TrimSpace(token))
	}
	if cookie, err := r.Cookie("token"); err == nil {
		out.Header.Set("Authorization", protocolBearer+" "+cookie.Value)
	}
	return out
}

// lineWriter sends each line written to it as a message. What it holds back is
// one line at most, that is one answer.
type lineWriter struct {
	conn   *websocket.Conn
	header http.Header
	line   bytes.Buffer
}

func (l *lineWriter) Header() http.Header { return l.header }
func (l *lineWriter) WriteHeader(int)     {} // there is no place for it
func (l *lineWriter) Flush()              {} // lines go at once

func (l *lineWriter) Write(p []byte) (int, error) {
	written := len(p)
	for {
		line, rest, ok := bytes.Cut(p, []byte("\n"))
		l.line.Write(line)
		if !ok {
			return written, nil
		}
		if err := l.send(); err != nil {
			return 0, err
		}
		p = rest
	}
}

// finish sends what came without an end of line: answers that are no streams.
func (l *lineWriter) finish() {
	if l.line.Len() > 0 {
		_ = l.send() // the client is gone if this fails
	}
}

func (l *lineWriter) send() error {
	defer l.line.Reset()
	return websocket.Message.Send(l.conn, l.line.String())
}
