package h2grpc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// head is what the header block of a request says. It is immutable once the
// block has been read and may be shared by many requests.
type head struct {
	method, scheme, path, authority string
	contentType, encoding           string
	timeout                         time.Duration // of the call; negative means none
	length                          int64         // content-length; negative means none
	fields                          []hpack.HeaderField

	malformed string         // not HTTP/2: the stream is reset
	refusal   *status.Status // HTTP/2 but not gRPC as it should be
	refusedBy int            // the HTTP status that goes with refusal
	target    *method        // nil if there is no such method

	checked bool // complete has run; owned by the connection's reader

	once sync.Once
	md   metadata.MD // set by once
}

// headReader decodes header blocks. It belongs to the connection's reader.
//
// Clients that keep their fields in the dynamic table send the same few bytes
// for call after call. A block of nothing but table references does not change
// the table, so the same bytes mean the same head until another kind of block
// comes; last remembers one.
type headReader struct {
	dec   *hpack.Decoder
	cur   *head
	size  int    // of cur, as RFC 9113 counts
	plain bool   // a regular field was seen
	block []byte // of last
	last  *head
}

func newHeadReader() *headReader {
	r := &headReader{}
	r.dec = hpack.NewDecoder(4096, r.field)
	r.dec.SetMaxStringLength(headerListMax)
	return r
}

var errHeadTooLarge = errors.New("header list too large")

// read decodes one complete block. An error other than errHeadTooLarge leaves
// the decoder useless.
func (r *headReader) read(block []byte) (*head, error) {
	if r.last != nil && bytes.Equal(block, r.block) {
		return r.last, nil
	}
	r.last = nil
	r.cur, r.size, r.plain = &head{timeout: -1, length: -1}, 0, false
	h := r.cur
	if _, err := r.dec.Write(block); err != nil {
		return nil, err
	}
	if err := r.dec.Close(); err != nil {
		return nil, err
	}
	if r.size > headerListMax {
		return h, errHeadTooLarge
	}
	if isAllIndexed(block) {
		r.block, r.last = append(r.block[:0], block...), h
	}
	return h, nil
}

// isAllIndexed reports whether block has only one-byte references to the
// tables (RFC 7541, section 6.1).
func isAllIndexed(block []byte) bool {
	for _, b := range block {
		if b < 0x80 || b == 0xff {
			return false
		}
	}
	return len(block) > 0
}

// field takes one decoded field. Above the limit the fields are decoded, to
// keep the table right, but not kept.
func (r *headReader) field(f hpack.HeaderField) {
	r.size += len(f.Name) + len(f.Value) + 32
	if r.size > headerListMax {
		return
	}
	h := r.cur
	if strings.HasPrefix(f.Name, ":") {
		if r.plain {
			h.spoil("pseudo field after a regular one")
		}
		h.pseudo(f)
		return
	}
	r.plain = true
	h.regular(f)
}

func (h *head) spoil(why string) {
	if h.malformed == "" {
		h.malformed = why
	}
}

func (h *head) refuse(httpStatus int, code codes.Code, format string, args ...any) {
	if h.refusal == nil {
		h.refusal, h.refusedBy = status.Newf(code, format, args...), httpStatus
	}
}

func (h *head) pseudo(f hpack.HeaderField) {
	var to *string
	switch f.Name {
	case ":method":
		to = &h.method
	case ":scheme":
		to = &h.scheme
	case ":path":
		to = &h.path
	case ":authority":
		to = &h.authority
	default:
		h.spoil("unknown pseudo field")
		return
	}
	if *to != "" {
		h.spoil("pseudo field twice")
	}
	*to = f.Value
}

func (h *head) regular(f hpack.HeaderField) {
	if !validName(f.Name) || !httpguts.ValidHeaderFieldValue(f.Value) {
		h.spoil("invalid field")
		return
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		h.spoil("connection-specific field") // RFC 9113, section 8.2.2
	case "te":
		if f.Value != "trailers" {
			h.spoil("te other than trailers")
		}
	case "content-length":
		n, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil || n < 0 || (h.length >= 0 && h.length != n) {
			h.spoil("content-length is no number")
		}
		h.length = n
	case "content-type":
		h.contentType = f.Value
	case "grpc-encoding":
		h.encoding = f.Value
	case "grpc-timeout":
		d, err := parseTimeout(f.Value)
		if err != nil {
			h.refuse(http.StatusBadRequest, codes.Internal, "malformed grpc-timeout: %v", err)
		}
		h.timeout = d
	}
	h.fields = append(h.fields, f)
}

// validName knows the lower-case tokens that HTTP/2 allows as names.
func validName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !httpguts.IsTokenRune(rune(c)) || ('A' <= c && c <= 'Z') {
			return false
		}
	}
	return true
}

// complete judges the whole as the head of a request.
func (h *head) complete() {
	h.checked = true
	if h.method == "" || (h.method != http.MethodConnect && (h.scheme == "" || h.path == "")) {
		h.spoil("pseudo field missing")
	}
	if !h.isGRPC() {
		return
	}
	if h.method != http.MethodPost {
		h.refuse(http.StatusMethodNotAllowed, codes.Internal, "Received a HEADERS frame with :method %q which should be POST", h.method)
	}
	hosts := 0
	for _, f := range h.fields {
		if f.Name == "host" {
			hosts++
		}
		if strings.HasSuffix(f.Name, "-bin") {
			if _, err := decodeBin(f.Value); err != nil {
				h.refuse(http.StatusBadRequest, codes.Internal, "malformed binary metadata %q in header %q: %v", f.Value, f.Name, err)
			}
		}
	}
	if hosts > 1 {
		h.refuse(http.StatusBadRequest, codes.Internal, "num values of :authority: %v, num values of host: %v, both must only have 1 value as per HTTP/2 spec", len(h.authority), hosts)
	}
	if h.authority == "" && hosts == 0 {
		h.refuse(http.StatusBadRequest, codes.Internal, "no host or :authority header present")
	}
}

// isGRPC knows the content types of gRPC: application/grpc, with a subtype
// after + or ;.
func (h *head) isGRPC() bool {
	const base = "application/grpc"
	if len(h.contentType) < len(base) || !strings.EqualFold(h.contentType[:len(base)], base) {
		return false
	}
	rest := h.contentType[len(base):]
	return rest == "" || rest[0] == '+' || rest[0] == ';'
}

// metadata is what handlers see of the head, as grpc-go shows it.
func (h *head) metadata() metadata.MD {
	h.once.Do(func() {
		md := make(metadata.MD, len(h.fields)+1)
		if h.authority != "" {
			md[":authority"] = []string{h.authority}
		}
		for _, f := range h.fields {
			h.addTo(md, f)
		}
		h.md = md
	})
	return h.md
}

func (h *head) addTo(md metadata.MD, f hpack.HeaderField) {
	name, value := f.Name, f.Value
	switch name {
	case "te", "grpc-encoding", "grpc-timeout", "grpc-message-type", "grpc-status", "grpc-message", "grpc-status-details-bin":
		return // the transport's own
	case "host":
		if h.authority != "" {
			return
		}
		name = ":authority"
	}
	if strings.HasSuffix(name, "-bin") {
		value, _ = decodeBin(value) // complete has checked it
	}
	md[name] = append(md[name], value)
}

// decodeBin reads base64 with or without padding; gRPC wants both read.
func decodeBin(v string) (string, error) {
	enc := base64.RawStdEncoding
	if len(v)%4 == 0 {
		enc = base64.StdEncoding
	}
	b, err := enc.DecodeString(v)
	return string(b), err
}

// parseTimeout reads at most eight digits and a unit.
func parseTimeout(v string) (time.Duration, error) {
	if len(v) < 2 || len(v) > 9 {
		return 0, fmt.Errorf("transport: timeout string has a bad length: %q", v)
	}
	unit, ok := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}[v[len(v)-1]]
	if !ok {
		return 0, fmt.Errorf("transport: timeout unit is not recognized: %q", v)
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 63)
	if err != nil {
		return 0, err
	}
	const most = time.Duration(1<<63 - 1)
	if n > uint64(most/unit) { // 99999999H is more than a Duration holds
		return most, nil
	}
	return time.Duration(n) * unit, nil
}
