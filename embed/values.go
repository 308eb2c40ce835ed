package embed

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// valueFor returns the parser of an option, bound to its place in c. Scalars
// use the flag package's own, whose error texts are what users of etcd see.
func valueFor(o Option, c *Config) flag.Value {
	if o.at == nil {
		return ignored{}
	}
	place := o.at(c)
	if o.Kind == KindEnum {
		return &enum{place.(*string), o}
	}
	switch p := place.(type) {
	case *[]url.URL:
		return (*urlList)(p)
	case *[]string:
		return (*stringList)(p)
	case *uint32:
		return (*uint32Value)(p)
	case flag.Value:
		return p
	}
	return scalar(place)
}

// scalar borrows the flag package's value for a basic type.
func scalar(place any) flag.Value {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	switch p := place.(type) {
	case *string:
		fs.StringVar(p, "x", *p, "")
	case *bool:
		fs.BoolVar(p, "x", *p, "")
	case *int:
		fs.IntVar(p, "x", *p, "")
	case *int64:
		fs.Int64Var(p, "x", *p, "")
	case *uint:
		fs.UintVar(p, "x", *p, "")
	case *uint64:
		fs.Uint64Var(p, "x", *p, "")
	case *time.Duration:
		fs.DurationVar(p, "x", *p, "")
	default:
		panic(fmt.Sprintf("embed: no parser for %T", place))
	}
	return fs.Lookup("x").Value
}

// ignored is a flag of the past: it takes no separate value and has no effect.
type ignored struct{}

func (ignored) Set(string) error { return nil }
func (ignored) String() string   { return "" }
func (ignored) IsBoolFlag() bool { return true }

// enum takes one of the option's values.
type enum struct {
	at     *string
	option Option
}

func (e *enum) Set(s string) error {
	if slices.Contains(e.option.Values, s) {
		*e.at = s
		return nil
	}
	if e.option.Name == "v2-deprecation" { // this one repeats the value
		return fmt.Errorf("invalid value %q", s)
	}
	return errors.New("invalid value")
}

func (e *enum) String() string {
	if e.at == nil {
		return ""
	}
	return *e.at
}

// uint32Value reports numbers out of range in strconv's words, as etcd does.
type uint32Value uint32

func (u *uint32Value) Set(s string) error {
	n, err := strconv.ParseUint(s, 0, 32)
	*u = uint32Value(n)
	return err
}

func (u *uint32Value) String() string { return strconv.FormatUint(uint64(*u), 10) }

// stringList is a comma separated list, in the order given.
type stringList []string

func (l *stringList) Set(s string) error {
	*l = nil
	if s != "" {
		*l = strings.Split(s, ",")
	}
	return nil
}

func (l *stringList) String() string { return strings.Join(*l, ",") }

// uniqueStrings is a comma separated list without order or repetition.
type uniqueStrings []string

func (l *uniqueStrings) Set(s string) error {
	*l = nil
	if s != "" {
		*l = sortedSet(strings.Split(s, ","))
	}
	return nil
}

func (l *uniqueStrings) String() string { return strings.Join(*l, ",") }

// hostSet is a comma separated set of host names.
type hostSet map[string]struct{}

func (h *hostSet) Set(s string) error {
	*h = hostSet{}
	for _, host := range strings.Split(s, ",") {
		if host != "" {
			(*h)[host] = struct{}{}
		}
	}
	return nil
}

func (h *hostSet) String() string { return strings.Join(names(*h), ",") }

// originSet is "*", nothing, or a comma separated set of URLs.
type originSet map[string]struct{}

func (o *originSet) Set(s string) error {
	if s == "" || s == "*" {
		*o = originSet{}
		if s == "*" {
			(*o)[s] = struct{}{}
		}
		return nil
	}
	list, err := ParseURLs(s)
	if err != nil {
		return err
	}
	*o = originSet{}
	for _, u := range list {
		(*o)[u.String()] = struct{}{}
	}
	return nil
}

func (o *originSet) String() string { return strings.Join(names(*o), ",") }

// urlList is a comma separated list of URLs without repetition, sorted.
type urlList []url.URL

func (l *urlList) Set(s string) error {
	if s == "" {
		*l = nil
		return nil
	}
	list, err := ParseURLs(s)
	if err != nil {
		return err
	}
	*l = list
	return nil
}

func (l *urlList) String() string { return strings.Join(urlTexts(*l), ",") }

// ParseURLs reads a comma separated list of listen or advertise URLs, sorts it
// and drops repetitions.
func ParseURLs(list string) ([]url.URL, error) {
	var urls []url.URL
	for _, text := range strings.Split(list, ",") {
		u, err := parseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		urls = append(urls, u)
	}
	sort.Slice(urls, func(i, j int) bool { return urls[i].String() < urls[j].String() })
	return slices.CompactFunc(urls, func(a, b url.URL) bool { return a.String() == b.String() }), nil
}

// parseURL accepts scheme://host:port without a path, and unix sockets.
func parseURL(text string) (url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return url.URL{}, err
	}
	switch u.Scheme {
	case "unix", "unixs":
		return *u, nil
	case "http", "https":
	default:
		return url.URL{}, fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", text)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return url.URL{}, fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
	}
	if u.Path != "" {
		return url.URL{}, fmt.Errorf("URL must not contain a path: %s", text)
	}
	return *u, nil
}

func urlTexts(urls []url.URL) []string {
	texts := make([]string, len(urls))
	for i, u := range urls {
		texts[i] = u.String()
	}
	return texts
}

func sortedSet(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func names(set map[string]struct{}) []string {
	list := make([]string, 0, len(set))
	for name := range set {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
