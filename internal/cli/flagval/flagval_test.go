package flagval

import (
	"io"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// Goal: what users see for a wrong number is the standard library's sentence,
// and a wrong value leaves the default. Method: one wrong and one right value
// for each kind.
func TestErrorsAreTheStandardLibrarys(t *testing.T) {
	var (
		d time.Duration
		i int
		n int64
		u uint64
	)
	parse := func(arg string) error {
		fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
		fs.SetOutput(io.Discard)
		Duration(fs, &d, "d", time.Second, "")
		Int(fs, &i, "i", 1, "")
		Int64(fs, &n, "n", 2, "")
		Uint64(fs, &u, "u", 3, "")
		return fs.Parse([]string{arg})
	}
	for arg, want := range map[string]string{
		"--d=bad": `invalid argument "bad" for "--d" flag: time: invalid duration "bad"`,
		"--i=x":   `invalid argument "x" for "--i" flag: strconv.ParseInt: parsing "x": invalid syntax`,
		"--n=abc": `invalid argument "abc" for "--n" flag: strconv.ParseInt: parsing "abc": invalid syntax`,
		"--u=-1":  `invalid argument "-1" for "--u" flag: strconv.ParseUint: parsing "-1": invalid syntax`,
	} {
		if err := parse(arg); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", arg, err, want)
		}
		if d != time.Second || i != 1 || n != 2 || u != 3 {
			t.Errorf("%s changed a default: %v %v %v %v", arg, d, i, n, u)
		}
	}
	if err := parse("--n=-7"); err != nil || n != -7 {
		t.Errorf("--n=-7: %v, %d", err, n)
	}
	if err := parse("--d=1m30s"); err != nil || d != 90*time.Second {
		t.Errorf("--d=1m30s: %v, %v", err, d)
	}
}
