// Package embed runs a member inside another program.
//
// Config holds every setting of a member; the option table (options.go) is the
// one place that says how each is called on the command line, in the
// environment and in the config file, and what its default is. Parse fills a
// Config as the etcd command does; NewConfig gives one with defaults for
// programs that set fields themselves. Field names are those that programs
// embedding etcd know.
//
// The package wires the parts of a member together and owns their start and
// stop order. What the parts do is theirs.
package embed

import (
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/logs"
)

// Defaults that other places compare with or show.
const (
	DefaultName                     = "default"
	DefaultListenPeerURLs           = "http://localhost:2380"
	DefaultListenClientURLs         = "http://localhost:2379"
	DefaultInitialAdvertisePeerURLs = "http://localhost:2380"
	DefaultAdvertiseClientURLs      = "http://localhost:2379"

	defaultInitialCluster = DefaultName + "=" + DefaultInitialAdvertisePeerURLs
)

// Values of ClusterState.
const (
	StateNew      = "new"
	StateExisting = "existing"
)

// Values of AutoCompactionMode.
const (
	ModePeriodic = "periodic"
	ModeRevision = "revision"
)

// V2WriteOnly is the only phase of the v2 store's retirement that is in force.
const V2WriteOnly = "write-only"

// Config is every setting of a member. Zero values mean what the table calls
// effective defaults; Settle fills them in.
type Config struct {
	Name   string
	Dir    string // data directory
	WalDir string // empty: inside Dir

	ListenPeerUrls       []url.URL
	ListenClientUrls     []url.URL
	ListenClientHttpUrls []url.URL
	ListenMetricsUrls    []url.URL
	AdvertisePeerUrls    []url.URL
	AdvertiseClientUrls  []url.URL

	ClientTLSInfo          TLSInfo
	ClientAutoTLS          bool
	PeerTLSInfo            TLSInfo
	PeerAutoTLS            bool
	SelfSignedCertValidity uint // years
	CipherSuites           []string
	TlsMinVersion          string
	TlsMaxVersion          string

	InitialCluster        string // name=url,name=url
	InitialClusterToken   string
	ClusterState          string // StateNew or StateExisting
	DNSCluster            string
	DNSClusterServiceName string
	Discovery             DiscoveryConfig
	StrictReconfigCheck   bool
	PreVote               bool

	TickMs                     uint // heartbeat interval, milliseconds
	ElectionMs                 uint // election timeout, milliseconds
	InitialElectionTickAdvance bool
	RaftReadTimeout            time.Duration
	RaftWriteTimeout           time.Duration
	MaxLearners                int

	SnapshotCount                     uint64
	SnapshotCatchUpEntries            uint64
	MaxSnapFiles                      uint
	MaxWalFiles                       uint
	QuotaBackendBytes                 int64 // negative: no quota
	BackendBatchInterval              time.Duration
	BackendBatchLimit                 int
	BackendFreelistType               string
	BootstrapDefragThresholdMegabytes uint
	UnsafeNoFsync                     bool
	MemoryMlock                       bool

	AutoCompactionMode      string // ModePeriodic or ModeRevision
	AutoCompactionRetention string // see Compaction
	CompactionBatchLimit    int
	CompactionSleepInterval time.Duration
	CompactHashCheckTime    time.Duration
	CorruptCheckTime        time.Duration
	DowngradeCheckTime      time.Duration

	MaxTxnOps                   uint
	MaxRequestBytes             uint
	MaxConcurrentStreams        uint32
	GRPCKeepAliveMinTime        time.Duration
	GRPCKeepAliveInterval       time.Duration
	GRPCKeepAliveTimeout        time.Duration
	WatchProgressNotifyInterval time.Duration
	WarningApplyDuration        time.Duration
	WarningUnaryRequestDuration time.Duration
	SocketOpts                  SocketOpts

	CORS              map[string]struct{} // "*" or empty: every origin
	HostWhitelist     map[string]struct{} // "*" or empty: every host
	EnablePprof       bool
	EnableGRPCGateway bool
	Metrics           string

	AuthToken    string
	AuthTokenTTL uint // seconds
	BcryptCost   uint

	EnableDistributedTracing                 bool
	DistributedTracingAddress                string
	DistributedTracingServiceName            string
	DistributedTracingServiceInstanceID      string
	DistributedTracingSamplingRatePerMillion int

	Logger                string
	LogLevel              string
	LogFormat             string
	LogOutputs            []string
	EnableLogRotation     bool
	LogRotationConfigJSON string

	FeatureGates    FeatureGates
	ForceNewCluster bool
	V2Deprecation   string

	// explicit holds the names of options that were given, by flag, variable
	// or file.
	explicit map[string]bool

	// Settings of the command itself.
	configFile        string
	discoveryFallback string
	printVersion      bool

	// log is nil until Validate or UseLogger.
	log *logs.Log
}

// TLSInfo says which certificates to show and which to accept.
type TLSInfo struct {
	CertFile            string
	KeyFile             string
	ClientCertFile      string // empty: CertFile
	ClientKeyFile       string // empty: KeyFile
	TrustedCAFile       string
	CRLFile             string
	ClientCertAuth      bool
	AllowedCNs          []string
	AllowedHostnames    []string
	SkipClientSANVerify bool
}

// Empty says that there is no certificate to serve with.
func (t TLSInfo) Empty() bool { return t.CertFile == "" && t.KeyFile == "" }

// SocketOpts are options set on every listening socket.
type SocketOpts struct {
	ReuseAddress bool
	ReusePort    bool
}

// DiscoveryConfig says how to reach the discovery service.
type DiscoveryConfig struct {
	Token              string
	Endpoints          []string
	DialTimeout        time.Duration
	RequestTimeout     time.Duration
	KeepaliveTime      time.Duration
	KeepaliveTimeout   time.Duration
	InsecureTransport  bool
	InsecureSkipVerify bool
	CertFile           string
	KeyFile            string
	CAFile             string
	Username           string
	Password           string
}

// NewConfig returns a Config with the default of every option.
func NewConfig() *Config {
	c := &Config{FeatureGates: NewFeatureGates(), explicit: map[string]bool{}}
	for _, o := range table {
		if o.Default == "" || o.at == nil {
			continue
		}
		if err := valueFor(o, c).Set(o.Default); err != nil {
			panic(fmt.Sprintf("embed: option %s: default %q: %v", o.Name, o.Default, err))
		}
	}
	return c
}

// UseLogger makes the member log to l instead of what LogOutputs say.
func (c *Config) UseLogger(l *slog.Logger) { c.log = &logs.Log{Logger: l, Level: new(slog.LevelVar)} }

// Log is the member's log; the default one before Validate.
func (c *Config) Log() *slog.Logger { return c.openLog().Logger }

// LogLevelVar changes the log level of the running member.
func (c *Config) LogLevelVar() *slog.LevelVar { return c.openLog().Level }

// HasLog says that Log is the configured one.
func (c *Config) HasLog() bool { return c.log != nil }

func (c *Config) openLog() *logs.Log {
	if c.log == nil {
		return logs.Default()
	}
	return c.log
}

// WasSet says that the option was given, rather than left at its default.
func (c *Config) WasSet(option string) bool { return c.explicit[option] }

func (c *Config) markSet(option string) {
	if c.explicit == nil {
		c.explicit = map[string]bool{}
	}
	c.explicit[option] = true
}

// DataDir is the data directory in use: Dir, or one named after the member.
func (c *Config) DataDir() string {
	if c.Dir == "" {
		return c.Name + ".etcd"
	}
	return c.Dir
}

// MemberDir holds everything of this member inside the data directory.
func (c *Config) MemberDir() string { return filepath.Join(c.DataDir(), "member") }

// SnapDir holds the database and the snapshot files.
func (c *Config) SnapDir() string { return filepath.Join(c.MemberDir(), "snap") }

// WALDir holds the WAL: WalDir if given.
func (c *Config) WALDir() string {
	if c.WalDir != "" {
		return c.WalDir
	}
	return filepath.Join(c.MemberDir(), "wal")
}

// TickInterval is the length of one raft tick, the heartbeat interval.
func (c *Config) TickInterval() time.Duration { return time.Duration(c.TickMs) * time.Millisecond }

// ElectionTicks is the election timeout in ticks.
func (c *Config) ElectionTicks() int { return int(c.ElectionMs / c.TickMs) }

// ElectionTimeout is the time without a leader before an election.
func (c *Config) ElectionTimeout() time.Duration {
	return time.Duration(c.ElectionMs) * time.Millisecond
}

// RequestTimeout is how long a request may wait to be committed and applied:
// 5 s for queueing, computing and syncing plus two elections that may get in
// between, as in etcd.
func (c *Config) RequestTimeout() time.Duration { return 5*time.Second + 2*c.ElectionTimeout() }

// IsNewCluster says that this member is to form a cluster, not to join one.
func (c *Config) IsNewCluster() bool { return c.ClusterState == StateNew }

// InitialClusterFromName is the initial cluster of a member alone: its name
// with each of its peer URLs.
func (c *Config) InitialClusterFromName(name string) string {
	if len(c.AdvertisePeerUrls) == 0 {
		return ""
	}
	if name == "" {
		name = DefaultName
	}
	parts := make([]string, len(c.AdvertisePeerUrls))
	for i, u := range c.AdvertisePeerUrls {
		parts[i] = name + "=" + u.String()
	}
	return strings.Join(parts, ",")
}

// FollowName puts the member's name into the initial cluster if only the name
// was given: `etcd --name a` is a cluster of a.
func (c *Config) FollowName() {
	if c.Name != DefaultName && c.InitialCluster == defaultInitialCluster {
		c.InitialCluster = c.InitialClusterFromName(c.Name)
	}
}

// Compaction is the automatic compaction asked for: at most one of the two is
// not zero.
type Compaction struct {
	Period    time.Duration // keep this much time
	Revisions int64         // keep this many revisions
}

// Compaction reads AutoCompactionRetention in the light of AutoCompactionMode.
// A plain number means hours or revisions; a duration means itself, in
// nanoseconds as revisions if the mode says so.
func (c *Config) Compaction() (Compaction, error) {
	kept, err := c.retention()
	if err != nil {
		return Compaction{}, err
	}
	if c.AutoCompactionMode == ModeRevision {
		return Compaction{Revisions: int64(kept)}, nil
	}
	return Compaction{Period: kept}, nil
}
