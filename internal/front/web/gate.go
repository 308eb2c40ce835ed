package web

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// gate stands before every handler of the client port: it turns away requests
// for foreign hosts, says which origins may read the answers, and answers
// preflight requests itself.
type gate struct {
	opt  Options
	next http.Handler
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.TLS == nil:
		// Over TLS the certificate already ties the name to this server.
		if host := hostname(r); !allows(g.opt.HostWhitelist, host) {
			g.opt.Log.Warn("rejecting HTTP request to prevent DNS rebinding attacks", "host", host)
			http.Error(w, misdirected(host), http.StatusMisdirectedRequest)
			return
		}
	case g.hasUnusableName(r):
		http.Error(w, "CommonName of client sending a request against gateway will be ignored and not used as expected", http.StatusBadRequest)
		return
	}
	g.addCORS(w, r)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return
	}
	g.next.ServeHTTP(w, r)
}

func (g *gate) addCORS(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if allows(g.opt.CORS, "*") {
		origin = "*"
	} else if origin == "" || !allows(g.opt.CORS, origin) {
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Headers", "accept, content-type, authorization")
}

// hasUnusableName says that a gateway request comes with a user's certificate.
func (g *gate) hasUnusableName(r *http.Request) bool {
	if g.opt.RejectCommonName == nil || !strings.HasPrefix(r.URL.Path, "/v3/") || !g.opt.RejectCommonName() {
		return false
	}
	for _, chain := range r.TLS.VerifiedChains {
		if len(chain) > 0 && chain[0].Subject.CommonName != "" {
			return true
		}
	}
	return false
}

// allows reads a whitelist: an empty one, or one with "*", has everybody on it.
func allows(list map[string]struct{}, name string) bool {
	if len(list) == 0 {
		return true
	}
	if _, ok := list["*"]; ok {
		return true
	}
	_, ok := list[name]
	return ok
}

// hostname is the host a request is addressed to, without its port.
func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// misdirected is the answer to a request for a foreign host. Users search for
// these words, so they are etcd's.
func misdirected(host string) string {
	return fmt.Sprintf(`
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist %q

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).
`, host)
}
