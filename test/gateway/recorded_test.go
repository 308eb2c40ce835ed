package gateway

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/steledb/stele/embed"
	"github.com/steledb/stele/test/rig"
)

// silence is how long a stream that etcd does not answer is listened to.
const silence = 200 * time.Millisecond

// row is one recorded request with its answer.
type row struct {
	line                                 int
	listener, method, path               string
	headers, body                        string
	status, contentType, answered, reply string
	note                                 string
}

func recorded(t *testing.T) []row {
	f, err := os.Open(filepath.Join(rig.Shared(t), "reference", "http.tsv"))
	if err != nil {
		t.Skip("no recorded requests beside this checkout")
	}
	defer f.Close()
	var out []row
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for line := 1; scanner.Scan(); line++ {
		cells := strings.Split(scanner.Text(), "\t")
		if len(cells) < 10 {
			continue
		}
		for i, c := range cells {
			cells[i] = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t").Replace(c)
		}
		out = append(out, row{line, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7], cells[8], cells[9]})
	}
	return out
}

// volatile are members of answers that no two servers have in common: random
// numbers, sizes of files, and what follows from the number of log entries.
var volatile = regexp.MustCompile(`\.(hash|dbSize|dbSizeInUse|raftIndex|raftAppliedIndex)$`)

// unlikeHere are recorded rows that this test leaves out, by their note or body.
var unlikeHere = map[string]string{
	"put of 1000 bytes": "the body is described, not recorded",
}

// play is one conversation, in which names stand for what differs from server
// to server.
type play struct {
	t      *testing.T
	server string
	names  map[string]string // placeholder -> value here
}

var placeholder = regexp.MustCompile(`\{[A-Z0-9_]+\}`)

// Goal: the gateway answers as etcd 3.7.1 did.
// Method: the recorded requests under /v3 and /v3beta are sent to one server
// in their order. Status, headers and content type must be equal; bodies are
// compared as JSON, for the spaces in them differ between builds of protobuf.
func TestAnswersAsRecorded(t *testing.T) {
	rows := recorded(t)
	p := &play{t: t, names: map[string]string{}}
	p.server = serve(t, func(c *embed.Config) {
		c.QuotaBackendBytes = 4 << 20
		p.names["{CLIENT1}"], p.names["{PEER1}"] = c.ListenClientUrls[0].Host, c.ListenPeerUrls[0].Host
	})
	played := 0
	for _, r := range rows {
		if r.listener != "client" || !strings.HasPrefix(r.path, "/v3") || strings.HasPrefix(r.note, "--") || unlikeHere[r.body] != "" {
			continue
		}
		if strings.Contains(r.reply, "NOSPACE") {
			continue // follows from the one that is left out
		}
		played++
		p.exchange(r)
	}
	if played < 90 {
		t.Errorf("only %d recorded requests found", played)
	}
}

// --enable-grpc-gateway=false leaves nothing under /v3/.
func TestGatewayCanBeSwitchedOff(t *testing.T) {
	p := &play{t: t, server: serve(t, func(c *embed.Config) { c.EnableGRPCGateway = false })}
	for _, r := range recorded(t) {
		if r.note == "--enable-grpc-gateway=false" && strings.HasPrefix(r.path, "/v3") {
			p.exchange(r)
		}
	}
}

func (p *play) exchange(r row) {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	if r.status == "-" {
		ctx, cancel = context.WithTimeout(context.Background(), silence)
	}
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, p.server+r.path, strings.NewReader(p.fill(r.body)))
	if err != nil {
		p.t.Fatal(err)
	}
	setHeaders(req, p.fill(r.headers))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if r.status == "-" {
		if !errors.Is(err, context.DeadlineExceeded) {
			p.errorf(r, "answered, where etcd is silent: %v", err)
		}
		return
	}
	if err != nil {
		p.errorf(r, "%v", err)
		return
	}
	defer resp.Body.Close()
	if got := strconv.Itoa(resp.StatusCode); got != r.status {
		body, _ := io.ReadAll(resp.Body)
		p.errorf(r, "status %s, want %s; %s", got, r.status, body)
		return
	}
	if got := resp.Header.Get("Content-Type"); got != r.contentType {
		p.errorf(r, "content type %q, want %q", got, r.contentType)
	}
	if got := headersOf(resp); got != r.answered {
		p.errorf(r, "headers\n  %s\nwant\n  %s", got, r.answered)
	}
	p.body(r, resp)
}

// headersOf writes the headers as they were recorded.
func headersOf(resp *http.Response) string {
	var out []string
	for _, name := range []string{
		"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin",
		"Grpc-Metadata-Content-Type", "Location", "Transfer-Encoding", "Www-Authenticate", "X-Content-Type-Options",
	} {
		value := resp.Header.Get(name)
		if name == "Transfer-Encoding" {
			value = strings.Join(resp.TransferEncoding, ",")
		}
		if value != "" {
			out = append(out, name+": "+value)
		}
	}
	return strings.Join(out, "; ")
}

func setHeaders(req *http.Request, text string) {
	for _, h := range strings.Split(text, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(h), ": ")
		switch {
		case !ok:
		case name == "Host":
			req.Host = value
		default:
			req.Header.Set(name, value)
		}
	}
}

func (p *play) body(r row, resp *http.Response) {
	if r.contentType != "application/json" {
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != r.reply {
			p.errorf(r, "body %q, %v; want %q", got, err, r.reply)
		}
		return
	}
	dec := json.NewDecoder(resp.Body)
	want := json.NewDecoder(strings.NewReader(r.reply))
	for n := 0; ; n++ {
		var g, w any
		if strings.HasPrefix(r.reply, "(stream") {
			if err := dec.Decode(&g); err != nil || !strings.Contains(fmt.Sprint(g), "result:map[blob:") {
				p.errorf(r, "first message: %.100v, %v", g, err)
			}
			return
		}
		if err := want.Decode(&w); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			p.t.Fatalf("line %d cannot be read: %v", r.line, err)
		}
		if err := dec.Decode(&g); err != nil {
			p.errorf(r, "message %d: %v", n, err)
			return
		}
		if diff := p.compare("", g, w); diff != "" {
			p.errorf(r, "message %d: %s", n, diff)
		}
	}
}

// compare returns how got differs from want. A placeholder that has no value
// yet gets that of got.
func (p *play) compare(path string, got, want any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: %v, want %v", path, got, want)
		}
		for k := range g {
			if _, ok := w[k]; !ok {
				return fmt.Sprintf("%s.%s: unexpected %v", path, k, g[k])
			}
		}
		for k, v := range w {
			if _, ok := g[k]; !ok {
				return fmt.Sprintf("%s.%s: missing, want %v", path, k, v)
			}
			if diff := p.compare(path+"."+k, g[k], v); diff != "" {
				return diff
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s: %v, want %v", path, got, want)
		}
		for i := range w {
			if diff := p.compare(fmt.Sprintf("%s[%d]", path, i), g[i], w[i]); diff != "" {
				return diff
			}
		}
		return ""
	case string:
		return p.compareText(path, fmt.Sprint(got), w)
	}
	if volatile.MatchString(path) || got == want {
		return ""
	}
	return fmt.Sprintf("%s: %v, want %v", path, got, want)
}

func (p *play) compareText(path, got, want string) string {
	if isNew(want) {
		want = "{" + strings.ToUpper(regexp.MustCompile(`\W`).ReplaceAllString(want, "")) + "}"
	}
	if placeholder.FindString(want) == want && want != "" && p.names[want] == "" {
		p.names[want] = got
	}
	if strings.Contains(path, "TTL") && want == "59" && got == "60" {
		return "" // a slower recording
	}
	// Protobuf's errors have one kind of space or another, by chance.
	got, want = strings.ReplaceAll(got, "\u00a0", " "), strings.ReplaceAll(want, "\u00a0", " ")
	if filled := p.fill(want); !volatile.MatchString(path) && filled != got {
		return fmt.Sprintf("%s: %q, want %q", path, got, filled)
	}
	return ""
}

// isNew tells random values that were recorded as they were: a lease id, and
// the key of a lease that the lock service made.
func isNew(want string) bool {
	return want == "7587899084633703209" || want == "bGsvNjk0ZGEyMDNkYjFhODMzOQ=="
}

// fill puts in the values of this conversation, also into keys that are made of
// a lease id.
func (p *play) fill(text string) string {
	text = placeholder.ReplaceAllStringFunc(text, func(name string) string {
		if v, ok := p.names[name]; ok {
			return v
		}
		return name
	})
	const lease1 = "694da203db1a8325" // {LEASE1_DEC} when it was recorded
	id, _ := strconv.ParseInt(p.names["{LEASE1_DEC}"], 10, 64)
	for _, prefix := range []string{"lk/", "el/"} {
		text = strings.ReplaceAll(text, encode(prefix+lease1), encode(prefix+strconv.FormatInt(id, 16)))
	}
	return text
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (p *play) errorf(r row, format string, args ...any) {
	p.t.Helper()
	p.t.Errorf("http.tsv:%d %s %s %s\n%s", r.line, r.method, r.path, r.body, fmt.Sprintf(format, args...))
}
