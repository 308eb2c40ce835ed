package main

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultExec = "etcd --name {name} --data-dir {dir} --listen-client-urls {client} --advertise-client-urls {client} " +
		"--listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster {name}={peer}"

	settle      = 400 * time.Millisecond // for a watch to be in place; nothing tells from outside
	answerWait  = 8 * time.Second        // for the output of a command that stays
	commandWait = 30 * time.Second
	signalWait  = 5 * time.Second // for a command to end after its signal

	exitInterrupted = 130
)

func main() {
	bin := flag.String("bin", "bin", "directory of etcdctl and etcdutl")
	template := flag.String("exec", defaultExec, "server command with {name} {dir} {client} {peer}")
	show := flag.Int("show", 50, "mismatches to print per scenario")
	only := flag.Int("n", 0, "stop after this step of each scenario, and print its outcome")
	keep := flag.Bool("keep", false, "keep the working directory")
	flag.Parse()
	catchInterrupt()
	dir, err := filepath.Abs(*bin)
	if err != nil {
		fatal(err)
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	var total score
	for _, path := range flag.Args() {
		sc, err := readScenario(path)
		if err != nil {
			fatal(err)
		}
		s, err := replay(sc, *template, *show, *only, *keep)
		if err != nil {
			fatal(fmt.Errorf("%s: %w", sc.name, err))
		}
		fmt.Printf("%-12s %s\n", sc.name, s)
		total.add(s)
	}
	fmt.Println(total)
	if total.failed > 0 {
		os.Exit(1)
	}
}

// catchInterrupt makes sure that commands start with SIGINT at its default:
// a replayer started in the background inherits it ignored and would pass that on.
func catchInterrupt() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	go func() {
		<-c
		os.Exit(exitInterrupted)
	}()
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "golden:", err)
	os.Exit(2)
}

type score struct{ passed, failed, known, skipped int }

func (s score) String() string {
	return fmt.Sprintf("%d passed, %d failed (%d known differences, %d not replayed)", s.passed, s.failed, s.known, s.skipped)
}

func (s *score) add(o score) {
	s.passed += o.passed
	s.failed += o.failed
	s.known += o.known
	s.skipped += o.skipped
}

// replayer is one scenario under way.
type replayer struct {
	sc    *scenario
	work  string // working directory of the commands
	srv   *server
	names names
}

func replay(sc *scenario, template string, show, only int, keep bool) (score, error) {
	work, err := os.MkdirTemp("", "golden-"+sc.name+"-")
	if err != nil {
		return score{}, err
	}
	if keep {
		fmt.Println("working in", work)
	} else {
		defer os.RemoveAll(work)
	}
	r := &replayer{sc: sc, work: work, names: names{}, srv: newServer(template, work, sc)}
	for ph, v := range sc.meta.Meta.Placeholders {
		if !chosen(ph) {
			r.names[ph] = v
		}
	}
	r.names["{DATA_DIR}"] = r.srv.dir
	if err := r.srv.start(); err != nil {
		return score{}, err
	}
	defer r.srv.stop(syscall.SIGKILL)
	var s score
	for i := range sc.steps {
		st := &sc.steps[i]
		r.step(st, &s, &show)
		if only > 0 && st.N >= only {
			break
		}
	}
	return s, nil
}

func (r *replayer) step(st *step, s *score, show *int) {
	if st.Setup != "" {
		if err := r.setup(st.Setup); err != nil {
			fmt.Printf("%s: setup %q: %v\n", r.sc.name, st.Setup, err)
		}
		return
	}
	if st.Cmd == "" {
		return
	}
	id := fmt.Sprintf("%s:%d", r.sc.name, st.N)
	if reason := r.cannot(st); reason != "" {
		s.skipped++
		return
	}
	if err := r.prepare(st); err != nil {
		fmt.Printf("%s: %v\n", id, err)
	}
	diff := r.run(st)
	switch {
	case known[id] != "":
		s.known++
	case diff == "":
		s.passed++
	default:
		s.failed++
		if *show > 0 {
			*show--
			fmt.Printf("%s: %s\n%s", id, st.Cmd, diff)
		}
	}
}

// outcome is what a command did.
type outcome struct {
	stdout, stderr string
	exit           int    // -1 when killed
	signal         string // that killed it
}

// run runs one command and describes how it differs from the record.
func (r *replayer) run(st *step) string {
	execute := r.execute
	if strings.Contains(st.Note, "on a terminal") {
		execute = r.onTerminal
	}
	got, err := execute(st)
	if err != nil {
		return "    " + err.Error() + "\n"
	}
	var diff strings.Builder
	if w := r.exitDiff(st, got); w != "" {
		fmt.Fprintf(&diff, "    exit: %s\n", w)
	}
	switch {
	case st.StdoutHex != nil:
		if h := hex.EncodeToString([]byte(got.stdout)); !strings.Contains(st.Cmd, "defrag") && h != *st.StdoutHex {
			fmt.Fprintf(&diff, "    stdout (hex): want %s\n                   got %s\n", *st.StdoutHex, h)
		}
	case st.FirstLine != nil:
		if first, _, _ := strings.Cut(got.stdout, "\n"); first != *st.FirstLine {
			fmt.Fprintf(&diff, "    first line: want %q\n                got %q\n", *st.FirstLine, first)
		}
	case st.Stdout != nil:
		r.textDiff(&diff, "stdout", st.Cmd, *st.Stdout, got.stdout)
	}
	if st.Stderr != nil {
		r.textDiff(&diff, "stderr", st.Cmd, *st.Stderr, got.stderr)
	}
	return diff.String()
}

func (r *replayer) textDiff(diff *strings.Builder, what, cmd, want, got string) {
	want, got = normal(want), normal(got)
	if !r.names.match(r.names.compile(want, loosener(cmd)), got) {
		fmt.Fprintf(diff, "    %s: want %q\n            got %q\n", what, want, got)
	}
}

func (r *replayer) exitDiff(st *step, got outcome) string {
	want := "signal " + st.KilledBy
	if st.Exit != nil {
		want = fmt.Sprint("code ", *st.Exit)
	}
	have := fmt.Sprint("code ", got.exit)
	if got.signal != "" {
		have = "signal " + got.signal
	}
	if want == have {
		return ""
	}
	return fmt.Sprintf("want %s, got %s", want, have)
}

// lockedBuffer is output that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (r *replayer) command(line string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", "exec "+r.names.fill(line))
	cmd.Dir = r.work
	return cmd
}

func (r *replayer) execute(st *step) (outcome, error) {
	cmd := r.command(st.Cmd)
	cmd.Env = os.Environ()
	for k, v := range st.Env {
		cmd.Env = append(cmd.Env, k+"="+r.names.fill(v))
	}
	var stdout, stderr lockedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	stays := st.Signal != "" || st.KilledBy != ""
	go func() {
		text, _ := st.input()
		_, _ = io.WriteString(in, r.names.fill(text))
		if !stays {
			in.Close()
		}
	}()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if stays || len(st.During) > 0 {
		time.Sleep(settle)
		for _, d := range st.During {
			if err := r.during(d); err != nil {
				fmt.Printf("%s:%d: during %q: %v\n", r.sc.name, st.N, d, err)
			}
		}
	}
	if stays {
		r.awaitOutput(st, &stdout)
		_ = cmd.Process.Signal(signalNamed(st.Signal))
	}
	wait := commandWait
	if stays {
		wait = signalWait
	}
	select {
	case <-done:
	case <-time.After(wait):
		_ = cmd.Process.Kill()
		<-done
	}
	in.Close()
	got := outcome{stdout: stdout.String(), stderr: stderr.String(), exit: cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		got.signal = signalName(ws.Signal())
	}
	return got, nil
}

// awaitOutput waits until the output is as recorded, or until it surely will
// not be.
func (r *replayer) awaitOutput(st *step, out *lockedBuffer) {
	if st.Stdout != nil && *st.Stdout == "" {
		time.Sleep(settle)
		return
	}
	probe := names{}
	for k, v := range r.names {
		probe[k] = v
	}
	for end := time.Now().Add(answerWait); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		switch {
		case st.StdoutHex != nil:
			if hex.EncodeToString([]byte(out.String())) == *st.StdoutHex {
				return
			}
		case st.Stdout != nil:
			if probe.match(probe.compile(normal(*st.Stdout), loosener(st.Cmd)), normal(out.String())) {
				return
			}
		}
	}
}

func signalNamed(name string) syscall.Signal {
	if name == "SIGTERM" {
		return syscall.SIGTERM
	}
	return syscall.SIGINT
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGKILL:
		return "SIGKILL"
	}
	return s.String()
}
