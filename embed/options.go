package embed

import (
	"strings"
)

// Option is one row of the table: everything a user can know about one
// setting. Flag, environment variable, config file key, default value, help
// and documentation all derive from it.
type Option struct {
	Name string // flag name; ETCD_ and the upper-cased name make the variable
	Kind Kind
	// Default as text, in the flag's own syntax.
	Default string
	// Effective is the value used when the setting is left at a zero or empty
	// default. Forms in <angle brackets> depend on other settings.
	Effective string
	// YAML is the key in the config file, with a dot where it nests; empty
	// when the file cannot set it.
	YAML string
	// Values lists what an enum takes.
	Values []string
	Group  Group
	Help   string
	// Deprecated is the warning logged when the setting is given.
	Deprecated string

	// at points to the setting inside a Config; nil for ignored flags. The
	// pointer's type chooses the parser, see valueFor.
	at func(*Config) any
}

// Env is the environment variable of the option.
func (o Option) Env() string {
	return envPrefix + strings.ReplaceAll(strings.ToUpper(o.Name), "-", "_")
}

// IsIgnored says that the flag is accepted for old scripts' sake, without effect.
func (o Option) IsIgnored() bool { return o.Kind == KindIgnored }

const envPrefix = "ETCD_"

// Kind is the type of an option as users see it.
type Kind string

const (
	KindString        Kind = "string"
	KindBool          Kind = "bool"
	KindInt           Kind = "int"
	KindInt64         Kind = "int64"
	KindUint          Kind = "uint"
	KindUint32        Kind = "uint32"
	KindUint64        Kind = "uint64"
	KindDuration      Kind = "duration"
	KindEnum          Kind = "enum"
	KindURLs          Kind = "url-list(comma, deduplicated)"
	KindStrings       Kind = "string-list(comma)"
	KindUniqueStrings Kind = "string-list(comma, deduplicated)"
	KindFeatureGates  Kind = "feature-gate-map(name=bool, comma)"
	KindIgnored       Kind = "ignored"
)

// Group is a heading of the help text.
type Group string

const (
	GroupMember       Group = "Member"
	GroupClustering   Group = "Clustering"
	GroupSecurity     Group = "Security"
	GroupAuth         Group = "Auth"
	GroupProfiling    Group = "Profiling and Monitoring"
	GroupLogging      Group = "Logging"
	GroupTracing      Group = "Distributed tracing"
	GroupFeatures     Group = "Features"
	GroupUnsafe       Group = "Unsafe"
	GroupPerformance  Group = "Performance tuning"
	GroupIgnored      Group = "Ignored"
	GroupConfigSource Group = "Configuration"
)

// groupOrder is the order of headings in the help text.
var groupOrder = []Group{
	GroupMember, GroupClustering, GroupSecurity, GroupAuth, GroupProfiling, GroupLogging,
	GroupTracing, GroupPerformance, GroupFeatures, GroupUnsafe, GroupConfigSource,
}

// Groups returns the headings of the help text in order.
func Groups() []Group { return groupOrder }

const (
	maxSnapshotsWarning  = "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."
	v2DeprecationWarning = "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input."
)

// Options returns the table, sorted by name.
func Options() []Option { return table }

// lookup finds a row by flag name.
func lookup(name string) (Option, bool) {
	for _, o := range table {
		if o.Name == name {
			return o, true
		}
	}
	return Option{}, false
}

var table = []Option{
	{Name: "advertise-client-urls", Kind: KindURLs, Default: DefaultAdvertiseClientURLs, YAML: "advertise-client-urls", Group: GroupClustering,
		Help: "URLs that clients of the whole cluster are told to use for this member; required once --listen-client-urls is given.",
		at:   func(c *Config) any { return &c.AdvertiseClientUrls }},
	{Name: "auth-token", Kind: KindString, Default: "simple", YAML: "auth-token", Group: GroupAuth,
		Help: "Kind of auth token: 'simple', or 'jwt' with its options (jwt,pub-key=..,priv-key=..,sign-method=..,ttl=..).",
		at:   func(c *Config) any { return &c.AuthToken }},
	{Name: "auth-token-ttl", Kind: KindUint, Default: "300", YAML: "auth-token-ttl", Group: GroupAuth,
		Help: "Seconds that a simple token stays valid after its last use.",
		at:   func(c *Config) any { return &c.AuthTokenTTL }},
	{Name: "auto-compaction-mode", Kind: KindString, Default: ModePeriodic, YAML: "auto-compaction-mode", Group: GroupMember,
		Help: "What --auto-compaction-retention counts: 'periodic' for time, 'revision' for revisions.",
		at:   func(c *Config) any { return &c.AutoCompactionMode }},
	{Name: "auto-compaction-retention", Kind: KindString, Default: "0", YAML: "auto-compaction-retention", Group: GroupMember,
		Help: "History to keep when compacting by itself: hours or a duration in periodic mode, a number in revision mode; 0 turns it off.",
		at:   func(c *Config) any { return &c.AutoCompactionRetention }},
	{Name: "auto-tls", Kind: KindBool, Default: "false", YAML: "client-transport-security.auto-tls", Group: GroupSecurity,
		Help: "Serve clients over TLS with a certificate made at start.",
		at:   func(c *Config) any { return &c.ClientAutoTLS }},
	{Name: "backend-batch-interval", Kind: KindDuration, Default: "0s", Effective: "100ms", YAML: "backend-batch-interval", Group: GroupPerformance,
		Help: "Longest time between two commits of the backend database.",
		at:   func(c *Config) any { return &c.BackendBatchInterval }},
	{Name: "backend-batch-limit", Kind: KindInt, Default: "0", Effective: "10000", YAML: "backend-batch-limit", Group: GroupPerformance,
		Help: "Most operations in one commit of the backend database.",
		at:   func(c *Config) any { return &c.BackendBatchLimit }},
	{Name: "backend-bbolt-freelist-type", Kind: KindString, Effective: "map", YAML: "backend-bbolt-freelist-type", Group: GroupPerformance,
		Help: "How the backend database keeps its free pages in memory: 'map' or 'array'.",
		at:   func(c *Config) any { return &c.BackendFreelistType }},
	{Name: "bcrypt-cost", Kind: KindUint, Default: "10", YAML: "bcrypt-cost", Group: GroupAuth,
		Help: "Work factor for hashing passwords, 4 to 31.",
		at:   func(c *Config) any { return &c.BcryptCost }},
	{Name: "bootstrap-defrag-threshold-megabytes", Kind: KindUint, Default: "0", YAML: "bootstrap-defrag-threshold-megabytes", Group: GroupMember,
		Help: "Defragment the database at start if that frees at least this many megabytes; 0 never does.",
		at:   func(c *Config) any { return &c.BootstrapDefragThresholdMegabytes }},
	{Name: "cert-file", Kind: KindString, YAML: "client-transport-security.cert-file", Group: GroupSecurity,
		Help: "Certificate shown to clients.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.CertFile }},
	{Name: "cipher-suites", Kind: KindStrings, YAML: "cipher-suites", Group: GroupSecurity,
		Help: "TLS cipher suites to allow below TLS 1.3; empty leaves the choice to Go.",
		at:   func(c *Config) any { return &c.CipherSuites }},
	{Name: "client-cert-allowed-hostname", Kind: KindStrings, YAML: "client-transport-security.allowed-hostname", Group: GroupSecurity,
		Help: "Names of which a client certificate must carry one.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.AllowedHostnames }},
	{Name: "client-cert-auth", Kind: KindBool, Default: "false", YAML: "client-transport-security.client-cert-auth", Group: GroupSecurity,
		Help: "Demand a certificate from clients.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.ClientCertAuth }},
	{Name: "client-cert-file", Kind: KindString, YAML: "client-transport-security.client-cert-file", Group: GroupSecurity,
		Help: "Certificate to show when this member is itself a client; --cert-file when empty.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.ClientCertFile }},
	{Name: "client-crl-file", Kind: KindString, Group: GroupSecurity,
		Help: "Revocation list for client certificates.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.CRLFile }},
	{Name: "client-key-file", Kind: KindString, YAML: "client-transport-security.client-key-file", Group: GroupSecurity,
		Help: "Key of --client-cert-file.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.ClientKeyFile }},
	{Name: "cluster-active-size", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "cluster-remove-delay", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "cluster-sync-interval", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "compact-hash-check-time", Kind: KindDuration, Default: "1m0s", YAML: "compact-hash-check-time", Group: GroupMember,
		Help: "Time between two comparisons of the members' compaction hashes.",
		at:   func(c *Config) any { return &c.CompactHashCheckTime }},
	{Name: "compaction-batch-limit", Kind: KindInt, Default: "0", Effective: "1000", YAML: "compaction-batch-limit", Group: GroupPerformance,
		Help: "Most revisions deleted in one step of a compaction.",
		at:   func(c *Config) any { return &c.CompactionBatchLimit }},
	{Name: "compaction-sleep-interval", Kind: KindDuration, Default: "0s", Effective: "10ms", YAML: "compaction-sleep-interval", Group: GroupPerformance,
		Help: "Pause between two steps of a compaction.",
		at:   func(c *Config) any { return &c.CompactionSleepInterval }},
	{Name: "config", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "config-file", Kind: KindString, Group: GroupConfigSource,
		Help: "Read all settings from this YAML file; every other flag and variable is then ignored.",
		at:   func(c *Config) any { return &c.configFile }},
	{Name: "corrupt-check-time", Kind: KindDuration, Default: "0s", YAML: "corrupt-check-time", Group: GroupMember,
		Help: "Time between two comparisons of the members' data; 0 never compares.",
		at:   func(c *Config) any { return &c.CorruptCheckTime }},
	{Name: "cors", Kind: KindURLs, Default: "*", YAML: "cors", Group: GroupMember,
		Help: "Origins that browsers may call from; '*' or empty allows all.",
		at:   func(c *Config) any { return (*originSet)(&c.CORS) }},
	{Name: "data-dir", Kind: KindString, Effective: "<name>.etcd", YAML: "data-dir", Group: GroupMember,
		Help: "Where this member keeps its data.",
		at:   func(c *Config) any { return &c.Dir }},
	{Name: "discovery-cacert", Kind: KindString, YAML: "discovery-config.client.secure.cacert", Group: GroupClustering,
		Help: "CA that certifies the discovery service.",
		at:   func(c *Config) any { return &c.Discovery.CAFile }},
	{Name: "discovery-cert", Kind: KindString, YAML: "discovery-config.client.secure.cert", Group: GroupClustering,
		Help: "Certificate to show to the discovery service.",
		at:   func(c *Config) any { return &c.Discovery.CertFile }},
	{Name: "discovery-dial-timeout", Kind: KindDuration, Default: "2s", YAML: "discovery-config.client.dial-timeout", Group: GroupClustering,
		Help: "Time to connect to the discovery service.",
		at:   func(c *Config) any { return &c.Discovery.DialTimeout }},
	{Name: "discovery-endpoints", Kind: KindUniqueStrings, YAML: "discovery-config.client.endpoints", Group: GroupClustering,
		Help: "Endpoints of the discovery service that forms a new cluster.",
		at:   func(c *Config) any { return (*uniqueStrings)(&c.Discovery.Endpoints) }},
	{Name: "discovery-fallback", Kind: KindEnum, Default: "exit", Values: []string{"exit", "proxy"}, Group: GroupClustering,
		Help: "What to do when discovery fails; only 'exit' is left.",
		at:   func(c *Config) any { return &c.discoveryFallback }},
	{Name: "discovery-insecure-skip-tls-verify", Kind: KindBool, Default: "false", YAML: "discovery-config.client.secure.insecure-skip-tls-verify", Group: GroupClustering,
		Help: "Do not verify the discovery service's certificate; for tests only.",
		at:   func(c *Config) any { return &c.Discovery.InsecureSkipVerify }},
	{Name: "discovery-insecure-transport", Kind: KindBool, Default: "true", YAML: "discovery-config.client.secure.insecure-transport", Group: GroupClustering,
		Help: "Talk to the discovery service without TLS.",
		at:   func(c *Config) any { return &c.Discovery.InsecureTransport }},
	{Name: "discovery-keepalive-time", Kind: KindDuration, Default: "2s", YAML: "discovery-config.client.keepalive-time", Group: GroupClustering,
		Help: "Time between keepalives to the discovery service.",
		at:   func(c *Config) any { return &c.Discovery.KeepaliveTime }},
	{Name: "discovery-keepalive-timeout", Kind: KindDuration, Default: "6s", YAML: "discovery-config.client.keepalive-timeout", Group: GroupClustering,
		Help: "Time to wait for the answer to such a keepalive.",
		at:   func(c *Config) any { return &c.Discovery.KeepaliveTimeout }},
	{Name: "discovery-key", Kind: KindString, YAML: "discovery-config.client.secure.key", Group: GroupClustering,
		Help: "Key of --discovery-cert.",
		at:   func(c *Config) any { return &c.Discovery.KeyFile }},
	{Name: "discovery-password", Kind: KindString, YAML: "discovery-config.client.auth.password", Group: GroupClustering,
		Help: "Password for the discovery service, if not part of --discovery-user.",
		at:   func(c *Config) any { return &c.Discovery.Password }},
	{Name: "discovery-request-timeout", Kind: KindDuration, Default: "5s", YAML: "discovery-config.client.request-timeout", Group: GroupClustering,
		Help: "Time for one request to the discovery service.",
		at:   func(c *Config) any { return &c.Discovery.RequestTimeout }},
	{Name: "discovery-srv", Kind: KindString, YAML: "discovery-srv", Group: GroupClustering,
		Help: "DNS domain whose SRV records name the initial cluster.",
		at:   func(c *Config) any { return &c.DNSCluster }},
	{Name: "discovery-srv-name", Kind: KindString, YAML: "discovery-srv-name", Group: GroupClustering,
		Help: "Suffix of the SRV service name to ask for.",
		at:   func(c *Config) any { return &c.DNSClusterServiceName }},
	{Name: "discovery-token", Kind: KindString, YAML: "discovery-config.token", Group: GroupClustering,
		Help: "Name of the cluster at the discovery service; goes with --discovery-endpoints.",
		at:   func(c *Config) any { return &c.Discovery.Token }},
	{Name: "discovery-user", Kind: KindString, YAML: "discovery-config.client.auth.username", Group: GroupClustering,
		Help: "User at the discovery service, as name or name:password.",
		at:   func(c *Config) any { return &c.Discovery.Username }},
	{Name: "distributed-tracing-address", Kind: KindString, Default: "localhost:4317", YAML: "distributed-tracing-address", Group: GroupTracing,
		Help: "Where to send traces (OTLP over gRPC).",
		at:   func(c *Config) any { return &c.DistributedTracingAddress }},
	{Name: "distributed-tracing-instance-id", Kind: KindString, YAML: "distributed-tracing-instance-id", Group: GroupTracing,
		Help: "Name of this member in traces; must be unique.",
		at:   func(c *Config) any { return &c.DistributedTracingServiceInstanceID }},
	{Name: "distributed-tracing-sampling-rate", Kind: KindInt, Default: "0", YAML: "distributed-tracing-sampling-rate", Group: GroupTracing,
		Help: "Requests to trace out of a million.",
		at:   func(c *Config) any { return &c.DistributedTracingSamplingRatePerMillion }},
	{Name: "distributed-tracing-service-name", Kind: KindString, Default: "etcd", YAML: "distributed-tracing-service-name", Group: GroupTracing,
		Help: "Name of the service in traces, the same for all members.",
		at:   func(c *Config) any { return &c.DistributedTracingServiceName }},
	{Name: "downgrade-check-time", Kind: KindDuration, Default: "5s", Effective: "5s", YAML: "downgrade-check-time", Group: GroupMember,
		Help: "Time between two looks at whether a downgrade is done.",
		at:   func(c *Config) any { return &c.DowngradeCheckTime }},
	{Name: "election-timeout", Kind: KindUint, Default: "1000", YAML: "election-timeout", Group: GroupMember,
		Help: "Milliseconds without a leader before a member stands for election.",
		at:   func(c *Config) any { return &c.ElectionMs }},
	{Name: "enable-distributed-tracing", Kind: KindBool, Default: "false", YAML: "enable-distributed-tracing", Group: GroupTracing,
		Help: "Send traces.",
		at:   func(c *Config) any { return &c.EnableDistributedTracing }},
	{Name: "enable-grpc-gateway", Kind: KindBool, Default: "true", YAML: "enable-grpc-gateway", Group: GroupMember,
		Help: "Serve the JSON form of the API under /v3.",
		at:   func(c *Config) any { return &c.EnableGRPCGateway }},
	{Name: "enable-log-rotation", Kind: KindBool, Default: "false", YAML: "enable-log-rotation", Group: GroupLogging,
		Help: "Rotate the one file named by --log-outputs.",
		at:   func(c *Config) any { return &c.EnableLogRotation }},
	{Name: "enable-pprof", Kind: KindBool, Default: "false", YAML: "enable-pprof", Group: GroupProfiling,
		Help: "Serve profiles under /debug/pprof/ of the client URLs.",
		at:   func(c *Config) any { return &c.EnablePprof }},
	{Name: "feature-gates", Kind: KindFeatureGates, YAML: "feature-gates", Group: GroupFeatures,
		Help: "Features to turn on or off, as name=true or name=false, comma separated.",
		at:   func(c *Config) any { return &c.FeatureGates }},
	{Name: "force", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "force-new-cluster", Kind: KindBool, Default: "false", YAML: "force-new-cluster", Group: GroupUnsafe,
		Help: "Make this member's data a new cluster of one. Only for disaster recovery: other members' unreplicated writes are lost.",
		at:   func(c *Config) any { return &c.ForceNewCluster }},
	{Name: "grpc-keepalive-interval", Kind: KindDuration, Default: "2h0m0s", YAML: "grpc-keepalive-interval", Group: GroupMember,
		Help: "Quiet time after which the server pings a client; 0 never does.",
		at:   func(c *Config) any { return &c.GRPCKeepAliveInterval }},
	{Name: "grpc-keepalive-min-time", Kind: KindDuration, Default: "5s", YAML: "grpc-keepalive-min-time", Group: GroupMember,
		Help: "Shortest time a client must leave between its pings.",
		at:   func(c *Config) any { return &c.GRPCKeepAliveMinTime }},
	{Name: "grpc-keepalive-timeout", Kind: KindDuration, Default: "20s", YAML: "grpc-keepalive-timeout", Group: GroupMember,
		Help: "Time to wait for the answer to a ping before closing the connection; 0 waits forever.",
		at:   func(c *Config) any { return &c.GRPCKeepAliveTimeout }},
	{Name: "heartbeat-interval", Kind: KindUint, Default: "100", YAML: "heartbeat-interval", Group: GroupMember,
		Help: "Milliseconds between a leader's heartbeats.",
		at:   func(c *Config) any { return &c.TickMs }},
	{Name: "host-whitelist", Kind: KindUniqueStrings, Default: "*", YAML: "host-whitelist", Group: GroupMember,
		Help: "Host names that plain HTTP requests may be addressed to; '*' or empty allows all.",
		at:   func(c *Config) any { return (*hostSet)(&c.HostWhitelist) }},
	{Name: "initial-advertise-peer-urls", Kind: KindURLs, Default: DefaultInitialAdvertisePeerURLs, YAML: "initial-advertise-peer-urls", Group: GroupClustering,
		Help: "URLs at which the other members reach this one.",
		at:   func(c *Config) any { return &c.AdvertisePeerUrls }},
	{Name: "initial-cluster", Kind: KindString, Default: defaultInitialCluster, Effective: "<name>=<each initial-advertise-peer-urls entry>, comma separated", YAML: "initial-cluster", Group: GroupClustering,
		Help: "Members of the cluster to form or join, as name=URL pairs.",
		at:   func(c *Config) any { return &c.InitialCluster }},
	{Name: "initial-cluster-state", Kind: KindEnum, Default: StateNew, Values: []string{StateNew, StateExisting}, YAML: "initial-cluster-state", Group: GroupClustering,
		Help: "'new' to form a cluster, 'existing' to join one.",
		at:   func(c *Config) any { return &c.ClusterState }},
	{Name: "initial-cluster-token", Kind: KindString, Default: "etcd-cluster", YAML: "initial-cluster-token", Group: GroupClustering,
		Help: "Makes the ids of this cluster differ from those of another with the same URLs.",
		at:   func(c *Config) any { return &c.InitialClusterToken }},
	{Name: "initial-election-tick-advance", Kind: KindBool, Default: "true", YAML: "initial-election-tick-advance", Group: GroupMember,
		Help: "Start with most of the first election timeout already passed.",
		at:   func(c *Config) any { return &c.InitialElectionTickAdvance }},
	{Name: "key-file", Kind: KindString, YAML: "client-transport-security.key-file", Group: GroupSecurity,
		Help: "Key of --cert-file.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.KeyFile }},
	{Name: "listen-client-http-urls", Kind: KindURLs, YAML: "listen-client-http-urls", Group: GroupMember,
		Help: "URLs to serve HTTP on; --listen-client-urls then serve gRPC only.",
		at:   func(c *Config) any { return &c.ListenClientHttpUrls }},
	{Name: "listen-client-urls", Kind: KindURLs, Default: DefaultListenClientURLs, YAML: "listen-client-urls", Group: GroupMember,
		Help: "URLs to serve clients on.",
		at:   func(c *Config) any { return &c.ListenClientUrls }},
	{Name: "listen-metrics-urls", Kind: KindURLs, YAML: "listen-metrics-urls", Group: GroupProfiling,
		Help: "Further URLs that serve /metrics and the health checks only.",
		at:   func(c *Config) any { return &c.ListenMetricsUrls }},
	{Name: "listen-peer-urls", Kind: KindURLs, Default: DefaultListenPeerURLs, YAML: "listen-peer-urls", Group: GroupMember,
		Help: "URLs to serve the other members on.",
		at:   func(c *Config) any { return &c.ListenPeerUrls }},
	{Name: "log-format", Kind: KindString, Default: "json", YAML: "log-format", Group: GroupLogging,
		Help: "Form of log lines: 'json' or 'console'.",
		at:   func(c *Config) any { return &c.LogFormat }},
	{Name: "log-level", Kind: KindString, Default: "info", YAML: "log-level", Group: GroupLogging,
		Help: "Least severe lines to log: debug, info, warn, error, panic or fatal.",
		at:   func(c *Config) any { return &c.LogLevel }},
	{Name: "log-outputs", Kind: KindUniqueStrings, Default: "default", YAML: "log-outputs", Group: GroupLogging,
		Help: "Where log lines go: 'default', 'stderr', 'stdout', 'systemd/journal' or file paths, comma separated.",
		at:   func(c *Config) any { return (*uniqueStrings)(&c.LogOutputs) }},
	{Name: "log-rotation-config-json", Kind: KindString, Default: `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`, YAML: "log-rotation-config-json", Group: GroupLogging,
		Help: "When to rotate: maxsize in MB, maxage in days, maxbackups in files; 0 means no limit.",
		at:   func(c *Config) any { return &c.LogRotationConfigJSON }},
	{Name: "logger", Kind: KindString, Default: "zap", YAML: "logger", Group: GroupLogging,
		Help: "Always 'zap': the form of the log lines.",
		at:   func(c *Config) any { return &c.Logger }},
	{Name: "max-concurrent-streams", Kind: KindUint32, Default: "4294967295", YAML: "max-concurrent-streams", Group: GroupMember,
		Help: "Most streams one client connection may have open.",
		at:   func(c *Config) any { return &c.MaxConcurrentStreams }},
	{Name: "max-learners", Kind: KindInt, Default: "1", YAML: "max-learners", Group: GroupMember,
		Help: "Most learners a cluster may have.",
		at:   func(c *Config) any { return &c.MaxLearners }},
	{Name: "max-request-bytes", Kind: KindUint, Default: "1572864", YAML: "max-request-bytes", Group: GroupMember,
		Help: "Largest client request in bytes.",
		at:   func(c *Config) any { return &c.MaxRequestBytes }},
	{Name: "max-result-buffer", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "max-retry-attempts", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "max-snapshots", Kind: KindUint, Default: "5", YAML: "max-snapshots", Group: GroupMember, Deprecated: maxSnapshotsWarning,
		Help: "Snapshot files to keep; 0 keeps all. Deprecated.",
		at:   func(c *Config) any { return &c.MaxSnapFiles }},
	{Name: "max-txn-ops", Kind: KindUint, Default: "128", YAML: "max-txn-ops", Group: GroupMember,
		Help: "Most operations in one list of a transaction.",
		at:   func(c *Config) any { return &c.MaxTxnOps }},
	{Name: "max-wals", Kind: KindUint, Default: "5", YAML: "max-wals", Group: GroupMember,
		Help: "WAL files to keep; 0 keeps all.",
		at:   func(c *Config) any { return &c.MaxWalFiles }},
	{Name: "memory-mlock", Kind: KindBool, Default: "false", YAML: "memory-mlock", Group: GroupMember,
		Help: "Lock the database's pages in memory.",
		at:   func(c *Config) any { return &c.MemoryMlock }},
	{Name: "metrics", Kind: KindString, Default: "basic", YAML: "metrics", Group: GroupProfiling,
		Help: "'extensive' adds histograms of gRPC handling time to the 'basic' metrics.",
		at:   func(c *Config) any { return &c.Metrics }},
	{Name: "name", Kind: KindString, Default: DefaultName, YAML: "name", Group: GroupMember,
		Help: "Name of this member.",
		at:   func(c *Config) any { return &c.Name }},
	{Name: "peer-auto-tls", Kind: KindBool, Default: "false", YAML: "peer-transport-security.auto-tls", Group: GroupSecurity,
		Help: "Talk to peers over TLS with a certificate made at start.",
		at:   func(c *Config) any { return &c.PeerAutoTLS }},
	{Name: "peer-cert-allowed-cn", Kind: KindStrings, YAML: "peer-transport-security.allowed-cn", Group: GroupSecurity,
		Help: "Common names of which a peer certificate must carry one.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.AllowedCNs }},
	{Name: "peer-cert-allowed-hostname", Kind: KindStrings, YAML: "peer-transport-security.allowed-hostname", Group: GroupSecurity,
		Help: "Names of which a peer certificate must carry one.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.AllowedHostnames }},
	{Name: "peer-cert-file", Kind: KindString, YAML: "peer-transport-security.cert-file", Group: GroupSecurity,
		Help: "Certificate shown to peers.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.CertFile }},
	{Name: "peer-client-cert-auth", Kind: KindBool, Default: "false", YAML: "peer-transport-security.client-cert-auth", Group: GroupSecurity,
		Help: "Demand a certificate from peers.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.ClientCertAuth }},
	{Name: "peer-client-cert-file", Kind: KindString, YAML: "peer-transport-security.client-cert-file", Group: GroupSecurity,
		Help: "Certificate to show when calling peers; --peer-cert-file when empty.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.ClientCertFile }},
	{Name: "peer-client-key-file", Kind: KindString, YAML: "peer-transport-security.client-key-file", Group: GroupSecurity,
		Help: "Key of --peer-client-cert-file.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.ClientKeyFile }},
	{Name: "peer-crl-file", Kind: KindString, Group: GroupSecurity,
		Help: "Revocation list for peer certificates.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.CRLFile }},
	{Name: "peer-election-timeout", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "peer-heartbeat-interval", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "peer-key-file", Kind: KindString, YAML: "peer-transport-security.key-file", Group: GroupSecurity,
		Help: "Key of --peer-cert-file.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.KeyFile }},
	{Name: "peer-skip-client-san-verification", Kind: KindBool, Default: "false", YAML: "peer-transport-security.skip-client-san-verification", Group: GroupSecurity,
		Help: "Do not compare a peer's address with the names in its certificate.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.SkipClientSANVerify }},
	{Name: "peer-trusted-ca-file", Kind: KindString, YAML: "peer-transport-security.trusted-ca-file", Group: GroupSecurity,
		Help: "CA that certifies peers.",
		at:   func(c *Config) any { return &c.PeerTLSInfo.TrustedCAFile }},
	{Name: "pre-vote", Kind: KindBool, Default: "true", YAML: "pre-vote", Group: GroupClustering,
		Help: "Ask whether an election could be won before disturbing the cluster with one.",
		at:   func(c *Config) any { return &c.PreVote }},
	{Name: "quota-backend-bytes", Kind: KindInt64, Default: "0", Effective: "2147483648", YAML: "quota-backend-bytes", Group: GroupMember,
		Help: "Size of the database at which writes are refused; negative means no limit.",
		at:   func(c *Config) any { return &c.QuotaBackendBytes }},
	{Name: "raft-read-timeout", Kind: KindDuration, Default: "5s", Group: GroupMember,
		Help: "Read timeout of connections between peers, at least 5s.",
		at:   func(c *Config) any { return &c.RaftReadTimeout }},
	{Name: "raft-write-timeout", Kind: KindDuration, Default: "5s", Group: GroupMember,
		Help: "Write timeout of connections between peers, at least 5s.",
		at:   func(c *Config) any { return &c.RaftWriteTimeout }},
	{Name: "retry-interval", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "self-signed-cert-validity", Kind: KindUint, Default: "1", YAML: "self-signed-cert-validity", Group: GroupSecurity,
		Help: "Years that certificates made at start stay valid.",
		at:   func(c *Config) any { return &c.SelfSignedCertValidity }},
	{Name: "snapshot", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "snapshot-catchup-entries", Kind: KindUint64, Default: "5000", YAML: "snapshot-catchup-entries", Group: GroupMember,
		Help: "Raft entries kept after a snapshot for followers that lag.",
		at:   func(c *Config) any { return &c.SnapshotCatchUpEntries }},
	{Name: "snapshot-count", Kind: KindUint64, Default: "10000", YAML: "snapshot-count", Group: GroupMember,
		Help: "Applied entries after which a raft snapshot is taken.",
		at:   func(c *Config) any { return &c.SnapshotCount }},
	{Name: "socket-reuse-address", Kind: KindBool, Default: "false", YAML: "socket-options.reuse-address", Group: GroupMember,
		Help: "Set SO_REUSEADDR on listeners.",
		at:   func(c *Config) any { return &c.SocketOpts.ReuseAddress }},
	{Name: "socket-reuse-port", Kind: KindBool, Default: "false", YAML: "socket-options.reuse-port", Group: GroupMember,
		Help: "Set SO_REUSEPORT on listeners.",
		at:   func(c *Config) any { return &c.SocketOpts.ReusePort }},
	{Name: "strict-reconfig-check", Kind: KindBool, Default: "true", YAML: "strict-reconfig-check", Group: GroupClustering,
		Help: "Refuse membership changes that would lose the quorum.",
		at:   func(c *Config) any { return &c.StrictReconfigCheck }},
	{Name: "tls-max-version", Kind: KindString, YAML: "tls-max-version", Group: GroupSecurity,
		Help: "Newest TLS version to speak: TLS1.2, TLS1.3, or empty for the newest known.",
		at:   func(c *Config) any { return &c.TlsMaxVersion }},
	{Name: "tls-min-version", Kind: KindString, Default: "TLS1.2", YAML: "tls-min-version", Group: GroupSecurity,
		Help: "Oldest TLS version to speak: TLS1.2 or TLS1.3.",
		at:   func(c *Config) any { return &c.TlsMinVersion }},
	{Name: "trusted-ca-file", Kind: KindString, YAML: "client-transport-security.trusted-ca-file", Group: GroupSecurity,
		Help: "CA that certifies clients.",
		at:   func(c *Config) any { return &c.ClientTLSInfo.TrustedCAFile }},
	{Name: "unsafe-no-fsync", Kind: KindBool, Default: "false", YAML: "unsafe-no-fsync", Group: GroupUnsafe,
		Help: "Do not sync files to disk. A crash then loses acknowledged writes.",
		at:   func(c *Config) any { return &c.UnsafeNoFsync }},
	{Name: "v", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "v2-deprecation", Kind: KindEnum, Default: V2WriteOnly, Effective: V2WriteOnly, Values: []string{V2WriteOnly, "write-only-skip-check", "write-only-drop-data", "gone"}, YAML: "v2-deprecation", Group: GroupMember, Deprecated: v2DeprecationWarning,
		Help: "Phase of the retirement of the v2 store. Deprecated: always 'write-only'.",
		at:   func(c *Config) any { return &c.V2Deprecation }},
	{Name: "version", Kind: KindBool, Default: "false", Group: GroupConfigSource,
		Help: "Print the version and exit.",
		at:   func(c *Config) any { return &c.printVersion }},
	{Name: "vv", Kind: KindIgnored, Group: GroupIgnored},
	{Name: "wal-dir", Kind: KindString, Effective: "<data-dir>/member/wal", YAML: "wal-dir", Group: GroupMember,
		Help: "Where the WAL is kept, if not in the data directory.",
		at:   func(c *Config) any { return &c.WalDir }},
	{Name: "warning-apply-duration", Kind: KindDuration, Default: "100ms", YAML: "warning-apply-duration", Group: GroupMember,
		Help: "Log requests that take longer than this to apply.",
		at:   func(c *Config) any { return &c.WarningApplyDuration }},
	{Name: "warning-unary-request-duration", Kind: KindDuration, Default: "300ms", YAML: "warning-unary-request-duration", Group: GroupMember,
		Help: "Log unary requests that take longer than this.",
		at:   func(c *Config) any { return &c.WarningUnaryRequestDuration }},
	{Name: "watch-progress-notify-interval", Kind: KindDuration, Default: "0s", Effective: "10m0s", YAML: "watch-progress-notify-interval", Group: GroupMember,
		Help: "Time between progress notifications to watchers that ask for them.",
		at:   func(c *Config) any { return &c.WatchProgressNotifyInterval }},
}
