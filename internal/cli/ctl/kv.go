package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/client"
)

// spanFlags are --prefix and --from-key, in the commands that take a key.
type spanFlags struct{ prefix, fromKey bool }

var (
	errSpanConflict = badArgs("`--prefix` and `--from-key` cannot be set at the same time, choose one")
	errSpanExtra    = badArgs("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
)

// span is the key and range end for the arguments of get, del and watch.
func (s spanFlags) span(args []string) (key, end []byte, err error) {
	switch {
	case s.prefix && s.fromKey:
		return nil, nil, errSpanConflict
	case (s.prefix || s.fromKey) && len(args) > 1:
		return nil, nil, errSpanExtra
	case s.prefix:
		return prefixSpan(args[0])
	case s.fromKey:
		return openSpan(args[0])
	case len(args) > 1:
		end = []byte(args[1])
	}
	return []byte(args[0]), end, nil
}

// prefixSpan is every key that starts with prefix; the empty prefix is every key.
func prefixSpan(prefix string) (key, end []byte, err error) {
	if prefix == "" {
		return openSpan("")
	}
	return []byte(prefix), keys.PrefixEnd([]byte(prefix)), nil
}

// openSpan is every key from this one on, in the form the wire wants: "\x00"
// as the end, and as the key when that is empty.
func openSpan(from string) (key, end []byte, err error) {
	if from == "" {
		from = "\x00"
	}
	return []byte(from), []byte{0}, nil
}

// getFlags are the flags of get, on the command line and in a transaction.
type getFlags struct {
	spanFlags
	consistency, order, sortBy           string
	limit, rev                           int64
	keysOnly, countOnly, valueOnly       bool
	minCreate, maxCreate, minMod, maxMod int64
	stream                               bool
}

func (f *getFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	fs.StringVar(&f.order, "order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)")
	fs.StringVar(&f.sortBy, "sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
	flagval.Int64(fs, &f.limit, "limit", 0, "Maximum number of results")
	fs.BoolVar(&f.prefix, "prefix", false, "Get keys with matching prefix")
	fs.BoolVar(&f.fromKey, "from-key", false, "Get keys that are greater than or equal to the given key using byte compare")
	flagval.Int64(fs, &f.rev, "rev", 0, "Specify the kv revision")
	fs.BoolVar(&f.keysOnly, "keys-only", false, "Get only the keys")
	fs.BoolVar(&f.countOnly, "count-only", false, "Get only the count")
	fs.BoolVar(&f.valueOnly, "print-value-only", false, `Only write values when using the "simple" output format`)
	flagval.Int64(fs, &f.minCreate, "min-create-rev", 0, "Minimum create revision")
	flagval.Int64(fs, &f.maxCreate, "max-create-rev", 0, "Maximum create revision")
	flagval.Int64(fs, &f.minMod, "min-mod-rev", 0, "Minimum modification revision")
	flagval.Int64(fs, &f.maxMod, "max-mod-rev", 0, "Maximum modification revision")
}

var sortOrders = map[string]pb.RangeRequest_SortOrder{
	"": pb.RangeRequest_NONE, "ASCEND": pb.RangeRequest_ASCEND, "DESCEND": pb.RangeRequest_DESCEND,
}

var sortTargets = map[string]pb.RangeRequest_SortTarget{
	"": pb.RangeRequest_KEY, "CREATE": pb.RangeRequest_CREATE, "KEY": pb.RangeRequest_KEY,
	"MODIFY": pb.RangeRequest_MOD, "VALUE": pb.RangeRequest_VALUE, "VERSION": pb.RangeRequest_VERSION,
}

func (f *getFlags) request(args []string) (*pb.RangeRequest, error) {
	if len(args) == 0 {
		return nil, badArgs("get command needs one argument as key and an optional argument as range_end")
	}
	if f.keysOnly && f.countOnly {
		return nil, badArgs("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
	}
	serializable, err := parseConsistency(f.consistency, f.consistency)
	if err != nil {
		return nil, err
	}
	key, end, err := f.span(args)
	if err != nil {
		return nil, err
	}
	order, ok := sortOrders[strings.ToUpper(f.order)]
	if !ok {
		return nil, badFeature("bad sort order %v", f.order)
	}
	target, ok := sortTargets[strings.ToUpper(f.sortBy)]
	if !ok {
		return nil, badFeature("bad sort target %v", f.sortBy)
	}
	return &pb.RangeRequest{
		Key: key, RangeEnd: end, Limit: f.limit, Revision: f.rev,
		SortOrder: wireOrder(order, target), SortTarget: target, Serializable: serializable,
		KeysOnly: f.keysOnly, CountOnly: f.countOnly,
		MinModRevision: f.minMod, MaxModRevision: f.maxMod,
		MinCreateRevision: f.minCreate, MaxCreateRevision: f.maxCreate,
	}, nil
}

// wireOrder leaves ascending key order unsaid: it is how keys come anyway, and
// servers answer it without sorting.
func wireOrder(order pb.RangeRequest_SortOrder, target pb.RangeRequest_SortTarget) pb.RangeRequest_SortOrder {
	if order == pb.RangeRequest_ASCEND && target == pb.RangeRequest_KEY {
		return pb.RangeRequest_NONE
	}
	return order
}

// parseConsistency reads l or s. shown is what an error names.
func parseConsistency(value, shown string) (serializable bool, err error) {
	switch value {
	case "l":
		return false, nil
	case "s":
		return true, nil
	}
	return false, badFeature("unknown consistency flag %q", shown)
}

func (a *app) getCommand() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use: "get [options] <key> [range_end]", Short: "Gets the key or a range of keys",
		Run: a.run(func(cmd *cobra.Command, args []string) error { return a.get(cmd, &f, args) }),
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&f.stream, "stream", false, "Fetch the result in chunks, so that its size is not limited by one message")
	return cmd
}

func (a *app) get(cmd *cobra.Command, f *getFlags, args []string) error {
	req, err := f.request(args)
	if err != nil {
		return err
	}
	if f.countOnly && a.out.format != formatFields {
		return badArgs("--count-only is only for `--write-out=fields`")
	}
	if f.valueOnly && a.out.format != formatSimple {
		return badArgs("print-value-only is only for `--write-out=simple`")
	}
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := a.timeout()
	defer cancel()
	read := c.Range
	if f.stream {
		read = rangeByStream(c)
	}
	resp, err := read(ctx, req)
	if err != nil {
		return err
	}
	if f.valueOnly {
		return a.out.show(valuesOnly(resp))
	}
	return a.out.show(rangeResult(resp))
}

// rangeByStream reads a range in chunks and merges them, which by the API's
// promise gives what Range would have answered.
func rangeByStream(c pb.KVClient) func(context.Context, *pb.RangeRequest, ...grpc.CallOption) (*pb.RangeResponse, error) {
	return func(ctx context.Context, req *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
		stream, err := c.RangeStream(ctx, req, opts...)
		if err != nil {
			return nil, client.CallError(ctx, err)
		}
		whole := &pb.RangeResponse{}
		for {
			chunk, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return whole, nil
			}
			if err != nil {
				return nil, client.CallError(ctx, err)
			}
			proto.Merge(whole, chunk.GetRangeResponse())
		}
	}
}

// putFlags are the flags of put.
type putFlags struct {
	lease                            string
	prevKV, ignoreValue, ignoreLease bool
}

func (f *putFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.lease, "lease", "0", "lease ID (in hexadecimal) to attach to the key")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "return the previous key-value pair before modification")
	fs.BoolVar(&f.ignoreValue, "ignore-value", false, "updates the key using its current value")
	fs.BoolVar(&f.ignoreLease, "ignore-lease", false, "updates the key using its current lease")
}

// request builds the put; a value that is not among the arguments comes from in.
func (f *putFlags) request(args []string, in io.Reader) (*pb.PutRequest, error) {
	if len(args) == 0 {
		return nil, errPutArgs
	}
	if f.ignoreValue && len(args) > 1 {
		return nil, badArgs("put command needs only 1 argument when 'ignore-value' is set")
	}
	var value []byte
	if !f.ignoreValue {
		var err error
		if value, err = putValue(args, in); err != nil {
			return nil, err
		}
	}
	lease, err := strconv.ParseInt(f.lease, 16, 64)
	if err != nil {
		return nil, badArgs("bad lease ID (%w), expecting ID in Hex", err)
	}
	return &pb.PutRequest{
		Key: []byte(args[0]), Value: value, Lease: lease,
		PrevKv: f.prevKV, IgnoreValue: f.ignoreValue, IgnoreLease: f.ignoreLease,
	}, nil
}

var errPutArgs = badArgs("put command needs 1 argument and input from stdin or 2 arguments")

func putValue(args []string, in io.Reader) ([]byte, error) {
	if len(args) > 1 {
		return []byte(args[1]), nil
	}
	value, err := io.ReadAll(in)
	if err != nil || len(value) == 0 {
		return nil, errPutArgs
	}
	return value, nil
}

func (a *app) putCommand() *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use:   "put [options] <key> <value> (<value> can also be given from stdin)",
		Short: "Puts the given key into the store",
		Long: `Puts the given key into the store.

A value that starts with a dash would be taken for a flag; put "--" before the
key to end the flags:

    etcdctl put -- <key> -value-

Without <value> the value is read from standard input.
With --ignore-value, or --ignore-lease, the key keeps its present value or lease;
the key must exist.`,
		Run: a.run(func(cmd *cobra.Command, args []string) error {
			req, err := f.request(args, a.in)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := a.timeout()
			defer cancel()
			resp, err := c.Put(ctx, req)
			if err != nil {
				return err
			}
			return a.out.show(putResult(resp))
		}),
	}
	f.register(cmd.Flags())
	return cmd
}

// delFlags are the flags of del.
type delFlags struct {
	spanFlags
	prevKV bool
	rng    bool // the user means the range
}

func (f *delFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.prefix, "prefix", false, "delete keys with matching prefix")
	fs.BoolVar(&f.prevKV, "prev-kv", false, "return deleted key-value pairs")
	fs.BoolVar(&f.fromKey, "from-key", false, "delete keys that are greater than or equal to the given key using byte compare")
	fs.BoolVar(&f.rng, "range", false, "delete range of keys without delay")
}

func (f *delFlags) request(args []string) (*pb.DeleteRangeRequest, error) {
	if len(args) == 0 || len(args) > 2 {
		return nil, badArgs("del command needs one argument as key and an optional argument as range_end")
	}
	key, end, err := f.span(args)
	if err != nil {
		return nil, err
	}
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: f.prevKV}, nil
}

// rangeGrace is the time to think again when two keys were given, which is
// also how one would try to delete two keys.
const rangeGrace = 2 * time.Second

func (a *app) delCommand() *cobra.Command {
	var f delFlags
	cmd := &cobra.Command{
		Use: "del [options] <key> [range_end]", Short: "Removes the specified key or range of keys [key, range_end)",
		Run: a.run(func(cmd *cobra.Command, args []string) error {
			req, err := f.request(args)
			if err != nil {
				return err
			}
			if len(args) == 2 && !f.rng {
				fmt.Fprintf(a.stderr, "Warning: Keys between %q and %q will be deleted. Please interrupt the command within next 2 seconds to cancel. "+
					"You can provide `--range` flag to avoid the delay.\n", args[0], args[1])
				time.Sleep(rangeGrace)
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := a.timeout()
			defer cancel()
			resp, err := c.DeleteRange(ctx, req)
			if err != nil {
				return err
			}
			return a.out.show(delResult(resp))
		}),
	}
	f.register(cmd.Flags())
	return cmd
}

func (a *app) compactionCommand() *cobra.Command {
	var physical bool
	cmd := &cobra.Command{
		Use: "compaction [options] <revision>", Short: "Compacts the event history in etcd",
		Run: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("compaction command needs 1 argument")
			}
			rev, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := a.timeout()
			defer cancel()
			if _, err := c.Compact(ctx, &pb.CompactionRequest{Revision: rev, Physical: physical}); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "compacted revision", rev)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&physical, "physical", false, "'true' to wait for compaction to physically remove all old revisions")
	return cmd
}

// isPrefixEnd reports whether [key, end) is exactly what starts with key.
func isPrefixEnd(key, end []byte) bool { return bytes.Equal(keys.PrefixEnd(key), end) }
