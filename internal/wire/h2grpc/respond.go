package h2grpc

import (
	"encoding/base64"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// headWriter writes header blocks of answers. Guarded by conn.mu, because the
// table's order is the order of frames.
//
// Two fields are worth a place in the client's dynamic table: the first block
// that needs one puts it there, later ones refer to it with one byte. That is
// all the table ever holds, and it is given up for good when the client wants
// a table smaller than the default.
type headWriter struct {
	noTable    bool
	emptyTable bool   // the next block has to say that the table is empty now
	places     []byte // in the order they went in: typeField or okField
}

const (
	typeField byte = iota // content-type: application/grpc
	okField               // grpc-status: 0
)

const (
	staticStatus200   = 8  // RFC 7541, appendix A
	staticStatus      = 8  // its name
	staticContentType = 31 // its name
	dynamicFirst      = 62
)

// dropTable gives the dynamic table up.
func (w *headWriter) dropTable() {
	w.emptyTable = w.emptyTable || !w.noTable
	w.noTable, w.places = true, nil
}

// begin starts a block.
func (w *headWriter) begin(b []byte) []byte {
	if w.emptyTable {
		w.emptyTable = false
		b = append(b, 0x20) // dynamic table size update to 0 (section 6.3)
	}
	return b
}

// common writes one of the two fields.
func (w *headWriter) common(b []byte, field byte) []byte {
	for i, p := range w.places {
		if p == field { // the newest entry has the lowest index
			return append(b, 0x80|byte(dynamicFirst+len(w.places)-1-i))
		}
	}
	first := byte(0x40) // literal with incremental indexing
	if w.noTable {
		first = 0
	} else {
		w.places = append(w.places, field)
	}
	if field == okField {
		b = appendString(append(b, first), "grpc-status")
		return appendString(b, "0")
	}
	prefix := byte(63)
	if w.noTable {
		prefix = 15
	}
	b = appendInt(b, first, prefix, staticContentType)
	return appendString(b, contentType)
}

const contentType = "application/grpc"

// appendHead writes the fields that begin every answer.
func (w *headWriter) appendHead(b []byte) []byte {
	b = append(w.begin(b), 0x80|staticStatus200)
	return w.common(b, typeField)
}

// appendRefusal begins an answer with another HTTP status.
func (w *headWriter) appendRefusal(b []byte, httpStatus int) []byte {
	b = appendInt(w.begin(b), 0, 15, staticStatus)
	b = appendString(b, strconv.Itoa(httpStatus))
	return w.common(b, typeField)
}

// appendStatus writes how a call ended; inside says that the block has begun.
func (w *headWriter) appendStatus(b []byte, st *status.Status, inside bool) []byte {
	if !inside {
		b = w.begin(b)
	}
	if st.Code() == codes.OK && st.Message() == "" {
		return w.common(b, okField)
	}
	b = appendField(b, "grpc-status", strconv.Itoa(int(st.Code())))
	b = appendField(b, "grpc-message", encodeMessage(st.Message()))
	if p := st.Proto(); len(p.GetDetails()) > 0 {
		if raw, err := proto.Marshal(p); err == nil {
			b = appendField(b, "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(raw))
		}
	}
	return b
}

// appendMetadata writes a handler's own headers or trailers, but for those
// that are the transport's.
func appendMetadata(b []byte, md metadata.MD) []byte {
	for name, values := range md {
		if isReserved(name) || strings.HasPrefix(name, ":") {
			continue
		}
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			b = appendField(b, name, v)
		}
	}
	return b
}

func isReserved(name string) bool {
	switch name {
	case "content-type", "user-agent", "te", "grpc-message-type", "grpc-encoding", "grpc-message",
		"grpc-status", "grpc-timeout", "grpc-status-details-bin":
		return true
	}
	return false
}

// appendField writes a literal that stays out of the table.
//
//	0000 0000 | name length (7+) | name | value length (7+) | value
func appendField(b []byte, name, value string) []byte {
	b = appendString(append(b, 0), name)
	return appendString(b, value)
}

// appendString writes a string as it is. Ours are too short for Huffman coding
// to be worth the client's time.
func appendString(b []byte, s string) []byte {
	return append(appendInt(b, 0, 127, uint64(len(s))), s...)
}

// appendInt writes an integer whose prefix, all ones, is max (RFC 7541,
// section 5.1); first holds the bits before it.
func appendInt(b []byte, first, max byte, n uint64) []byte {
	if n < uint64(max) {
		return append(b, first|byte(n))
	}
	b = append(b, first|max)
	for n -= uint64(max); n >= 0x80; n >>= 7 {
		b = append(b, 0x80|byte(n&0x7f))
	}
	return append(b, byte(n))
}

// encodeMessage escapes what a header field cannot hold: percent signs and all
// but printable ASCII.
func encodeMessage(s string) string {
	isPlain := func(c byte) bool { return c >= ' ' && c <= '~' && c != '%' }
	for i := range len(s) {
		if !isPlain(s[i]) {
			return escapeMessage(strings.ToValidUTF8(s, "\uFFFD"), isPlain)
		}
	}
	return s
}

func escapeMessage(s string, isPlain func(byte) bool) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

// appendHTTPHead writes the head of an answer that is not gRPC.
func appendHTTPHead(b []byte, fields []hpack.HeaderField) []byte {
	for _, f := range fields {
		b = appendField(b, f.Name, f.Value)
	}
	return b
}
