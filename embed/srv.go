package embed

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// srvLookup is net.LookupSRV, or what a test has in its place.
type srvLookup func(service, proto, domain string) (string, []*net.SRV, error)

// srvServices are the services that members are found under, and how to speak
// to them.
var srvServices = []struct{ name, scheme string }{{"etcd-server-ssl", "https"}, {"etcd-server", "http"}}

// srvCluster is the initial cluster as the SRV records of --discovery-srv
// describe it. Records have no names for members: the one that stands for this
// member's own address gets its name, the others get numbers.
func (c *Config) srvCluster(lookup srvLookup) (string, error) {
	var members []string
	var errs []error
	for _, s := range srvServices {
		service := s.name
		if c.DNSClusterServiceName != "" {
			service += "-" + c.DNSClusterServiceName
		}
		_, records, err := lookup(service, "tcp", c.DNSCluster)
		if err != nil {
			errs = append(errs, fmt.Errorf("error querying DNS SRV records for _%s %w", service, err))
			continue
		}
		for _, r := range records {
			u := url.URL{Scheme: s.scheme, Host: net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))}
			name := strconv.Itoa(len(members))
			if slices.ContainsFunc(c.AdvertisePeerUrls, func(own url.URL) bool { return own.Scheme == u.Scheme && sameHost(own.Host, u.Host) }) {
				name = c.Name
			}
			members = append(members, name+"="+u.String())
		}
	}
	if len(members) == 0 {
		err := errors.Join(errs...)
		if err == nil {
			err = fmt.Errorf("no SRV records for %s", c.DNSCluster)
		}
		c.Log().Warn("failed to resolve during SRV discovery", "error", err)
		return "", err
	}
	return strings.Join(members, ","), nil
}

// sameHost compares host:port texts, by what they resolve to if they differ.
func sameHost(a, b string) bool {
	if a == b {
		return true
	}
	x, err := net.ResolveTCPAddr("tcp", a)
	if err != nil {
		return false
	}
	y, err := net.ResolveTCPAddr("tcp", b)
	return err == nil && x.IP.Equal(y.IP) && x.Port == y.Port
}
