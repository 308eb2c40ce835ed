package keys

import "testing"

// Each row says what a (key, range_end) pair of the API means for three keys.
func TestSpanContains(t *testing.T) {
	for _, c := range []struct {
		name     string
		span     Span
		in, out  string
		empty    bool
		isPoint  bool
		unending bool
	}{
		{name: "one key", span: Span{Key: []byte("b")}, in: "b", out: "ba", isPoint: true},
		{name: "interval keeps its start", span: Span{[]byte("b"), []byte("d")}, in: "b", out: "a"},
		{name: "interval leaves its end out", span: Span{[]byte("b"), []byte("d")}, in: "cz", out: "d"},
		{name: "from key on", span: Span{[]byte("b"), []byte{0}}, in: "\xff\xff", out: "a", unending: true},
		{name: "inverted", span: Span{[]byte("d"), []byte("b")}, out: "c", empty: true},
		{name: "prefix of ff bytes", span: Span{[]byte("\xff\xff"), PrefixEnd([]byte("\xff\xff"))}, in: "\xff\xffz", out: "\xff", unending: true},
		{name: "prefix ending in ff", span: Span{[]byte("a\xff"), PrefixEnd([]byte("a\xff"))}, in: "a\xff1", out: "b"},
	} {
		if c.in != "" && !c.span.Contains([]byte(c.in)) {
			t.Errorf("%s: %q should be inside", c.name, c.in)
		}
		if c.span.Contains([]byte(c.out)) {
			t.Errorf("%s: %q should be outside", c.name, c.out)
		}
		if c.span.IsEmpty() != c.empty || c.span.IsPoint() != c.isPoint || c.span.IsOpen() != c.unending {
			t.Errorf("%s: shape empty=%v point=%v open=%v", c.name, c.span.IsEmpty(), c.span.IsPoint(), c.span.IsOpen())
		}
	}
}
