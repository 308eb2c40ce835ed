package etcdcmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/steledb/stele/embed"
)

// startupCase is one recorded start of a server: what was typed, and what came
// of it. Exit nil: the server ran.
type startupCase struct {
	N      int               `json:"n"`
	Cmd    *string           `json:"cmd"`
	Env    map[string]string `json:"env"`
	Files  map[string]string `json:"files"`
	Exit   *int              `json:"exit"`
	Stdout string            `json:"stdout"`
	Stderr string            `json:"stderr"`
	Note   string            `json:"note"`
}

// idle is a member that runs until it is told to stop.
type idle struct {
	done chan struct{}
	err  error
}

func (s *idle) Done() <-chan struct{} { return s.done }
func (s *idle) Err() error            { return s.err }
func (s *idle) Stop()                 { close(s.done) }

// startIdle does of a start what follows from the configuration alone.
func startIdle(_ context.Context, cfg *embed.Config) (Server, error) {
	if _, err := cfg.Compaction(); err != nil {
		return nil, err
	}
	if _, err := cfg.CipherSuiteIDs(); err != nil {
		return nil, err
	}
	if err := cfg.CheckClientTLS(); err != nil {
		return nil, err
	}
	cfg.Settle()
	return &idle{done: make(chan struct{})}, nil
}

// startReal starts a real member, on ports that nobody else has and in a
// directory of its own.
func startReal(t *testing.T) Start {
	return func(ctx context.Context, cfg *embed.Config) (Server, error) {
		if cfg.Dir == cfg.Name+".etcd" { // not given
			cfg.Dir = filepath.Join(t.TempDir(), "d")
		}
		for i := range cfg.ListenClientUrls {
			cfg.ListenClientUrls[i].Host = "127.0.0.1:0"
		}
		for i, u := range cfg.ListenPeerUrls {
			if u.Scheme == "http" { // others are refused by name
				cfg.ListenPeerUrls[i].Host = "127.0.0.1:0"
			}
		}
		return StartMember(ctx, cfg)
	}
}

type outcome struct {
	exit   Exit
	stdout string
	stderr string
	ran    bool
	cfg    *embed.Config
}

// run plays one start. An idle member that gets to run is stopped by a signal
// at once; a real one ends by itself.
func run(t *testing.T, args []string, env map[string]string, files map[string]string, start Start) outcome {
	t.Helper()
	var out outcome
	captured := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(captured)
	if err != nil {
		t.Fatal(err)
	}
	defer func(old *os.File) { os.Stderr = old; f.Close() }(os.Stderr)
	os.Stderr = f
	signals := make(chan os.Signal, 1)
	if start == nil {
		start = startIdle
		signals <- os.Interrupt
	}
	var stdout bytes.Buffer
	c := Command{
		Args: append([]string{"etcd"}, args...), Stdout: &stdout, Stderr: f, Signals: signals,
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return os.ReadFile(name)
		},
		Start: func(ctx context.Context, cfg *embed.Config) (Server, error) {
			s, err := start(ctx, cfg)
			out.ran, out.cfg = err == nil, cfg
			return s, err
		},
	}
	for k, v := range env {
		c.Env = append(c.Env, k+"="+v)
	}
	out.exit = c.Run(context.Background())
	text, err := os.ReadFile(captured)
	if err != nil {
		t.Fatal(err)
	}
	out.stdout, out.stderr = stdout.String(), string(text)
	return out
}

// routine are lines that nearly every start writes; the records leave them out.
var routine = []string{
	"it isn't recommended to use default name",
	"Running http and grpc server on single port",
	"'data-dir' was empty",
	"received signal; shutting down",
	"simple token is not cryptographically signed",
}

// notable keeps what the records keep of an output: text lines, and log lines
// above info, or those wanted, without the fields that differ from run to run.
func notable(stderr string, wanted []string) []string {
	var kept []string
	sc := bufio.NewScanner(strings.NewReader(stderr))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		if !strings.HasPrefix(line, "{\"level\"") {
			if line != "" {
				kept = append(kept, line)
			}
			continue
		}
		line = bare(line)
		isRoutine := slices.ContainsFunc(routine, func(r string) bool { return strings.Contains(line, r) })
		if slices.Contains(wanted, line) || (!isRoutine && !strings.HasPrefix(line, `{"level":"info"`)) {
			kept = append(kept, line)
		}
	}
	return kept
}

// bare re-encodes a log line without time, place and sizes, keys in order.
func bare(line string) string {
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		return line
	}
	for _, key := range []string{"ts", "caller", "stacktrace", "max-request-size", "recommended-request-size"} {
		delete(fields, key)
	}
	level, msg := fields["level"], fields["msg"]
	delete(fields, "level")
	delete(fields, "msg")
	rest, _ := json.Marshal(fields)
	return fmt.Sprintf(`{"level":"%v","msg":"%v",%s`, level, msg, rest[1:])
}

func (c startupCase) wanted() []string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(c.Stderr), "\n") {
		switch {
		case line == "" || line == "{GO TRACE}":
		case line == "{USAGE TEXT}":
			for _, u := range strings.Split(strings.TrimSpace(usage), "\n") {
				if u != "" {
					lines = append(lines, u)
				}
			}
		case strings.HasPrefix(line, "{\"level\""):
			lines = append(lines, bare(line))
		default:
			lines = append(lines, line)
		}
	}
	return lines
}

// split cuts a recorded command into words; single quotes keep blanks.
func split(cmd string) []string {
	var words []string
	word, quoted, any := "", false, false
	for _, r := range cmd {
		switch {
		case r == '\'':
			quoted, any = !quoted, true
		case r == ' ' && !quoted:
			if any {
				words = append(words, word)
			}
			word, any = "", false
		default:
			word, any = word+string(r), true
		}
	}
	if any {
		words = append(words, word)
	}
	return words
}

// check holds one start against its record.
func (c startupCase) check(t *testing.T) {
	var start Start
	if c.bootstraps() {
		start = startReal(t)
	}
	got := run(t, split(*c.Cmd)[1:], c.Env, c.Files, start)
	if c.Exit == nil {
		if !got.ran {
			t.Errorf("did not run: exit %+v\n%s", got.exit, got.stderr)
		}
	} else if got.exit.Status != *c.Exit || (got.ran && !c.bootstraps()) {
		t.Errorf("exit %+v (ran %v), want %d\n%s", got.exit, got.ran, *c.Exit, got.stderr)
	}
	want := c.wanted()
	if lines := notable(got.stderr, want); !slices.Equal(lines, want) {
		t.Errorf("stderr:\n got %s\nwant %s", strings.Join(lines, "\n     "), strings.Join(want, "\n     "))
	}
}

// bootstraps reports whether the start fails in the member: such records are
// played with a real one.
func (c startupCase) bootstraps() bool {
	return slices.Contains([]int{18, 20, 21, 22, 23, 26, 42, 43, 44, 45, 48, 50, 78}, c.N)
}

// elsewhere says whose business a record is when it is not the command's.
func (c startupCase) elsewhere() string {
	const bootstrap, proxies = "bootstrapping", "gateway and proxy"
	switch {
	case c.Cmd == nil || c.N == 0:
		return "a remark"
	case c.N >= 119:
		return "data directories"
	case c.N >= 112 && c.N <= 117:
		return proxies
	case slices.Contains([]int{28, 31, 71, 96}, c.N):
		return bootstrap
	}
	return ""
}

// Goal: a wrong or special command line, environment or file is answered as
// etcd answers it. Method: replay what was recorded from a real server, up to
// the point where a member would start.
func TestRecordedStarts(t *testing.T) {
	file, err := os.Open("../../../../shared/reference/cli/server-startup.jsonl")
	if err != nil {
		t.Skip("no recordings beside this checkout")
	}
	defer file.Close()
	n := 0
	sc := bufio.NewScanner(file)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var c startupCase
		if !bytes.Contains(sc.Bytes(), []byte(`"cmd"`)) { // a remark about the file
			continue
		}
		if err := json.Unmarshal(sc.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.elsewhere() != "" {
			continue
		}
		n++
		t.Run(fmt.Sprint(c.N), c.check)
	}
	if n < 80 {
		t.Errorf("only %d records replayed", n)
	}
}

// Goal: a database that cannot be opened ends the command as etcd's panic
// does, first line and status, and a directory open to others is warned of.
// Method: a directory in which the database was cut off.
func TestDamagedDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	db := filepath.Join(dir, "member", "snap", "db")
	if err := os.MkdirAll(filepath.Dir(db), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(db, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, []string{"--data-dir", dir}, nil, nil, startReal(t))
	if got.exit.Status != statusPanic || got.ran {
		t.Errorf("exit %+v, ran %v", got.exit, got.ran)
	}
	for _, want := range []string{"\npanic: failed to open database\n", `"level":"panic"`, `"msg":"check file permission"`, "drwxr-xr-x"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("no %q in\n%s", want, got.stderr)
		}
	}
	if strings.Contains(got.stderr, "discovery failed") {
		t.Error("the line of other failures is there too")
	}
}
