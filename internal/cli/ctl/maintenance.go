package ctl

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/client"
)

func (a *app) alarmCommand() *cobra.Command {
	return group("alarm <subcommand>", "Alarm related commands",
		&cobra.Command{Use: "disarm", Short: "Disarms all alarms", Run: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return badArgs("alarm disarm command accepts no arguments")
			}
			return a.alarm(cmd, disarmAll)
		})},
		&cobra.Command{Use: "list", Short: "Lists all alarms", Run: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 {
				return badArgs("alarm list command accepts no arguments")
			}
			return a.alarm(cmd, func(ctx context.Context, c *client.Client) (*pb.AlarmResponse, error) {
				return c.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
			})
		})},
	)
}

func (a *app) alarm(cmd *cobra.Command, call func(context.Context, *client.Client) (*pb.AlarmResponse, error)) error {
	c, err := a.connect(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := a.timeout()
	defer cancel()
	resp, err := call(ctx, c)
	if err != nil {
		return err
	}
	return a.out.show(alarmResult(resp))
}

// disarmAll lowers every alarm that is up, one by one. The answer lists them
// and, coming from several requests, has no header.
func disarmAll(ctx context.Context, c *client.Client) (*pb.AlarmResponse, error) {
	up, err := c.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil {
		return nil, err
	}
	sum := &pb.AlarmResponse{}
	for _, m := range up.Alarms {
		resp, err := c.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: m.MemberID, Alarm: m.Alarm})
		if err != nil {
			return nil, err
		}
		sum.Alarms = append(sum.Alarms, resp.Alarms...)
	}
	return sum, nil
}

func alarmResult(resp *pb.AlarmResponse) result {
	return result{
		simple: func(p *printer) {
			for _, m := range resp.Alarms {
				p.line("memberID:%d alarm:%s", m.MemberID, m.Alarm)
			}
		},
		fields: func(p *printer) {
			p.header(resp.Header)
			for _, m := range resp.Alarms {
				p.id("MemberID", m.MemberID)
				p.field("AlarmType", m.Alarm)
				p.line("")
			}
		},
		json:  resp,
		proto: resp,
	}
}

func (a *app) defragCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "defrag", Short: "Defragments the storage of the etcd members with given endpoints",
		Run: a.run(func(cmd *cobra.Command, _ []string) error {
			failed, err := a.eachEndpoint(cmd, func(ctx context.Context, c *client.Client, ep string) error {
				start := time.Now()
				if _, err := c.Defragment(ctx, &pb.DefragmentRequest{}); err != nil {
					fmt.Fprintf(a.stderr, "Failed to defragment etcd member[%s]. took %s. (%v)\n", ep, time.Since(start), err)
					return err
				}
				fmt.Fprintf(a.stdout, "Finished defragmenting etcd member[%s]. took %s\n", ep, time.Since(start))
				return nil
			})
			if err != nil {
				return err
			}
			if failed != nil {
				return quiet(exitFailure)
			}
			return nil
		})}
	cmd.Flags().Bool("cluster", false, "use all endpoints from the cluster member list")
	return cmd
}

func (a *app) moveLeaderCommand() *cobra.Command {
	return &cobra.Command{Use: "move-leader <transferee-member-id>", Short: "Transfers leadership to another etcd cluster member.",
		Run: a.run(func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badArgs("move-leader command needs 1 argument")
			}
			target, err := strconv.ParseUint(args[0], 16, 64)
			if err != nil {
				return withCode(exitBadArgs, err)
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			leader, id, err := a.findLeader(c)
			if err != nil {
				return err
			}
			if leader == nil {
				return badArgs("no leader endpoint given at %v", c.Endpoints())
			}
			defer leader.Close()
			ctx, cancel := a.timeout()
			defer cancel()
			resp, err := leader.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: target})
			if err != nil {
				return err
			}
			return a.out.show(result{
				simple: text("Leadership transferred from %x to %x", id, target), json: resp, proto: resp,
			})
		})}
}

// findLeader returns a connection to the endpoint that leads, nil if none of
// them does.
func (a *app) findLeader(c *client.Client) (*client.Client, uint64, error) {
	for _, ep := range c.Endpoints() {
		one, err := c.At(ep)
		if err != nil {
			return nil, 0, err
		}
		ctx, cancel := a.timeout()
		st, err := one.Status(ctx, &pb.StatusRequest{})
		cancel()
		if err == nil && st.Header.GetMemberId() == st.Leader {
			return one, st.Leader, nil
		}
		one.Close()
		if err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, nil
}

func (a *app) downgradeCommand() *cobra.Command {
	return group("downgrade <TARGET_VERSION>", "Downgrade related commands",
		a.downgradeActionCommand("validate", "<TARGET_VERSION>", "Validate downgrade capability before starting downgrade", pb.DowngradeRequest_VALIDATE),
		a.downgradeActionCommand("enable", "<TARGET_VERSION>", "Start a downgrade action to cluster", pb.DowngradeRequest_ENABLE),
		a.downgradeActionCommand("cancel", "", "Cancel the ongoing downgrade action to cluster", pb.DowngradeRequest_CANCEL),
	)
}

func (a *app) downgradeActionCommand(name, arg, short string, action pb.DowngradeRequest_DowngradeAction) *cobra.Command {
	use := name
	if arg != "" {
		use += " " + arg
	}
	return &cobra.Command{Use: use, Short: short, Run: a.run(func(cmd *cobra.Command, args []string) error {
		req := &pb.DowngradeRequest{Action: action}
		if arg != "" {
			if len(args) == 0 {
				return badArgs("TARGET_VERSION not provided")
			}
			if len(args) > 1 {
				return badArgs("too many arguments")
			}
			req.Version = args[0]
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.Downgrade(ctx, req)
		if err != nil {
			return err
		}
		return a.out.show(result{
			simple: text("Downgrade %s success, cluster version %s", name, resp.Version), json: resp, proto: resp,
		})
	})}
}
