package ctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (a *app) leaseCommand() *cobra.Command {
	return group("lease <subcommand>", "Lease related commands",
		a.leaseGrantCommand(), a.leaseRevokeCommand(), a.leaseTimeToLiveCommand(), a.leaseListCommand(), a.leaseKeepAliveCommand())
}

func (a *app) leaseGrantCommand() *cobra.Command {
	return &cobra.Command{Use: "grant <ttl>", Short: "Creates leases", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("lease grant command needs TTL argument")
		}
		ttl, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return badArgs("bad TTL (%w)", err)
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: ttl})
		if err != nil {
			return fmt.Errorf("failed to grant lease (%w)", err)
		}
		return a.out.show(grantResult(resp))
	})}
}

func (a *app) leaseRevokeCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke <leaseID>", Short: "Revokes leases", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("lease revoke command needs 1 argument")
		}
		id, err := parseLeaseID(args[0])
		if err != nil {
			return err
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
		if err != nil {
			return fmt.Errorf("failed to revoke lease (%w)", err)
		}
		return a.out.show(done(resp, "lease %016x revoked", id))
	})}
}

func (a *app) leaseTimeToLiveCommand() *cobra.Command {
	var withKeys bool
	cmd := &cobra.Command{Use: "timetolive <leaseID> [options]", Short: "Get lease information", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("lease timetolive command needs lease ID as argument")
		}
		id, err := parseLeaseID(args[0])
		if err != nil {
			return err
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: withKeys})
		if err != nil {
			return withCode(exitBadConnection, err)
		}
		return a.out.show(timeToLiveResult(resp, withKeys))
	})}
	cmd.Flags().BoolVar(&withKeys, "keys", false, "Get keys attached to this lease")
	return cmd
}

func (a *app) leaseListCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List all active leases", Run: a.run(func(cmd *cobra.Command, _ []string) error {
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		if err != nil {
			return withCode(exitBadConnection, err)
		}
		return a.out.show(leasesResult(resp))
	})}
}

func (a *app) leaseKeepAliveCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{Use: "keep-alive [options] <leaseID>", Short: "Keeps leases alive (renew)", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badArgs("lease keep-alive command needs lease ID as argument")
		}
		id, err := parseLeaseID(args[0])
		if err != nil {
			return err
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		if once {
			resp, err := c.KeepAliveOnce(context.Background(), id)
			if err != nil {
				return withCode(exitBadConnection, err)
			}
			return a.out.show(keepAliveResult(resp))
		}
		var shown error
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		err = c.KeepAlive(ctx, id, func(resp *pb.LeaseKeepAliveResponse) {
			if shown = a.out.show(keepAliveResult(resp)); shown != nil {
				cancel()
			}
		})
		if shown != nil {
			return shown
		}
		if err != nil {
			return withCode(exitBadConnection, err)
		}
		fmt.Fprintf(a.stdout, "lease %016x expired or revoked.\n", id)
		return nil
	})}
	cmd.Flags().BoolVar(&once, "once", false, "Resets the keep-alive time to its original value and exits")
	return cmd
}

func parseLeaseID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 16, 64)
	if err != nil {
		return 0, badArgs("bad lease ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

// leaseHeader is a response header spread into the JSON of the lease commands.
type leaseHeader struct {
	ClusterID uint64 `json:"cluster_id,omitempty"`
	MemberID  uint64 `json:"member_id,omitempty"`
	Revision  int64  `json:"revision,omitempty"`
	RaftTerm  uint64 `json:"raft_term,omitempty"`
}

func newLeaseHeader(h *pb.ResponseHeader) leaseHeader {
	return leaseHeader{ClusterID: h.GetClusterId(), MemberID: h.GetMemberId(), Revision: h.GetRevision(), RaftTerm: h.GetRaftTerm()}
}

type grantJSON struct {
	leaseHeader
	ID    int64
	TTL   int64
	Error string
}

func grantResult(resp *pb.LeaseGrantResponse) result {
	return result{
		simple: text("lease %016x granted with TTL(%ds)", resp.ID, resp.TTL),
		fields: func(p *printer) {
			p.header(resp.Header)
			p.lease("ID", resp.ID)
			p.field("TTL", resp.TTL)
		},
		json:  grantJSON{newLeaseHeader(resp.Header), resp.ID, resp.TTL, resp.Error},
		proto: resp,
	}
}

type timeToLiveJSON struct {
	leaseHeader
	ID         int64    `json:"id"`
	TTL        int64    `json:"ttl"`
	GrantedTTL int64    `json:"granted-ttl"`
	Keys       [][]byte `json:"keys"`
}

func timeToLiveResult(resp *pb.LeaseTimeToLiveResponse, withKeys bool) result {
	return result{
		simple: func(p *printer) { p.timeToLive(resp, withKeys) },
		fields: func(p *printer) {
			p.header(resp.Header)
			p.lease("ID", resp.ID)
			p.field("TTL", resp.TTL)
			p.field("GrantedTTL", resp.GrantedTTL)
			for _, k := range resp.Keys {
				p.quoted("Key", k)
			}
		},
		json:  timeToLiveJSON{newLeaseHeader(resp.Header), resp.ID, resp.TTL, resp.GrantedTTL, resp.Keys},
		proto: resp,
	}
}

func (p *printer) timeToLive(resp *pb.LeaseTimeToLiveResponse, withKeys bool) {
	if resp.GrantedTTL == 0 && resp.TTL == -1 {
		p.line("lease %016x already expired", resp.ID)
		return
	}
	attached := ""
	if withKeys {
		names := make([]string, len(resp.Keys))
		for i, k := range resp.Keys {
			names[i] = string(k)
		}
		attached = fmt.Sprintf(", attached keys(%v)", names)
	}
	p.line("lease %016x granted with TTL(%ds), remaining(%ds)%s", resp.ID, resp.GrantedTTL, resp.TTL, attached)
}

type leaseJSON struct {
	ID int64 `json:"id"`
}

type leasesJSON struct {
	leaseHeader
	Leases []leaseJSON `json:"leases"`
}

func leasesResult(resp *pb.LeaseLeasesResponse) result {
	list := leasesJSON{newLeaseHeader(resp.Header), make([]leaseJSON, len(resp.Leases))}
	for i, l := range resp.Leases {
		list.Leases[i].ID = l.ID
	}
	return result{
		simple: func(p *printer) {
			p.line("found %d leases", len(resp.Leases))
			for _, l := range resp.Leases {
				p.line("%016x", l.ID)
			}
		},
		fields: func(p *printer) {
			p.header(resp.Header)
			for _, l := range resp.Leases {
				p.lease("ID", l.ID)
			}
		},
		json:  list,
		proto: resp,
	}
}

type keepAliveJSON struct {
	leaseHeader
	ID  int64
	TTL int64
}

func keepAliveResult(resp *pb.LeaseKeepAliveResponse) result {
	return result{
		simple: text("lease %016x keepalived with TTL(%d)", resp.ID, resp.TTL),
		fields: func(p *printer) {
			p.header(resp.Header)
			p.lease("ID", resp.ID)
			p.field("TTL", resp.TTL)
		},
		json:  keepAliveJSON{newLeaseHeader(resp.Header), resp.ID, resp.TTL},
		proto: resp,
	}
}
