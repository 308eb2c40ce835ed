package bench

import (
	"errors"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (a *app) txnPutCommand() *cobra.Command {
	keys := keyspace{sequential: true}
	var valSize, total, rate, ops int
	c := &cobra.Command{Use: "txn-put", Short: "Benchmark txn-put", Args: cobra.NoArgs}
	fs := c.Flags()
	fs.IntVar(&keys.size, "key-size", 8, "Key size of txn put")
	fs.IntVar(&valSize, "val-size", 8, "Value size of txn put")
	fs.IntVar(&ops, "txn-ops", 1, "Number of puts per txn")
	fs.IntVar(&rate, "rate", 0, "Maximum txns per second (0 is no limit)")
	fs.IntVar(&total, "total", 10000, "Total number of txn requests")
	fs.IntVar(&keys.space, "key-space-size", 1, "Maximum possible keys")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := keys.check(); err != nil {
			return err
		}
		if ops < 1 || ops > keys.space {
			return errors.New("expected --txn-ops from 1 to --key-space-size: a txn cannot put a key twice")
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, total, rate)
		if err != nil {
			return err
		}
		value := randomBytes(valSize)
		l.next = func(w *worker, i int64) request {
			m := &pb.TxnRequest{}
			for j := range int64(ops) {
				key := make([]byte, keys.size)
				keys.key(key, i*int64(ops)+j, w.rand)
				m.Success = append(m.Success, putOp(key, value))
			}
			return request{method: methodTxn, body: w.encode(m)}
		}
		elapsed := a.drive(cmd.Context(), l)
		return a.finish(cmd, l.report(0, "txn-put", "", elapsed))
	}
	return c
}

func putOp(key, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value}}}
}

func rangeOp(m *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: m}}
}

// The kinds of request of txn-mixed.
const (
	kindRead = iota
	kindWrite
)

func (a *app) txnMixedCommand() *cobra.Command {
	var (
		keys                 keyspace
		valSize, total, rate int
		limit                int64
		consistency, endKey  string
		ratio                float64
	)
	c := &cobra.Command{Use: "txn-mixed key [end-range]", Short: "Benchmark a mix of read and write txns", Args: cobra.RangeArgs(1, 2)}
	fs := c.Flags()
	fs.IntVar(&keys.size, "key-size", 8, "Key size of mixed txn")
	fs.IntVar(&valSize, "val-size", 8, "Value size of mixed txn")
	fs.IntVar(&rate, "rate", 0, "Maximum txns per second (0 is no limit)")
	fs.IntVar(&total, "total", 10000, "Total number of txn requests")
	fs.StringVar(&endKey, "end-key", "", "Read operation range end key (default: key alone)")
	fs.Int64Var(&limit, "limit", 1000, "Read operation range result limit")
	fs.IntVar(&keys.space, "key-space-size", 1, "Maximum possible keys")
	fs.StringVar(&consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	fs.Float64Var(&ratio, "rw-ratio", 1, "Read/write ops ratio")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := keys.check(); err != nil {
			return err
		}
		if ratio < 0 {
			return errors.New("--rw-ratio cannot be negative")
		}
		serializable, err := parseConsistency(consistency)
		if err != nil {
			return err
		}
		read := &pb.RangeRequest{Key: []byte(args[0]), RangeEnd: []byte(endKey), Limit: limit, Serializable: serializable}
		if len(args) == 2 {
			read.RangeEnd = []byte(args[1])
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, total, rate)
		if err != nil {
			return err
		}
		l.kinds = 2
		value := randomBytes(valSize)
		readTxn := &pb.TxnRequest{Success: []*pb.RequestOp{rangeOp(read)}}
		share := ratio / (1 + ratio)
		l.next = func(w *worker, i int64) request {
			if w.rand.Float64() < share {
				return request{method: methodTxn, body: w.encode(readTxn), kind: kindRead}
			}
			key := make([]byte, keys.size)
			keys.key(key, i, w.rand)
			return request{method: methodTxn, body: w.encode(&pb.TxnRequest{Success: []*pb.RequestOp{putOp(key, value)}}), kind: kindWrite}
		}
		elapsed := a.drive(cmd.Context(), l)
		reads, writes := l.report(kindRead, "txn-mixed-read", "", elapsed), l.report(kindWrite, "txn-mixed-write", "", elapsed)
		a.say("Total Read Ops: %d, Total Write Ops: %d", reads.lat.n, writes.lat.n)
		reads.title, writes.title = "Read", "Write"
		return a.finish(cmd, reads, writes)
	}
	return c
}
