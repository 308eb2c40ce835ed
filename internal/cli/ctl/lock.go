package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/client"
)

const (
	lockTTLSeconds  = 10
	electTTLSeconds = 60
)

func (a *app) lockCommand() *cobra.Command {
	var ttl int
	cmd := &cobra.Command{Use: "lock <lockname> [exec-command arg1 arg2 ...]", Short: "Acquires a named lock", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return badArgs("lock takes a lock name argument and an optional command to execute")
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		return a.hold(c, ttl, args[0], "", func(ctx context.Context, claim *claim) error {
			if len(args) > 1 {
				return a.runLocked(claim, args[1:])
			}
			return a.showClaim(ctx, c, claim, "lock lost on init")
		}, len(args) > 1)
	})}
	flagval.Int(cmd.Flags(), &ttl, "ttl", lockTTLSeconds, "timeout for session")
	return cmd
}

// hold takes the first place below name, does held, and unless that was all
// keeps the place until a signal comes or the lease is lost.
func (a *app) hold(c *client.Client, ttl int, name, value string, held func(context.Context, *claim) error, thatIsAll bool) error {
	ctx, cancel := untilSignal()
	defer cancel()
	s, err := newSession(c, ttl)
	if err != nil {
		return err
	}
	defer s.close()
	claim, err := s.take(ctx, name, value)
	if err != nil {
		return err
	}
	if err := held(ctx, claim); err != nil {
		_ = claim.release(context.Background())
		return err
	}
	if thatIsAll {
		return claim.release(context.Background())
	}
	select {
	case <-ctx.Done():
		return claim.release(context.Background())
	case <-s.done:
		return errSessionExpired
	}
}

// runLocked runs a command while the lock is held; its exit code is ours.
func (a *app) runLocked(claim *claim, command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "ETCD_LOCK_KEY="+claim.key, fmt.Sprintf("ETCD_LOCK_REV=%d", claim.header.GetRevision()))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{exit.ExitCode(), err}
	}
	return err
}

func (a *app) showClaim(ctx context.Context, c *client.Client, claim *claim, lost string) error {
	resp, err := c.Range(ctx, &pb.RangeRequest{Key: []byte(claim.key)})
	if err != nil {
		return err
	}
	if len(resp.Kvs) == 0 {
		return errors.New(lost)
	}
	return a.out.show(rangeResult(resp))
}

func (a *app) electCommand() *cobra.Command {
	var listen bool
	cmd := &cobra.Command{Use: "elect <election-name> [proposal]", Short: "Observes and participates in leader election", Run: a.run(func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) != 1 && len(args) != 2:
			return badArgs("elect takes one election name argument and an optional proposal argument")
		case len(args) == 1 && !listen:
			return badArgs("no proposal argument but -l not set")
		case len(args) == 2 && listen:
			return badArgs("proposal given but -l is set")
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		if listen {
			return a.observe(c, args[0])
		}
		return a.hold(c, electTTLSeconds, args[0], args[1], func(ctx context.Context, claim *claim) error {
			return a.showClaim(ctx, c, claim, "no leader elected")
		}, false)
	})}
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "observation mode")
	return cmd
}

// observe shows every leader and every new proposal of one, until a signal.
func (a *app) observe(c *client.Client, name string) error {
	ctx, cancel := untilSignal()
	defer cancel()
	var last int64 // modification shown last
	err := watchFirst(ctx, c, name+"/", func(h *pb.ResponseHeader, kv *mvccpb.KeyValue) error {
		if kv.ModRevision == last {
			return nil
		}
		last = kv.ModRevision
		return a.out.show(rangeResult(&pb.RangeResponse{Header: h, Kvs: []*mvccpb.KeyValue{kv}}))
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watchFirst calls fn with the oldest key below prefix, again whenever
// something below prefix changes.
func watchFirst(ctx context.Context, c *client.Client, prefix string, fn func(*pb.ResponseHeader, *mvccpb.KeyValue) error) error {
	first := &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: keys.PrefixEnd([]byte(prefix)), Limit: 1,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND,
	}
	show := func() (int64, error) {
		resp, err := c.Range(ctx, first)
		if err != nil || len(resp.Kvs) == 0 {
			return resp.GetHeader().GetRevision(), err
		}
		return resp.Header.GetRevision(), fn(resp.Header, resp.Kvs[0])
	}
	rev, err := show()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := c.NewWatcher(ctx)
	defer w.Close()
	for resp := range w.Watch(client.WatchRequest{Key: first.Key, RangeEnd: first.RangeEnd, Rev: rev + 1}) {
		if resp.Canceled {
			return resp.Err
		}
		if len(resp.Events) == 0 {
			continue
		}
		if _, err := show(); err != nil {
			return err
		}
	}
	return ctx.Err()
}
