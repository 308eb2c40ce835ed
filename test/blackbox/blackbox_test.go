// Package blackbox uses the server as its users do: the real process, the stock
// client, and now and then bytes that no client would send.
//
// What a request answers in detail is compared with recordings of etcd
// elsewhere (test/oracle.sh); here is what holds over time: order,
// completeness, durability, and that nothing a client sends does harm.
package blackbox

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/steledb/stele/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

func connect(t *testing.T, s *rig.Server) *clientv3.Client {
	t.Helper()
	return connectAs(t, s, "", "")
}

func connectAs(t *testing.T, s *rig.Server, user, password string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.ClientURL}, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		Username: user, Password: password,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// start starts a server of this test and a client of it.
func start(t *testing.T, args ...string) (*rig.Server, *clientv3.Client) {
	t.Helper()
	t.Parallel()
	s := rig.Start(t, rig.Options{Args: args})
	return s, connect(t, s)
}

// restart ends s, in order or not, and starts a server in its place.
func restart(t *testing.T, s *rig.Server, kill bool, args ...string) *rig.Server {
	t.Helper()
	if kill {
		s.Kill()
	} else if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return rig.Start(t, rig.Options{Dir: s.Dir, ClientURL: s.ClientURL, PeerURL: s.PeerURL, Args: args})
}

// limited is a context that ends long before the test binary would.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, c *clientv3.Client, key, value string, o ...clientv3.OpOption) int64 {
	t.Helper()
	resp, err := c.Put(limited(t), key, value, o...)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return resp.Header.Revision
}

// text shows what a get found: "a=1 b=2".
func text(t *testing.T, c *clientv3.Client, key string, o ...clientv3.OpOption) string {
	t.Helper()
	resp, err := c.Get(limited(t), key, o...)
	if err != nil {
		return err.Error()
	}
	out := ""
	for i, kv := range resp.Kvs {
		if i > 0 {
			out += " "
		}
		out += fmt.Sprintf("%s=%s", kv.Key, kv.Value)
	}
	return out
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// sleep is the pause between two looks at another process.
func sleep(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for ctx := limited(t); !is(); {
		if sleep(ctx) != nil {
			t.Fatalf("%s: it does not happen", what)
		}
	}
}
