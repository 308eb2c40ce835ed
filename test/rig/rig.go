// Package rig starts the real binaries for black-box tests: built once a test
// process, on loopback ports of their own, in directories of their own, and
// ended by pid.
package rig

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readyLine is the log message that tells a server takes requests; the one
// that etcd's own tests wait for.
const readyLine = "ready to serve client requests"

// startTimeout bounds the wait for readyLine. Generous: machines of CI are slow.
const startTimeout = 60 * time.Second

// Server is one running process of cmd/etcd.
type Server struct {
	Dir       string // data directory
	ClientURL string
	PeerURL   string
	Args      []string

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	mu   sync.Mutex
	log  bytes.Buffer // guarded by mu
}

// Options say how a server is started. The zero value is a fresh member in a
// directory of the test.
type Options struct {
	Dir       string   // data directory; empty: a new one
	Name      string   // member name; empty: default
	ClientURL string   // empty: a free port
	PeerURL   string   // empty: a free port
	Args      []string // more flags
}

// Root is the top of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Shared is the folder of recorded references beside the checkout; the test is
// skipped when it is not there.
func Shared(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(Root(), "..", "shared")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no ../shared beside this checkout")
	}
	return dir
}

var binaries struct {
	sync.Mutex
	dir  string
	made map[string]string
}

// Binary builds ./cmd/<name> once and returns its path.
func Binary(t testing.TB, name string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if path, ok := binaries.made[name]; ok {
		return path
	}
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "stele-bin-")
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir, binaries.made = dir, map[string]string{}
	}
	path := filepath.Join(binaries.dir, name)
	cmd := exec.Command("go", "build", "-o", path, "./cmd/"+name)
	cmd.Dir = Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/%s: %v\n%s", name, err, out)
	}
	binaries.made[name] = path
	return path
}

// Main runs the tests of a package and removes the binaries it built. Call it
// from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// FreeURL returns a loopback URL whose port was free a moment ago.
func FreeURL(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// Start runs a server, waits until it is ready and kills it when the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := Launch(t, o)
	s.WaitReady()
	return s
}

// Launch is Start without waiting.
func Launch(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "m.etcd")
	}
	if o.Name == "" {
		o.Name = "default"
	}
	if o.ClientURL == "" {
		o.ClientURL = FreeURL(t)
	}
	if o.PeerURL == "" {
		o.PeerURL = FreeURL(t)
	}
	s := &Server{Dir: o.Dir, ClientURL: o.ClientURL, PeerURL: o.PeerURL, t: t, done: make(chan struct{})}
	s.Args = append([]string{
		"--name", o.Name, "--data-dir", o.Dir,
		"--listen-client-urls", o.ClientURL, "--advertise-client-urls", o.ClientURL,
		"--listen-peer-urls", o.PeerURL, "--initial-advertise-peer-urls", o.PeerURL,
		"--initial-cluster", o.Name + "=" + o.PeerURL,
	}, o.Args...)
	s.cmd = exec.Command(Binary(t, "etcd"), s.Args...)
	s.cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.collect(bufio.NewReader(pipe))
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of the server in %s:\n%s", s.Dir, s.LogTail(40))
		}
	})
	return s
}

// collect keeps the log and notices the end of the process.
func (s *Server) collect(r *bufio.Reader) {
	for {
		line, err := r.ReadBytes('\n')
		s.mu.Lock()
		s.log.Write(line)
		s.mu.Unlock()
		if err != nil {
			break
		}
	}
	s.cmd.Wait()
	close(s.done)
}

// WaitReady returns when the server says that it takes requests.
func (s *Server) WaitReady() {
	s.t.Helper()
	if !s.WaitLog(readyLine, startTimeout) {
		s.t.Fatalf("server did not become ready:\n%s", s.LogTail(40))
	}
}

// WaitLog waits until a log line contains text; false when the process ended
// or time ran out first. It polls: the log is another process's output.
func (s *Server) WaitLog(text string, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		if strings.Contains(s.Log(), text) {
			return true
		}
		select {
		case <-s.done:
			return strings.Contains(s.Log(), text)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}

// Log returns what the server has logged so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// LogTail returns the last n lines of the log.
func (s *Server) LogTail(n int) string {
	lines := strings.Split(strings.TrimSpace(s.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// LogRecords returns the log lines with the given message, decoded.
func (s *Server) LogRecords(msg string) []map[string]any {
	var out []map[string]any
	for _, line := range strings.Split(s.Log(), "\n") {
		var rec map[string]any
		if json.Unmarshal([]byte(line), &rec) == nil && rec["msg"] == msg {
			out = append(out, rec)
		}
	}
	return out
}

// Endpoint is host:port of the client listener.
func (s *Server) Endpoint() string { return strings.TrimPrefix(s.ClientURL, "http://") }

// Pid is the process id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Signal sends sig to the process.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// Kill ends the process at once, as a power cut would, and waits for its end.
func (s *Server) Kill() {
	select {
	case <-s.done:
		return
	default:
	}
	s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.done
}

// Stop asks the process to end by SIGTERM and reports whether it did so in
// order: it ends by that same signal once everything is closed, as etcd does.
func (s *Server) Stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	if _, err := s.Wait(30 * time.Second); err != nil {
		return err
	}
	status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != syscall.SIGTERM || len(s.LogRecords("closed etcd server")) != 1 {
		return fmt.Errorf("server did not stop in order: %v", s.cmd.ProcessState)
	}
	return nil
}

// Wait returns the exit code of a process that ends within limit.
func (s *Server) Wait(limit time.Duration) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		s.Kill()
		return -1, fmt.Errorf("server did not end within %v and was killed", limit)
	}
}

// Exited reports whether the process has ended.
func (s *Server) Exited() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
