package embed

import (
	"errors"
	"net"
	"net/url"
	"testing"
)

// Goal: SRV records make an initial cluster in which this member has its name
// and the others have numbers. Method: a resolver that knows two members of one
// service.
func TestClusterFromSRVRecords(t *testing.T) {
	c := NewConfig()
	c.Name, c.DNSCluster, c.DNSClusterServiceName = "me", "example.test", "blue"
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.2:2380"}}
	lookup := func(service, proto, domain string) (string, []*net.SRV, error) {
		if service != "etcd-server-blue" || proto != "tcp" || domain != "example.test" {
			return "", nil, errors.New("no such host")
		}
		return "", []*net.SRV{{Target: "127.0.0.1.", Port: 2380}, {Target: "127.0.0.2.", Port: 2380}}, nil
	}
	got, err := c.srvCluster(lookup)
	if want := "0=http://127.0.0.1:2380,me=http://127.0.0.2:2380"; got != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// Goal: without any record the start is refused, and the error names both
// services.
func TestNoSRVRecords(t *testing.T) {
	c := NewConfig()
	c.DNSCluster = "nonexistent.invalid"
	_, err := c.srvCluster(func(service, _, domain string) (string, []*net.SRV, error) {
		return "", nil, &net.DNSError{Err: "no such host", Name: "_" + service + "._tcp." + domain}
	})
	want := "error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.nonexistent.invalid: no such host\n" +
		"error querying DNS SRV records for _etcd-server lookup _etcd-server._tcp.nonexistent.invalid: no such host"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
