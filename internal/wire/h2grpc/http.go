package h2grpc

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/credentials"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// serveHTTP answers a request that is not gRPC with the ordinary handler.
func (s *stream) serveHTTP() {
	w := &httpAnswer{s: s, head: http.Header{}}
	r, err := s.httpRequest()
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	} else {
		s.c.srv.opt.HTTP.ServeHTTP(w, r)
	}
	w.close()
}

// httpRequest is the request as net/http describes it.
func (s *stream) httpRequest() (*http.Request, error) {
	h := s.head
	u, err := url.ParseRequestURI(h.path)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: h.method, URL: u, RequestURI: h.path, Host: h.authority, Header: http.Header{},
		Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: h.length, Body: httpBody{s},
		RemoteAddr: s.c.peer.Addr.String(),
	}
	for _, f := range h.fields {
		if f.Name == "host" && r.Host == "" {
			r.Host = f.Value
			continue
		}
		r.Header.Add(f.Name, f.Value)
	}
	if info, ok := s.c.peer.AuthInfo.(credentials.TLSInfo); ok {
		r.TLS = &info.State
	}
	return r.WithContext(s), nil
}

// httpBody reads what the client sends.
type httpBody struct{ s *stream }

func (b httpBody) Close() error { return nil }

func (b httpBody) Read(p []byte) (int, error) {
	s, c := b.s, b.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.isOpen && s.taken < len(s.in):
			n := copy(p, s.in[s.taken:])
			c.takeLocked(s, n)
			if s.taken == len(s.in) {
				s.in, s.taken, s.scanned = s.in[:0], 0, 0
			}
			return n, nil
		case s.recvErr != nil:
			return 0, s.recvErr
		case !s.isOpen:
			return 0, net.ErrClosed
		case s.remoteClosed:
			return 0, io.EOF
		}
		c.mu.Unlock()
		<-s.recvWake
		c.mu.Lock()
	}
}

// httpAnswer gathers small answers and sends large ones in parts.
type httpAnswer struct {
	s      *stream
	head   http.Header
	status int
	sent   bool // the head is
	body   bytes.Buffer
}

// httpPart is how much is gathered before it is sent.
const httpPart = 32 << 10

var _ http.Flusher = (*httpAnswer)(nil)

func (w *httpAnswer) Header() http.Header { return w.head }

func (w *httpAnswer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // 1xx are hints, which clients can do without
		w.status = status
	}
}

func (w *httpAnswer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body.Write(p)
	if w.body.Len() >= httpPart {
		if err := w.send(endNot); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush sends what has been written.
func (w *httpAnswer) Flush() {
	w.WriteHeader(http.StatusOK)
	_ = w.send(endNot) // the next Write hears of it
}

func (w *httpAnswer) close() {
	w.WriteHeader(http.StatusOK)
	_ = w.send(endData) // a call that has ended needs no answer
	c := w.s.c
	c.mu.Lock()
	c.returnedLocked(w.s)
	c.mu.Unlock()
}

// send sends what is gathered, behind the head if that is still to come.
func (w *httpAnswer) send(end endKind) error {
	s, c := w.s, w.s.c
	if s.head.method == http.MethodHead {
		w.body.Reset()
	}
	reserved := w.body.Len()
	if err := s.waitSend(reserved); err != nil {
		return err
	}
	body := bytes.Clone(w.body.Bytes())
	w.body.Reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unqueueLocked(int64(reserved))
	if !s.isOpen {
		return net.ErrClosed
	}
	headOnly := !w.sent && end == endData && len(body) == 0
	if !w.sent {
		w.sent = true
		c.out = appendHeaderBlock(c.out, s.id, w.block(c, end, len(body)), headOnly, c.frameMax)
	}
	s.end = end
	switch {
	case len(body) > 0:
		c.queueLocked(s, body)
	case end == endData && !headOnly:
		c.out = appendFrameHeader(c.out, 0, http2.FrameData, http2.FlagDataEndStream, s.id)
	}
	c.maybeEndLocked(s)
	c.wakeWriterLocked()
	return nil
}

// block is the head of the answer.
func (w *httpAnswer) block(c *conn, end endKind, length int) []byte {
	b := c.headOut.begin(nil)
	b = appendField(b, ":status", strconv.Itoa(w.status))
	if w.head.Get("Content-Type") == "" && length > 0 {
		w.head.Set("Content-Type", http.DetectContentType(w.body.Bytes()))
	}
	if end == endData && w.head.Get("Content-Length") == "" && w.s.head.method != http.MethodHead {
		w.head.Set("Content-Length", fmt.Sprint(length))
	}
	var fields []hpack.HeaderField
	for name, values := range w.head {
		for _, v := range values {
			if name = strings.ToLower(name); name != "connection" && name != "transfer-encoding" {
				fields = append(fields, hpack.HeaderField{Name: name, Value: v})
			}
		}
	}
	return appendHTTPHead(b, fields)
}
