package ctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/client"
)

func (a *app) endpointCommand() *cobra.Command {
	cmd := group("endpoint <subcommand>", "Endpoint related commands",
		a.endpointHealthCommand(), a.endpointStatusCommand(), a.endpointHashKVCommand())
	cmd.PersistentFlags().Bool("cluster", false, "use all endpoints from the cluster member list")
	return cmd
}

// health is the outcome of one endpoint's check.
type health struct {
	Endpoint string `json:"endpoint"`
	Health   bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

func (a *app) endpointHealthCommand() *cobra.Command {
	return &cobra.Command{Use: "health", Short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
		Run: a.run(func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.clientConfig(cmd)
			if err != nil {
				return err
			}
			eps, err := a.healthEndpoints(cmd, cfg)
			if err != nil {
				return err
			}
			list := a.checkHealth(cfg, eps)
			a.reportUnhealthy(list)
			if err := a.out.show(healthResult(list)); err != nil {
				return err
			}
			for _, h := range list {
				if !h.Health {
					return errors.New("unhealthy cluster")
				}
			}
			return nil
		})}
}

// healthEndpoints needs a connection of its own only to ask for the members;
// a dead first endpoint must not hide the health of the others.
func (a *app) healthEndpoints(cmd *cobra.Command, cfg client.Config) ([]string, error) {
	if all, _ := cmd.Flags().GetBool("cluster"); !all {
		return cfg.Endpoints, nil
	}
	c, err := a.dial(cfg)
	if err != nil {
		return nil, err
	}
	return a.clusterEndpoints(cmd, c)
}

// checkHealth asks all endpoints at once; the answers are in their order.
func (a *app) checkHealth(cfg client.Config, eps []string) []health {
	cfg.Logger = a.logger("client")
	list := make([]health, len(eps))
	var wg sync.WaitGroup
	for i, ep := range eps {
		wg.Go(func() { list[i] = a.checkEndpoint(cfg, ep) })
	}
	wg.Wait()
	return list
}

// checkEndpoint reads a key through consensus. That a user may not read it is
// an answer of a working cluster too. A raised alarm is not health.
func (a *app) checkEndpoint(cfg client.Config, ep string) health {
	cfg.Endpoints = []string{ep}
	h := health{Endpoint: ep}
	start := time.Now()
	ctx, cancel := a.timeout()
	defer cancel()
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		h.Took, h.Error = time.Since(start).String(), err.Error()
		return h
	}
	defer c.Close()

	start = time.Now()
	_, err = c.Range(ctx, &pb.RangeRequest{Key: []byte("health")})
	h.Took = time.Since(start).String()
	if err == nil || errors.Is(err, rpctypes.ErrPermissionDenied) {
		err = activeAlarms(ctx, c)
	}
	h.Health = err == nil
	if err != nil {
		h.Error = err.Error()
	}
	return h
}

func activeAlarms(ctx context.Context, c *client.Client) error {
	resp, err := c.Alarm(ctx, &pb.AlarmRequest{})
	if err != nil {
		//lint:ignore ST1005 scripts match the text
		return errors.New("Unable to fetch the alarm list")
	}
	var kinds strings.Builder
	for _, m := range resp.Alarms {
		if m.Alarm != pb.AlarmType_NONE {
			kinds.WriteString(m.Alarm.String() + " ")
		}
	}
	if kinds.Len() == 0 {
		return nil
	}
	//lint:ignore ST1005 scripts match the text
	return fmt.Errorf("Active Alarm(s): %s", &kinds)
}

// reportUnhealthy is the part of the simple form that goes to standard error.
func (a *app) reportUnhealthy(list []health) {
	if a.out.format != formatSimple {
		return
	}
	for _, h := range list {
		if !h.Health {
			fmt.Fprintf(a.stderr, "%s is unhealthy: failed to commit proposal: %s\n", h.Endpoint, h.Error)
		}
	}
}

func healthResult(list []health) result {
	return result{
		simple: func(p *printer) {
			for _, h := range list {
				if h.Health {
					p.line("%s is healthy: successfully committed proposal: took = %s", h.Endpoint, h.Took)
				}
			}
		},
		fields: func(p *printer) {
			for _, h := range list {
				p.quoted("Endpoint", []byte(h.Endpoint))
				p.field("Health", h.Health)
				p.field("Took", h.Took)
				p.field("Error", h.Error)
				p.line("")
			}
		},
		table: func(p *printer) {
			var rows [][]string
			for _, h := range list {
				rows = append(rows, []string{h.Endpoint, strconv.FormatBool(h.Health), h.Took, h.Error})
			}
			p.table([]string{"ENDPOINT", "HEALTH", "TOOK", "ERROR"}, rows)
		},
		json: list,
	}
}

// epStatus is one endpoint's answer; the names are those of its JSON.
type epStatus struct {
	Endpoint string
	Status   *pb.StatusResponse
}

func (a *app) endpointStatusCommand() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Prints out the status of endpoints specified in `--endpoints` flag",
		Long: "Prints one line per endpoint: endpoint, ID, version, storage version, db size, in use, percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied index, errors, downgrade target version, downgrade enabled.",
		Run: a.run(func(cmd *cobra.Command, _ []string) error {
			var list []epStatus
			failed, err := a.eachEndpoint(cmd, func(ctx context.Context, c *client.Client, ep string) error {
				resp, err := c.Status(ctx, &pb.StatusRequest{})
				if err != nil {
					fmt.Fprintf(a.stderr, "Failed to get the status of endpoint %s (%v)\n", ep, err)
					return err
				}
				list = append(list, epStatus{ep, resp})
				return nil
			})
			if err != nil {
				return err
			}
			if err := a.out.show(statusResult(list)); err != nil {
				return err
			}
			if failed != nil {
				return quiet(exitFailure)
			}
			return nil
		})}
}

// eachEndpoint calls fn with a connection to every endpoint on its own, one
// after the other, and goes on when one fails. failed is the last failure.
func (a *app) eachEndpoint(cmd *cobra.Command, fn func(context.Context, *client.Client, string) error) (failed, err error) {
	c, err := a.connect(cmd)
	if err != nil {
		return nil, err
	}
	eps, err := a.clusterEndpoints(cmd, c)
	if err != nil {
		return nil, err
	}
	for _, ep := range eps {
		if err := a.atEndpoint(c, ep, fn); err != nil {
			failed = err
		}
	}
	return failed, nil
}

func (a *app) atEndpoint(c *client.Client, ep string, fn func(context.Context, *client.Client, string) error) error {
	one, err := c.At(ep)
	if err != nil {
		return err
	}
	defer one.Close()
	ctx, cancel := a.timeout()
	defer cancel()
	return fn(ctx, one, ep)
}

func statusResult(list []epStatus) result {
	return result{
		simple: func(p *printer) {
			for _, row := range statusRows(list) {
				p.line("%s", strings.Join(row, ", "))
			}
		},
		fields: func(p *printer) {
			for _, s := range list {
				p.statusFields(s)
			}
		},
		table: func(p *printer) {
			p.table([]string{
				"ENDPOINT", "ID", "VERSION", "STORAGE VERSION", "DB SIZE", "IN USE", "PERCENTAGE NOT IN USE", "QUOTA",
				"IS LEADER", "IS LEARNER", "RAFT TERM", "RAFT INDEX", "RAFT APPLIED INDEX", "ERRORS",
				"DOWNGRADE TARGET VERSION", "DOWNGRADE ENABLED",
			}, statusRows(list))
		},
		json: list,
	}
}

func statusRows(list []epStatus) [][]string {
	var rows [][]string
	for _, s := range list {
		st := s.Status
		rows = append(rows, []string{
			s.Endpoint,
			fmt.Sprintf("%x", st.Header.GetMemberId()),
			st.Version,
			st.StorageVersion,
			humanize.Bytes(uint64(st.DbSize)),
			humanize.Bytes(uint64(st.DbSizeInUse)),
			fmt.Sprintf("%d%%", percentFree(st.DbSize, st.DbSizeInUse)),
			humanize.Bytes(uint64(st.DbSizeQuota)),
			strconv.FormatBool(st.Leader == st.Header.GetMemberId()),
			strconv.FormatBool(st.IsLearner),
			strconv.FormatUint(st.RaftTerm, 10),
			strconv.FormatUint(st.RaftIndex, 10),
			strconv.FormatUint(st.RaftAppliedIndex, 10),
			strings.Join(st.Errors, ", "),
			st.DowngradeInfo.GetTargetVersion(),
			strconv.FormatBool(st.DowngradeInfo.GetEnabled()),
		})
	}
	return rows
}

// percentFree rounds the share in use down, so a file just short of full shows 1%.
func percentFree(size, inUse int64) int64 {
	if size <= 0 {
		return 0
	}
	return 100 - inUse*100/size
}

func (p *printer) statusFields(s epStatus) {
	st := s.Status
	p.header(st.Header)
	p.quoted("Version", []byte(st.Version))
	p.quoted("StorageVersion", []byte(st.StorageVersion))
	p.field("DBSize", st.DbSize)
	p.field("DBSizeInUse", st.DbSizeInUse)
	p.field("DBSizeQuota", st.DbSizeQuota)
	p.field("Leader", st.Leader)
	p.field("IsLearner", st.IsLearner)
	p.field("RaftIndex", st.RaftIndex)
	p.field("RaftTerm", st.RaftTerm)
	p.field("RaftAppliedIndex", st.RaftAppliedIndex)
	p.field("Errors", st.Errors)
	p.quoted("Endpoint", []byte(s.Endpoint))
	p.quoted("DowngradeTargetVersion", []byte(st.DowngradeInfo.GetTargetVersion()))
	p.field("DowngradeEnabled", st.DowngradeInfo.GetEnabled())
	p.line("")
}

// epHashKV is one endpoint's answer; the names are those of its JSON.
type epHashKV struct {
	Endpoint string
	HashKV   *pb.HashKVResponse
}

func (a *app) endpointHashKVCommand() *cobra.Command {
	var rev int64
	cmd := &cobra.Command{Use: "hashkv", Short: "Prints the KV history hash for each endpoint in --endpoints",
		Run: a.run(func(cmd *cobra.Command, _ []string) error {
			var list []epHashKV
			failed, err := a.eachEndpoint(cmd, func(ctx context.Context, c *client.Client, ep string) error {
				resp, err := c.HashKV(ctx, &pb.HashKVRequest{Revision: rev})
				if err != nil {
					fmt.Fprintf(a.stderr, "Failed to get the hash of endpoint %s (%v)\n", ep, err)
					return err
				}
				list = append(list, epHashKV{ep, resp})
				return nil
			})
			if err != nil {
				return err
			}
			if err := a.out.show(hashKVResult(list)); err != nil {
				return err
			}
			return failed
		})}
	flagval.Int64(cmd.Flags(), &rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	return cmd
}

func hashKVResult(list []epHashKV) result {
	rows := func() (rows [][]string) {
		for _, h := range list {
			rows = append(rows, []string{h.Endpoint, fmt.Sprint(h.HashKV.Hash), fmt.Sprint(h.HashKV.HashRevision)})
		}
		return rows
	}
	return result{
		simple: func(p *printer) {
			for _, row := range rows() {
				p.line("%s", strings.Join(row, ", "))
			}
		},
		fields: func(p *printer) {
			for _, h := range list {
				p.header(h.HashKV.Header)
				p.quoted("Endpoint", []byte(h.Endpoint))
				p.field("Hash", h.HashKV.Hash)
				p.field("HashRevision", h.HashKV.HashRevision)
				p.line("")
			}
		},
		table: func(p *printer) { p.table([]string{"ENDPOINT", "HASH", "HASH REVISION"}, rows()) },
		json:  list,
	}
}
