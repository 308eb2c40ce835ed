package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/client"
)

// perfLoad is a workload of `check perf`: so many writes a second must go
// through for a minute.
type perfLoad struct {
	writesPerSecond, clients int
}

// scaleLoad is a workload of `check datascale`.
type scaleLoad struct {
	keys, clients int
}

var perfLoads = map[string]perfLoad{
	"s": {150, 50}, "m": {1000, 200}, "l": {8000, 500}, "xl": {15000, 1000},
}

var scaleLoads = map[string]scaleLoad{
	"s": {10_000, 50}, "m": {100_000, 200}, "l": {1_000_000, 500}, "xl": {3_000_000, 1000},
}

var loadNames = map[string]string{"small": "s", "medium": "m", "large": "l", "xLarge": "xl"}

const (
	perfSeconds = 60
	checkValue  = 1024 // bytes

	// What a check expects of a healthy cluster.
	slowestMax       = 500 * time.Millisecond
	deviationMax     = 100 * time.Millisecond
	throughputFactor = 0.9
)

// checkFlags are the flags of both checks.
type checkFlags struct {
	load, prefix            string
	autoCompact, autoDefrag bool
}

func (a *app) checkCommand() *cobra.Command {
	sub := func(name, short, prefix string, fn func(*cobra.Command, *checkFlags) error) *cobra.Command {
		var f checkFlags
		cmd := &cobra.Command{Use: name + " [options]", Short: short, Run: a.run(func(cmd *cobra.Command, _ []string) error { return fn(cmd, &f) })}
		cmd.Flags().StringVar(&f.load, "load", "s", "The workload model: s(small), m(medium), l(large), xl(xLarge)")
		cmd.Flags().StringVar(&f.prefix, "prefix", prefix, "The prefix for writing the check's keys.")
		cmd.Flags().BoolVar(&f.autoCompact, "auto-compact", false, "Compact storage with last revision after test is finished.")
		cmd.Flags().BoolVar(&f.autoDefrag, "auto-defrag", false, "Defragment storage after test is finished.")
		return cmd
	}
	return group("check <subcommand>", "commands for checking properties of the etcd cluster",
		sub("perf", "Check the performance of the etcd cluster", "/etcdctl-check-perf/", a.checkPerf),
		sub("datascale", "Check the memory usage of holding data for different workloads on a given server endpoint.", "/etcdctl-check-datascale/", a.checkDatascale),
	)
}

func loadName(name string) string {
	if short, ok := loadNames[name]; ok {
		return short
	}
	return name
}

// checkEmpty refuses a prefix in use: the check deletes everything below it.
// hint is how the user is told to clear it.
func (a *app) checkEmpty(c *client.Client, prefix, hint string) error {
	ctx, cancel := a.timeout()
	defer cancel()
	resp, err := c.Range(ctx, &pb.RangeRequest{Key: []byte(prefix), RangeEnd: keys.PrefixEnd([]byte(prefix)), Limit: 1})
	if err != nil {
		return err
	}
	if len(resp.Kvs) > 0 {
		return invalidInput("prefix %q has keys. Delete with %s first", prefix, hint)
	}
	return nil
}

// samples are the durations of the writes of a check.
type samples struct {
	mu   sync.Mutex
	took []time.Duration // guarded by mu
	errs []error         // guarded by mu
}

func (s *samples) add(took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	s.took = append(s.took, took)
}

// load writes total values below prefix from so many clients at once. pace
// gives leave for one write; nil is at any time.
func writeLoad(ctx context.Context, c *client.Client, prefix string, total, clients int, pace <-chan struct{}, out *samples) *atomic.Int64 {
	var issued, finished atomic.Int64
	value := []byte(strings.Repeat("v", checkValue))
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for issued.Add(1) <= int64(total) {
				if pace != nil {
					select {
					case <-pace:
					case <-ctx.Done():
						return
					}
				}
				key := fmt.Appendf(nil, "%s%016x", prefix, rand.Uint64())
				start := time.Now()
				_, err := c.Put(ctx, &pb.PutRequest{Key: key, Value: value})
				if ctx.Err() != nil {
					return
				}
				out.add(time.Since(start), err)
				finished.Add(1)
			}
		})
	}
	wg.Wait()
	return &finished
}

func (a *app) checkPerf(cmd *cobra.Command, f *checkFlags) error {
	load, ok := perfLoads[loadName(f.load)]
	if !ok {
		return badFeature("unknown load option %v", f.load)
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	if err := a.checkEmpty(c, f.prefix, fmt.Sprintf("'etcdctl del --prefix %s'", f.prefix)); err != nil {
		return err
	}
	var got samples
	ctx, cancel := context.WithTimeout(context.Background(), perfSeconds*time.Second)
	defer cancel()
	go a.showSeconds(ctx)
	writeLoad(ctx, c, f.prefix, math.MaxInt32, load.clients, paced(ctx, load.writesPerSecond), &got)
	fmt.Fprintln(a.stderr)
	if err := a.cleanUp(c, f); err != nil {
		return err
	}
	if !a.judge(load, &got) {
		return quiet(exitFailure)
	}
	return nil
}

// paced gives out leaves at a steady rate; the backlog is one second's worth.
func paced(ctx context.Context, perSecond int) <-chan struct{} {
	out := make(chan struct{}, perSecond)
	go func() {
		t := time.NewTicker(time.Second / time.Duration(perSecond))
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// showSeconds draws the time gone by on standard error.
func (a *app) showSeconds(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for i := range perfSeconds + 1 {
		fmt.Fprintf(a.stderr, "\r%d / %d [%-60s] %.2f%%", i, perfSeconds, strings.Repeat("-", i), float64(i)*100/perfSeconds)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// judge prints the verdicts and reports whether all are good.
func (a *app) judge(load perfLoad, got *samples) bool {
	ok := true
	verdict := func(good bool, pass, fail string, args ...any) {
		text := "PASS: " + pass
		if !good {
			text, ok = "FAIL: "+fail, false
		}
		fmt.Fprintf(a.stdout, text+"\n", args...)
	}
	if len(got.errs) != 0 {
		ok = false
		fmt.Fprintln(a.stdout, "FAIL: too many errors")
		for _, err := range slices.Compact(got.errs) {
			fmt.Fprintf(a.stdout, "FAIL: ERROR(%v)\n", err)
		}
	}
	perSecond := math.Round(float64(len(got.took)) / perfSeconds)
	slowest, deviation := spread(got.took)
	verdict(perSecond >= float64(load.writesPerSecond)*throughputFactor, "Throughput is %d writes/s", "Throughput too low: %d writes/s", int(perSecond))
	verdict(slowest <= slowestMax, "Slowest request took %fs", "Slowest request took too long: %fs", slowest.Seconds())
	verdict(deviation <= deviationMax, "Stddev is %fs", "Stddev too high: %fs", deviation.Seconds())
	if ok {
		fmt.Fprintln(a.stdout, "PASS")
	} else {
		fmt.Fprintln(a.stdout, "FAIL")
	}
	return ok
}

// spread is the longest duration and the standard deviation.
func spread(took []time.Duration) (slowest, deviation time.Duration) {
	if len(took) == 0 {
		return 0, 0
	}
	var sum, squares float64
	for _, d := range took {
		slowest = max(slowest, d)
		sum += float64(d)
	}
	mean := sum / float64(len(took))
	for _, d := range took {
		squares += (float64(d) - mean) * (float64(d) - mean)
	}
	return slowest, time.Duration(math.Sqrt(squares / float64(len(took))))
}

func (a *app) checkDatascale(cmd *cobra.Command, f *checkFlags) error {
	load, ok := scaleLoads[loadName(f.load)]
	if !ok {
		return badFeature("unknown load option %v", f.load)
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	if err := a.checkEmpty(c, f.prefix, "etcdctl del --prefix "+f.prefix); err != nil {
		return err
	}
	eps := c.Endpoints()
	before, err := a.residentMemory(cmd, eps[0])
	if err != nil {
		fmt.Fprintln(a.stdout, "FAIL: Could not read process_resident_memory_bytes before the put operations.")
		return quiet(exitFailure)
	}
	fmt.Fprintf(a.stdout, "Start data scale check for work load [%v key-value pairs, %v bytes per key-value, %v concurrent clients].\n", load.keys, checkValue, load.clients)
	var got samples
	writeLoad(context.Background(), c, f.prefix, load.keys, load.clients, nil, &got)
	after, err := a.residentMemory(cmd, eps[0])
	if err := errors.Join(err, a.cleanUp(c, f)); err != nil {
		return err
	}
	if len(got.errs) != 0 {
		fmt.Fprintln(a.stdout, "FAIL: too many errors")
		for _, err := range got.errs {
			fmt.Fprintf(a.stdout, "FAIL: ERROR(%v)\n", err)
		}
		return quiet(exitFailure)
	}
	used := max(0, after-before)
	fmt.Fprintf(a.stdout, "PASS: Approximate system memory used : %v.\n", humanize.Bytes(uint64(used)))
	return nil
}

// residentMemory reads the server's memory from its metrics page.
func (a *app) residentMemory(cmd *cobra.Command, endpoint string) (float64, error) {
	g := &a.flags
	secure, err := tlsConfig(tlsFiles{cert: g.cert, key: g.key, ca: g.caCert}, g.insecureTransport, g.insecureSkipVerify)
	if err != nil {
		return 0, err
	}
	scheme, host, ok := strings.Cut(endpoint, "://")
	if !ok {
		scheme, host = "http", endpoint
		if secure != nil {
			scheme = "https"
		}
	}
	hc := http.Client{Transport: &http.Transport{TLSClientConfig: secure}, Timeout: g.commandTimeout}
	resp, err := hc.Get(scheme + "://" + host + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(page), "\n") {
		var v float64
		if n, _ := fmt.Sscanf(line, "process_resident_memory_bytes %g", &v); n == 1 {
			return v, nil
		}
	}
	return 0, errors.New("process_resident_memory_bytes not found in /metrics")
}

// cleanUp deletes the check's keys, and compacts and defragments if asked to.
func (a *app) cleanUp(c *client.Client, f *checkFlags) error {
	ctx := context.Background()
	resp, err := c.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte(f.prefix), RangeEnd: keys.PrefixEnd([]byte(f.prefix))})
	if err != nil {
		return err
	}
	if f.autoCompact {
		rev := resp.Header.GetRevision()
		fmt.Fprintf(a.stdout, "Compacting with revision %d\n", rev)
		if _, err := c.Compact(ctx, &pb.CompactionRequest{Revision: rev, Physical: true}); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "Compacted with revision %d\n", rev)
	}
	if !f.autoDefrag {
		return nil
	}
	for _, ep := range c.Endpoints() {
		if err := a.defragOne(c, ep); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) defragOne(c *client.Client, ep string) error {
	one, err := c.At(ep)
	if err != nil {
		return err
	}
	defer one.Close()
	fmt.Fprintf(a.stdout, "Defragmenting %q\n", ep)
	if _, err := one.Defragment(context.Background(), &pb.DefragmentRequest{}); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Defragmented %q\n", ep)
	return nil
}
