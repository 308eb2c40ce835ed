package h2client

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Method is one gRPC method. Make it once and share it: connections remember
// how to say it.
type Method struct {
	path string
}

// NewMethod names a method in full: "/etcdserverpb.KV/Put".
func NewMethod(path string) *Method { return &Method{path: path} }

// Path is the name as it was given.
func (m *Method) Path() string { return m.path }

// blocks encodes request headers. It is guarded by its connection's mu,
// because the order of encoding must be the order of sending.
//
// HPACK gives every new field a place in a table that both sides keep; from
// then on the field is one byte. A block that consists of such bytes only does
// not change the table, so it stays right until some other block does. gen
// counts the blocks that may have changed the table; a kept block is good
// while its gen is the present one.
type blocks struct {
	enc    *hpack.Encoder
	out    strings.Builder
	common []hpack.HeaderField // what every request carries after :path
	gen    uint64
	kept   map[*Method]keptBlock
}

type keptBlock struct {
	gen   uint64
	bytes string
}

func newBlocks(scheme, authority, token string) *blocks {
	b := &blocks{kept: map[*Method]keptBlock{}}
	b.enc = hpack.NewEncoder(&b.out)
	b.common = []hpack.HeaderField{
		{Name: ":scheme", Value: scheme},
		{Name: ":authority", Value: authority},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: "user-agent", Value: "stele-h2client"},
	}
	if token != "" {
		b.common = append(b.common, hpack.HeaderField{Name: "token", Value: token})
	}
	return b
}

// setTableMax follows the server's SETTINGS_HEADER_TABLE_SIZE.
func (b *blocks) setTableMax(v uint32) {
	b.enc.SetMaxDynamicTableSizeLimit(v)
	b.gen++
}

// request returns the header block of a call of m.
func (b *blocks) request(m *Method) string {
	if k, ok := b.kept[m]; ok && k.gen == b.gen {
		return k.bytes
	}
	b.out.Reset()
	b.write(hpack.HeaderField{Name: ":method", Value: "POST"})
	b.write(hpack.HeaderField{Name: ":path", Value: m.path})
	for _, f := range b.common {
		b.write(f)
	}
	block := b.out.String()
	if len(block) != 2+len(b.common) { // some field took more than an index
		b.gen++
		return block
	}
	b.kept[m] = keptBlock{b.gen, block}
	return block
}

func (b *blocks) write(f hpack.HeaderField) {
	if err := b.enc.WriteField(f); err != nil {
		panic("h2client: encoding a header into memory: " + err.Error()) // a strings.Builder does not fail
	}
}

// answer is what a response's header blocks say that matters here.
type answer struct {
	httpStatus  string
	contentType string
	grpcStatus  string
	grpcMessage string
}

func (a *answer) add(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		a.httpStatus = f.Value
	case "content-type":
		a.contentType = f.Value
	case "grpc-status":
		a.grpcStatus = f.Value
	case "grpc-message":
		a.grpcMessage = f.Value
	}
}

// refused tells why a first header block does not begin a gRPC answer.
func (a *answer) refused() error {
	if a.httpStatus == "200" && strings.HasPrefix(a.contentType, "application/grpc") {
		return nil
	}
	if a.grpcStatus != "" { // a gRPC server said no in its own words
		return a.err()
	}
	if a.httpStatus == "200" {
		return status.Errorf(codes.Unknown, "h2client: the answer has content-type %q, not application/grpc", a.contentType)
	}
	return status.Errorf(codeOfHTTP(a.httpStatus), "h2client: the answer has HTTP status %q", a.httpStatus)
}

// codeOfHTTP is the table of gRPC's http-grpc-status-mapping document.
func codeOfHTTP(s string) codes.Code {
	n, err := strconv.Atoi(s)
	if err != nil {
		return codes.Internal
	}
	switch n {
	case http.StatusBadRequest:
		return codes.Internal
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codes.Unavailable
	}
	return codes.Unknown
}

// err is the status of the trailers; nil is OK.
func (a *answer) err() error {
	if a.grpcStatus == "0" {
		return nil
	}
	n, err := strconv.ParseUint(a.grpcStatus, 10, 31)
	if err != nil {
		return status.Errorf(codes.Internal, "h2client: the stream ended with grpc-status %q", a.grpcStatus)
	}
	return status.Error(codes.Code(n), unescape(a.grpcMessage))
}

// unescape undoes gRPC's percent-encoding; what is not an escape stays.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
