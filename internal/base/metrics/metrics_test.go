package metrics

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

const referenceTable = "../../../../shared/reference/metrics.tsv"

// lines of the reference table, or a skip.
func reference(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(referenceTable)
	if err != nil {
		t.Skip("no reference table beside this checkout")
	}
	defer f.Close()
	var lines []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return lines
}

// Every family of etcd is declared with its type, labels and buckets, and no
// other.
func TestFamiliesEqualReference(t *testing.T) {
	declared := map[string]Family{}
	for _, f := range New(Options{Extensive: true}).Families() {
		declared[f.Name] = f
	}
	for _, line := range reference(t) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "name\t") {
			continue
		}
		cells := strings.Split(line, "\t")
		if strings.HasPrefix(cells[0], "promhttp_") { // made by the handler
			continue
		}
		f, ok := declared[cells[0]]
		if !ok {
			t.Errorf("%s: missing", cells[0])
			continue
		}
		delete(declared, cells[0])
		labels := slices.Clone(f.Labels)
		sort.Strings(labels)
		want := strings.FieldsFunc(cells[2], func(r rune) bool { return r == ',' })
		sort.Strings(want)
		if f.Type != cells[1] || !slices.Equal(labels, want) || bounds(f.Buckets) != cells[3] {
			t.Errorf("%s: %s %v %s\nwant %v", f.Name, f.Type, labels, bounds(f.Buckets), cells[1:4])
		}
	}
	for name := range declared {
		t.Errorf("%s: not a family of etcd", name)
	}
}

// bounds writes buckets as the exposition does.
func bounds(buckets []float64) string {
	if buckets == nil {
		return ""
	}
	var texts []string
	for _, b := range buckets {
		texts = append(texts, strconv.FormatFloat(b, 'g', -1, 64))
	}
	return strings.Join(append(texts, "+Inf"), ",")
}

// Series of the API's methods exist before the first call, at zero, for every
// result; so do runtime and process families.
func TestSeriesThatExistFromTheStart(t *testing.T) {
	m := New(Options{})
	text := scrape(m)
	if !strings.Contains(text, `grpc_server_handled_total{grpc_code="DataLoss",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0`) ||
		!strings.Contains(text, `grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0`) ||
		!strings.Contains(text, `grpc_server_started_total{grpc_method="Snapshot",grpc_service="etcdserverpb.Maintenance",grpc_type="server_stream"} 0`) {
		t.Error("a series is missing")
	}
	if strings.Contains(text, "grpc_server_handling_seconds") {
		t.Error("handling times belong to the extensive set")
	}
	for _, family := range []string{"etcd_server_has_leader 0", "go_goroutines ", "process_open_fds ", "os_fd_limit ", "promhttp_metric_handler_requests_total"} {
		if !strings.Contains(text, "\n"+family) {
			t.Errorf("%s is missing", family)
		}
	}
	var want []string
	for _, line := range reference(t) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "#" && strings.Contains(f[1], ".") {
			want = append(want, "/"+f[1]+"/"+f[2])
		}
	}
	var have []string
	for full := range m.GRPC.methods {
		have = append(have, full)
	}
	sort.Strings(have)
	sort.Strings(want)
	if !slices.Equal(have, want) {
		t.Errorf("methods:\n%v\nwant\n%v", have, want)
	}
}

func scrape(m *Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// Hooks run before the values are read.
func TestHooksRunFirst(t *testing.T) {
	m := New(Options{})
	m.OnScrape(func() { m.MVCC.CurrentRev.Set(42) })
	if !strings.Contains(scrape(m), "\netcd_debugging_mvcc_current_revision 42\n") {
		t.Error("the hook came too late")
	}
}

// Calls through a real server are counted by method, result, message, byte and
// client version.
func TestCallsAreCounted(t *testing.T) {
	m := New(Options{Extensive: true})
	client := serve(t, m)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "client-api-version", "3.7")
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: "none"}); err == nil {
		t.Fatal("no such service")
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	check := func(what string, c prometheus.Counter, want float64) {
		t.Helper()
		if got := testutil.ToFloat64(c); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	unary := m.GRPC.methods["/grpc.health.v1.Health/Check"]
	check("started", unary.started, 2)
	check("OK", unary.handled[0], 1)
	check("NotFound", unary.handled[5], 1)
	check("received", unary.received, 2)
	check("sent", unary.sent, 1)
	watch := m.GRPC.methods["/grpc.health.v1.Health/Watch"]
	check("stream started", watch.started, 1)
	check("stream received", watch.received, 1)
	check("stream sent", watch.sent, 1)
	check("unary requests", m.Server.ClientRequests.WithLabelValues("unary", "3.7"), 2)
	check("stream requests", m.Server.ClientRequests.WithLabelValues("stream", "unknown"), 1)
	check("bytes in", m.Network.ClientGRPCReceivedBytes, 6) // one request names a service of four letters
	check("bytes out", m.Network.ClientGRPCSentBytes, 4)    // two statuses
}

func serve(t *testing.T, m *Metrics) healthpb.HealthClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.UnaryInterceptor(m.GRPC.Unary), grpc.StreamInterceptor(m.GRPC.Stream), grpc.ForceServerCodecV2(m.GRPC.Codec()))
	healthpb.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return healthpb.NewHealthClient(cc)
}

// A client cannot fill the registry by inventing versions.
func TestClientVersionsAreBounded(t *testing.T) {
	m := New(Options{})
	for i := range 3 * clientVersionsMax {
		md := metadata.Pairs(clientVersionKey, fmt.Sprint(i))
		m.GRPC.requests.count(metadata.NewIncomingContext(context.Background(), md), "unary")
	}
	m.GRPC.requests.count(metadata.NewIncomingContext(context.Background(), metadata.Pairs(clientVersionKey, "\xff")), "unary")
	if n := testutil.CollectAndCount(m.Server.ClientRequests); n > clientVersionsMax+1 {
		t.Errorf("%d series", n)
	}
	if got := testutil.ToFloat64(m.Server.ClientRequests.WithLabelValues("unary", "unknown")); got != 2*clientVersionsMax+1 {
		t.Errorf("unknown: %v", got)
	}
}

func BenchmarkUnary(b *testing.B) {
	m := New(Options{})
	info := &grpc.UnaryServerInfo{FullMethod: "/etcdserverpb.KV/Range"}
	next := func(context.Context, any) (any, error) { return nil, nil }
	ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs(clientVersionKey, "3.7"))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.GRPC.Unary(ctx, nil, info, next)
	}
}
