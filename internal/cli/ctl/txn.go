package ctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (a *app) txnCommand() *cobra.Command {
	var interactive bool
	cmd := &cobra.Command{
		Use: "txn [options]", Short: "Txn processes all the requests in one transaction",
		Long: `Reads a transaction from standard input and commits it.

Three parts, each ended by an empty line: comparisons, requests if all of them
hold, requests if not.

    mod("key1") > "0"

    put key1 "overwrote-key1"

    put key1 "created-key1"
    put key2 "some extra key"

Comparisons are target("key") op "value" with targets ver, create, mod, val and
lease (in hexadecimal), and operators <, >, = and !=. Requests are get, put and
del with the flags of those commands.`,
		Run: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return badArgs("txn command does not accept argument")
			}
			req, err := a.readTxn(interactive)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := a.timeout()
			defer cancel()
			resp, err := c.Txn(ctx, req)
			if err != nil {
				return err
			}
			return a.out.show(txnResult(resp))
		}),
	}
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "Input transaction in interactive mode")
	return cmd
}

func (a *app) readTxn(interactive bool) (*pb.TxnRequest, error) {
	prompt := func(text string) {
		if interactive {
			fmt.Fprintln(a.stdout, text)
		}
	}
	req := &pb.TxnRequest{}
	prompt("compares:")
	err := a.readPart(func(line string) error {
		c, err := parseCompare(line)
		req.Compare = append(req.Compare, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, part := range []struct {
		prompt string
		ops    *[]*pb.RequestOp
	}{
		{"success requests (get, put, del):", &req.Success},
		{"failure requests (get, put, del):", &req.Failure},
	} {
		prompt(part.prompt)
		err := a.readPart(func(line string) error {
			op, err := a.parseRequest(line)
			*part.ops = append(*part.ops, op)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return req, nil
}

// readPart gives each line up to the next empty one to parse.
func (a *app) readPart(parse func(line string) error) error {
	for {
		line, err := a.in.ReadString('\n')
		if err != nil {
			return withCode(exitInvalidInput, err) // a part must be ended, even the last
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return nil
		}
		if err := parse(line); err != nil {
			return err
		}
	}
}

var compareOps = map[string]pb.Compare_CompareResult{
	"=": pb.Compare_EQUAL, "!=": pb.Compare_NOT_EQUAL, ">": pb.Compare_GREATER, "<": pb.Compare_LESS,
}

// parseCompare reads target("key") op "value".
func parseCompare(line string) (*pb.Compare, error) {
	target, rest, ok := strings.Cut(line, "(")
	if !ok {
		return nil, invalidInput("malformed comparison: %s", line)
	}
	var key, op, value string
	// Sscanf stops at the first part it cannot read; the parts before it are
	// shown to the user.
	if n, _ := fmt.Sscanf(rest, "%q) %s %q", &key, &op, &value); n != 3 {
		return nil, invalidInput("malformed comparison: %s; got %s(%q) %s %q", line, target, key, op, value)
	}
	result, ok := compareOps[op]
	if !ok {
		return nil, invalidInput("malformed comparison: %s (unknown operator %s)", line, op)
	}
	c := &pb.Compare{Result: result, Key: []byte(key)}
	err := setCompareTarget(c, target, value)
	if err == errUnknownTarget {
		return nil, invalidInput("malformed comparison: %s (unknown target %s)", line, target)
	}
	if err != nil {
		return nil, invalidInput("invalid txn compare request: %s", line)
	}
	return c, nil
}

var errUnknownTarget = fmt.Errorf("unknown target")

func setCompareTarget(c *pb.Compare, target, value string) error {
	switch target {
	case "val", "value":
		c.Target = pb.Compare_VALUE
		c.TargetUnion = &pb.Compare_Value{Value: []byte(value)}
		return nil
	case "lease":
		n, err := strconv.ParseInt(value, 16, 64)
		c.Target = pb.Compare_LEASE
		c.TargetUnion = &pb.Compare_Lease{Lease: n}
		return err
	}
	n, err := strconv.ParseInt(value, 10, 64)
	switch target {
	case "ver", "version":
		c.Target = pb.Compare_VERSION
		c.TargetUnion = &pb.Compare_Version{Version: n}
	case "c", "create":
		c.Target = pb.Compare_CREATE
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: n}
	case "m", "mod":
		c.Target = pb.Compare_MOD
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: n}
	default:
		return errUnknownTarget
	}
	return err
}

// parseRequest reads a get, put or del with its flags.
func (a *app) parseRequest(line string) (*pb.RequestOp, error) {
	args := argify(line)
	if len(args) < 2 {
		return nil, invalidInput("invalid txn compare request: %s", line)
	}
	name, args := args[0], args[1:]
	var err error
	switch name {
	case "get":
		var f getFlags
		if args, err = a.parseRequestFlags(name, f.register, args, line); err != nil {
			return nil, err
		}
		req, err := f.request(args)
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: req}}, err
	case "put":
		var f putFlags
		if args, err = a.parseRequestFlags(name, f.register, args, line); err != nil {
			return nil, err
		}
		// Standard input is the transaction; no value can come from it.
		req, err := f.request(args, strings.NewReader(""))
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}}, err
	case "del":
		var f delFlags
		if args, err = a.parseRequestFlags(name, f.register, args, line); err != nil {
			return nil, err
		}
		req, err := f.request(args)
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}}, err
	}
	return nil, invalidInput("invalid txn request: %s", line)
}

func (a *app) parseRequestFlags(name string, register func(*pflag.FlagSet), args []string, line string) ([]string, error) {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	register(fs)
	if err := fs.Parse(args); err != nil {
		fmt.Fprintf(a.stderr, "Usage:\n  %s [options]\n\nFlags:\n%s\n", name, fs.FlagUsages())
		return nil, invalidInput("invalid txn request: %s", line)
	}
	return fs.Args(), nil
}
