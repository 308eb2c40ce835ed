package client

import (
	"net/url"
	"path"
	"strings"
)

// security says what an endpoint's scheme asks of the transport.
type security int

const (
	securityOptional security = iota // no scheme: TLS if it is configured
	securityNone                     // http, unix
	securityTLS                      // https, unixs
)

// endpoint is one address a user gave, taken apart.
//
//	127.0.0.1:2379           dial tcp 127.0.0.1:2379
//	http://host:2379/any     dial tcp host:2379, no TLS
//	https://host:2379        dial tcp host:2379, TLS
//	unix:///run/etcd.sock    dial unix /run/etcd.sock
//	unix:name.sock:0         dial unix name.sock:0 (relative to the working directory)
type endpoint struct {
	addr      string // what the dialer gets; "unix:" + path for sockets
	authority string // :authority and TLS server name; host:port, or the socket's base name
	security  security
}

func parseEndpoint(text string) endpoint {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return parseSchemeless(text)
	}
	switch scheme {
	case "unix", "unixs":
		return unixEndpoint(rest, schemeSecurity(scheme))
	case "http", "https":
		host := rest
		if u, err := url.Parse(text); err == nil {
			host = u.Host
		}
		return endpoint{addr: host, authority: host, security: schemeSecurity(scheme)}
	}
	return endpoint{addr: text, authority: text}
}

func parseSchemeless(text string) endpoint {
	scheme, rest, ok := strings.Cut(text, ":")
	if ok && (scheme == "unix" || scheme == "unixs") {
		return unixEndpoint(rest, schemeSecurity(scheme))
	}
	return endpoint{addr: text, authority: text}
}

func unixEndpoint(socket string, s security) endpoint {
	return endpoint{addr: "unix:" + socket, authority: path.Base(socket), security: s}
}

func schemeSecurity(scheme string) security {
	if strings.HasSuffix(scheme, "s") {
		return securityTLS
	}
	return securityNone
}
