// Package logs writes log lines in the form etcd's users already parse.
//
// It is a slog.Handler with two encodings, those of the zap logger as etcd
// configures it:
//
//	json     {"level":"info","ts":"2026-01-02T03:04:05.000006Z","logger":"raft","caller":"raft/log.go:7","msg":"...", fields..., "stacktrace":"..."}
//	console  2026-01-02T03:04:05.000006Z<TAB>info<TAB>raft<TAB>raft/log.go:7<TAB>...<TAB>{"field": 1}
//
// "logger" appears for named loggers only, "stacktrace" at error and above.
// Durations are strings ("1.5s"), errors and Stringers their text, bytes
// base64, times like ts.
//
// The package owns opening, rotating and closing the outputs and the level,
// which may change while running. It leaves to others what is worth logging,
// and the end of the process after a fatal line.
package logs

import (
	"context"
	"io"
	"log/slog"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// TimeLayout is the form of the ts field: RFC 3339 with microseconds. Times
// are in UTC, so the zone is always "Z".
const TimeLayout = "2006-01-02T15:04:05.000000Z0700"

// Format is one of the two encodings.
type Format int

const (
	JSON Format = iota
	Console
)

// Handler renders records and writes each as one Write to its sink. The zero
// value is not useful; see NewHandler. Handlers derived by With, WithGroup and
// Named share the sink and the level.
type Handler struct {
	out    *lockedWriter
	level  slog.Leveler
	format Format
	name   string
	// fields holds the attributes given so far, rendered once.
	fields fields
	// now is the clock for records that carry no time.
	now func() time.Time
	// sampler thins out floods; nil writes every line.
	sampler *sampler
}

// NewHandler writes records at or above level to w, one Write per record.
// Writes are serialised, so w need not be safe for concurrent use.
func NewHandler(w io.Writer, level slog.Leveler, format Format) *Handler {
	return &Handler{out: &lockedWriter{w: w}, level: level, format: format, now: time.Now}
}

// sampled makes the handler, and those derived from it, thin out floods.
func (h *Handler) sampled() *Handler {
	h.sampler = newSampler()
	return h
}

// Named returns a logger whose lines carry name in the "logger" field, joined
// to an outer name by a dot. Loggers with a foreign handler come back as is.
func Named(l *slog.Logger, name string) *slog.Logger {
	h, ok := l.Handler().(*Handler)
	if !ok {
		return l
	}
	named := *h
	named.name = name
	if h.name != "" {
		named.name = h.name + "." + name
	}
	return slog.New(&named)
}

// Discard returns a logger that is disabled at every level.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	derived := *h
	derived.fields = h.fields.clone()
	for _, a := range attrs {
		derived.fields.add(a, h.spaced())
	}
	return &derived
}

func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	derived := *h
	derived.fields = h.fields.clone()
	derived.fields.open(name, h.spaced())
	return &derived
}

func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	if h.sampler != nil && !h.sampler.keep(h.timeOf(r), r.Level, r.Message) {
		return nil
	}
	buf := buffers.Get().(*encoder)
	defer buf.free()
	if h.format == JSON {
		h.renderJSON(buf, r)
	} else {
		h.renderConsole(buf, r)
	}
	return h.out.writeLine(buf.b)
}

// spaced says whether fields have a blank after "," and ":"; zap's console
// form has, its JSON form has not.
func (h *Handler) spaced() bool { return h.format == Console }

func (h *Handler) renderJSON(e *encoder, r slog.Record) {
	e.spaced = false
	e.raw('{')
	e.textField("level", levelName(r.Level))
	e.key("ts")
	e.time(h.timeOf(r))
	if h.name != "" {
		e.textField("logger", h.name)
	}
	if c := caller(r.PC); c != "" {
		e.textField("caller", c)
	}
	e.textField("msg", r.Message)
	h.renderFields(e, r)
	if r.Level >= slog.LevelError {
		e.textField("stacktrace", stack(r.PC))
	}
	e.b = append(e.b, '}', '\n')
}

func (h *Handler) renderConsole(e *encoder, r slog.Record) {
	e.spaced = true
	e.b = h.timeOf(r).UTC().AppendFormat(e.b, TimeLayout)
	e.column(levelName(r.Level))
	if h.name != "" {
		e.column(h.name)
	}
	if c := caller(r.PC); c != "" {
		e.column(c)
	}
	e.column(r.Message)
	if mark := len(e.b); h.fields.any() || r.NumAttrs() > 0 {
		e.b = append(e.b, '\t', '{')
		h.renderFields(e, r)
		if e.b[len(e.b)-1] == '{' { // every attribute was empty
			e.b = e.b[:mark]
		} else {
			e.b = append(e.b, '}')
		}
	}
	if r.Level >= slog.LevelError {
		e.b = append(e.b, '\n')
		e.b = append(e.b, stack(r.PC)...)
	}
	e.b = append(e.b, '\n')
}

// renderFields writes the handler's own fields, then the record's, and closes
// the groups that are still open.
func (h *Handler) renderFields(e *encoder, r slog.Record) {
	e.preRendered(h.fields.rendered)
	r.Attrs(func(a slog.Attr) bool {
		e.attr(a)
		return true
	})
	for range h.fields.depth {
		e.b = append(e.b, '}')
	}
}

func (h *Handler) timeOf(r slog.Record) time.Time {
	if r.Time.IsZero() {
		return h.now()
	}
	return r.Time
}

// fields is a rendered run of attributes, "a":1,"b":{"c":2 with depth groups
// left open at its end.
type fields struct {
	rendered []byte
	depth    int
}

func (f fields) any() bool     { return len(f.rendered) > 0 }
func (f fields) clone() fields { return fields{slices.Clone(f.rendered), f.depth} }

func (f *fields) add(a slog.Attr, spaced bool) {
	e := encoder{b: f.rendered, spaced: spaced}
	e.attr(a)
	f.rendered = e.b
}

func (f *fields) open(name string, spaced bool) {
	e := encoder{b: f.rendered, spaced: spaced}
	e.key(name)
	e.raw('{')
	f.rendered = e.b
	f.depth++
}

// caller renders a program counter as "dir/file.go:line". The cache holds one
// entry per log statement of the program, which bounds it.
func caller(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	if s, ok := callers.Load(pc); ok {
		return s.(string)
	}
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	s := shortPath(f.File) + ":" + strconv.Itoa(f.Line)
	callers.Store(pc, s)
	return s
}

var callers sync.Map // uintptr -> string

// shortPath keeps a file's name and the directory it is in.
func shortPath(file string) string {
	dir, name := path.Split(file)
	if dir = path.Base(dir); dir == "." || dir == "/" {
		return name
	}
	return dir + "/" + name
}

// stackDepthMax bounds the stack of one line.
const stackDepthMax = 64

// stack renders the calls that led to the log statement at pc, innermost
// first, without the logging machinery above it.
func stack(pc uintptr) string {
	pcs := make([]uintptr, stackDepthMax)
	pcs = pcs[:runtime.Callers(2, pcs)]
	if at := slices.Index(pcs, pc); at >= 0 {
		pcs = pcs[at:]
	}
	var b strings.Builder
	for frames := runtime.CallersFrames(pcs); ; {
		f, more := frames.Next()
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.Function + "\n\t" + f.File + ":" + strconv.Itoa(f.Line))
		if !more {
			return b.String()
		}
	}
}

// lockedWriter lets many goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lockedWriter) writeLine(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.w.Write(line)
	return err
}
