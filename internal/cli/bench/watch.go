package bench

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/wire/h2client"
)

func (a *app) watchCommand() *cobra.Command {
	var (
		keys               keyspace
		streams, perStream int
		watched            int
		total, rate        int
	)
	c := &cobra.Command{
		Use: "watch", Short: "Benchmark watch",
		Long: "watch creates watches, then puts the watched keys, and reports the creation of watches and how long events travelled.",
		Args: cobra.NoArgs,
	}
	fs := c.Flags()
	fs.IntVar(&streams, "streams", 10, "Total watch streams")
	fs.IntVar(&perStream, "watch-per-stream", 100, "Total watchers per stream")
	fs.IntVar(&watched, "watched-key-total", 1, "Total number of keys to be watched")
	fs.IntVar(&rate, "put-rate", 0, "Number of keys to put per second (0 is no limit)")
	fs.IntVar(&total, "put-total", 1000, "Number of put requests")
	fs.IntVar(&keys.size, "key-size", 32, "Key size of watch request")
	fs.IntVar(&keys.space, "key-space-size", 1, "Maximum possible keys")
	fs.BoolVar(&keys.sequential, "sequential-keys", false, "Use sequential keys")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := keys.check(); err != nil {
			return err
		}
		if streams < 1 || perStream < 1 || watched < 1 {
			return errors.New("expected positive --streams, --watch-per-stream and --watched-key-total")
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		w := &watchRun{app: a, conns: conns, streams: streams, perStream: perStream, valSize: stampBytes}
		r := rand.New(rand.NewPCG(0, 3))
		for i := range watched {
			key := make([]byte, keys.size)
			keys.key(key, int64(i), r)
			w.keys = append(w.keys, key)
		}
		return w.run(cmd, total, rate, true)
	}
	return c
}

func (a *app) watchLatencyCommand() *cobra.Command {
	var keySize, valSize, streams, perStream, total, rate int
	var prevKV bool
	c := &cobra.Command{
		Use: "watch-latency", Short: "Benchmark watch latency",
		Long: "watch-latency puts one key at a steady rate and reports how long its events travelled to all watchers.",
		Args: cobra.NoArgs,
	}
	fs := c.Flags()
	fs.IntVar(&streams, "streams", 10, "Total watch streams")
	fs.IntVar(&perStream, "watchers-per-stream", 10, "Total watchers per stream")
	fs.BoolVar(&prevKV, "prevkv", false, "PrevKV enabled on watch requests")
	fs.IntVar(&total, "put-total", 1000, "Total number of put requests")
	fs.IntVar(&rate, "put-rate", 100, "Number of keys to put per second (0 is no limit)")
	fs.IntVar(&keySize, "key-size", 32, "Key size of watch response")
	fs.IntVar(&valSize, "val-size", 32, "Value size of watch response (at least 8: the time of the put)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if streams < 1 || perStream < 1 || keySize < 1 {
			return errors.New("expected positive --streams, --watchers-per-stream and --key-size")
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		w := &watchRun{app: a, conns: conns, streams: streams, perStream: perStream, valSize: max(valSize, stampBytes), prevKV: prevKV}
		w.keys = [][]byte{randomBytes(keySize)}
		return w.run(cmd, total, rate, false)
	}
	return c
}

// watchRun is the part that watch and watch-latency share: create watches on
// keys in turn, put the keys in turn, wait for all events.
type watchRun struct {
	app                *app
	conns              []*h2client.Conn
	streams, perStream int
	keys               [][]byte
	valSize            int
	prevKV             bool
}

func (w *watchRun) run(cmd *cobra.Command, total, rate int, creation bool) error {
	a := w.app
	l, err := a.newLoad(w.conns, total, rate)
	if err != nil {
		return err
	}
	requests, perKey := w.plan()
	start := time.Now()
	ws, err := openWatchers(cmd.Context(), w.conns, a.flags.sample, requests)
	if err != nil {
		return err
	}
	defer ws.close()
	if err := ws.await(w.streams*w.perStream, 0); err != nil {
		return err
	}
	creating := time.Since(start)

	value := randomBytes(w.valSize)
	l.next = func(wk *worker, i int64) request {
		m, ok := wk.state.(*pb.PutRequest)
		if !ok {
			m = &pb.PutRequest{Value: append([]byte(nil), value...)}
			wk.state = m
		}
		m.Key = w.keys[i%int64(len(w.keys))]
		putStamp(m.Value)
		return request{method: methodPut, body: wk.encode(m)}
	}
	start = time.Now()
	putting := a.drive(cmd.Context(), l)
	puts := l.report(0, "watch-put", "Put summary", putting)
	var events int64
	for i := range puts.lat.n {
		events += perKey[string(w.keys[i%int64(len(w.keys))])]
	}
	if len(puts.errors) == 0 && cmd.Context().Err() == nil {
		if err := ws.await(0, events); err != nil {
			return err
		}
	}
	elapsed := ws.last().Sub(start)
	for _, c := range w.conns {
		c.Close() // ends the readers, who own the tallies
	}
	arrived := newReport("watch-events", "Watch events received summary", elapsed, ws.arrived...)
	if creation {
		return a.finish(cmd, newReport("watch-create", "Watch creation summary", creating, ws.created...), arrived)
	}
	return a.finish(cmd, puts, arrived)
}

// plan spreads the watches over streams and keys, and counts those of a key.
func (w *watchRun) plan() (requests [][]*pb.WatchCreateRequest, perKey map[string]int64) {
	perKey = map[string]int64{}
	requests = make([][]*pb.WatchCreateRequest, w.streams)
	for i := range w.streams * w.perStream {
		key := w.keys[i%len(w.keys)]
		perKey[string(key)]++
		s := i % w.streams
		requests[s] = append(requests[s], &pb.WatchCreateRequest{Key: key, PrevKv: w.prevKV})
	}
	return requests, perKey
}
