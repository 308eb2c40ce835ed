package embed

import (
	"context"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/steledb/stele/internal/base/version"
)

// Limits of settings that are adjusted rather than refused.
const (
	bcryptCostMin, bcryptCostMax, bcryptCostDefault = 4, 31, 10

	raftTimeoutMin         = 5 * time.Second
	progressIntervalMin    = 100 * time.Millisecond
	recommendedRequestMax  = 10 << 20
	recommendedQuotaMax    = 8 << 30
	defaultSnapshotEntries = 10_000

	// grpcOverheadBytes is what one request may be longer on the wire than
	// --max-request-bytes, for the envelope around keys and values.
	grpcOverheadBytes = 512 << 10
)

// Settle replaces settings left at zero by their effective defaults and
// adjusts those out of bounds, telling the log. It is idempotent; whoever
// starts a member calls it once after Validate.
func (c *Config) Settle() {
	log := c.Log()
	if c.SnapshotCount == 0 {
		log.Info("updating snapshot-count to default", "given-snapshot-count", c.SnapshotCount, "updated-snapshot-count", uint64(defaultSnapshotEntries))
		c.SnapshotCount = defaultSnapshotEntries
	}
	for _, o := range table {
		c.settleOption(o)
	}
	c.Dir = c.DataDir()
	c.RaftReadTimeout = max(c.RaftReadTimeout, raftTimeoutMin)
	c.RaftWriteTimeout = max(c.RaftWriteTimeout, raftTimeoutMin)
	if c.WatchProgressNotifyInterval < progressIntervalMin {
		log.Warn("adjusting watch progress notify interval to minimum period", "min-watch-progress-notify-interval", progressIntervalMin)
		c.WatchProgressNotifyInterval = progressIntervalMin
	}
	c.settleBcrypt()
	c.warnLargeLimits()
}

// settleOption gives a zero setting its effective default, if that is a value
// and not a rule.
func (c *Config) settleOption(o Option) {
	if o.Effective == "" || strings.Contains(o.Effective, "<") {
		return
	}
	if !reflect.ValueOf(o.at(c)).Elem().IsZero() {
		return
	}
	if err := valueFor(o, c).Set(o.Effective); err != nil {
		panic("embed: option " + o.Name + ": effective default: " + err.Error())
	}
}

func (c *Config) settleBcrypt() {
	if c.BcryptCost >= bcryptCostMin && c.BcryptCost <= bcryptCostMax {
		return
	}
	c.Log().Warn("use default bcrypt cost instead of the invalid given cost",
		"min-cost", bcryptCostMin, "max-cost", bcryptCostMax, "default-cost", bcryptCostDefault, "given-cost", c.BcryptCost)
	c.BcryptCost = bcryptCostDefault
}

func (c *Config) warnLargeLimits() {
	if c.MaxRequestBytes > recommendedRequestMax {
		c.Log().Warn("exceeded recommended request limit",
			"max-request-bytes", c.MaxRequestBytes, "max-request-size", humanize.Bytes(uint64(c.MaxRequestBytes)),
			"recommended-request-bytes", recommendedRequestMax, "recommended-request-size", humanize.Bytes(recommendedRequestMax))
	}
	c.tellQuota("v3-applier")
}

// tellQuota says which limit the database has.
func (c *Config) tellQuota(name string) {
	log, quota := c.Log(), c.QuotaBackendBytes
	switch {
	case quota < 0:
		log.Info("disabled backend quota", "quota-name", name, "quota-size-bytes", quota)
	case !c.WasSet("quota-backend-bytes"):
		log.Info("enabled backend quota with default value", "quota-name", name, "quota-size-bytes", quota, "quota-size", humanize.Bytes(uint64(quota)))
	case quota > recommendedQuotaMax:
		log.Warn("quota exceeds the maximum value", "quota-name", name, "quota-size-bytes", quota, "quota-size", humanize.Bytes(uint64(quota)),
			"quota-maximum-size-bytes", int64(recommendedQuotaMax), "quota-maximum-size", humanize.Bytes(recommendedQuotaMax))
		fallthrough
	default:
		log.Info("enabled backend quota", "quota-name", name, "quota-size-bytes", quota, "quota-size", humanize.Bytes(uint64(quota)))
	}
}

// RequestBytesMax bounds one gRPC message from a client.
func (c *Config) RequestBytesMax() int { return int(c.MaxRequestBytes) + grpcOverheadBytes }

// StartFacts are facts for the startup line that only the starting member
// knows.
type StartFacts struct {
	MemberInitialized bool
	LocalAddress      string
}

// LogStarting writes the one line that shows the whole configuration. Secrets
// are left out.
func (c *Config) LogStarting(f StartFacts) {
	compaction, _ := c.retention() // a mistake is reported where it is used
	c.Log().LogAttrs(context.Background(), slog.LevelInfo, "starting an etcd server",
		slog.String("etcd-version", version.Etcd),
		slog.String("git-sha", version.SHA()),
		slog.String("go-version", runtime.Version()),
		slog.String("go-os", runtime.GOOS),
		slog.String("go-arch", runtime.GOARCH),
		slog.Int("max-cpu-set", runtime.GOMAXPROCS(0)),
		slog.Int("max-cpu-available", runtime.NumCPU()),
		slog.Bool("member-initialized", f.MemberInitialized),
		slog.String("name", c.Name),
		slog.String("data-dir", c.DataDir()),
		slog.String("wal-dir", c.WALDir()),
		slog.String("wal-dir-dedicated", c.WalDir),
		slog.String("member-dir", c.MemberDir()),
		slog.Bool("force-new-cluster", c.ForceNewCluster),
		slog.Duration("heartbeat-interval", c.TickInterval()),
		slog.Duration("election-timeout", c.ElectionTimeout()),
		slog.Bool("initial-election-tick-advance", c.InitialElectionTickAdvance),
		slog.Uint64("snapshot-count", c.SnapshotCount),
		slog.Uint64("max-wals", uint64(c.MaxWalFiles)),
		slog.Uint64("max-snapshots", uint64(c.MaxSnapFiles)),
		slog.Uint64("snapshot-catchup-entries", c.SnapshotCatchUpEntries),
		slog.Any("initial-advertise-peer-urls", urlTexts(c.AdvertisePeerUrls)),
		slog.Any("listen-peer-urls", urlTexts(c.ListenPeerUrls)),
		slog.Any("advertise-client-urls", urlTexts(c.AdvertiseClientUrls)),
		slog.Any("listen-client-urls", urlTexts(c.ListenClientUrls)),
		slog.Any("listen-metrics-urls", urlTexts(c.ListenMetricsUrls)),
		slog.String("local-address", f.LocalAddress),
		slog.Any("cors", names(c.CORS)),
		slog.Any("host-whitelist", names(c.HostWhitelist)),
		slog.String("initial-cluster", c.InitialCluster),
		slog.String("initial-cluster-state", c.ClusterState),
		slog.String("initial-cluster-token", c.InitialClusterToken),
		slog.Int64("quota-backend-bytes", c.QuotaBackendBytes),
		slog.Uint64("max-request-bytes", uint64(c.MaxRequestBytes)),
		slog.Uint64("max-concurrent-streams", uint64(c.MaxConcurrentStreams)),
		slog.Bool("pre-vote", c.PreVote),
		slog.String("feature-gates", c.FeatureGates.String()),
		slog.Bool("initial-corrupt-check", c.FeatureGates.Enabled(InitialCorruptCheck)),
		slog.Duration("corrupt-check-time-interval", c.CorruptCheckTime),
		slog.Duration("compact-check-time-interval", c.CompactHashCheckTime),
		slog.String("auto-compaction-mode", c.AutoCompactionMode),
		slog.Duration("auto-compaction-retention", compaction),
		slog.String("auto-compaction-interval", compaction.String()),
		slog.String("discovery-token", redact(c.Discovery.Token)),
		slog.String("discovery-endpoints", strings.Join(c.Discovery.Endpoints, ",")),
		slog.Duration("discovery-dial-timeout", c.Discovery.DialTimeout),
		slog.Duration("discovery-request-timeout", c.Discovery.RequestTimeout),
		slog.Duration("discovery-keepalive-time", c.Discovery.KeepaliveTime),
		slog.Duration("discovery-keepalive-timeout", c.Discovery.KeepaliveTimeout),
		slog.Bool("discovery-insecure-transport", c.Discovery.InsecureTransport),
		slog.Bool("discovery-insecure-skip-tls-verify", c.Discovery.InsecureSkipVerify),
		slog.String("discovery-cert", c.Discovery.CertFile),
		slog.String("discovery-key", c.Discovery.KeyFile),
		slog.String("discovery-cacert", c.Discovery.CAFile),
		slog.String("discovery-user", redactUser(c.Discovery.Username)),
		slog.Duration("downgrade-check-interval", c.DowngradeCheckTime),
		slog.Int("max-learners", c.MaxLearners),
		slog.String("v2-deprecation", c.V2Deprecation),
	)
}

// redacted is the option's value as it may be logged.
func (o Option) redacted(value string) string {
	switch o.Name {
	case "discovery-password", "discovery-token":
		return redact(value)
	case "discovery-user":
		return redactUser(value)
	}
	return value
}

const hidden = "***"

func redact(secret string) string {
	if secret == "" {
		return ""
	}
	return hidden
}

// redactUser hides the password of "name:password".
func redactUser(user string) string {
	if name, _, ok := strings.Cut(user, ":"); ok {
		return name + ":" + hidden
	}
	return user
}
