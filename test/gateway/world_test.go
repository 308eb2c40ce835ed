// Package gateway holds black-box tests of the JSON gateway and of the lock and
// election services, against a whole server in this process.
package gateway

import (
	"context"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/steledb/stele/embed"
	"github.com/steledb/stele/test/rig"
)

// startLimit bounds a server's start, testLimit what one test waits for.
const (
	startLimit = 20 * time.Second
	testLimit  = 20 * time.Second
)

// serve starts a server and returns its client URL.
func serve(t *testing.T, change func(*embed.Config)) string {
	t.Helper()
	client, peer := parse(t, rig.FreeURL(t)), parse(t, rig.FreeURL(t))
	c := embed.NewConfig()
	c.Dir = t.TempDir()
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UseLogger(slog.New(slog.DiscardHandler))
	if change != nil {
		change(c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	s, err := embed.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return client.String()
}

func parse(t *testing.T, text string) url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}

// dial connects to a server by gRPC.
func dial(t *testing.T, server string) *grpc.ClientConn {
	t.Helper()
	u := parse(t, server)
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	t.Cleanup(cancel)
	return ctx
}
