package bench

import (
	"fmt"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func (a *app) leaseKeepAliveCommand() *cobra.Command {
	var total int
	c := &cobra.Command{Use: "lease-keepalive", Short: "Benchmark lease keepalive", Args: cobra.NoArgs}
	c.Flags().IntVar(&total, "total", 10000, "Total number of lease keepalive requests")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, total, 0)
		if err != nil {
			return err
		}
		var lease pb.LeaseGrantResponse
		if err := call(cmd.Context(), conns[0], methodLeaseGrant, &pb.LeaseGrantRequest{TTL: 100}, &lease); err != nil {
			return fmt.Errorf("granting the lease to keep alive: %w", err)
		}
		body, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: lease.ID})
		if err != nil {
			return fmt.Errorf("keepalive request: %w", err)
		}
		// One stream per renewal, as a client that renews once would do.
		l.next = func(*worker, int64) request { return request{method: methodKeepAlive, body: body} }
		elapsed := a.drive(cmd.Context(), l)
		return a.finish(cmd, l.report(0, "lease-keepalive", "", elapsed))
	}
	return c
}

func (a *app) leaseGrantCommand() *cobra.Command {
	var total, rate int
	var ttl int64
	c := &cobra.Command{Use: "lease-grant", Short: "Benchmark lease grants", Args: cobra.NoArgs}
	c.Flags().IntVar(&total, "total", 10000, "Total number of leases to grant")
	c.Flags().IntVar(&rate, "rate", 0, "Maximum grants per second (0 is no limit)")
	c.Flags().Int64Var(&ttl, "ttl", 3600, "Time to live of the leases in seconds; they are left to expire")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		conns, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		l, err := a.newLoad(conns, total, rate)
		if err != nil {
			return err
		}
		body, err := proto.Marshal(&pb.LeaseGrantRequest{TTL: ttl})
		if err != nil {
			return fmt.Errorf("grant request: %w", err)
		}
		l.next = func(*worker, int64) request { return request{method: methodLeaseGrant, body: body} }
		elapsed := a.drive(cmd.Context(), l)
		return a.finish(cmd, l.report(0, "lease-grant", "", elapsed))
	}
	return c
}
