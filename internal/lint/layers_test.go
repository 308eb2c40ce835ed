package lint

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/steledb/stele"

// rooms is the architecture: for each part of the tree, the parts it may
// import besides itself. The first row whose prefix fits a package is its row,
// so a longer prefix goes before a shorter one. A package that fits no row has
// no place in the house yet.
var rooms = []struct {
	prefix string
	may    []string
}{
	{"internal/base", nil},
	{"internal/core", []string{"internal/base"}},
	{"internal/disk", []string{"internal/base"}},
	{"internal/wire", []string{"internal/base"}},
	{"internal/client", []string{"internal/base"}},
	{"client", []string{"internal/base", "internal/client"}},
	{"internal/member", []string{"internal/base", "internal/core", "internal/disk", "internal/wire"}},
	{"internal/front", []string{"internal/base", "internal/core", "internal/wire", "internal/member"}},
	{"internal/sim", []string{"internal/base", "internal/core", "internal/disk", "internal/member"}},
	{"embed", []string{"internal/base", "internal/core", "internal/disk", "internal/wire", "internal/member", "internal/front"}},
	{"internal/cli", []string{"internal/base", "internal/core", "internal/disk", "internal/wire", "internal/client", "client", "embed"}},
	{"cmd", []string{"internal/cli", "embed"}},
	{"internal/lint", nil},
	{"test", []string{""}},
}

// forbidden are the modules the product must do without: it is its own server,
// its own Raft and its own client.
var forbidden = []string{
	"go.etcd.io/etcd/server",
	"go.etcd.io/etcd/client",
	"go.etcd.io/etcd/pkg",
	"go.etcd.io/raft",
}

// corePure are standard packages through which a core would reach the outside.
var corePure = []string{"os", "net", "net/http", "log", "log/slog", "io/ioutil", "os/exec", "syscall"}

type listed struct {
	ImportPath string
	Imports    []string
}

// Goal: imports point down, cores stay pure and the product stays independent.
// Method: ask the go command for the import graph and hold every arrow against
// the table above.
func TestLayers(t *testing.T) {
	for _, p := range packages(t) {
		place := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		room, may, ok := roomOf(place)
		if !ok {
			t.Errorf("%s has no room: put it into one, or give it a row in rooms", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			check(t, place, room, may, imp)
		}
	}
}

// complainer is the part of testing.T that check needs, so that the check can
// be checked.
type complainer interface {
	Errorf(format string, args ...any)
}

type recorder struct{ failed bool }

func (r *recorder) Errorf(string, ...any) { r.failed = true }

func check(t complainer, place, room string, may []string, imp string) {
	for _, bad := range forbidden {
		if strings.HasPrefix(imp, bad) {
			t.Errorf("%s imports %s: the product does not use it (tests may)", place, imp)
		}
	}
	if room == "internal/core" {
		for _, bad := range corePure {
			if imp == bad {
				t.Errorf("%s imports %s: a core takes values and returns values; move the I/O to its shell", place, imp)
			}
		}
	}
	target, inside := strings.CutPrefix(imp, module+"/")
	if !inside || under(target, room) {
		return
	}
	for _, m := range may {
		if under(target, m) {
			return
		}
	}
	t.Errorf("%s imports %s: arrows from %s go to %v only; let the user declare an interface and join them in embed", place, target, room, may)
}

func roomOf(place string) (prefix string, may []string, ok bool) {
	for _, r := range rooms {
		if under(place, r.prefix) {
			return r.prefix, r.may, true
		}
	}
	return "", nil, place == ""
}

func under(place, prefix string) bool {
	return prefix == "" || place == prefix || strings.HasPrefix(place, prefix+"/")
}

func packages(t *testing.T) []listed {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages; the test is not looking at the house", len(all))
	}
	return all
}

// The table itself must be able to refuse.
func TestLayersBite(t *testing.T) {
	for _, c := range []struct{ place, imp string }{
		{"internal/core/mvcc", module + "/internal/disk/wal"},
		{"internal/base/keys", module + "/internal/core/mvcc"},
		{"internal/member", module + "/internal/front/rpc"},
		{"internal/core/mvcc", "os"},
		{"internal/cli/ctl", "go.etcd.io/etcd/client/v3"},
	} {
		room, may, _ := roomOf(c.place)
		var r recorder
		check(&r, c.place, room, may, c.imp)
		if !r.failed {
			t.Errorf("%s importing %s should be refused", c.place, c.imp)
		}
	}
}
