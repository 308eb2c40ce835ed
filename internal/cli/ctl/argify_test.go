package ctl

import (
	"slices"
	"strings"
	"testing"
)

// Goal: lines of txn and watch -i are split the way recorded sessions were.
func TestArgify(t *testing.T) {
	for line, want := range map[string][]string{
		``:                               nil,
		`   `:                            nil,
		`get key1 --prefix`:              {"get", "key1", "--prefix"},
		`put key "some extra key"`:       {"put", "key", "some extra key"},
		`put 'single' 'it is'`:           {"put", "single", "it is"},
		`put 'no \n escapes' x`:          {"put", `no \n escapes`, "x"},
		`put plain un"quo"ted`:           {"put", "plain", `un"quo"ted`},
		`put hexv "\x00\x41\u00e9"`:      {"put", "hexv", "\x00Aé"},
		`put esc "q \" b \\ t\t n\nend"`: {"put", "esc", "q \" b \\ t\t n\nend"},
		`put empty ""`:                   {"put", "empty", ""},
		"put `raw` `back\\ntick`":        {"put", "`raw`", "`back\\ntick`"},
		`put multi "line one`:            {"put", "multi", "line", "one"},
		`line two"`:                      {"line", `two"`},
	} {
		if got := argify(line); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// Goal: no line breaks it, and without quotes it splits at white space.
func FuzzArgify(f *testing.F) {
	for _, s := range []string{``, `"`, `'`, `"\`, `a "b\"" 'c' d"e`, "put k \"\xff\"", `""''`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := argify(line)
		if strings.ContainsAny(line, `"'`) {
			return
		}
		want := strings.FieldsFunc(line, func(r rune) bool { return r < 0x80 && isSpace(byte(r)) })
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	})
}
