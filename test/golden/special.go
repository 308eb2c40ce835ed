package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// cannot says why a step is not replayed.
func (r *replayer) cannot(st *step) string {
	switch {
	case strings.Contains(st.Note, "while another"), strings.Contains(st.Note, "after unlock"):
		return "needs a second client"
	case st.Exit == nil && st.KilledBy == "":
		return "does not end"
	case r.sc.name == "concurrency" && (strings.Contains(st.Cmd, "-w json") || strings.Contains(st.Cmd, "-w protobuf")) && st.Exit != nil && *st.Exit == 0:
		return "the chosen id is inside an encoding"
	case r.sc.name == "maintenance" && st.StdoutHex != nil && strings.Contains(*st.StdoutHex, "18c901"), r.sc.name == "maintenance" && st.N == 100:
		return "the revision inside hangs on how many puts fill the file"
	case strings.HasPrefix(st.Cmd, "etcd "):
		return "the server's own command"
	case strings.Contains(st.Cmd, "--discovery-srv"):
		return "the error depends on the machine's name service"
	}
	for _, d := range st.During {
		if !isCommand(d) && duringSpecial(d) == nil {
			return "cannot be arranged"
		}
	}
	return ""
}

func isCommand(text string) bool {
	return strings.HasPrefix(text, "etcdctl ") || strings.HasPrefix(text, "etcdutl ")
}

func (r *replayer) shell(line, stdin string) error {
	cmd := r.command(line)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// duringSpecial is what a remark in "during" means.
func duringSpecial(text string) func(*replayer) error {
	switch text {
	case "etcdctl txn: put w1 a; put w2 b; del foo":
		return func(r *replayer) error { return r.shell("etcdctl txn", "\nput w1 a\nput w2 b\ndel foo\n\n\n") }
	case "etcdctl txn":
		return func(r *replayer) error { return r.shell("etcdctl txn", "\n\n\n") }
	case "lease grant 1; put leased v --lease {LEASE1}; wait for expiry":
		return func(r *replayer) error {
			out, err := r.command("etcdctl lease grant 1").Output()
			if err != nil {
				return err
			}
			r.names.bind("{LEASE1}", strings.Fields(string(out))[1])
			return r.shell("etcdctl put leased v --lease {LEASE1}", "")
		}
	case "server stopped (SIGTERM)":
		return func(r *replayer) error {
			r.srv.stop(syscall.SIGTERM)
			return nil
		}
	}
	return nil
}

func (r *replayer) during(text string) error {
	if fn := duringSpecial(text); fn != nil {
		return fn(r)
	}
	return r.shell(text, "")
}

// setup brings about what the recorder did between two commands.
func (r *replayer) setup(text string) error {
	switch {
	case isCommand(text):
		return r.shell(text, "")
	case text == "all leases but {LEASE1} revoked":
		return r.revokeOthers()
	case strings.HasPrefix(text, "put big<i>"):
		return r.raiseNoSpace()
	case strings.HasPrefix(text, "NOSPACE raised again"):
		return r.raiseAndClear()
	case strings.HasPrefix(text, "server started on restored dir "):
		dir := strings.TrimPrefix(text, "server started on restored dir ")
		var flags []string
		if dir == "o6" {
			flags = []string{"--wal-dir", filepath.Join(r.work, "o6wal")}
		}
		r.names["{DATA_DIR}"] = filepath.Join(r.work, dir)
		return r.srv.restartOn(filepath.Join(r.work, dir), flags...)
	}
	return fmt.Errorf("unknown")
}

func (r *replayer) revokeOthers() error {
	out, err := r.command("etcdctl lease list").Output()
	if err != nil {
		return err
	}
	for _, id := range strings.Fields(string(out))[3:] {
		if id != r.names["{LEASE1}"] {
			if err := r.shell("etcdctl lease revoke "+id, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *replayer) raiseNoSpace() error {
	big := strings.Repeat("x", 100_000)
	for i := range 1000 {
		err := r.shell(fmt.Sprintf("etcdctl put big%d", i), big)
		if err != nil && strings.Contains(err.Error(), "database space exceeded") {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the quota was never reached")
}

func (r *replayer) raiseAndClear() error {
	if err := r.raiseNoSpace(); err != nil {
		return err
	}
	if err := r.shell("etcdctl del big --prefix", ""); err != nil {
		return err
	}
	out, err := r.command(`etcdctl get a -w fields`).Output()
	if err != nil {
		return err
	}
	rev := ""
	for _, line := range strings.Split(string(out), "\n") {
		if v, ok := strings.CutPrefix(line, `"Revision" : `); ok {
			rev = v
		}
	}
	if err := r.shell("etcdctl compaction --physical "+rev, ""); err != nil {
		return err
	}
	return r.shell("etcdctl defrag", "")
}

// prepare makes the files and servers a step silently relies on.
func (r *replayer) prepare(st *step) error {
	switch {
	case strings.Contains(st.Note, "--watch-progress-notify-interval"):
		// The recorder started it twice, which shows in the raft term.
		if err := r.srv.start(); err != nil {
			return err
		}
		return r.srv.restartOn(r.srv.dir, "--watch-progress-notify-interval", "500ms")
	case strings.Contains(st.Note, "after expiry"):
		time.Sleep(4 * time.Second)
	case strings.Contains(st.Note, "some seconds after"):
		time.Sleep(6 * time.Second)
	case r.sc.name == "etcdutl" && strings.Contains(st.Cmd, "defrag --data-dir {DATA_DIR} -w simple"):
		r.srv.stop(syscall.SIGTERM)
	case strings.Contains(st.Cmd, "garbage.db"):
		return os.WriteFile(filepath.Join(r.work, "garbage.db"), []byte(strings.Repeat("garbage ", 4096)), 0o600)
	case strings.Contains(st.Cmd, "empty.db"):
		return os.WriteFile(filepath.Join(r.work, "empty.db"), nil, 0o600)
	case strings.Contains(st.Cmd, "restore") && strings.Contains(st.Cmd, "bad.db"):
		return r.derive("bad.db", func(b []byte) []byte { b[len(b)-40] ^= 1; return b })
	case strings.Contains(st.Cmd, "restore") && strings.Contains(st.Cmd, "nohash.db"):
		return r.derive("nohash.db", func(b []byte) []byte { return b[:len(b)-32] })
	case r.sc.name == "etcdutl" && strings.Contains(st.Cmd, "--data-dir out.etcd") && !strings.Contains(st.Note, "exists"):
		return os.RemoveAll(filepath.Join(r.work, "out.etcd"))
	}
	return nil
}

func (r *replayer) derive(name string, change func([]byte) []byte) error {
	b, err := os.ReadFile(filepath.Join(r.work, "snap.db"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.work, name), change(b), 0o600)
}
