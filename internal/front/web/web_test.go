package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/metrics"
)

// member is a member as a test wants it.
type member struct {
	alarms  []Alarm
	leader  uint64
	learner bool
	// err is the result of reads, by whether they are serializable.
	err map[bool]error
}

func (m *member) Alarms() []Alarm                        { return m.alarms }
func (m *member) Leader() uint64                         { return m.leader }
func (m *member) IsLearner() bool                        { return m.learner }
func (m *member) Read(_ context.Context, ser bool) error { return m.err[ser] }
func (m *member) Versions() Versions                     { return Versions{"3.7.1", "3.7.0", "3.7.0"} }

func get(h http.Handler, path string) (int, string)  { return ask(h, "GET", path) }
func post(h http.Handler, path string) (int, string) { return ask(h, "POST", path) }

func options(m *member, mx *metrics.Metrics) Options {
	return Options{
		Member: m, Metrics: mx.Handler(), Health: &mx.Health, CORS: set("*"), HostWhitelist: set("*"),
		Vars: map[string]func() any{"raft.status": func() any { return map[string]any{"id": "1"} }},
	}
}

func set(names ...string) map[string]struct{} {
	s := map[string]struct{}{}
	for _, n := range names {
		s[n] = struct{}{}
	}
	return s
}

func ask(h http.Handler, method, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

// row is one recorded request and its answer.
type row struct {
	listener, method, path, requestHeaders, requestBody string
	status, contentType, headers, body, note            string
}

func recorded(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("../../../../shared/reference/http.tsv")
	if err != nil {
		t.Skip("no recordings beside this checkout")
	}
	defer f.Close()
	unescape := strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t")
	var rows []row
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if strings.HasPrefix(sc.Text(), "#") || strings.HasPrefix(sc.Text(), "listener\t") {
			continue
		}
		c := strings.Split(sc.Text(), "\t")
		for i := range c {
			c[i] = unescape.Replace(c[i])
		}
		rows = append(rows, row{c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9]})
	}
	return rows
}

// ours says whether a row is about this package.
func (r row) ours() bool {
	own := r.listener == "client" || r.listener == "metrics" || r.listener == "client-http"
	return own && !strings.HasPrefix(r.path, "/v3") && r.status != "-"
}

// Goal: answers equal etcd's byte for byte, headers too. Method: replay every
// recorded request to a real HTTP server around a fake member.
func TestRecordedAnswers(t *testing.T) {
	mx := metrics.New(metrics.Options{})
	n := 0
	for _, r := range recorded(t) {
		if !r.ours() {
			continue
		}
		n++
		m := &member{leader: 1}
		opt := options(m, mx)
		opt.Pprof = !strings.Contains(r.note, "without --enable-pprof")
		if strings.Contains(r.note, "NOSPACE") {
			m.alarms = []Alarm{{Type: "NOSPACE", Member: 1}}
		}
		if strings.Contains(r.note, "--host-whitelist localhost") {
			// The recorded server had restricted origins too.
			opt.HostWhitelist, opt.CORS = set("localhost"), set("http://a.example")
		}
		h := Client(opt)
		if r.listener == "metrics" {
			h = MetricsOnly(opt)
		}
		r.replay(t, h)
	}
	if n < 80 {
		t.Errorf("only %d rows replayed", n)
	}
}

func (r row) replay(t *testing.T, h http.Handler) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	req, err := http.NewRequest(r.method, server.URL+r.path, strings.NewReader(r.requestBody))
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range strings.Split(strings.TrimSuffix(r.requestHeaders, ";"), "; ") {
		if name, value, ok := strings.Cut(pair, ": "); ok {
			req.Header.Set(name, value)
			if name == "Host" {
				req.Host = value
			}
		}
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	what := r.listener + " " + r.method + " " + r.path + " " + r.note
	if got := resp.Status[:3]; got != r.status {
		t.Errorf("%s: status %s, want %s", what, got, r.status)
	}
	if got := resp.Header.Get("Content-Type"); got != r.contentType {
		t.Errorf("%s: type %q, want %q", what, got, r.contentType)
	}
	if got := headersOf(resp); got != r.headers {
		t.Errorf("%s: headers\n got %s\nwant %s", what, got, r.headers)
	}
	r.checkBody(t, what, string(body))
}

// headersOf writes headers as the table does.
func headersOf(resp *http.Response) string {
	var list []string
	for name, values := range resp.Header {
		switch name {
		case "Date", "Content-Length", "Content-Type", "Connection":
		case "Vary": // added by a later promhttp than the recorded one, rightly
		default:
			list = append(list, name+": "+strings.Join(values, ", "))
		}
	}
	if len(resp.TransferEncoding) > 0 {
		list = append(list, "Transfer-Encoding: "+resp.TransferEncoding[0])
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

func (r row) checkBody(t *testing.T, what, body string) {
	t.Helper()
	switch {
	case strings.HasPrefix(r.body, "(Prometheus"), strings.HasPrefix(r.body, "(profile"), strings.HasPrefix(r.body, "(argv"):
		if body == "" {
			t.Errorf("%s: empty", what)
		}
	case strings.HasPrefix(r.body, "(JSON object with keys: "):
		var have map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &have); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, key := range strings.Split(strings.TrimSuffix(strings.TrimPrefix(r.body, "(JSON object with keys: "), ")"), ", ") {
			if have[key] == nil {
				t.Errorf("%s: no %s", what, key)
			}
		}
	case sorted(body) != sorted(r.body): // the order of checks differs between recordings
		t.Errorf("%s: body\n got %q\nwant %q", what, body, r.body)
	}
}

func sorted(body string) string {
	lines := strings.Split(body, "\n")
	if !strings.HasPrefix(body, "[") {
		return body
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// /health tells the first reason there is, in a fixed order.
func TestHealthReasons(t *testing.T) {
	down := map[bool]error{false: errors.New("etcdserver: request timed out"), true: errors.New("closed")}
	for _, c := range []struct {
		name, query string
		member      member
		want        string
	}{
		{"fine", "", member{leader: 1}, ""},
		{"corrupt", "", member{alarms: []Alarm{{"CORRUPT", 1}}}, "ALARM CORRUPT"},
		{"an alarm of the future", "", member{leader: 1, alarms: []Alarm{{"HEAT", 1}}}, "ALARM UNKNOWN"},
		{"excluded", "?exclude=NOSPACE&exclude=CORRUPT", member{leader: 1, alarms: []Alarm{{"CORRUPT", 1}, {"NOSPACE", 1}}}, ""},
		{"one excluded", "?exclude=NOSPACE", member{leader: 1, alarms: []Alarm{{"NOSPACE", 1}, {"CORRUPT", 2}}}, "ALARM CORRUPT"},
		{"no leader", "", member{}, "RAFT NO LEADER"},
		{"no leader needed", "?serializable=true", member{}, ""},
		{"no quorum", "", member{leader: 1, err: down}, "RANGE ERROR:etcdserver: request timed out"},
		{"broken", "?serializable=true", member{leader: 1, err: down}, "RANGE ERROR:closed"},
	} {
		mx := metrics.New(metrics.Options{})
		status, body := get(Client(options(&c.member, mx)), "/health"+c.query)
		want, wantStatus := `{"health":"true","reason":""}`, 200
		if c.want != "" {
			want, wantStatus = `{"health":"false","reason":"`+c.want+`"}`+"\n", 503
		}
		if body != want || status != wantStatus {
			t.Errorf("%s: %d %q", c.name, status, body)
		}
		if good := testutil.ToFloat64(mx.Health.Success); (good == 1) != (c.want == "") {
			t.Errorf("%s: counted %v", c.name, good)
		}
	}
}

// Failed checks are told in full, verbose or not; livez asks less than readyz.
func TestFailedChecks(t *testing.T) {
	m := &member{learner: true, alarms: []Alarm{{"CORRUPT", 1}}, err: map[bool]error{false: errors.New("etcdserver: no leader")}}
	mx := metrics.New(metrics.Options{})
	var lines bytes.Buffer
	opt := options(m, mx)
	opt.Log = slog.New(logs.NewHandler(&lines, slog.LevelInfo, logs.JSON))
	h := Client(opt)
	status, body := get(h, "/readyz?exclude=bogus")
	const want = "[+]serializable_read ok\n" +
		"[-]linearizable_read failed: etcdserver: no leader\n" +
		"[-]non_learner failed: not supported for learner\n" +
		"[-]data_corruption failed: alarm activated: CORRUPT\n\n"
	if status != 503 || body != want {
		t.Errorf("readyz: %d %q", status, body)
	}
	for _, line := range []string{`"msg":"some health checks cannot be excluded","missing-health-checks":"\"bogus\""`, `"msg":"Health request error","path":"/readyz"`} {
		if !strings.Contains(lines.String(), line) {
			t.Errorf("no line %s in %s", line, &lines)
		}
	}
	if status, body := get(h, "/livez"); status != 200 || body != "ok\n" {
		t.Errorf("livez: %d %q", status, body)
	}
	if status, _ := get(h, "/readyz/non_learner"); status != 503 {
		t.Errorf("one check: %d", status)
	}
	if status, _ := get(h, "/readyz?exclude=linearizable_read&exclude=non_learner&exclude=data_corruption"); status != 200 {
		t.Errorf("the failed ones excluded: %d", status)
	}
	if got := testutil.ToFloat64(mx.Health.Checks.WithLabelValues("readyz", "non_learner", "error")); got != 2 {
		t.Errorf("counted %v failures", got)
	}
	if got := testutil.ToFloat64(mx.Health.Check.WithLabelValues("livez", "serializable_read")); got != 1 {
		t.Errorf("livez shows %v", got)
	}
}

// Only listed origins are told that they may read; preflight requests end at
// the gate; the gateway gets its paths, and only those.
func TestOriginsAndGateway(t *testing.T) {
	opt := options(&member{leader: 1}, metrics.New(metrics.Options{}))
	opt.CORS = set("http://a.example")
	opt.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "gateway") })
	h := Client(opt)
	allowed := func(origin string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("OPTIONS", "/v3/kv/put", nil)
		r.Header.Set("Origin", origin)
		h.ServeHTTP(w, r)
		if w.Code != 200 || w.Body.Len() > 0 {
			t.Errorf("preflight: %d %q", w.Code, w.Body)
		}
		return w.Header().Get("Access-Control-Allow-Origin")
	}
	if allowed("http://a.example") != "http://a.example" || allowed("http://b.example") != "" || allowed("") != "" {
		t.Error("origins")
	}
	if _, body := post(h, "/v3/kv/put"); body != "gateway" {
		t.Errorf("gateway: %q", body)
	}
	if status, _ := post(h, "/v3alpha/kv/put"); status != 404 {
		t.Errorf("v3alpha: %d", status)
	}
	if status, _ := get(MetricsOnly(opt), "/v3/kv/put"); status != 404 {
		t.Errorf("on the metrics port: %d", status)
	}
}
