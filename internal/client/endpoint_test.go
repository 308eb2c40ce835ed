package client

import "testing"

// Goal: every form of endpoint that etcdctl takes means what it says. Method:
// a table.
func TestEndpointForms(t *testing.T) {
	for text, want := range map[string]endpoint{
		"127.0.0.1:2379":            {"127.0.0.1:2379", "127.0.0.1:2379", securityOptional},
		"localhost:2379":            {"localhost:2379", "localhost:2379", securityOptional},
		"[::1]:2379":                {"[::1]:2379", "[::1]:2379", securityOptional},
		"http://127.0.0.1:2379":     {"127.0.0.1:2379", "127.0.0.1:2379", securityNone},
		"http://127.0.0.1:2379/any": {"127.0.0.1:2379", "127.0.0.1:2379", securityNone},
		"https://host:2379":         {"host:2379", "host:2379", securityTLS},
		"unix:///run/etcd.sock":     {"unix:/run/etcd.sock", "etcd.sock", securityNone},
		"unixs:///run/etcd.sock":    {"unix:/run/etcd.sock", "etcd.sock", securityTLS},
		"unix://name:0":             {"unix:name:0", "name:0", securityNone},
		"unix:name.sock":            {"unix:name.sock", "name.sock", securityNone},
	} {
		if got := parseEndpoint(text); got != want {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"", ":", "://", "http://", "unix://", "https://[::1", "127.0.0.1:2379", "unixs:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if a, b := parseEndpoint(text), parseEndpoint(text); a != b {
			t.Errorf("%q: %v and %v", text, a, b)
		}
	})
}
