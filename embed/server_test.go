package embed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/base/logs"
)

// lines is a log that a test reads.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// running is a server on ports of its own.
type running struct {
	*Server
	t   *testing.T
	log *lines
}

// serve starts a server whose configuration change may alter.
func serve(t *testing.T, change func(*Config)) *running {
	t.Helper()
	log := &lines{}
	c := NewConfig()
	c.Dir = filepath.Join(t.TempDir(), "d")
	free := func(scheme string) []url.URL { return []url.URL{{Scheme: scheme, Host: "127.0.0.1:0"}} }
	c.ListenClientUrls, c.ListenPeerUrls = free("http"), free("http")
	c.AdvertisePeerUrls = free("http")
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.AdvertiseClientUrls = free("http")
	c.UseLogger(slog.New(logs.NewHandler(log, slog.LevelInfo, logs.JSON)))
	if change != nil {
		change(c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := Start(ctx, c)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(s.Stop)
	return &running{s, t, log}
}

func (r *running) dial(creds credentials.TransportCredentials) *grpc.ClientConn {
	r.t.Helper()
	cc, err := grpc.NewClient(r.ports.clients[0].Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cc.Close() })
	return cc
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// scraped are the values of /metrics by series.
func (r *running) scraped() map[string]float64 {
	r.t.Helper()
	code, text := get(r.t, http.DefaultClient, "http://"+r.ports.clients[0].Addr().String()+"/metrics")
	if code != http.StatusOK {
		r.t.Fatalf("/metrics: %d", code)
	}
	values := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cut := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[cut+1:]), 64)
		if err != nil {
			r.t.Fatalf("%q: %v", line, err)
		}
		values[line[:cut]] = v
	}
	return values
}

// Goal: the measurements tell what happened. Method: a workload whose numbers
// are known, then one scrape.
func TestMetricsOfAKnownWorkload(t *testing.T) {
	r := serve(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cc := r.dial(insecure.NewCredentials())
	kv, leases, maintenance := pb.NewKVClient(cc), pb.NewLeaseClient(cc), pb.NewMaintenanceClient(cc)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	before := r.scraped()
	watch, err := pb.NewWatchClient(cc).Watch(ctx)
	must(watch, err)
	must(nil, watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l")}}}))
	must(watch.Recv())
	for i := range 10 {
		must(kv.Put(ctx, &pb.PutRequest{Key: []byte("k" + strconv.Itoa(i)), Value: []byte("12345")}))
	}
	for range 3 {
		must(kv.Range(ctx, &pb.RangeRequest{Key: []byte("k1")}))
	}
	must(kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k9")}))
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k8"), Value: []byte("x")}}}
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k7")}}}
	must(kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put, read}}))
	must(kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{read}}))
	grant, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
	must(grant, err)
	must(leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: grant.ID}))
	must(kv.Compact(ctx, &pb.CompactionRequest{Revision: 13, Physical: true}))
	must(maintenance.Defragment(ctx, &pb.DefragmentRequest{}))
	must(maintenance.HashKV(ctx, &pb.HashKVRequest{}))
	if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Lease: 12345}); err == nil {
		t.Error("a put with a lease that does not exist succeeded")
	}
	for events := 0; events < 12; {
		resp, err := watch.Recv()
		must(resp, err)
		events += len(resp.Events)
	}

	after := r.scraped()
	for series, want := range map[string]float64{
		"etcd_mvcc_put_total":                                                                                                11,
		"etcd_mvcc_delete_total":                                                                                             1,
		"etcd_mvcc_range_total":                                                                                              5,
		"etcd_mvcc_txn_total":                                                                                                1,
		"etcd_debugging_mvcc_total_put_size_in_bytes":                                                                        10*7 + 3,
		"etcd_debugging_mvcc_events_total":                                                                                   12,
		"etcd_debugging_mvcc_keys_total":                                                                                     9,
		"etcd_debugging_mvcc_watch_stream_total":                                                                             1,
		"etcd_debugging_mvcc_watcher_total":                                                                                  1,
		"etcd_debugging_mvcc_pending_events_total":                                                                           0,
		"etcd_debugging_lease_granted_total":                                                                                 1,
		"etcd_debugging_lease_revoked_total":                                                                                 1,
		"etcd_debugging_lease_ttl_total_sum":                                                                                 100,
		"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count":                                                1,
		"etcd_disk_backend_defrag_duration_seconds_count":                                                                    1,
		"etcd_mvcc_hash_rev_duration_seconds_count":                                                                          1,
		"etcd_server_proposals_failed_total":                                                                                 0,
		"etcd_debugging_mvcc_db_compaction_keys_total":                                                                       3,
		`etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}`:                                     10,
		`etcd_server_apply_duration_seconds_count{op="Put",success="false",version="v3"}`:                                    1,
		`etcd_server_apply_duration_seconds_count{op="Txn",success="true",version="v3"}`:                                     1,
		`etcd_server_request_duration_seconds_count{success="true",type="Put"}`:                                              10,
		`etcd_server_request_duration_seconds_count{success="false",type="Put"}`:                                             1,
		`etcd_server_request_duration_seconds_count{success="true",type="Range"}`:                                            3,
		`etcd_server_request_duration_seconds_count{success="true",type="Txn"}`:                                              2,
		`etcd_server_range_duration_seconds_count{success="true"}`:                                                           3,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`:       10,
		`grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}`:           1,
		`etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_count`:                                        1,
		`grpc_server_handled_total{grpc_code="NotFound",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`: 1,
	} {
		if got := after[series] - before[series]; got != want {
			t.Errorf("%s grew by %v, want %v", series, got, want)
		}
	}
	for series, want := range map[string]float64{
		"etcd_server_has_leader": 1, "etcd_server_is_leader": 1, "etcd_server_is_learner": 0,
		"etcd_server_leader_changes_seen_total": 1, "etcd_debugging_mvcc_current_revision": 13, "etcd_debugging_mvcc_compact_revision": 13,
		"etcd_server_proposals_pending": 0, "etcd_server_quota_backend_bytes": 2 << 30,
		`etcd_cluster_version{cluster_version="3.7"}`: 1, `etcd_server_version{server_version="3.7.1"}`: 1,
		`etcd_server_feature_enabled{name="FastLeaseKeepAlive",stage="BETA"}`: 1,
	} {
		if got := after[series]; got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	for _, series := range []string{
		"etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_wal_write_bytes_total", "etcd_disk_backend_commit_duration_seconds_count",
		"etcd_mvcc_db_total_size_in_bytes", "etcd_server_proposals_committed_total", "etcd_network_client_grpc_received_bytes_total",
		"etcd_debugging_mvcc_db_compaction_last", "os_fd_used",
	} {
		if after[series] <= 0 {
			t.Errorf("%s is %v", series, after[series])
		}
	}
	r.checkFamilies(after)
}

// checkFamilies looks for every family that etcd shows without being asked.
// Those about peers come with peers.
func (r *running) checkFamilies(values map[string]float64) {
	file, err := os.Open("../../shared/reference/metrics.tsv")
	if err != nil {
		return // no recordings beside this checkout
	}
	defer file.Close()
	shown := map[string]bool{}
	for series := range values {
		name, _, _ := strings.Cut(series, "{")
		shown[name] = true
	}
	checked := 0
	sc := bufio.NewScanner(file)
	for sc.Scan() {
		line := sc.Text()
		if strings.HasPrefix(line, "# defined in") {
			break
		}
		f := strings.Split(line, "\t")
		if strings.HasPrefix(line, "#") || f[0] == "name" || len(f) > 5 && f[5] != "" || strings.Contains(line, "Local=") || strings.Contains(line, "From=") || strings.Contains(line, "To=") || (len(f) > 4 && f[4] != "") {
			continue
		}
		name := f[0]
		if f[1] == "histogram" {
			name += "_count"
		}
		checked++
		if !shown[name] {
			r.t.Errorf("%s is not shown", name)
		}
	}
	if checked < 60 {
		r.t.Errorf("only %d families looked for", checked)
	}
}

// Goal: with ports of their own, gRPC, HTTP and metrics stay apart.
func TestMetricsPortsAndSplitTraffic(t *testing.T) {
	r := serve(t, func(c *Config) {
		free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		c.ListenMetricsUrls, c.ListenClientHttpUrls = free, free
	})
	metricsPort, grpcPort, httpPort := r.ports.metrics[0].Addr().String(), r.ports.clients[0].Addr().String(), r.ports.clients[1].Addr().String()
	if code, body := get(t, http.DefaultClient, "http://"+metricsPort+"/health"); code != http.StatusOK || !strings.Contains(body, `"health":"true"`) {
		t.Errorf("health on the metrics port: %d %s", code, body)
	}
	if code, _ := get(t, http.DefaultClient, "http://"+metricsPort+"/version"); code != http.StatusNotFound {
		t.Errorf("version on the metrics port: %d", code)
	}
	if code, body := get(t, http.DefaultClient, "http://"+httpPort+"/version"); code != http.StatusOK || !strings.Contains(body, `"etcdserver":"3.7.1"`) {
		t.Errorf("version on the HTTP port: %d %s", code, body)
	}
	if resp, err := http.Get("http://" + grpcPort + "/version"); err == nil {
		resp.Body.Close()
		t.Error("the gRPC port answers HTTP")
	}
	if got := r.healthOver(insecure.NewCredentials()); got != nil {
		t.Errorf("gRPC health: %v", got)
	}
	for _, want := range []string{`"serving metrics"`, `"traffic":"grpc"`, `"traffic":"http"`, `"now serving peer/client/metrics"`} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no line with %s", want)
		}
	}
}

func (r *running) healthOver(creds credentials.TransportCredentials) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := healthpb.NewHealthClient(r.dial(creds)).Check(ctx, &healthpb.HealthCheckRequest{})
	if err == nil && resp.Status != healthpb.HealthCheckResponse_SERVING {
		r.t.Errorf("health: %v", resp.Status)
	}
	return err
}

// Goal: with --auto-tls both protocols are encrypted, and clear text is not
// answered.
func TestAutoTLS(t *testing.T) {
	r := serve(t, func(c *Config) {
		c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		c.ClientAutoTLS, c.SelfSignedCertValidity = true, 1
	})
	trusting := &tls.Config{InsecureSkipVerify: true}
	if err := r.healthOver(credentials.NewTLS(trusting)); err != nil {
		t.Errorf("gRPC over TLS: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting}}
	defer client.CloseIdleConnections()
	if code, _ := get(t, client, "https://"+r.ports.clients[0].Addr().String()+"/health"); code != http.StatusOK {
		t.Errorf("HTTP over TLS: %d", code)
	}
	if err := r.healthOver(insecure.NewCredentials()); status.Code(err) != codes.Unavailable {
		t.Errorf("clear text on a TLS port: %v", err)
	}
	if !strings.Contains(r.log.String(), "serving client traffic securely") {
		t.Error("the log does not say that traffic is secure")
	}
}

// Goal: certificates that cannot be read end the server right after its start,
// as they do in etcd.
func TestMissingCertificate(t *testing.T) {
	log := &lines{}
	r := serve(t, func(c *Config) {
		c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		c.ClientTLSInfo = TLSInfo{CertFile: "/nonexistent", KeyFile: "/nonexistent"}
		c.UseLogger(slog.New(logs.NewHandler(log, slog.LevelInfo, logs.JSON)))
	})
	<-r.Done()
	if r.Err() == nil || !strings.Contains(r.Err().Error(), "open /nonexistent: no such file or directory") {
		t.Errorf("ended with %v", r.Err())
	}
	if !strings.Contains(log.String(), "registerGateway failed") {
		t.Error("the log does not tell why")
	}
}

// Goal: what an operator has to know is in the log: slow applies, slow requests,
// changes of users, a defragmentation that takes the server out of service.
// Method: limits that everything is above.
func TestLinesOfARunningServer(t *testing.T) {
	r := serve(t, func(c *Config) {
		c.WarningApplyDuration, c.WarningUnaryRequestDuration = 1, 1
		if err := c.FeatureGates.Set("StopGRPCServiceOnDefrag=true"); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cc := r.dial(insecure.NewCredentials())
	for _, call := range []func() (any, error){
		func() (any, error) {
			return pb.NewKVClient(cc).Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("secret")})
		},
		func() (any, error) { return pb.NewKVClient(cc).Range(ctx, &pb.RangeRequest{Key: []byte("k")}) },
		func() (any, error) { return pb.NewAuthClient(cc).RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "reader"}) },
		func() (any, error) {
			return pb.NewAuthClient(cc).UserAdd(ctx, &pb.AuthUserAddRequest{Name: "alice", Options: &authpb.UserAddOptions{NoPassword: true}})
		},
		func() (any, error) {
			return pb.NewAuthClient(cc).UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "alice", Role: "reader"})
		},
		func() (any, error) { return pb.NewMaintenanceClient(cc).Defragment(ctx, &pb.DefragmentRequest{}) },
	} {
		if _, err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if r.scraped()["etcd_server_slow_apply_total"] < 2 {
		t.Error("slow applies are not counted")
	}
	log := r.log.String()
	for _, want := range []string{
		`"msg":"apply request took too long"`, `"expected-duration":"1ns","prefix":"","request":"header:<ID:`, `"prefix":"read-only range "`,
		`"msg":"request stats"`, `"msg":"created a role","role-name":"reader"`,
		`"msg":"granted a role to a user","user-name":"alice","user-roles":["reader"],"added-role-name":"reader"`,
		`"status":"NOT_SERVING"`, `"msg":"finished defragmenting directory"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no line with %s", want)
		}
	}
	if strings.Contains(log, "secret") {
		t.Error("the log shows a value")
	}
}
