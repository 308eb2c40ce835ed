package mvcc

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
)

var rewrite = flag.Bool("rewrite", false, "write what happened into the scenario files")

// TestScenarios plays the scripts in testdata. A script is prose, and commands
// in lines that begin with "> ", each followed by what it printed:
//
//	> put a 1
//	2.0
//
// With -rewrite the printed lines are replaced by what the command prints now.
//
//	put KEY VALUE [LEASE]    one transaction of one change
//	del KEY
//	txn put A 1, del B [, abort]
//	publish
//	flush                    publish, and everything to disk
//	compact REV              decide it, publish
//	trim N                   the index, about N keys
//	job N                    the oldest compaction job, N records
//	restart                  flush and open again; "crash" opens without flushing
//	view NAME / close NAME   hold the published view, give it back
//	get KEY [at=REV] [view=NAME]
//	count|scan FROM TO [at=REV] [view=NAME]      TO "-" is a single key, "\0" the end
//	changes FROM TO [view=NAME]
//	hash [REV] [view=NAME]
//	disk                     the records on disk
func TestScenarios(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no scenarios")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScene(t).play(string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s plays as\n%s", file, got)
			}
		})
	}
}

// scene is a store, its disk, and what a script holds of them.
type scene struct {
	t     *testing.T
	disk  *memDisk
	store *Store
	views map[string]*View
	jobs  []*Compaction
	meta  Options // what the meta bucket would hold

	leases  string // what the last opening told of them
	written int64  // revision up to which everything is on disk
}

func newScene(t *testing.T) *scene {
	s := &scene{
		t: t, disk: &memDisk{t: t}, views: map[string]*View{},
		meta: Options{FinishedCompact: Never, ScheduledCompact: Never},
	}
	s.open()
	return s
}

func (s *scene) play(script string) string {
	var out strings.Builder
	answered := false // inside the printed lines of a command
	for line := range strings.Lines(script) {
		command, ok := strings.CutPrefix(line, "> ")
		switch {
		case ok:
			out.WriteString(line)
			out.WriteString(s.run(strings.Fields(command)))
			answered = true
		case strings.TrimSpace(line) == "":
			out.WriteString(line)
			answered = false
		case !answered:
			out.WriteString(line)
		}
	}
	return out.String()
}

func (s *scene) open() {
	opt := s.meta
	s.leases = ""
	opt.OnLive = func(key []byte, lease int64) { s.leases += fmt.Sprintf(", %s has lease %d", key, lease) }
	store, err := Open(s.disk.base(), opt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.store, s.jobs, s.written = store, nil, store.Rev()
	if opt.ScheduledCompact > opt.FinishedCompact {
		s.jobs = append(s.jobs, store.NewCompaction(opt.FinishedCompact, opt.ScheduledCompact))
	}
}

func (s *scene) run(words []string) string {
	var args []string
	at, view := int64(0), ""
	for _, w := range words {
		switch name, value, _ := strings.Cut(w, "="); {
		case name == "at" && value != "":
			at = number(value)
		case name == "view" && value != "":
			view = value
		default:
			args = append(args, w)
		}
	}
	switch args[0] {
	case "get", "count", "scan", "changes", "hash":
		return s.read(args, at, view)
	}
	return s.act(args)
}

func (s *scene) act(args []string) string {
	switch args[0] {
	case "put", "del", "txn":
		return s.transact(strings.Join(args, " "))
	case "publish":
		s.store.Publish()
		return fmt.Sprintf("revision %d\n", s.store.Rev())
	case "flush":
		return s.flush()
	case "compact":
		return s.compact(number(args[1]))
	case "trim":
		return fmt.Sprintf("done %v\n", s.store.CompactIndex(int(number(args[1]))))
	case "job":
		return s.job(int(number(args[1])))
	case "restart":
		s.flush()
		return s.reopen()
	case "crash":
		return s.reopen()
	case "view":
		s.views[args[1]] = s.store.View()
		return fmt.Sprintf("revision %d compacted %d\n", s.views[args[1]].Rev(), s.views[args[1]].CompactRev())
	case "close":
		s.views[args[1]].Close()
		return fmt.Sprintf("snapshots of the disk in use: %d\n", s.disk.leaked())
	case "disk":
		return s.records()
	}
	s.t.Fatalf("unknown command %q", args)
	return ""
}

func (s *scene) reopen() string {
	s.store.Close()
	s.open()
	return fmt.Sprintf("revision %d compacted %d%s\n", s.store.Rev(), s.store.CompactRev(), s.leases)
}

func (s *scene) transact(line string) string {
	txn := s.store.Begin()
	out := ""
	for op := range strings.SplitSeq(strings.TrimPrefix(line, "txn "), ",") {
		switch w := strings.Fields(op); w[0] {
		case "put":
			lease := int64(0)
			if len(w) > 3 {
				lease = number(w[3])
			}
			txn.Put([]byte(w[1]), []byte(w[2]), lease)
		case "del":
			if !txn.Delete([]byte(w[1])) {
				out += fmt.Sprintf("no %s to delete\n", w[1])
			}
		case "abort":
			txn.Abort()
			return out + fmt.Sprintf("aborted, revision %d\n", s.store.Rev())
		}
	}
	changes := txn.Commit()
	if len(changes) == 0 {
		return out + fmt.Sprintf("nothing changed, revision %d\n", s.store.Rev())
	}
	for _, c := range changes {
		out += show(c)
	}
	return out
}

func show(c Change) string {
	line := fmt.Sprintf("%s put %s", c.Mod, c.Key)
	if c.Tombstone {
		line = fmt.Sprintf("%s del %s", c.Mod, c.Key)
	} else {
		line += fmt.Sprintf(" created %d", c.Create)
	}
	if c.Prev != (Rev{}) {
		line += fmt.Sprintf(" was %s", c.Prev)
	}
	return line + "\n"
}

func (s *scene) flush() string {
	s.store.Publish()
	rev := s.store.Rev()
	recs := s.store.Buffered(rev)
	s.disk.commit(recs, nil)
	s.store.Rebase(s.disk.base(), rev)
	s.written = rev
	return fmt.Sprintf("%d records written, %d bytes buffered\n", len(recs), s.store.BufferedBytes())
}

func (s *scene) compact(rev int64) string {
	prev := s.store.CompactRev()
	if err := s.store.Compact(rev); err != nil {
		return err.Error() + "\n"
	}
	s.meta.ScheduledCompact = rev
	s.store.Publish()
	s.jobs = append(s.jobs, s.store.NewCompaction(prev, rev))
	return fmt.Sprintf("compacted %d\n", rev)
}

func (s *scene) job(n int) string {
	if len(s.jobs) == 0 {
		return "no job\n"
	}
	c := s.jobs[0]
	base := s.disk.base()
	deletes, done := c.Step(base, n)
	base.Release()
	s.disk.commit(nil, deletes)
	s.store.Rebase(s.disk.base(), s.written)
	out := ""
	for _, d := range deletes {
		rev, tombstone, _ := ParseKey(d)
		out += fmt.Sprintf("delete %s tombstone %v\n", rev, tombstone)
	}
	if done {
		s.meta.FinishedCompact = c.Rev()
		s.jobs = s.jobs[1:]
		out += "done\n"
		if h, ok := c.Hash(); ok {
			s.store.KeepHash(h)
			out += fmt.Sprintf("hash %d at %d compacted %d\n", h.Hash, h.Rev, h.CompactRev)
		}
	}
	return out
}

func (s *scene) records() (out string) {
	for _, r := range s.disk.recs {
		kv, err := parseRecord(r.Value)
		if err != nil {
			s.t.Fatal(err)
		}
		out += fmt.Sprintf("%s %s tombstone %v\n", r.Rev(), kv.key, r.Tombstone())
	}
	return out
}

func (s *scene) read(args []string, at int64, view string) string {
	v := s.views[view]
	if view == "" {
		v = s.store.View()
		defer v.Close()
	}
	switch args[0] {
	case "get":
		h, ok, err := v.Get([]byte(args[1]), at)
		switch {
		case err != nil:
			return err.Error() + "\n"
		case !ok:
			return "none\n"
		}
		return s.hit(v, h)
	case "count":
		n, err := v.Count(span(args), at)
		if err != nil {
			return err.Error() + "\n"
		}
		return fmt.Sprintln(n)
	case "scan":
		out := ""
		if err := v.Scan(span(args), at, func(h Hit) bool { out += s.hit(v, h); return true }); err != nil {
			return err.Error() + "\n"
		}
		return out
	case "changes":
		out := ""
		if err := v.Changes(number(args[1]), number(args[2]), func(c Change) bool { out += show(c); return true }); err != nil {
			return err.Error() + "\n"
		}
		return out
	}
	rev := int64(0)
	if len(args) > 1 {
		rev = number(args[1])
	}
	h, err := v.HashKV(rev)
	if err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("%d at %d compacted %d\n", h.Hash, h.Rev, h.CompactRev)
}

func span(args []string) keys.Span {
	s := keys.Span{Key: []byte(args[1]), End: []byte(args[2])}
	switch args[2] {
	case "-":
		s.End = nil
	case `\0`:
		s.End = []byte{0}
	}
	return s
}

func (s *scene) hit(v *View, h Hit) string {
	b, err := v.Load(h.Mod)
	if err != nil {
		return fmt.Sprintf("%s at %s: %v\n", h.Key, h.Mod, err)
	}
	var kv mvccpb.KeyValue
	if err := proto.Unmarshal(b, &kv); err != nil {
		s.t.Fatal(err)
	}
	line := fmt.Sprintf("%s=%s mod %s created %d version %d", h.Key, kv.Value, h.Mod, h.Create, h.Version)
	if kv.Lease != 0 {
		line += fmt.Sprintf(" lease %d", kv.Lease)
	}
	return line + "\n"
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}
