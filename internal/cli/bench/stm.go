package bench

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/wire/h2client"
)

// stmFlags say what a transaction of the stm command is.
type stmFlags struct {
	keys, keysPerTxn, writePercent, valSize int
	total, rate                             int
	isolation, locker                       string
}

func (a *app) stmCommand() *cobra.Command {
	var f stmFlags
	c := &cobra.Command{Use: "stm", Short: "Benchmark STM", Args: cobra.NoArgs}
	fs := c.Flags()
	fs.StringVar(&f.isolation, "isolation", "r", "Read Committed (c), Repeatable Reads (r), Serializable (s), or Snapshot (ss)")
	fs.IntVar(&f.keys, "keys", 1, "Total unique keys accessible by the benchmark")
	fs.IntVar(&f.total, "total", 10000, "Total number of completed STM transactions")
	fs.IntVar(&f.keysPerTxn, "keys-per-txn", 1, "Number of keys to access per transaction")
	fs.IntVar(&f.writePercent, "txn-wr-percent", 50, "Percentage of keys to overwrite per transaction")
	fs.StringVar(&f.locker, "stm-locker", "stm", "Wrap STM transaction with custom locking (stm, lock-client, lock-rpc)")
	fs.IntVar(&f.valSize, "val-size", 8, "Value size of each STM put request")
	fs.IntVar(&f.rate, "rate", 0, "Maximum STM transactions per second (0 is no limit)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, f.total, f.rate)
		if err != nil {
			return err
		}
		lock, err := lockerOf(f.locker)
		if err != nil {
			return err
		}
		value := randomBytes(f.valSize)
		t := newTasks(l, func(ctx context.Context, c *h2client.Conn, r *rand.Rand) error {
			unlock, err := lock(ctx, c)
			if err != nil {
				return err
			}
			defer unlock()
			return f.plan(r, value).run(ctx, c)
		})
		stop := a.progress(t.total, t.ended.Load)
		elapsed := t.run(cmd.Context())
		stop()
		return a.finish(cmd, newReport("stm", "", elapsed, t.tallies...))
	}
	return c
}

func (f *stmFlags) check() error {
	switch f.isolation {
	case "c", "r", "s", "ss":
	default:
		return fmt.Errorf("--isolation must be c, r, s or ss, not %q", f.isolation)
	}
	if f.keysPerTxn < 1 || f.keysPerTxn > f.keys {
		return fmt.Errorf("expected --keys-per-txn from 1 to --keys, got %d and %d", f.keysPerTxn, f.keys)
	}
	if f.writePercent < 0 || f.writePercent > 100 {
		return fmt.Errorf("expected --txn-wr-percent between 0 and 100, got %d", f.writePercent)
	}
	return nil
}

// stm is one software transaction: it reads keys and then writes some of them
// if what the isolation level protects is still as it was.
type stm struct {
	isolation string
	reads     [][]byte
	writes    [][]byte // a part of reads
	value     []byte
}

// plan chooses the keys of one transaction.
func (f *stmFlags) plan(r *rand.Rand, value []byte) *stm {
	s := &stm{isolation: f.isolation, value: value}
	chosen := map[int]bool{}
	for len(chosen) < f.keysPerTxn {
		n := r.IntN(f.keys)
		if chosen[n] {
			continue
		}
		chosen[n] = true
		key := fmt.Appendf(nil, "stm-%d", n)
		s.reads = append(s.reads, key)
		if len(s.writes)*100 < len(s.reads)*f.writePercent {
			s.writes = append(s.writes, key)
		}
	}
	return s
}

// run repeats until the transaction goes through. A failed commit brings the
// current values along, so a repetition costs one round trip.
func (s *stm) run(ctx context.Context, c *h2client.Conn) error {
	seen, err := s.readAll(ctx, c)
	for err == nil {
		var resp pb.TxnResponse
		if err = call(ctx, c, methodTxn, s.commit(seen), &resp); err != nil || resp.Succeeded {
			return err
		}
		for i, r := range resp.Responses {
			seen[i] = modOf(r.GetResponseRange().GetKvs())
		}
	}
	return err
}

// readAll returns the modification revision of each key. Above read committed
// and repeatable reads, all reads see the revision of the first.
func (s *stm) readAll(ctx context.Context, c *h2client.Conn) ([]int64, error) {
	var rev int64
	mods := make([]int64, len(s.reads))
	for i, k := range s.reads {
		var resp pb.RangeResponse
		if err := call(ctx, c, methodRange, &pb.RangeRequest{Key: k, Revision: rev}, &resp); err != nil {
			return nil, err
		}
		mods[i] = modOf(resp.Kvs)
		if s.isolation == "s" || s.isolation == "ss" {
			rev = resp.Header.GetRevision()
		}
	}
	return mods, nil
}

func modOf(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}

// commit is the transaction that ends the attempt.
func (s *stm) commit(mods []int64) *pb.TxnRequest {
	m := &pb.TxnRequest{}
	if s.isolation != "c" {
		for i, k := range s.reads {
			m.Compare = append(m.Compare, unchanged(k, mods[i]))
		}
	}
	for _, k := range s.writes {
		m.Success = append(m.Success, putOp(k, s.value))
	}
	for _, k := range s.reads {
		m.Failure = append(m.Failure, rangeOp(&pb.RangeRequest{Key: k}))
	}
	return m
}

func unchanged(key []byte, mod int64) *pb.Compare {
	return &pb.Compare{Key: key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: mod}}
}
