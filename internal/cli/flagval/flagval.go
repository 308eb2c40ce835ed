// Package flagval has the number and duration flags of the command-line tools.
// They are pflag values whose errors are those of the standard library, as
// users of etcdctl and etcdutl know them: `strconv.ParseInt: parsing "x":
// invalid syntax`.
package flagval

import (
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// value adapts a pair of functions to pflag.
type value[T any] struct {
	p     *T
	kind  string
	parse func(string) (T, error)
	text  func(T) string
}

func (v *value[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err == nil {
		*v.p = parsed
	}
	return err
}

func (v *value[T]) String() string {
	if v.p == nil { // pflag asks a zero value what zero looks like
		return ""
	}
	return v.text(*v.p)
}

func (v *value[T]) Type() string { return v.kind }

// Duration declares a flag such as "5s".
func Duration(fs *pflag.FlagSet, p *time.Duration, name string, def time.Duration, usage string) {
	*p = def
	fs.Var(&value[time.Duration]{p, "duration", time.ParseDuration, time.Duration.String}, name, usage)
}

// Int64 declares a signed number.
func Int64(fs *pflag.FlagSet, p *int64, name string, def int64, usage string) {
	*p = def
	fs.Var(&value[int64]{p, "int",
		func(s string) (int64, error) { return strconv.ParseInt(s, 0, 64) },
		func(n int64) string { return strconv.FormatInt(n, 10) }}, name, usage)
}

// Int declares a signed number of the machine's size.
func Int(fs *pflag.FlagSet, p *int, name string, def int, usage string) {
	*p = def
	fs.Var(&value[int]{p, "int",
		func(s string) (int, error) {
			n, err := strconv.ParseInt(s, 0, strconv.IntSize)
			return int(n), err
		},
		strconv.Itoa}, name, usage)
}

// Uint64 declares an unsigned number.
func Uint64(fs *pflag.FlagSet, p *uint64, name string, def uint64, usage string) {
	*p = def
	fs.Var(&value[uint64]{p, "uint",
		func(s string) (uint64, error) { return strconv.ParseUint(s, 0, 64) },
		func(n uint64) string { return strconv.FormatUint(n, 10) }}, name, usage)
}
