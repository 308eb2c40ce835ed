package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/wire/h2client"
)

func (a *app) putCommand() *cobra.Command {
	var (
		keys         keyspace
		valSize      int
		total, rate  int
		compactEvery time.Duration
		compactDelta int64
		checkHash    bool
	)
	c := &cobra.Command{Use: "put", Short: "Benchmark put", Args: cobra.NoArgs}
	fs := c.Flags()
	fs.IntVar(&keys.size, "key-size", 8, "Key size of put request")
	fs.IntVar(&valSize, "val-size", 8, "Value size of put request")
	fs.IntVar(&rate, "rate", 0, "Maximum puts per second (0 is no limit)")
	fs.IntVar(&total, "total", 10000, "Total number of put requests")
	fs.IntVar(&keys.space, "key-space-size", 1, "Maximum possible keys")
	fs.BoolVar(&keys.sequential, "sequential-keys", false, "Use sequential keys")
	fs.DurationVar(&compactEvery, "compact-interval", 0, "Interval to compact database (0 is never)")
	fs.Int64Var(&compactDelta, "compact-index-delta", 1000, "Delta between current revision and the one to compact to")
	fs.BoolVar(&checkHash, "check-hashkv", false, "Check that all endpoints have the same hash afterwards")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := keys.check(); err != nil {
			return err
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, total, rate)
		if err != nil {
			return err
		}
		l.next = putRequests(keys, randomBytes(valSize))
		if compactEvery > 0 {
			ctx, cancel := context.WithCancel(cmd.Context())
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				a.compactNowAndThen(ctx, conns[0], compactEvery, compactDelta)
			}()
			defer func() { cancel(); <-gone }()
		}
		elapsed := a.drive(cmd.Context(), l)
		if err := a.finish(cmd, l.report(0, "put", "", elapsed)); err != nil || !checkHash {
			return err
		}
		return a.checkHashKV(cmd.Context())
	}
	return c
}

// putRequests makes puts of one value.
func putRequests(keys keyspace, value []byte) func(*worker, int64) request {
	return func(w *worker, i int64) request {
		m, ok := w.state.(*pb.PutRequest)
		if !ok {
			m = &pb.PutRequest{Key: make([]byte, keys.size), Value: value}
			w.state = m
		}
		keys.key(m.Key, i, w.rand)
		return request{method: methodPut, body: w.encode(m)}
	}
}

// compactNowAndThen compacts to delta revisions before the present one.
func (a *app) compactNowAndThen(ctx context.Context, c *h2client.Conn, every time.Duration, delta int64) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var now pb.RangeResponse
		err := call(ctx, c, methodRange, &pb.RangeRequest{Key: []byte("foo")}, &now)
		if err == nil && now.Header.GetRevision() > delta {
			err = call(ctx, c, methodCompact, &pb.CompactionRequest{Revision: now.Header.Revision - delta}, &pb.CompactionResponse{})
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(a.stderr, "compaction:", err)
		}
	}
}

// checkHashKV compares the endpoints at one revision.
func (a *app) checkHashKV(ctx context.Context) error {
	token, err := a.login(ctx, a.flags.endpoints)
	if err != nil {
		return err
	}
	var rev int64
	sums := map[uint32][]string{}
	for _, ep := range a.flags.endpoints {
		c, err := a.dial(ctx, ep, token)
		if err != nil {
			return err
		}
		var now pb.RangeResponse // waits until this member has everything
		if err := call(ctx, c, methodRange, &pb.RangeRequest{Key: []byte("foo")}, &now); err != nil {
			return err
		}
		if rev == 0 {
			rev = now.Header.GetRevision()
		}
		var h pb.HashKVResponse
		if err := call(ctx, c, methodHashKV, &pb.HashKVRequest{Revision: rev}, &h); err != nil {
			return err
		}
		a.say("HashKV of %s at revision %d: %d", ep, rev, h.Hash)
		sums[h.Hash] = append(sums[h.Hash], ep)
	}
	if len(sums) > 1 {
		return errors.New("the endpoints have different hashes")
	}
	return nil
}
