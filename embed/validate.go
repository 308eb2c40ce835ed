package embed

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/logs"
)

// electionMsMax: a longer election timeout is surely a mistake.
const electionMsMax = 50_000

// Mistakes that callers tell apart.
var (
	ErrUnsetAdvertiseClientURLs = errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
	ErrConflictingBootstrap     = errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`)
	ErrHalfDiscovery            = errors.New("both --discovery-token and --discovery-endpoints must be set")
)

// Validate opens the log and checks the settings, each alone and against each
// other. The first mistake found is returned; the order of the checks is
// etcd's, since scripts see only that one.
func (c *Config) Validate() error {
	if err := c.setupLog(); err != nil {
		return err
	}
	for _, check := range []func() error{
		c.checkURLs,
		c.checkBootstrap,
		c.checkTicks,
		c.checkAdvertised,
		c.checkCompactionMode,
		c.checkTracing,
		c.checkFeatures,
		c.checkHashCheckTime,
		c.checkName,
		c.checkTLSVersions,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// setupLog opens the configured log, unless the embedding program brought one.
func (c *Config) setupLog() error {
	if c.log != nil {
		return nil
	}
	switch c.Logger {
	case "zap":
	case "capnslog":
		return errors.New("--logger=capnslog is removed in v3.5")
	default:
		return fmt.Errorf("unknown logger option %q", c.Logger)
	}
	l, err := logs.Open(logs.Options{
		Level:        c.LogLevel,
		Format:       c.LogFormat,
		Outputs:      c.LogOutputs,
		Rotate:       c.EnableLogRotation,
		RotationJSON: c.LogRotationConfigJSON,
	})
	if err != nil {
		return err
	}
	c.log = l
	return nil
}

func (c *Config) checkURLs() error {
	for _, list := range [][]url.URL{c.ListenPeerUrls, c.ListenClientUrls, c.ListenClientHttpUrls, c.ListenMetricsUrls} {
		if err := checkBindable(list); err != nil {
			return err
		}
	}
	if len(c.ListenClientHttpUrls) == 0 {
		c.Log().Warn("Running http and grpc server on single port. This is not recommended for production.")
	}
	if err := checkReachable("--initial-advertise-peer-urls", c.AdvertisePeerUrls); err != nil {
		return err
	}
	return checkReachable("--advertise-client-urls", c.AdvertiseClientUrls)
}

// checkBindable demands addresses of this host: IPs, since a name may mean
// another host tomorrow, or localhost.
func checkBindable(urls []url.URL) error {
	for _, u := range urls {
		if isUnix(u) {
			continue
		}
		host, _, err := net.SplitHostPort(u.Host)
		if err != nil {
			return err
		}
		if host != "localhost" && net.ParseIP(host) == nil {
			return fmt.Errorf("expected IP in URL for binding (%s)", u.String())
		}
	}
	return nil
}

// checkReachable demands that others can make something of the URLs.
func checkReachable(flag string, urls []url.URL) error {
	for _, u := range urls {
		if isUnix(u) {
			continue
		}
		host, _, err := net.SplitHostPort(u.Host)
		if err == nil && host == "" {
			err = fmt.Errorf("unexpected empty host (%s)", u.String())
		}
		if err != nil {
			return fmt.Errorf(`%s %q must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket" (%w)`,
				flag, strings.Join(urlTexts(urls), ","), err)
		}
	}
	return nil
}

func isUnix(u url.URL) bool { return u.Scheme == "unix" || u.Scheme == "unixs" }

// checkBootstrap demands one way, not two, to learn the first members.
func (c *Config) checkBootstrap() error {
	if c.ClusterState != StateNew && c.ClusterState != StateExisting {
		return fmt.Errorf("unexpected clusterState %q", c.ClusterState)
	}
	ways := 0
	for _, given := range []bool{c.InitialCluster != "", c.DNSCluster != "", len(c.Discovery.Endpoints) > 0} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return ErrConflictingBootstrap
	}
	if (c.Discovery.Token != "") != (len(c.Discovery.Endpoints) > 0) {
		return ErrHalfDiscovery
	}
	return nil
}

func (c *Config) checkTicks() error {
	switch {
	case c.TickMs == 0:
		return fmt.Errorf("--heartbeat-interval must be >0 (set to %dms)", c.TickMs)
	case c.ElectionMs == 0:
		return fmt.Errorf("--election-timeout must be >0 (set to %dms)", c.ElectionMs)
	case 5*c.TickMs > c.ElectionMs:
		return fmt.Errorf("--election-timeout[%vms] should be at least as 5 times as --heartbeat-interval[%vms]", c.ElectionMs, c.TickMs)
	case c.ElectionMs > electionMsMax:
		return fmt.Errorf("--election-timeout[%vms] is too long, and should be set less than %vms", c.ElectionMs, electionMsMax)
	}
	return nil
}

func (c *Config) checkAdvertised() error {
	if len(c.ListenClientUrls) > 0 && len(c.AdvertiseClientUrls) == 0 {
		return ErrUnsetAdvertiseClientURLs
	}
	return nil
}

func (c *Config) checkCompactionMode() error {
	switch c.AutoCompactionMode {
	case ModePeriodic, ModeRevision:
		return nil
	case "":
		return errors.New("undefined auto-compaction-mode")
	}
	return fmt.Errorf("unknown auto-compaction-mode %q", c.AutoCompactionMode)
}

func (c *Config) checkTracing() error {
	const perMillionMax = 1_000_000
	if !c.EnableDistributedTracing {
		return nil
	}
	var err error
	switch rate := c.DistributedTracingSamplingRatePerMillion; {
	case rate < 0:
		err = errors.New("tracing sampling rate must be positive")
	case rate > perMillionMax:
		err = fmt.Errorf("tracing sampling rate must be less than %d", perMillionMax)
	default:
		return nil
	}
	return fmt.Errorf("distributed tracing configurition is not valid: (%w)", err) // spelled as etcd does
}

func (c *Config) checkFeatures() error {
	if c.FeatureGates.Enabled(LeaseCheckpointPersist) && !c.FeatureGates.Enabled(LeaseCheckpoint) {
		return fmt.Errorf("enabling feature gate %s requires enabling feature gate %s", LeaseCheckpointPersist, LeaseCheckpoint)
	}
	return nil
}

func (c *Config) checkHashCheckTime() error {
	if c.CompactHashCheckTime <= 0 {
		return fmt.Errorf("--compact-hash-check-time must be >0 (set to %v)", c.CompactHashCheckTime)
	}
	return nil
}

// checkName only warns: a cluster of one may well be called "default".
func (c *Config) checkName() error {
	if c.Name == DefaultName {
		c.Log().Warn("it isn't recommended to use default name, please set a value for --name. "+
			"Note that etcd might run into issue when multiple members have the same default name", "name", c.Name)
	}
	return nil
}

func (c *Config) checkTLSVersions() error {
	least, newest, err := c.TLSVersions()
	if err != nil {
		return err
	}
	if newest != 0 && least > newest {
		return fmt.Errorf("min version (%s) is greater than max version (%s)", c.TlsMinVersion, c.TlsMaxVersion)
	}
	// Go chooses the suites of TLS 1.3 itself.
	if least == tls.VersionTLS13 && len(c.CipherSuites) > 0 {
		return errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	return nil
}

// TLSVersions returns the oldest and the newest version to speak, in the words
// of crypto/tls; 0 leaves the choice to it.
func (c *Config) TLSVersions() (least, newest uint16, err error) {
	if least, err = tlsVersion(c.TlsMinVersion); err != nil {
		return 0, 0, err
	}
	newest, err = tlsVersion(c.TlsMaxVersion)
	return least, newest, err
}

func tlsVersion(name string) (uint16, error) {
	switch name {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", name)
}

// CipherSuiteIDs translates CipherSuites; a name Go does not know is a mistake.
func (c *Config) CipherSuiteIDs() ([]uint16, error) {
	var ids []uint16
	for _, name := range c.CipherSuites {
		id, ok := cipherSuiteID(name)
		if !ok {
			return nil, fmt.Errorf("unexpected TLS cipher suite %q", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func cipherSuiteID(name string) (uint16, bool) {
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			if s.Name == name {
				return s.ID, true
			}
		}
	}
	return 0, false
}

// retention reads AutoCompactionRetention: hours or revisions when it is a
// plain number, else a duration.
func (c *Config) retention() (time.Duration, error) {
	n, err := strconv.Atoi(c.AutoCompactionRetention)
	if err == nil && n >= 0 {
		switch c.AutoCompactionMode {
		case ModeRevision:
			return time.Duration(n), nil
		case ModePeriodic:
			return time.Duration(n) * time.Hour, nil
		}
		return 0, errors.New("--auto-compaction-mode is undefined")
	}
	d, err := time.ParseDuration(c.AutoCompactionRetention)
	if err != nil {
		return 0, fmt.Errorf("error parsing CompactionRetention: %w", err)
	}
	return d, nil
}
