package utl

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// sameURLs compares two sorted lists; nil if they are the same as texts or
// after resolving names.
func (u *util) sameURLs(a, b []string) error {
	if slices.Equal(a, b) {
		return nil
	}
	ra, err := u.resolve(a)
	if err != nil {
		return err
	}
	rb, err := u.resolve(b)
	if err != nil {
		return err
	}
	if slices.Equal(ra, rb) {
		return nil
	}
	return fmt.Errorf("resolved urls: %q != %q", strings.Join(ra, ","), strings.Join(rb, ","))
}

// resolve replaces host names by addresses, and sorts. localhost stays: it is
// an address everywhere, and which one depends on the machine.
func (u *util) resolve(list []string) ([]string, error) {
	var out []string
	for _, text := range list {
		parsed, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		if parsed.Hostname() != "localhost" && strings.HasPrefix(parsed.Scheme, "http") {
			addr, err := net.ResolveTCPAddr("tcp", parsed.Host)
			if err != nil {
				return nil, fmt.Errorf("failed to resolve host %s (%w)", text, err)
			}
			u.log.Info("resolved URL Host", "url", text, "host", parsed.Host, "resolved-addr", addr.String())
			parsed.Host = addr.String()
		}
		out = append(out, parsed.String())
	}
	slices.Sort(out)
	return out, nil
}
