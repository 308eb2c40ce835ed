package watch

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into their files")

// Each file of testdata is a story: prose in lines with #, commands, "----",
// and what the commands print. Run with -rewrite to accept the present output,
// then read the difference.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScenario(string(text))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s:\n%s", file, firstDifference(string(text), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\n want %s\n got  %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("want %d lines, got %d", len(w), len(g))
}

// runScenario returns the text with the output as it is now.
func runScenario(text string) string {
	s := &scenario{world: newWorld(), streams: map[string]*Stream{}}
	s.hub = New(1, -1, Options{})
	var out strings.Builder
	var printed []string
	skipping := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "----":
			out.WriteString("----\n")
			for _, p := range printed {
				out.WriteString(p + "\n")
			}
			printed, skipping = nil, true
		case line == "":
			skipping = false
			out.WriteString("\n")
		case skipping:
		default:
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				printed = append(printed, s.run(strings.Fields(line))...)
			}
		}
	}
	return out.String()
}

type scenario struct {
	world   *world
	hub     *Hub
	streams map[string]*Stream
}

// run executes one command.
//
//	hub stream=N response=N log=N batch=N step=N    bounds, before anything else
//	open S | close S
//	create S key=K [end=K] [start=N] [id=N] [prev] [noput] [nodelete] [notify]
//	cancel S ID | progress S | notify S
//	put K=V ... | del K ... | txn K=V K= ...        one revision, published
//	quiet K=V ...                                   one revision, not published
//	publish | lose | skip | compact N
//	advance | scan | settle                         the hub's work
//	drain S [BYTES]                                 prints responses
//	show                                            prints counts
func (s *scenario) run(f []string) []string {
	stream := func() *Stream { return s.streams[f[1]] }
	switch f[0] {
	case "hub":
		s.hub = New(1, -1, boundsOf(f[1:]))
	case "open":
		s.streams[f[1]] = s.hub.Open()
	case "close":
		s.hub.Close(stream())
	case "create":
		s.hub.Create(stream(), requestOf(f[2:]))
	case "cancel":
		s.hub.Cancel(stream(), number(f[2]))
	case "progress":
		s.hub.Progress(stream())
	case "notify":
		s.hub.Notify(stream())
	case "put", "del", "txn":
		s.world.txn(opsOf(f[1:])...)
		s.world.publish(s.hub)
	case "quiet":
		s.world.txn(opsOf(f[1:])...)
	case "publish":
		s.world.publish(s.hub)
	case "lose":
		s.world.pending = nil
	case "skip":
		s.world.pending = nil
		s.hub.Skip(s.world.rev)
	case "compact":
		s.world.compact(number(f[1]))
		s.hub.Compacted(number(f[1]))
	case "advance":
		s.hub.Advance(s.world)
	case "scan":
		return s.scan()
	case "settle":
		s.world.settle(s.hub)
	case "drain":
		return s.drain(f)
	case "show":
		st := s.hub.Stats()
		return []string{fmt.Sprintf("watchers %d behind %d pending %d published %d matched %d log from %d",
			st.Watchers, st.Behind, st.Pending, s.hub.published, s.hub.matched, s.hub.log.first)}
	default:
		return []string{"no such command: " + f[0]}
	}
	return nil
}

func (s *scenario) scan() []string {
	want, ok := s.hub.NextScan()
	if !ok {
		return []string{"no scan wanted"}
	}
	s.world.scan(s.hub)
	return []string{fmt.Sprintf("scan from %d to %d", want.From, want.To)}
}

func (s *scenario) drain(f []string) []string {
	limit := 1 << 30
	if len(f) > 2 {
		limit = int(number(f[2]))
	}
	responses, more := s.hub.Drain(s.streams[f[1]], limit)
	var out []string
	for _, r := range responses {
		out = append(out, f[1]+" "+describe(r))
	}
	if more {
		out = append(out, f[1]+" has more")
	}
	if out == nil {
		out = []string{f[1] + " is quiet"}
	}
	return out
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func boundsOf(args []string) (o Options) {
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		n := int(number(value))
		switch name {
		case "stream":
			o.StreamBytes = n
		case "response":
			o.ResponseBytes = n
		case "log":
			o.LogBytes = n
		case "batch":
			o.BatchChanges = n
		case "step":
			o.StepDeliveries = n
		}
	}
	return o
}

func opsOf(args []string) (ops []op) {
	for _, a := range args {
		key, value, isPut := strings.Cut(a, "=")
		if isPut && value != "" {
			ops = append(ops, op{key, []byte(value)})
		} else {
			ops = append(ops, op{key, nil})
		}
	}
	return ops
}

func requestOf(args []string) (r Request) {
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		value = strings.ReplaceAll(value, `\0`, "\x00")
		switch name {
		case "key":
			r.Span.Key = []byte(value)
		case "end":
			r.Span.End = []byte(value)
		case "prefix":
			r.Span = keys.Span{Key: []byte(value), End: keys.PrefixEnd([]byte(value))}
		case "start":
			r.Start = number(value)
		case "id":
			r.ID = number(value)
		case "prev":
			r.PrevKV = true
		case "noput":
			r.NoPut = true
		case "nodelete":
			r.NoDelete = true
		case "notify":
			r.ProgressNotify = true
		}
	}
	return r
}
