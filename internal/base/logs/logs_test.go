package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("far", 3600))

// record builds a record without a caller, at a fixed time, so that a whole
// line can be compared.
func record(level slog.Level, msg string, attrs ...slog.Attr) slog.Record {
	r := slog.NewRecord(at, level, msg, 0)
	r.AddAttrs(attrs...)
	return r
}

func render(t *testing.T, format Format, with func(*slog.Logger) *slog.Logger, r slog.Record) string {
	t.Helper()
	var out bytes.Buffer
	l := slog.New(NewHandler(&out, slog.LevelDebug, format))
	if with != nil {
		l = with(l)
	}
	if err := l.Handler().Handle(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

type verbose struct{}

func (verbose) String() string { return "spoken" }

type broken struct{}

func (broken) Error() string { panic("no text") }

// Every kind of value has one form, that of zap as etcd sets it up.
func TestJSONFormOfValues(t *testing.T) {
	const head = `{"level":"info","ts":"2026-01-02T02:04:05.000006Z","msg":"m"`
	cases := []struct {
		attr slog.Attr
		want string
	}{
		{slog.String("s", "a\"b\\c\n\r\t\x01<&>é\xff"), `"s":"a\"b\\c\n\r\t\u0001<&>é\ufffd"`},
		{slog.Int("i", -7), `"i":-7`},
		{slog.Uint64("u", 1<<63), `"u":9223372036854775808`},
		{slog.Float64("f", 0.25), `"f":0.25`},
		{slog.Bool("b", true), `"b":true`},
		{slog.Duration("d", 1500*time.Millisecond), `"d":"1.5s"`},
		{slog.Time("t", at), `"t":"2026-01-02T02:04:05.000006Z"`},
		{slog.Any("error", errors.New("broken")), `"error":"broken"`},
		{slog.Any("error", broken{}), `"error":"<panic while logging logs.broken: no text>"`},
		{slog.Any("st", verbose{}), `"st":"spoken"`},
		{slog.Any("none", nil), `"none":null`},
		{slog.Any("raw", []byte{1, 2}), `"raw":"AQI="`},
		{slog.Any("list", []string{"a", "b"}), `"list":["a","b"]`},
		{slog.Any("empty", []string(nil)), `"empty":[]`},
		{slog.Any("map", map[string]int{"<": 1}), `"map":{"<":1}`},
		{slog.Any("chan", make(chan int)), ``},
		{slog.Group("g", slog.Int("x", 1), slog.Group("h", slog.Int("y", 2))), `"g":{"x":1,"h":{"y":2}}`},
		{slog.Group("", slog.Int("x", 1)), `"x":1`},
	}
	for _, c := range cases {
		got := render(t, JSON, nil, record(slog.LevelInfo, "m", c.attr))
		if c.want == "" { // text of no interest, but the line must stay JSON
			if !json.Valid([]byte(got)) {
				t.Errorf("%v: not JSON: %s", c.attr, got)
			}
			continue
		}
		if want := head + "," + c.want + "}\n"; got != want {
			t.Errorf("%v:\n got %s want %s", c.attr, got, want)
		}
	}
}

// Fields given early come first, a group stays open for what follows, and the
// name of a logger shows in its own field.
func TestDerivedLoggers(t *testing.T) {
	with := func(l *slog.Logger) *slog.Logger {
		return Named(Named(l, "raft"), "log").With("a", 1).WithGroup("g").With("b", 2)
	}
	got := render(t, JSON, with, record(slog.LevelWarn, "m", slog.Int("c", 3)))
	want := `{"level":"warn","ts":"2026-01-02T02:04:05.000006Z","logger":"raft.log","msg":"m","a":1,"g":{"b":2,"c":3}}` + "\n"
	if got != want {
		t.Errorf("\n got %s want %s", got, want)
	}
}

// The console form separates columns by tabs and spaces its JSON.
func TestConsoleForm(t *testing.T) {
	named := func(l *slog.Logger) *slog.Logger { return Named(l, "raft").With("list", []string{"a", "b"}) }
	got := render(t, Console, named, record(slog.LevelInfo, "hello", slog.Group("g", slog.Int("x", 1), slog.Int("y", 2))))
	want := "2026-01-02T02:04:05.000006Z\tinfo\traft\thello\t{\"list\": [\"a\", \"b\"], \"g\": {\"x\": 1, \"y\": 2}}\n"
	if got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	got = render(t, Console, nil, record(slog.LevelInfo, "bare"))
	if want := "2026-01-02T02:04:05.000006Z\tinfo\tbare\n"; got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// The caller is the line of the log statement, in two path elements; from
// error on, the stack starts there too.
func TestCallerAndStack(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(NewHandler(&out, slog.LevelInfo, JSON))
	_, _, line, _ := runtime.Caller(0)
	l.Error("bad")
	var got struct{ Level, Caller, Stacktrace string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("logs/logs_test.go:%d", line+1); got.Caller != want || got.Level != "error" {
		t.Errorf("caller %q, want %q; level %q", got.Caller, want, got.Level)
	}
	if want := regexp.MustCompile(`^[^\n]*TestCallerAndStack\n\t.*logs_test\.go:\d+\ntesting\.tRunner`); !want.MatchString(got.Stacktrace) {
		t.Errorf("stack does not start at the statement:\n%s", got.Stacktrace)
	}
	out.Reset()
	l.Warn("fair")
	if strings.Contains(out.String(), "stacktrace") {
		t.Errorf("a warning has no stack: %s", out.String())
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{"debug": -4, "INFO": 0, "": 0, "warn": 4, "error": 8, "panic": LevelPanic, "fatal": LevelFatal} {
		if got, err := ParseLevel(name); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v", name, got, err)
		}
	}
	_, err := ParseLevel("bogus")
	var bad *LevelError
	if !errors.As(err, &bad) || err.Error() != `unrecognized level: "bogus"` {
		t.Errorf("unknown level: %v", err)
	}
	got := render(t, JSON, nil, record(LevelFatal, "end"))
	if !strings.HasPrefix(got, `{"level":"fatal",`) {
		t.Errorf("fatal line: %s", got)
	}
}

// The level may change while the server runs, for loggers derived earlier too.
func TestLevelChangesAtRunTime(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	derived := slog.New(NewHandler(&out, level, JSON)).With("a", 1)
	derived.Debug("unseen")
	level.Set(slog.LevelDebug)
	derived.Debug("seen")
	if got := out.String(); strings.Contains(got, "unseen") || !strings.Contains(got, "seen") {
		t.Errorf("lines: %s", got)
	}
}

func TestFileOutputAndRotation(t *testing.T) {
	dir := t.TempDir()
	for _, rotate := range []bool{false, true} {
		file := filepath.Join(dir, fmt.Sprintf("%v.log", rotate))
		l, err := Open(Options{Level: "info", Format: "json", Outputs: []string{file}, Rotate: rotate, RotationJSON: `{"maxsize": 100}`})
		if err != nil {
			t.Fatal(err)
		}
		l.Info("hello", "n", 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), `"msg":"hello","n":1}`) {
			t.Errorf("rotate=%v: %v, %s", rotate, err, text)
		}
	}
}

// Wrong options are told in etcd's words.
func TestRefusals(t *testing.T) {
	const rotationOutput = "--log-outputs requires a single file path when --log-rotate-config-json is defined"
	cases := []struct {
		opt  Options
		want string
	}{
		{Options{Format: "bogus"}, "unknown log format: bogus, supported values json, console"},
		{Options{Outputs: []string{"default", "stderr"}}, `multi logoutput for "default" is not supported yet`},
		{Options{Rotate: true, RotationJSON: "{}"}, rotationOutput},
		{Options{Rotate: true, RotationJSON: "{}", Outputs: []string{"a", "b"}}, rotationOutput},
		{Options{Rotate: true, RotationJSON: "{bad", Outputs: []string{"a"}}, "improperly formatted log rotation config: invalid character 'b' looking for beginning of object key string"},
		{Options{Rotate: true, RotationJSON: `{"maxsize":"x"}`, Outputs: []string{"a"}}, "invalid log rotation config: json: cannot unmarshal string into Go struct field Logger.maxsize of type int"},
		{Options{Level: "bogus"}, `unrecognized level: "bogus"`},
	}
	for _, c := range cases {
		if _, err := Open(c.opt); err == nil || err.Error() != c.want {
			t.Errorf("%+v:\n got %v\nwant %s", c.opt, err, c.want)
		}
	}
}

// The journal gets one datagram per line, with the priority of its level.
func TestJournal(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "j")
	in, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Skipf("no unix datagram sockets here: %v", err)
	}
	defer in.Close()
	j, err := dialJournal(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer j.conn.Close()
	slog.New(NewHandler(j, slog.LevelInfo, JSON)).Warn("careful")
	buf := make([]byte, 4096)
	n, _, err := in.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	got := string(buf[:n])
	if !strings.HasPrefix(got, "PRIORITY=4\n") || !strings.Contains(got, "\nMESSAGE={\"level\":\"warn\"") {
		t.Errorf("entry: %q", got)
	}
}

// A failing output does not keep the line from the others.
func TestFanoutGoesOn(t *testing.T) {
	var out bytes.Buffer
	_, err := fanout{failing{}, &out}.Write([]byte("line"))
	if err == nil || out.String() != "line" {
		t.Errorf("err %v, out %q", err, out.String())
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

// A line below the level costs no memory.
func TestDisabledLineAllocatesNothing(t *testing.T) {
	l := slog.New(NewHandler(io.Discard, slog.LevelInfo, JSON))
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { l.LogAttrs(ctx, slog.LevelDebug, "m", slog.Int("n", 1)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A flood of one message is thinned out, second by second; others pass.
func TestFloodIsThinnedOut(t *testing.T) {
	var out bytes.Buffer
	h := NewHandler(&out, slog.LevelInfo, JSON).sampled()
	flood := func(lines int, second time.Duration) int {
		out.Reset()
		for range lines {
			r := slog.NewRecord(at.Add(second*time.Second), slog.LevelInfo, "flood", 0)
			if err := h.WithAttrs([]slog.Attr{slog.Int("n", 1)}).Handle(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Count(out.String(), "\n")
	}
	if got := flood(1000, 0); got != 109 { // 100, then of the other 900 each hundredth
		t.Errorf("first second: %d lines", got)
	}
	if got := flood(50, 1); got != 50 {
		t.Errorf("next second: %d lines", got)
	}
	if !h.sampler.keep(at, slog.LevelWarn, "another") {
		t.Error("another message was held back")
	}
}

// Whatever a message or key holds, the line is one line of valid JSON.
func FuzzLineIsJSON(f *testing.F) {
	f.Add("msg", "key", "value")
	f.Add("tab\t\"quote\"", "", "\xff\xfe\n")
	f.Add("\u2028", "a b,", "}{[],:")
	f.Fuzz(func(t *testing.T, msg, key, value string) {
		var out bytes.Buffer
		l := slog.New(NewHandler(&out, slog.LevelInfo, JSON)).With(key, value)
		l.Info(msg, slog.Group("g", slog.String(key, value), slog.Any(key, []string{value})))
		line := out.Bytes()
		if !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("not one JSON line: %q", line)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	l := slog.New(NewHandler(io.Discard, slog.LevelInfo, JSON)).With("member", "8e9e05c52164694d")
	for b.Loop() {
		l.LogAttrs(context.Background(), slog.LevelInfo, "applied", slog.Int("index", 7), slog.Duration("took", time.Second))
	}
}
