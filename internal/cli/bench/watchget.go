package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/wire/h2client"
)

func (a *app) watchGetCommand() *cobra.Command {
	var streams, watches, events int
	c := &cobra.Command{
		Use: "watch-get", Short: "Benchmark watch with get",
		Long: "watch-get reports how long reads take while many watches catch up with the past.",
		Args: cobra.NoArgs,
	}
	fs := c.Flags()
	fs.IntVar(&watches, "watchers", 10000, "Total number of watchers")
	fs.IntVar(&streams, "streams", 1, "Total number of watcher streams")
	fs.IntVar(&events, "events", 8, "Number of events per watcher")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if streams < 1 || watches < 1 || events < 1 {
			return errors.New("expected positive --streams, --watchers and --events")
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		return a.watchGet(cmd, conns, watches, streams, events)
	}
	return c
}

func (a *app) watchGet(cmd *cobra.Command, conns []*h2client.Conn, watches, streams, events int) error {
	// What the watches will see: events puts of one key, from the first on.
	var first int64
	for i := range events {
		var put pb.PutResponse
		value := make([]byte, stampBytes)
		putStamp(value)
		if err := call(cmd.Context(), conns[0], methodPut, &pb.PutRequest{Key: []byte("watchkey"), Value: value}, &put); err != nil {
			return fmt.Errorf("put %d of the past: %w", i+1, err)
		}
		if i == 0 {
			first = put.Header.GetRevision()
		}
	}
	requests := make([][]*pb.WatchCreateRequest, streams)
	for i := range watches {
		requests[i%streams] = append(requests[i%streams], &pb.WatchCreateRequest{Key: []byte("watchkey"), StartRevision: first})
	}
	// The reads have a connection of their own, so that they wait for the
	// server and not behind the events.
	token, err := a.login(cmd.Context(), a.flags.endpoints)
	if err != nil {
		return err
	}
	reader, err := a.dial(cmd.Context(), a.flags.endpoints[0], token)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	ws, err := openWatchers(ctx, conns, a.flags.sample, requests)
	if err != nil {
		return err
	}
	defer ws.close()
	caughtUp := make(chan error, 1)
	go func() {
		caughtUp <- ws.await(watches, int64(watches)*int64(events))
		stop()
	}()
	const unbounded = 1 << 62
	gets := &tasks{conns: []*h2client.Conn{reader}, workers: int(a.flags.clients), total: unbounded, sample: a.flags.sample}
	gets.do = func(ctx context.Context, c *h2client.Conn, _ *rand.Rand) error {
		// A read under way when the watches are done still counts.
		return call(context.WithoutCancel(ctx), c, methodRange, &pb.RangeRequest{Key: []byte("abc"), Serializable: true}, &pb.RangeResponse{})
	}
	elapsed := gets.run(ctx)
	stop()
	if err := <-caughtUp; err != nil {
		return err
	}
	a.say("%d watchers caught up with %d events each", watches, events)
	return a.finish(cmd, newReport("watch-get", "Get during watch summary", elapsed, gets.tallies...))
}
