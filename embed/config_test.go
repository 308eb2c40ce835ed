package embed

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/logs"
)

func quiet() *slog.Logger { return logs.Discard() }

// logged returns a logger and what it wrote, as JSON lines.
func logged() (*slog.Logger, *bytes.Buffer) {
	var out bytes.Buffer
	return slog.New(logs.NewHandler(&out, slog.LevelInfo, logs.JSON)), &out
}

func parse(args []string, env ...string) (*Config, error) {
	args = append([]string{"--log-outputs", os.DevNull}, args...)
	return Parse(Input{Args: args, Env: env, ReadFile: noFile, Early: quiet()})
}

func noFile(string) ([]byte, error) { return nil, os.ErrNotExist }

func TestDefaultsAreValid(t *testing.T) {
	c, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.TickInterval() != 100*time.Millisecond || c.ElectionTicks() != 10 || c.RequestTimeout() != 7*time.Second {
		t.Errorf("ticks: %v %d %v", c.TickInterval(), c.ElectionTicks(), c.RequestTimeout())
	}
	if c.DataDir() != "default.etcd" || c.WALDir() != "default.etcd/member/wal" || c.SnapDir() != "default.etcd/member/snap" {
		t.Errorf("directories: %s %s %s", c.DataDir(), c.WALDir(), c.SnapDir())
	}
	if c.InitialCluster != "default=http://localhost:2380" || !c.IsNewCluster() {
		t.Errorf("cluster: %s %s", c.InitialCluster, c.ClusterState)
	}
}

// One dash or two, "=" or a blank, flags of the past: all of Go's flag syntax.
func TestFlagForms(t *testing.T) {
	c, err := parse([]string{"-name=a", "--election-timeout", "2000", "-pre-vote=false", "--force", "--vv=3", "--client-cert-auth",
		"--log-outputs=/dev/null", "--initial-advertise-peer-urls=http://b:1,http://a:1,http://b:1"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "a" || c.ElectionMs != 2000 || c.PreVote || !c.ClientTLSInfo.ClientCertAuth {
		t.Errorf("%+v", c)
	}
	if got := urlTexts(c.AdvertisePeerUrls); !reflect.DeepEqual(got, []string{"http://a:1", "http://b:1"}) {
		t.Errorf("urls are sorted and said once: %v", got)
	}
	c.FollowName()
	if c.InitialCluster != "a=http://a:1,a=http://b:1" {
		t.Errorf("the initial cluster follows the name: %s", c.InitialCluster)
	}
}

// What was typed wrongly is answered in the words users know.
func TestFlagMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--bogus"}, "flag provided but not defined: -bogus"},
		{[]string{"--name"}, "flag needs an argument: -name"},
		{[]string{"--pre-vote=x"}, `invalid boolean value "x" for -pre-vote: parse error`},
		{[]string{"--heartbeat-interval", "abc"}, `invalid value "abc" for flag -heartbeat-interval: parse error`},
		{[]string{"--max-concurrent-streams", "-1"}, `invalid value "-1" for flag -max-concurrent-streams: strconv.ParseUint: parsing "-1": invalid syntax`},
		{[]string{"--initial-cluster-state", "x"}, `invalid value "x" for flag -initial-cluster-state: invalid value`},
		{[]string{"--v2-deprecation", "x"}, `invalid value "x" for flag -v2-deprecation: invalid value "x"`},
		{[]string{"--cors", "x"}, `invalid value "x" for flag -cors: URL scheme must be http, https, unix, or unixs: x`},
		{[]string{"--listen-peer-urls", "http://h"}, `invalid value "http://h" for flag -listen-peer-urls: URL address does not have the form "host:port": http://h`},
		{[]string{"--feature-gates", "X=true"}, `invalid value "X=true" for flag -feature-gates: unrecognized feature gate: X`},
		{[]string{"--feature-gates", "AllAlpha"}, `invalid value "AllAlpha" for flag -feature-gates: missing bool value for AllAlpha`},
	} {
		_, err := parse(c.args)
		var wrong *FlagError
		if !errors.As(err, &wrong) || err.Error() != c.want {
			t.Errorf("%v:\n got %v\nwant %s", c.args, err, c.want)
		}
	}
	if _, err := parse([]string{"word"}); err == nil || err.Error() != `"word" is not a valid flag` {
		t.Errorf("a word: %v", err)
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	if _, err := parse([]string{"-version"}); !errors.Is(err, ErrVersion) {
		t.Errorf("-version: %v", err)
	}
}

// Settings that parse but contradict each other or the world.
func TestValidation(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)"},
		{"--heartbeat-interval 201", "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[201ms]"},
		{"--election-timeout 50001", "--election-timeout[50001ms] is too long, and should be set less than 50000ms"},
		{"--listen-client-urls http://127.0.0.1:1", ErrUnsetAdvertiseClientURLs.Error()},
		{"--listen-peer-urls http://example.com:1", "expected IP in URL for binding (http://example.com:1)"},
		{"--discovery-token t", ErrHalfDiscovery.Error()},
		{"--discovery-srv a --initial-cluster a=http://a:1", ErrConflictingBootstrap.Error()},
		{"--discovery-fallback proxy", `v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`},
		{"--auto-compaction-mode x", `unknown auto-compaction-mode "x"`},
		{"--compact-hash-check-time 0s", "--compact-hash-check-time must be >0 (set to 0s)"},
		{"--feature-gates LeaseCheckpointPersist=true", "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"},
		{"--tls-min-version TLS1.1", `unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)`},
		{"--tls-min-version TLS1.3 --tls-max-version TLS1.2", "min version (TLS1.3) is greater than max version (TLS1.2)"},
		{"--tls-min-version TLS1.3 --cipher-suites X", "cipher suites cannot be configured when only TLS1.3 is enabled"},
		{"--logger capnslog", "--logger=capnslog is removed in v3.5"},
		{"--enable-distributed-tracing --distributed-tracing-sampling-rate -1", "distributed tracing configurition is not valid: (tracing sampling rate must be positive)"},
	} {
		if _, err := parse(strings.Fields(c.args)); err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.args, err, c.want)
		}
	}
}

// A variable fills in for a flag; both at once is refused; a file beats both.
func TestSources(t *testing.T) {
	c, err := parse(nil, "ETCD_NAME=a", "ETCD_ELECTION_TIMEOUT=", "OTHER=1")
	if err != nil || c.Name != "a" || c.ElectionMs != 1000 || !c.WasSet("name") || c.WasSet("election-timeout") {
		t.Errorf("variable: %v %+v", err, c)
	}
	var shadowed *ShadowedError
	if _, err := parse([]string{"--name", "b"}, "ETCD_NAME=a"); !errors.As(err, &shadowed) || shadowed.Variable != "ETCD_NAME" {
		t.Errorf("both: %v", err)
	}
	if _, err := parse(nil, "ETCD_HEARTBEAT_INTERVAL=abc"); err == nil || err.Error() != `invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error` {
		t.Errorf("wrong variable: %v", err)
	}
	file := "name: c\nlog-outputs: [/dev/null]\nunknown-key: 1\nmax-snapshots: 4\n"
	read := func(path string) ([]byte, error) { return []byte(file), nil }
	c, err = Parse(Input{Args: []string{"--name", "b"}, Env: []string{"ETCD_NAME=a", "ETCD_CONFIG_FILE=f"}, ReadFile: read, Early: quiet()})
	if err != nil || c.Name != "c" || c.MaxSnapFiles != 4 {
		t.Errorf("file: %v %+v", err, c)
	}
}

// Secrets in variables do not reach the log.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	early, out := logged()
	args := []string{"--log-outputs", os.DevNull, "--discovery-endpoints", "http://127.0.0.1:1"}
	c, err := Parse(Input{Args: args, Env: []string{"ETCD_DISCOVERY_PASSWORD=hush", "ETCD_DISCOVERY_USER=me:hush", "ETCD_DISCOVERY_TOKEN=hush"}, Early: early})
	if err != nil {
		t.Fatal(err)
	}
	c.UseLogger(early)
	c.LogStarting(StartFacts{})
	if strings.Contains(out.String(), "hush") || !strings.Contains(out.String(), `"discovery-user":"me:***"`) {
		t.Errorf("log: %s", out)
	}
}

// Mistakes in the file are told with etcd's names of their places.
func TestFileMistakes(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"name: [bad", "error converting YAML to JSON: yaml: line 1: did not find expected ',' or ']'"},
		{"warning-apply-duration: 100ms", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go struct field configYAML.Config.warning-apply-duration of type time.Duration"},
		{"peer-transport-security: 5", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into Go struct field configYAML.configJSON.peer-transport-security of type embed.securityConfig"},
		{"peer-transport-security: {cert-file: 5}", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into Go struct field securityConfig.configJSON.peer-transport-security.cert-file of type string"},
		{"text", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type embed.configYAML"},
		{"listen-peer-urls: x", "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: x"},
		{"heartbeat-interval: 0\nlog-outputs: [/dev/null]", "--heartbeat-interval must be >0 (set to 0ms)"},
		{"feature-gates: X=true", "unrecognized feature gate: X"},
	} {
		if _, err := FromYAML([]byte(c.file)); err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.file, err, c.want)
		}
	}
}

// Settings left at zero get their effective defaults, once and for all.
func TestSettle(t *testing.T) {
	c := NewConfig()
	log, out := logged()
	c.UseLogger(log)
	c.SnapshotCount, c.BcryptCost, c.WatchProgressNotifyInterval = 0, 99, time.Millisecond
	c.RaftReadTimeout = time.Second
	c.Settle()
	if c.SnapshotCount != 10000 || c.BcryptCost != 10 || c.WatchProgressNotifyInterval != 100*time.Millisecond || c.RaftReadTimeout != 5*time.Second {
		t.Errorf("adjusted: %d %d %v %v", c.SnapshotCount, c.BcryptCost, c.WatchProgressNotifyInterval, c.RaftReadTimeout)
	}
	if c.QuotaBackendBytes != 2<<30 || c.BackendBatchInterval != 100*time.Millisecond || c.BackendBatchLimit != 10000 || c.Dir != "default.etcd" {
		t.Errorf("filled in: %d %v %d %s", c.QuotaBackendBytes, c.BackendBatchInterval, c.BackendBatchLimit, c.Dir)
	}
	if !strings.Contains(out.String(), "enabled backend quota with default value") {
		t.Errorf("log: %s", out)
	}
	before := *c
	c.Settle()
	if !reflect.DeepEqual(before, *c) {
		t.Error("a second time changes something")
	}
}

func TestCompaction(t *testing.T) {
	for _, c := range []struct {
		mode, retention string
		want            Compaction
	}{
		{ModePeriodic, "0", Compaction{}},
		{ModePeriodic, "2", Compaction{Period: 2 * time.Hour}},
		{ModePeriodic, "30m", Compaction{Period: 30 * time.Minute}},
		{ModeRevision, "1000", Compaction{Revisions: 1000}},
	} {
		cfg := Config{AutoCompactionMode: c.mode, AutoCompactionRetention: c.retention}
		if got, err := cfg.Compaction(); err != nil || got != c.want {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
	cfg := Config{AutoCompactionMode: ModePeriodic, AutoCompactionRetention: "x"}
	if _, err := cfg.Compaction(); err == nil || err.Error() != `error parsing CompactionRetention: time: invalid duration "x"` {
		t.Errorf("%v", err)
	}
}

// A stage may be turned on as a whole; what is said by name counts more.
func TestFeatureStages(t *testing.T) {
	var g FeatureGates
	if !g.Enabled(FastLeaseKeepAlive) || g.Enabled(LeaseCheckpoint) || g.Enabled("Unknown") {
		t.Error("defaults")
	}
	if err := g.Set("AllAlpha=true, AllBeta=false"); err != nil {
		t.Fatal(err)
	}
	if err := g.Set("PriorityRequest=false"); err != nil {
		t.Fatal(err)
	}
	if g.Enabled(FastLeaseKeepAlive) || !g.Enabled(LeaseCheckpoint) || g.Enabled(PriorityRequest) || !g.Enabled(AllAlpha) {
		t.Errorf("stages: %s", g)
	}
	before := g.String()
	if err := g.Set("LeaseCheckpoint=false,Bogus=true"); err == nil || g.String() != before {
		t.Errorf("a wrong list changes nothing: %v %s", err, g)
	}
}

// The file never makes the reader panic, whatever it holds.
func FuzzFile(f *testing.F) {
	f.Add([]byte("name: a\ndata-dir: d\n"))
	f.Add([]byte("client-transport-security:\n  cert-file: x\n  client-cert-auth: true\n"))
	f.Add([]byte("discovery-config: {client: {endpoints: [a], secure: {cacert: b}}, token: t}"))
	f.Add([]byte("listen-peer-urls: http://127.0.0.1:1,unix://x\nfeature-gates: AllBeta=true"))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := yamlToJSON(text)
		if err != nil {
			return
		}
		c := NewConfig()
		if c.readDocument(doc) == nil {
			c.UseLogger(quiet())
			_ = c.Validate()
			c.LogStarting(StartFacts{})
		}
	})
}

// https URLs get a configuration from files or made at start; http ones none.
func TestTLSConfigurations(t *testing.T) {
	c, err := parse([]string{"--data-dir", t.TempDir(), "--auto-tls", "--peer-auto-tls",
		"--listen-client-urls", "https://127.0.0.1:2379", "--advertise-client-urls", "https://127.0.0.1:2379"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.ClientServerTLS([]string{"h2"})
	if err != nil || config == nil || config.NextProtos[0] != "h2" {
		t.Errorf("clients: %v %v", config, err)
	}
	if config, err = c.PeerServerTLS(nil); config != nil || err != nil {
		t.Errorf("peers are called over http: %v %v", config, err)
	}
	if config, err = c.PeerClientTLS(); err != nil || !config.InsecureSkipVerify {
		t.Errorf("certificates made at start cannot be verified: %v", err)
	}
	c.ClientAutoTLS, c.ClientTLSInfo = false, TLSInfo{CertFile: "/nonexistent", KeyFile: "/nonexistent"}
	if _, err = c.ClientServerTLS(nil); err == nil || err.Error() != "open /nonexistent: no such file or directory" {
		t.Errorf("no such file: %v", err)
	}
}
