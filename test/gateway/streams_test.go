package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/steledb/stele/embed"
)

// post sends one request and returns its answer.
func post(t *testing.T, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(limited(t), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// answer is what these tests look at in a message of a stream.
type answer struct {
	Result struct {
		Created bool
		Events  []struct{ Kv struct{ Key, Value string } }
		ID, TTL string
	}
}

func socket(t *testing.T, server, path string, protocol ...string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws"+strings.TrimPrefix(server, "http")+path, "http://page.example")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = protocol
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	conn, err := config.DialContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testLimit)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func say(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if err := websocket.Message.Send(conn, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn *websocket.Conn) (a answer) {
	t.Helper()
	if err := websocket.JSON.Receive(conn, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// Goal: a page can watch over a websocket and change what it watches.
// Method: one watch, an event, a second watch on the same socket, its event.
func TestWatchOverWebsocket(t *testing.T) {
	server := serve(t, nil)
	conn := socket(t, server, "/v3/watch")
	for _, key := range []string{"YQ==", "Yg=="} {
		say(t, conn, fmt.Sprintf(`{"create_request": {"key": %q}}`, key))
		if got := hear(t, conn); !got.Result.Created {
			t.Fatalf("not created: %+v", got)
		}
		post(t, server+"/v3/kv/put", fmt.Sprintf(`{"key": %q, "value": "dg=="}`, key))
		if got := hear(t, conn); len(got.Result.Events) != 1 || got.Result.Events[0].Kv.Key != key {
			t.Fatalf("event: %+v", got)
		}
	}
}

// A lease lives as long as somebody sends for it; and methods without streams
// answer on a socket too.
func TestKeepAliveAndPutOverWebsocket(t *testing.T) {
	server := serve(t, nil)
	post(t, server+"/v3/lease/grant", `{"ID": 7, "TTL": 60}`)
	conn := socket(t, server, "/v3/lease/keepalive")
	for range 3 {
		say(t, conn, `{"ID": 7}`)
		if got := hear(t, conn); got.Result.TTL != "60" || got.Result.ID != "7" {
			t.Fatalf("renewed: %+v", got)
		}
	}
	conn = socket(t, server, "/v3beta/kv/put")
	say(t, conn, `{"key": "YQ==", "value": "dg=="}`)
	var got map[string]any
	if err := websocket.JSON.Receive(conn, &got); err != nil || got["header"] == nil {
		t.Fatalf("put: %v, %v", got, err)
	}
}

// Goal: a stream in a POST body is answered while it is still being sent.
// Method: two renewals on one request, the second sent after the first answer.
func TestBodyAndAnswerAtTheSameTime(t *testing.T) {
	server := serve(t, nil)
	post(t, server+"/v3/lease/grant", `{"ID": 7, "TTL": 60}`)
	body, in := io.Pipe()
	defer in.Close()
	req, err := http.NewRequestWithContext(limited(t), http.MethodPost, server+"/v3/lease/keepalive", body)
	if err != nil {
		t.Fatal(err)
	}
	go io.WriteString(in, `{"ID": 7}`)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 2 {
		if i > 0 {
			go io.WriteString(in, `{"ID": 7}`)
		}
		var got answer
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &got) != nil || got.Result.TTL != "60" {
			t.Fatalf("answer %d: %s, %v", i, lines.Text(), lines.Err())
		}
	}
}

// When the other end of a socket goes, so does what it asked for: here the
// candidate of a lock that is waited for.
func TestSocketGoneEndsTheRequest(t *testing.T) {
	server := serve(t, nil)
	p := join(t, server, 60)
	post(t, server+"/v3/lock/lock", `{"name": "bA=="}`)
	conn := socket(t, server, "/v3/lock/lock")
	say(t, conn, fmt.Sprintf(`{"name": "bA==", "lease": "%d"}`, p.lease))
	p.waitKeys(t, "l/", 2)
	conn.Close()
	p.waitKeys(t, "l/", 1)
}

// Goal: every way to show a token lets its owner in, and none lets others in.
func TestTokens(t *testing.T) {
	server := serve(t, nil)
	for path, body := range map[string]string{"user/add": `{"name": "root", "password": "pw"}`, "role/add": `{"name": "root"}`} {
		post(t, server+"/v3/auth/"+path, body)
	}
	post(t, server+"/v3/auth/user/grant", `{"user": "root", "role": "root"}`)
	if code, body := post(t, server+"/v3/auth/enable", `{}`); code != http.StatusOK {
		t.Fatalf("enable: %d %s", code, body)
	}
	_, body := post(t, server+"/v3/auth/authenticate", `{"name": "root", "password": "pw"}`)
	var auth struct{ Token string }
	if err := json.Unmarshal([]byte(body), &auth); err != nil || auth.Token == "" {
		t.Fatalf("no token: %s", body)
	}
	for header, want := range map[string]int{
		"Authorization: " + auth.Token:          http.StatusOK,
		"Authorization: Bearer " + auth.Token:   http.StatusOK,
		"Grpc-Metadata-Token: " + auth.Token:    http.StatusOK,
		"Authorization: Bearer x" + auth.Token:  http.StatusUnauthorized,
		"X-Token: " + auth.Token:                http.StatusBadRequest,
		"Grpc-Metadata-Token: Basic dXNlcjpwdw": http.StatusUnauthorized,
	} {
		// A lock passes two doors: that of the service and that of the store.
		for _, path := range []string{"/v3/kv/range", "/v3/lock/unlock"} {
			code, got := post(t, server+path, `{"key": "YQ=="}`, header)
			if code != want && (want == http.StatusOK || code == http.StatusOK) {
				t.Errorf("%s with %s: %d %s, want %d", path, header, code, got, want)
			}
		}
	}
	for _, protocol := range [][]string{{"Bearer", auth.Token}, nil} {
		conn := socket(t, server, "/v3/watch", protocol...)
		say(t, conn, `{"create_request": {"key": "YQ=="}}`)
		var got struct {
			Result struct{ Canceled bool }
		}
		if err := websocket.JSON.Receive(conn, &got); err != nil || got.Result.Canceled != (protocol == nil) {
			t.Errorf("watch with %v: %+v, %v", protocol, got, err)
		}
	}
}

// A request that is too large is refused, whichever of the two limits it meets:
// that of gRPC or that of the reader of JSON.
func TestTooLarge(t *testing.T) {
	server := serve(t, func(c *embed.Config) { c.MaxRequestBytes = 1 << 10 })
	for _, size := range []int{1 << 20, 20 << 20} {
		code, body := post(t, server+"/v3/kv/put", `{"key": "YQ==", "value": "`+strings.Repeat("QUFB", size/4)+`"}`)
		if code == http.StatusOK || !strings.Contains(body, "large") {
			t.Errorf("%d bytes: %d %.200s", size, code, body)
		}
	}
}

// Stopping a server ends its streams at once and does not wait for their
// callers: well within the time that requests get to end.
func TestStopEndsStreams(t *testing.T) {
	var begun time.Time
	t.Run("running", func(t *testing.T) {
		body, in := io.Pipe()
		t.Cleanup(func() { in.Close() }) // only after the server has stopped
		server := serve(t, nil)
		t.Cleanup(func() { begun = time.Now() }) // runs before the server stops
		post(t, server+"/v3/lease/grant", `{"ID": 7, "TTL": 60}`)
		go io.WriteString(in, `{"ID": 7}`)
		resp, err := http.Post(server+"/v3/lease/keepalive", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		if !bufio.NewScanner(resp.Body).Scan() {
			t.Fatal("no answer")
		}
	})
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("stopping took %s", took)
	}
}
