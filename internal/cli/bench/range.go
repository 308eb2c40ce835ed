package bench

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
)

func (a *app) rangeCommand() *cobra.Command {
	var (
		consistency                         string
		total, rate                         int
		limit                               int64
		countOnly, keysOnly, prefix, stream bool
		paginate                            bool
	)
	c := &cobra.Command{Use: "range key [end-range]", Short: "Benchmark range", Args: cobra.RangeArgs(1, 2)}
	fs := c.Flags()
	fs.IntVar(&rate, "rate", 0, "Maximum range requests per second (0 is no limit)")
	fs.IntVar(&total, "total", 10000, "Total number of range requests")
	fs.StringVar(&consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	fs.Int64Var(&limit, "limit", 0, "Maximum number of results to return from range request (0 is no limit)")
	fs.BoolVar(&countOnly, "count-only", false, "Only returns the count of keys")
	fs.BoolVar(&keysOnly, "keys-only", false, "Only returns the keys")
	fs.BoolVar(&prefix, "prefix", false, "Range over all keys that begin with key")
	fs.BoolVar(&stream, "stream", false, "Use RangeStream")
	fs.BoolVar(&paginate, "paginate", false, "Read page after page of --limit keys; a request is the whole of it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		serializable, err := parseConsistency(consistency)
		if err != nil {
			return err
		}
		m := &pb.RangeRequest{
			Key: []byte(args[0]), Limit: limit, CountOnly: countOnly, KeysOnly: keysOnly, Serializable: serializable,
		}
		switch {
		case len(args) == 2 && prefix:
			return errors.New("--prefix and end-range exclude each other")
		case len(args) == 2:
			m.RangeEnd = []byte(args[1])
		case prefix:
			m.RangeEnd = keys.PrefixEnd(m.Key)
		}
		if paginate && (limit <= 0 || stream || countOnly) {
			return errors.New("--paginate needs a --limit, and goes neither with --stream nor with --count-only")
		}
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, total, rate)
		if err != nil {
			return err
		}
		if serializable {
			a.say("bench with serializable range")
		} else {
			a.say("bench with linearizable range")
		}
		method := methodRange
		if stream {
			method = methodRangeStream
		}
		body, err := proto.Marshal(m)
		if err != nil {
			return fmt.Errorf("range request: %w", err)
		}
		l.next = func(*worker, int64) request { return request{method: method, body: body} }
		if paginate {
			l.follow = nextPage(m)
		}
		elapsed := a.drive(cmd.Context(), l)
		return a.finish(cmd, l.report(0, "range", "", elapsed))
	}
	return c
}

// nextPage asks for what comes after the last key of a page.
func nextPage(first *pb.RangeRequest) func(*worker, []byte) (request, bool) {
	return func(w *worker, answer []byte) (request, bool) {
		var page pb.RangeResponse
		if proto.Unmarshal(answer, &page) != nil || !page.More || len(page.Kvs) == 0 {
			return request{}, false
		}
		m := proto.Clone(first).(*pb.RangeRequest)
		m.Key = append(page.Kvs[len(page.Kvs)-1].Key, 0)
		return request{method: methodRange, body: w.encode(m)}, true
	}
}

func parseConsistency(s string) (serializable bool, err error) {
	switch s {
	case "l":
		return false, nil
	case "s":
		return true, nil
	}
	return false, fmt.Errorf("--consistency must be l or s, not %q", s)
}
