package embed

import (
	"fmt"
	"net/url"
)

// CheckClientTLS compares the schemes of the client URLs with the TLS settings:
// https without a certificate is an error, certificates without https earn a
// warning. Whoever opens the client listeners calls it first.
func (c *Config) CheckClientTLS() error {
	for _, u := range append(append([]url.URL{}, c.ListenClientUrls...), c.ListenClientHttpUrls...) {
		if isSecure(u) && c.ClientTLSInfo.Empty() && !c.ClientAutoTLS {
			return fmt.Errorf("TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", u.String())
		}
		if !isSecure(u) {
			c.warnUnusedTLS(u)
		}
	}
	return nil
}

func (c *Config) warnUnusedTLS(u url.URL) {
	if !c.ClientTLSInfo.Empty() {
		c.Log().Warn("scheme is http or unix while key and cert files are present; ignoring key and cert files", "client-url", u.String())
	}
	if c.ClientTLSInfo.ClientCertAuth {
		c.Log().Warn("scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL", "client-url", u.String())
	}
}

func isSecure(u url.URL) bool { return u.Scheme == "https" || u.Scheme == "unixs" }
