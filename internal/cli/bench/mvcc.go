package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"

	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/backend"
)

// mvccFlags size the storage benchmark, which needs no server.
type mvccFlags struct {
	batchLimit, batchInterval      int // puts and milliseconds between two commits
	total, keySize, valueSize, ops int
	txn                            bool
	cpuProfile, memProfile         string
}

func (a *app) mvccCommand() *cobra.Command {
	var f mvccFlags
	group := &cobra.Command{Use: "mvcc", Short: "Benchmark mvcc", Long: "mvcc measures the storage alone, in a temporary directory."}
	pfs := group.PersistentFlags()
	pfs.IntVar(&f.batchInterval, "batch-interval", 100, "Interval of commits to the file in milliseconds")
	pfs.IntVar(&f.batchLimit, "batch-limit", 10000, "Commit to the file after this many puts")

	c := &cobra.Command{Use: "put", Short: "Benchmark put performance of storage", Args: cobra.NoArgs}
	fs := c.Flags()
	fs.IntVar(&f.total, "total", 100, "a total number of keys to put")
	fs.IntVar(&f.keySize, "key-size", 64, "a size of key (Byte)")
	fs.IntVar(&f.valueSize, "value-size", 64, "a size of value (Byte)")
	fs.BoolVar(&f.txn, "txn", false, "put --txn-ops keys per transaction")
	fs.IntVar(&f.ops, "txn-ops", 1, "a number of ops per transaction, if --txn is given")
	fs.StringVar(&f.cpuProfile, "cpuprofile", "", "the path of file for storing cpu profile result")
	fs.StringVar(&f.memProfile, "memprofile", "", "the path of file for storing heap profile result")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		stop, err := startProfile(f.cpuProfile)
		if err != nil {
			return err
		}
		r, err := f.run(cmd.Context(), a.flags.sample)
		stop()
		if err != nil {
			return err
		}
		if err := writeHeapProfile(f.memProfile); err != nil {
			return err
		}
		return a.finish(cmd, r)
	}
	group.AddCommand(c)
	return group
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	out, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return nil, errors.Join(fmt.Errorf("--cpuprofile: %w", err), out.Close())
	}
	return func() { pprof.StopCPUProfile(); out.Close() }, nil
}

func writeHeapProfile(path string) error {
	if path == "" {
		return nil
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--memprofile: %w", err)
	}
	runtime.GC() // so that the profile is of what lives
	return errors.Join(pprof.WriteHeapProfile(out), out.Close())
}

// run puts into a store whose buffer goes to the file in batches, on the same
// goroutine: what is measured includes the commits.
func (f *mvccFlags) run(ctx context.Context, sample bool) (*report, error) {
	if f.keySize < 8 || f.valueSize < 0 || f.batchLimit < 1 || (f.txn && f.ops < 1) {
		return nil, errors.New("--key-size must be at least 8, --batch-limit and --txn-ops positive")
	}
	dir, err := os.MkdirTemp("", "benchmark-mvcc-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	be, err := backend.Open(filepath.Join(dir, "db"), backend.Options{})
	if err != nil {
		return nil, err
	}
	defer be.Close()
	base, err := be.Base()
	if err != nil {
		return nil, err
	}
	store, err := mvcc.Open(base, mvcc.Options{FinishedCompact: mvcc.Never, ScheduledCompact: mvcc.Never})
	if err != nil {
		base.Release()
		return nil, err
	}
	defer store.Close()
	t := newTally(sample)
	start := time.Now()
	if err := f.puts(ctx, store, be, t); err != nil {
		return nil, err
	}
	return newReport("mvcc-put", "", time.Since(start), t), nil
}

func (f *mvccFlags) puts(ctx context.Context, store *mvcc.Store, be *backend.Bolt, t *tally) error {
	ops := 1
	if f.txn {
		ops = f.ops
	}
	key, value := make([]byte, f.keySize), randomBytes(f.valueSize)
	waiting, committed := 0, time.Now()
	for i := 0; i < f.total && ctx.Err() == nil; {
		from := time.Now()
		txn := store.Begin()
		for j := 0; j < ops && i < f.total; j++ {
			binary.BigEndian.PutUint64(key, uint64(i))
			txn.Put(append([]byte(nil), key...), value, 0)
			i++
			waiting++
		}
		txn.Commit()
		store.Publish()
		if waiting >= f.batchLimit || time.Since(committed) >= time.Duration(f.batchInterval)*time.Millisecond {
			if err := flush(store, be); err != nil {
				return err
			}
			waiting, committed = 0, time.Now()
		}
		t.done(from, nil)
	}
	return flush(store, be)
}

// flush moves the store's buffer to the file.
func flush(store *mvcc.Store, be *backend.Bolt) error {
	rev := store.Rev()
	buffered := store.Buffered(rev)
	batch := backend.Batch{Records: make([]backend.Record, len(buffered))}
	for i, r := range buffered {
		batch.Records[i] = backend.Record{Key: r.Key, Value: r.Value}
	}
	if err := be.Commit(batch); err != nil {
		return err
	}
	base, err := be.Base()
	if err != nil {
		return err
	}
	store.Rebase(base, rev)
	return nil
}
