package ctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"

	"github.com/steledb/stele/internal/client"
)

// grpcVerbosity is gRPC's most talkative level but one.
const grpcVerbosity = 4

func init() {
	// gRPC's own remarks are for --debug only: standard error is part of what
	// scripts read.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

func logGRPC(w io.Writer) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2WithVerbosity(w, io.Discard, io.Discard, grpcVerbosity))
}

// connect dials the cluster the global flags describe; the run closes it.
func (a *app) connect(cmd *cobra.Command) (*client.Client, error) {
	cfg, err := a.clientConfig(cmd)
	if err != nil {
		return nil, err
	}
	return a.dial(cfg)
}

func (a *app) dial(cfg client.Config) (*client.Client, error) {
	c, err := client.Dial(context.Background(), cfg)
	if err != nil {
		return nil, withCode(exitBadConnection, err)
	}
	if a.client == nil {
		a.client = c
	}
	return c, nil
}

func (a *app) clientConfig(cmd *cobra.Command) (client.Config, error) {
	g := &a.flags
	if err := checkCertFlags(cmd.Flags()); err != nil {
		return client.Config{}, err
	}
	endpoints, err := a.endpoints()
	if err != nil {
		return client.Config{}, err
	}
	secure, err := tlsConfig(tlsFiles{cert: g.cert, key: g.key, ca: g.caCert}, g.insecureTransport, g.insecureSkipVerify)
	if err != nil {
		return client.Config{}, withCode(exitBadArgs, err)
	}
	if secure != nil && secure.ServerName == "" && g.discoverySRV != "" {
		secure.ServerName = g.discoverySRV // records may point anywhere; the domain is what was asked for
	}
	user, password, err := a.askCredentials(g.user, g.password, "Password: ")
	if err != nil {
		return client.Config{}, err
	}
	return client.Config{
		Endpoints: endpoints, TLS: secure,
		Token: g.jwtToken, Username: user, Password: password,
		DialTimeout: g.dialTimeout, KeepAliveTime: g.keepAliveTime, KeepAliveTimeout: g.keepAliveTimeout,
		MaxSendBytes: g.maxRequestBytes, MaxRecvBytes: g.maxRecvBytes,
		Logger: a.logger("etcd-client"),
	}, nil
}

// tlsFiles are the PEM files of one side of a connection; each may be "".
type tlsFiles struct{ cert, key, ca string }

// tlsConfig is nil when nothing asks for TLS; an https:// endpoint then still
// gets the system's defaults.
func tlsConfig(files tlsFiles, plain, skipVerify bool) (*tls.Config, error) {
	if plain && !skipVerify && files == (tlsFiles{}) {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify}
	if (files.cert == "") != (files.key == "") {
		return nil, fmt.Errorf("KeyFile and CertFile must both be present[key: %v, cert: %v]", files.key, files.cert)
	}
	if files.cert != "" {
		pair, err := loadPair(files.cert, files.key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if files.ca != "" {
		pem, err := os.ReadFile(files.ca)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no PEM certificate found in %s", files.ca)
		}
	}
	return cfg, nil
}

func loadPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// askCredentials splits user[:password], and asks for the password if it is
// nowhere else.
func (a *app) askCredentials(user, password, prompt string) (string, string, error) {
	if user == "" || password != "" {
		return user, password, nil
	}
	if name, secret, ok := strings.Cut(user, ":"); ok {
		return name, secret, nil
	}
	password, err := a.askPassword(prompt)
	return user, password, err
}

// endpoints are those of DNS discovery if it is asked for, else the flag's.
func (a *app) endpoints() ([]string, error) {
	g := &a.flags
	if g.discoverySRV == "" {
		return g.endpoints, nil
	}
	found, err := lookupSRV(g.discoverySRV, g.discoverySRVName)
	if err != nil {
		return nil, err
	}
	if g.insecureDiscovery {
		return found, nil
	}
	var secure []string
	for _, ep := range found {
		if strings.HasPrefix(ep, "https://") || strings.HasPrefix(ep, "unixs://") {
			secure = append(secure, ep)
		}
	}
	return secure, nil
}

// lookupSRV asks for the client services of a domain, the TLS one first.
func lookupSRV(domain, name string) ([]string, error) {
	service := "etcd-client"
	if name != "" {
		service += "-" + name
	}
	secure, errSecure := lookupService(service+"-ssl", "https", domain)
	if name != "" {
		secure, errSecure = lookupService("etcd-client-ssl-"+name, "https", domain)
	}
	plain, errPlain := lookupService(service, "http", domain)
	if errSecure != nil && errPlain != nil {
		return nil, fmt.Errorf("dns lookup errors: %w and %w", errSecure, errPlain)
	}
	return append(secure, plain...), nil
}

func lookupService(service, scheme, domain string) ([]string, error) {
	_, records, err := net.LookupSRV(service, "tcp", domain)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errNoSRV
	}
	var urls []string
	for _, r := range records {
		host := net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port))
		urls = append(urls, scheme+"://"+host)
	}
	return urls, nil
}

// clusterEndpoints are the client addresses of all members if --cluster is
// set, else those of the flags.
func (a *app) clusterEndpoints(cmd *cobra.Command, c *client.Client) ([]string, error) {
	if all, _ := cmd.Flags().GetBool("cluster"); !all {
		return c.Endpoints(), nil
	}
	ctx, cancel := a.timeout()
	defer cancel()
	members, err := c.MemberList(ctx, memberListRequest(true))
	if err != nil {
		return nil, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err)
	}
	var eps []string
	for _, m := range members.Members {
		eps = append(eps, m.ClientURLs...)
	}
	if len(eps) == 0 {
		return nil, errors.New("no client URL is known of any member")
	}
	return eps, nil
}
