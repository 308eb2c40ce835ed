package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/steledb/stele/internal/wire/h2client"
)

// Main runs benchmark with args (without the command's own name) and returns
// its exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // the second interrupt ends the process
	return run(ctx, args, stdout, stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	for _, c := range a.conns {
		c.Close()
	}
	if err != nil {
		fmt.Fprintln(stderr, "Error:", err)
		return 1
	}
	return 0
}

// app is one run of the command.
type app struct {
	stdout, stderr io.Writer
	flags          globalFlags
	conns          []*h2client.Conn // opened by connect, closed by run
}

// globalFlags are those of every command.
type globalFlags struct {
	endpoints        []string
	conns, clients   uint
	precise, sample  bool
	reportPerfdash   bool
	json, open       bool
	targetLeader     bool
	cert, key, ca    string
	skipVerify       bool
	user             string
	dialTimeout      time.Duration
	autoSyncInterval time.Duration
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "benchmark",
		Short:         "A low-level benchmark tool for etcd3",
		Long:          "benchmark puts load on an etcd cluster and reports how long its answers took.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	g, fs := &a.flags, root.PersistentFlags()
	fs.StringSliceVar(&g.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	fs.UintVar(&g.conns, "conns", 1, "Total number of gRPC connections")
	fs.UintVar(&g.clients, "clients", 1, "Total number of gRPC clients: requests under way at a time")
	fs.BoolVar(&g.precise, "precise", false, "use full floating point precision")
	fs.BoolVar(&g.sample, "sample", false, "'true' to print latency and throughput of every second")
	fs.BoolVar(&g.reportPerfdash, "report-perfdash", false, "write the results in perfdash format to a file in $ARTIFACTS, or here")
	fs.BoolVar(&g.json, "json", false, "print one JSON object per result instead of text; durations are seconds")
	fs.BoolVar(&g.open, "open-loop", false, "with --rate: let requests arrive at fixed times and count latency from then")
	fs.BoolVar(&g.targetLeader, "target-leader", false, "connect only to the leader node")
	fs.StringVar(&g.cert, "cert", "", "identify HTTPS client using this SSL certificate file")
	fs.StringVar(&g.key, "key", "", "identify HTTPS client using this SSL key file")
	fs.StringVar(&g.ca, "cacert", "", "verify certificates of HTTPS-enabled servers using this CA bundle")
	fs.BoolVar(&g.skipVerify, "insecure-skip-tls-verify", false, "skip server certificate verification")
	fs.StringVar(&g.user, "user", "", "provide username[:password] and prompt if password is not supplied")
	fs.DurationVar(&g.dialTimeout, "dial-timeout", 0, "time to connect; 0 means 5s")
	fs.DurationVar(&g.autoSyncInterval, "auto-sync-interval", 0, "accepted for compatibility: the endpoints given are the ones used")
	root.AddCommand(
		a.putCommand(), a.rangeCommand(), a.txnPutCommand(), a.txnMixedCommand(), a.stmCommand(),
		a.leaseKeepAliveCommand(), a.leaseGrantCommand(), a.watchCommand(), a.watchGetCommand(), a.watchLatencyCommand(),
		a.mvccCommand(), a.diskCommand(),
	)
	return root
}

// finish prints what a command found. A run in which nothing succeeded is a
// failure.
func (a *app) finish(cmd *cobra.Command, reports ...*report) error {
	var requests int64
	for _, r := range reports {
		requests += r.lat.n
		if err := a.print(r); err != nil {
			return err
		}
	}
	if a.flags.reportPerfdash {
		dir := os.Getenv("ARTIFACTS")
		if dir == "" {
			dir = "."
		}
		if err := writePerfdash(dir, cmd.Name(), time.Now(), reports); err != nil {
			return fmt.Errorf("writing the perfdash report: %w", err)
		}
	}
	if requests == 0 {
		return errors.New("no request succeeded")
	}
	return nil
}

func (a *app) print(r *report) error {
	if a.flags.json {
		return json.NewEncoder(a.stdout).Encode(r.result())
	}
	precision := "%4.4f"
	if a.flags.precise {
		precision = "%g"
	}
	r.text(a.stdout, precision)
	return nil
}

// say prints a remark that is not part of the results.
func (a *app) say(format string, args ...any) {
	if !a.flags.json {
		fmt.Fprintf(a.stdout, format+"\n", args...)
	}
}

// progress shows on a terminal how far a run has come, until the returned
// function is called.
func (a *app) progress(total int64, done func() int64) (stop func()) {
	f, ok := a.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n := done()
				fmt.Fprintf(f, "\r %d / %d  %3d%%", n, total, 100*n/max(total, 1))
			case <-quit:
				fmt.Fprint(f, "\r\x1b[K")
				return
			}
		}
	}()
	return func() { close(quit); <-gone }
}

// newLoad is a load as the global flags describe it.
func (a *app) newLoad(conns []*h2client.Conn, total, rate int) (*load, error) {
	if a.flags.open && rate <= 0 {
		return nil, errors.New("--open-loop needs a --rate")
	}
	if total < 0 || rate < 0 {
		return nil, errors.New("--total and --rate cannot be negative")
	}
	return &load{
		conns: conns, workers: int(a.flags.clients), total: int64(total), rate: int64(rate),
		open: a.flags.open, sample: a.flags.sample,
	}, nil
}

// drive runs a load with a progress bar.
func (a *app) drive(ctx context.Context, l *load) time.Duration {
	defer a.progress(l.total, l.ended.Load)()
	return l.run(ctx)
}
