// Package scenario runs the scripts in testdata that tell a core's behaviour as
// a story: prose, a command, and what the core answered.
//
//	# A lease that nobody renews runs out.
//	grant 1 ttl=10
//	----
//	granted 1 for 10s
//
// A line starting with # is prose. Any other line is a command, its input may
// follow on further lines, "----" ends them, and the expected answer stands
// below up to the next empty line. `go test -rewrite` writes the answers that
// the core gives now into the script; the diff is then the review.
//
// Only tests import this package.
package scenario

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the answers of this run into the scenario scripts")

const separator = "----"

// Command is one step of a script.
type Command struct {
	Name  string
	Args  []string          // words without '='
	Named map[string]string // words of the form name=value
	Input []string          // lines between the command and its answer
	where string            // file:line, for messages
	t     *testing.T
}

// Has reports whether the word stands among the arguments.
func (c Command) Has(word string) bool {
	for _, a := range c.Args {
		if a == word {
			return true
		}
	}
	return false
}

// Int reads the i-th argument as a number.
func (c Command) Int(i int) int64 {
	c.t.Helper()
	if i >= len(c.Args) {
		c.t.Fatalf("%s: %s needs %d arguments", c.where, c.Name, i+1)
	}
	return c.number(c.Args[i])
}

// NamedInt reads name=number, or gives otherwise when the name is absent.
func (c Command) NamedInt(name string, otherwise int64) int64 {
	c.t.Helper()
	text, ok := c.Named[name]
	if !ok {
		return otherwise
	}
	return c.number(text)
}

func (c Command) number(text string) int64 {
	c.t.Helper()
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		c.t.Fatalf("%s: %v", c.where, err)
	}
	return n
}

// RunAll runs every script that matches the pattern as a subtest. start builds
// a fresh core for each and returns what carries out its commands.
func RunAll(t *testing.T, pattern string, start func(t *testing.T) func(Command) string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenario matches %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			runFile(t, file, start(t))
		})
	}
}

func runFile(t *testing.T, file string, do func(Command) string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	answered := run(t, file, string(text), do)
	if *rewrite && answered != string(text) {
		if err := os.WriteFile(file, []byte(answered), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// run carries out a script and returns it with the answers of this run.
func run(t *testing.T, file, text string, do func(Command) string) string {
	t.Helper()
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for at := 0; at < len(lines); {
		line := lines[at]
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			out.WriteString(line + "\n")
			at++
			continue
		}
		c := parse(t, file+":"+strconv.Itoa(at+1), line)
		start := at
		at++
		for at < len(lines) && lines[at] != separator {
			c.Input = append(c.Input, lines[at])
			at++
		}
		if at == len(lines) {
			t.Fatalf("%s: the command has no %s line", c.where, separator)
		}
		at++
		out.WriteString(strings.Join(lines[start:at], "\n") + "\n")
		var want []string
		for at < len(lines) && strings.TrimSpace(lines[at]) != "" {
			want = append(want, lines[at])
			at++
		}
		got := strings.TrimRight(do(c), "\n")
		if expected := strings.Join(want, "\n"); got != expected && !*rewrite {
			t.Errorf("%s: %s\nwant:\n%s\ngot:\n%s", c.where, line, expected, got)
		}
		if got != "" {
			out.WriteString(got + "\n")
		}
	}
	return out.String()
}

func parse(t *testing.T, where, line string) Command {
	words := strings.Fields(line)
	c := Command{Name: words[0], Named: map[string]string{}, where: where, t: t}
	for _, w := range words[1:] {
		if name, value, ok := strings.Cut(w, "="); ok {
			c.Named[name] = value
		} else {
			c.Args = append(c.Args, w)
		}
	}
	return c
}
