package logs

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// encoder appends JSON to a byte slice. It writes separators itself by looking
// at the last byte: a value that follows neither an opening bracket nor a
// colon is preceded by a comma.
type encoder struct {
	b      []byte
	spaced bool
}

// keptBytesMax bounds the buffers that are kept for reuse; a line longer than
// this gives its memory back.
const keptBytesMax = 16 << 10

var buffers = sync.Pool{New: func() any { return &encoder{b: make([]byte, 0, 1<<10)} }}

func (e *encoder) free() {
	if cap(e.b) <= keptBytesMax {
		e.b = e.b[:0]
		buffers.Put(e)
	}
}

func (e *encoder) raw(c byte) { e.b = append(e.b, c) }

// column appends one more column of the console form.
func (e *encoder) column(text string) {
	e.b = append(e.b, '\t')
	e.b = append(e.b, text...)
}

// separate appends the comma before a following element, if one is due.
func (e *encoder) separate() {
	if len(e.b) == 0 {
		return
	}
	switch e.b[len(e.b)-1] {
	case '{', '[', ':', ',', ' ':
		return
	}
	e.b = append(e.b, ',')
	if e.spaced {
		e.b = append(e.b, ' ')
	}
}

func (e *encoder) key(name string) {
	e.separate()
	e.quoted(name)
	e.b = append(e.b, ':')
	if e.spaced {
		e.b = append(e.b, ' ')
	}
}

func (e *encoder) textField(name, value string) {
	e.key(name)
	e.quoted(value)
}

func (e *encoder) preRendered(fields []byte) {
	if len(fields) > 0 {
		e.separate()
		e.b = append(e.b, fields...)
	}
}

// attr appends one attribute, or nothing for an empty one. A group without a
// name is spread into its parent, as slog asks.
func (e *encoder) attr(a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		e.group(a.Key, v.Group())
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	e.key(a.Key)
	e.value(v)
}

func (e *encoder) group(name string, attrs []slog.Attr) {
	if len(attrs) == 0 {
		return
	}
	if name != "" {
		e.key(name)
		e.raw('{')
		defer e.raw('}')
	}
	for _, a := range attrs {
		e.attr(a)
	}
}

func (e *encoder) value(v slog.Value) {
	switch v.Kind() {
	case slog.KindString:
		e.quoted(v.String())
	case slog.KindInt64:
		e.b = strconv.AppendInt(e.b, v.Int64(), 10)
	case slog.KindUint64:
		e.b = strconv.AppendUint(e.b, v.Uint64(), 10)
	case slog.KindFloat64:
		e.float(v.Float64())
	case slog.KindBool:
		e.b = strconv.AppendBool(e.b, v.Bool())
	case slog.KindDuration:
		e.quoted(v.Duration().String())
	case slog.KindTime:
		e.time(v.Time())
	default:
		e.any(v.Any())
	}
}

// any appends a value slog has no kind for. A panic inside somebody's Error or
// String method must not take the server down for the sake of a log line.
func (e *encoder) any(v any) {
	mark := len(e.b)
	defer func() {
		if p := recover(); p != nil {
			e.b = e.b[:mark]
			e.quoted(fmt.Sprintf("<panic while logging %T: %v>", v, p))
		}
	}()
	switch v := v.(type) {
	case nil:
		e.b = append(e.b, "null"...)
	case error:
		e.quoted(v.Error())
	case []byte:
		e.quoted(base64.StdEncoding.EncodeToString(v))
	case []string:
		e.strings(v)
	case json.Marshaler, encoding.TextMarshaler:
		e.reflected(v)
	case fmt.Stringer:
		e.quoted(v.String())
	default:
		e.reflected(v)
	}
}

func (e *encoder) strings(list []string) {
	e.raw('[')
	for _, s := range list {
		e.separate()
		e.quoted(s)
	}
	e.raw(']')
}

// reflected falls back to encoding/json, without its HTML escapes.
func (e *encoder) reflected(v any) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		e.quoted(fmt.Sprintf("%+v", v))
		return
	}
	e.b = append(e.b, bytes.TrimRight(out.Bytes(), "\n")...)
}

func (e *encoder) time(t time.Time) {
	e.b = append(e.b, '"')
	e.b = t.UTC().AppendFormat(e.b, TimeLayout)
	e.b = append(e.b, '"')
}

// float appends a number, or its name as a string where JSON has no number.
func (e *encoder) float(f float64) {
	switch {
	case math.IsNaN(f):
		e.quoted("NaN")
	case math.IsInf(f, 1):
		e.quoted("+Inf")
	case math.IsInf(f, -1):
		e.quoted("-Inf")
	default:
		e.b = strconv.AppendFloat(e.b, f, 'f', -1, 64)
	}
}

// quoted appends s as a JSON string. Only what JSON demands is escaped, so
// that "<", ">" and "&" stay readable; bytes that are not UTF-8 become U+FFFD.
func (e *encoder) quoted(s string) {
	e.b = append(e.b, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if isPlain(c) {
				i++
				continue
			}
			e.b = append(e.b, s[start:i]...)
			e.escaped(c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			e.b = append(e.b, s[start:i]...)
			e.b = append(e.b, `\ufffd`...)
			i++
			start = i
			continue
		}
		i += size
	}
	e.b = append(e.b, s[start:]...)
	e.b = append(e.b, '"')
}

func isPlain(c byte) bool { return c >= 0x20 && c != '"' && c != '\\' }

func (e *encoder) escaped(c byte) {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		e.b = append(e.b, '\\', c)
	case '\n':
		e.b = append(e.b, '\\', 'n')
	case '\r':
		e.b = append(e.b, '\\', 'r')
	case '\t':
		e.b = append(e.b, '\\', 't')
	default:
		e.b = append(e.b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
	}
}
