package etcdcmd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/steledb/stele/embed"
)

// The cases that matter most, for checkouts without the recordings.
func TestStarts(t *testing.T) {
	two, one, zero := 2, 1, 0
	usageShown := "{USAGE TEXT}\n"
	cmd := func(s string) *string { return &s }
	for _, c := range []startupCase{
		{N: 1, Cmd: cmd("etcd --bogus"), Exit: &two, Stderr: "flag provided but not defined: -bogus\n" + usageShown},
		{N: 2, Cmd: cmd("etcd extra"), Exit: &one, Stderr: `{"level":"warn","msg":"failed to verify flags","error":"\"extra\" is not a valid flag"}`},
		{N: 3, Cmd: cmd("etcd -h"), Exit: &zero, Stderr: usageShown},
		{N: 4, Cmd: cmd("etcd --log-level bogus"), Exit: &two, Stderr: `panic: unrecognized level: "bogus"`},
		{N: 5, Cmd: cmd("etcd --name a"), Env: map[string]string{"ETCD_NAME": "b"}, Exit: &one,
			Stderr: `{"level":"fatal","msg":"conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))","environment-variable":"ETCD_NAME"}`},
		{N: 6, Cmd: cmd("etcd --force"), Env: map[string]string{"ETCD_BOGUS": "1"},
			Stderr: `{"level":"warn","msg":"unrecognized environment variable","environment-variable":"ETCD_BOGUS=1"}`},
		{N: 7, Cmd: cmd("etcd --config-file f"), Files: map[string]string{"f": "listen-peer-urls: bogus"}, Exit: &one,
			Stderr: "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: bogus"},
		{N: 8, Cmd: cmd("etcd --cipher-suites BOGUS"), Exit: &one,
			Stderr: `{"level":"fatal","msg":"discovery failed","error":"unexpected TLS cipher suite \"BOGUS\""}`},
	} {
		t.Run(*c.Cmd, c.check)
	}
}

// Version and help go to standard output and start nothing.
func TestVersionAndHelp(t *testing.T) {
	got := run(t, []string{"--version"}, nil, nil, nil)
	if got.ran || got.exit.Status != 0 || !strings.HasPrefix(got.stdout, "etcd Version: 3.7.1\nGit SHA: ") || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	got = run(t, []string{"--help"}, nil, nil, nil)
	for _, o := range embed.Options() {
		if shown := strings.Contains(got.stdout, "  --"+o.Name+" "); shown == o.IsIgnored() {
			t.Errorf("--%s: shown %v", o.Name, shown)
		}
	}
}

// A signal stops the member before the command ends by that same signal.
func TestSignalStopsTheMember(t *testing.T) {
	server := &idle{done: make(chan struct{})}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	c := command(t, server, nil)
	c.Signals = signals
	if exit := c.Run(context.Background()); exit.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v", exit)
	}
	select {
	case <-server.done:
	default:
		t.Error("the member was not stopped")
	}
}

// The end of a member is the end of the command; its failure fails it.
func TestEndOfTheMember(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{{nil, 0}, {errors.New("accept: broken"), 1}} {
		server := &idle{done: make(chan struct{}), err: c.err}
		close(server.done)
		if exit := command(t, server, nil).Run(context.Background()); exit != (Exit{Status: c.want}) {
			t.Errorf("%v: exit %+v", c.err, exit)
		}
	}
	if exit := command(t, nil, errors.New("no quorum")).Run(context.Background()); exit != (Exit{Status: 1}) {
		t.Errorf("failed start: exit %+v", exit)
	}
}

// command is a run around a given member, in an empty data directory.
func command(t *testing.T, server Server, err error) *Command {
	t.Helper()
	return &Command{
		Args:   []string{"etcd", "--log-outputs", os.DevNull, "--data-dir", t.TempDir()},
		Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer), ReadFile: os.ReadFile,
		Start: func(context.Context, *embed.Config) (Server, error) { return server, err },
	}
}

// What a data directory holds decides whether to go on.
func TestDataDirectories(t *testing.T) {
	for _, c := range []struct {
		names []string
		ran   bool
		line  string
	}{
		{nil, true, ""},
		{[]string{"member"}, true, ""},
		{[]string{"member", "lost+found"}, true, "found invalid file under data directory"},
		{[]string{"proxy"}, false, "v2 http proxy has already been deprecated in 3.6"},
		{[]string{"member", "proxy"}, false, "invalid datadir; both member and proxy directories exist"},
	} {
		dir := t.TempDir()
		for _, name := range c.names {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		got := run(t, []string{"--data-dir", dir}, nil, nil, nil)
		if got.ran != c.ran || !strings.Contains(got.stderr, c.line) {
			t.Errorf("%v: ran %v\n%s", c.names, got.ran, got.stderr)
		}
	}
}

// systemd hears READY=1, if it asked.
func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Skipf("no unix datagram sockets here: %v", err)
	}
	defer l.Close()
	if err := sdNotify(socket, "READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, _, err := l.ReadFrom(buf); err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("%q %v", buf[:n], err)
	}
	if err := sdNotify("", "READY=1"); err != nil {
		t.Error(err)
	}
	if err := sdNotify(socket+"x", "READY=1"); err == nil {
		t.Error("nobody listens there")
	}
}

// The startup lines of the command, in their order.
func TestStartupLines(t *testing.T) {
	got := run(t, []string{"--name", "a", "--data-dir", filepath.Join(t.TempDir(), "d")}, nil, nil, nil)
	var order []int
	for _, msg := range []string{"Running: ", "Initialize and start etcd server", "notifying init daemon", "successfully notified init daemon", "received signal; shutting down"} {
		order = append(order, strings.Index(got.stderr, `"msg":"`+msg+`"`))
	}
	if order[0] < 0 || !slices.IsSorted(order) {
		t.Errorf("positions %v in\n%s", order, got.stderr)
	}
	if got.cfg.InitialCluster != "a=http://localhost:2380" {
		t.Errorf("initial cluster %q", got.cfg.InitialCluster)
	}
}
