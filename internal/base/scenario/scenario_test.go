package scenario

import (
	"strings"
	"testing"
)

// A script with the right answers runs clean and is written back unchanged;
// what a rewrite would store holds the new answers.
func TestRun(t *testing.T) {
	text := "# Prose stays.\nsay one k=v\n----\nsay [one] v\n\nsay\ntwo\nthree\n----\nsay []\ntwo three\n\nquiet\n----\n"
	answer := func(c Command) string {
		if c.Name == "quiet" {
			return ""
		}
		out := "say [" + strings.Join(c.Args, " ") + "] " + c.Named["k"]
		if len(c.Input) > 0 {
			out = strings.TrimSpace(out) + "\n" + strings.Join(c.Input, " ")
		}
		return out
	}
	if got := run(t, "text", text, answer); got != text {
		t.Errorf("a script that was right is written back as\n%s", got)
	}
	*rewrite = true
	defer func() { *rewrite = false }()
	if got := run(t, "text", text, func(Command) string { return "new" }); strings.Count(got, "new\n") != 3 {
		t.Errorf("rewritten script:\n%s", got)
	}
}

// Arguments read as words, numbers and names.
func TestCommandArguments(t *testing.T) {
	c := parse(t, "here", "do 7 now ttl=0x10")
	if c.Int(0) != 7 || !c.Has("now") || c.Has("then") || c.NamedInt("ttl", 1) != 16 || c.NamedInt("rev", 1) != 1 {
		t.Errorf("read as %+v", c)
	}
}
