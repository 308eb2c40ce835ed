package ctl

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func (a *app) memberCommand() *cobra.Command {
	return group("member <subcommand>", "Membership related commands",
		a.memberAddCommand(), a.memberRemoveCommand(), a.memberUpdateCommand(), a.memberListCommand(), a.memberPromoteCommand())
}

func (a *app) memberAddCommand() *cobra.Command {
	var peerURLs string
	var learner bool
	cmd := &cobra.Command{Use: "add <memberName> [options]", Short: "Adds a member into the cluster", Run: a.run(func(cmd *cobra.Command, args []string) error {
		if err := checkMemberAddArgs(args, peerURLs); err != nil {
			return err
		}
		urls := strings.Split(peerURLs, ",")
		for _, u := range urls {
			if err := checkPeerURL(u); err != nil {
				return err
			}
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: learner})
		if err != nil {
			return err
		}
		return a.out.show(memberAddResult(resp, args[0], learner))
	})}
	cmd.Flags().StringVar(&peerURLs, "peer-urls", "", "comma separated peer URLs for the new member.")
	cmd.Flags().BoolVar(&learner, "learner", false, "indicates if the new member is raft learner")
	return cmd
}

func checkMemberAddArgs(args []string, peerURLs string) error {
	switch {
	case len(args) == 0:
		return badArgs("member name not provided")
	case len(args) > 1:
		if strings.HasPrefix(args[1], "http") {
			return badArgs("too many arguments, did you mean --peer-urls=%s", args[1])
		}
		return badArgs("too many arguments")
	case peerURLs == "":
		return badArgs("member peer urls not provided")
	}
	return nil
}

// checkPeerURL refuses what no member could listen on, before a server is asked.
func checkPeerURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "unix", "unixs":
		return nil
	case "http", "https":
	default:
		return fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", text)
	}
	if _, _, ok := cutHostPort(u.Host); !ok {
		return fmt.Errorf(`URL address does not have the form "host:port": %s`, text)
	}
	if u.Path != "" {
		return fmt.Errorf("URL must not contain a path: %s", text)
	}
	return nil
}

func cutHostPort(host string) (string, string, bool) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || i == len(host)-1 {
		return "", "", false
	}
	return host[:i], host[i+1:], true
}

func (a *app) memberRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "remove <memberID>", Short: "Removes a member from the cluster", Run: a.run(func(cmd *cobra.Command, args []string) error {
		id, err := memberIDArg(args)
		if err != nil {
			return err
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: id})
		if err != nil {
			return err
		}
		return a.out.show(memberChange(resp, "Member %16x removed from cluster %16x", id))
	})}
}

func (a *app) memberUpdateCommand() *cobra.Command {
	var peerURLs string
	cmd := &cobra.Command{Use: "update <memberID> [options]", Short: "Updates a member in the cluster", Run: a.run(func(cmd *cobra.Command, args []string) error {
		id, err := memberIDArg(args)
		if err != nil {
			return err
		}
		if peerURLs == "" {
			return badArgs("member peer urls not provided")
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: strings.Split(peerURLs, ",")})
		if err != nil {
			return err
		}
		return a.out.show(memberChange(resp, "Member %16x updated in cluster %16x", id))
	})}
	cmd.Flags().StringVar(&peerURLs, "peer-urls", "", "comma separated peer URLs for the updated member.")
	return cmd
}

func (a *app) memberPromoteCommand() *cobra.Command {
	return &cobra.Command{Use: "promote <memberID>", Short: "Promotes a non-voting member in the cluster", Run: a.run(func(cmd *cobra.Command, args []string) error {
		id, err := memberIDArg(args)
		if err != nil {
			return err
		}
		c, err := a.connect(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := a.timeout()
		defer cancel()
		resp, err := c.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		if err != nil {
			return err
		}
		return a.out.show(memberChange(resp, "Member %16x promoted in cluster %16x", id))
	})}
}

func (a *app) memberListCommand() *cobra.Command {
	var consistency string
	cmd := &cobra.Command{Use: "list", Short: "Lists all members in the cluster",
		Long: "Prints one line per member: ID, status, name, peer addresses, client addresses, and whether it is a learner.",
		Run: a.run(func(cmd *cobra.Command, _ []string) error {
			// The error names the default of get's flag, whatever was given: so it does in etcdctl.
			serializable, err := parseConsistency(consistency, "l")
			if err != nil {
				return err
			}
			c, err := a.connect(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := a.timeout()
			defer cancel()
			resp, err := c.MemberList(ctx, memberListRequest(!serializable))
			if err != nil {
				return err
			}
			return a.out.show(memberListResult(resp, a.out.hex))
		})}
	cmd.Flags().StringVar(&consistency, "consistency", "l", "Linearizable(l) or Serializable(s)")
	return cmd
}

func memberListRequest(linearizable bool) *pb.MemberListRequest {
	return &pb.MemberListRequest{Linearizable: linearizable}
}

func memberIDArg(args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, badArgs("member ID is not provided")
	}
	id, err := strconv.ParseUint(args[0], 16, 64)
	if err != nil {
		return 0, badArgs("bad member ID arg (%w), expecting ID in Hex", err)
	}
	return id, nil
}

// memberChange is the answer to a change of membership; the sentence takes the
// member's and the cluster's id.
func memberChange(resp interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}, sentence string, id uint64) result {
	return result{simple: text(sentence, id, resp.GetHeader().GetClusterId()), json: resp, proto: resp}
}

func memberAddResult(resp *pb.MemberAddResponse, name string, learner bool) result {
	as := ""
	if learner {
		as = "as learner "
	}
	return result{
		simple: func(p *printer) {
			p.line("Member %16x added %sto cluster %16x", resp.Member.GetID(), as, resp.Header.GetClusterId())
			p.line("")
			p.line("ETCD_NAME=%q", name)
			p.line("ETCD_INITIAL_CLUSTER=%q", initialCluster(resp, name))
			p.line("ETCD_INITIAL_ADVERTISE_PEER_URLS=%q", strings.Join(resp.Member.GetPeerURLs(), ","))
			p.line("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
		},
		json:  resp,
		proto: resp,
	}
}

// initialCluster is the --initial-cluster value the new member starts with.
// Only we know its name yet.
func initialCluster(resp *pb.MemberAddResponse, name string) string {
	var pairs []string
	for _, m := range resp.Members {
		n := m.Name
		if m.ID == resp.Member.GetID() {
			n = name
		}
		for _, u := range m.PeerURLs {
			pairs = append(pairs, n+"="+u)
		}
	}
	return strings.Join(pairs, ",")
}

func memberListResult(resp *pb.MemberListResponse, hex bool) result {
	r := result{
		simple: func(p *printer) {
			for _, row := range memberRows(resp) {
				p.line("%s", strings.Join(row, ", "))
			}
		},
		fields: func(p *printer) { p.memberFields(resp) },
		table: func(p *printer) {
			p.table([]string{"ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"}, memberRows(resp))
		},
		json:  resp,
		proto: resp,
	}
	if hex {
		r.json = newMemberListHexJSON(resp)
	}
	return r
}

func memberRows(resp *pb.MemberListResponse) [][]string {
	var rows [][]string
	for _, m := range resp.Members {
		status := "started"
		if m.Name == "" {
			status = "unstarted"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%x", m.ID), status, m.Name,
			strings.Join(m.PeerURLs, ","), strings.Join(m.ClientURLs, ","), strconv.FormatBool(m.IsLearner),
		})
	}
	return rows
}

func (p *printer) memberFields(resp *pb.MemberListResponse) {
	p.header(resp.Header)
	for _, m := range resp.Members {
		p.id("ID", m.ID)
		p.quoted("Name", []byte(m.Name))
		for _, u := range m.PeerURLs {
			p.quoted("PeerURL", []byte(u))
		}
		for _, u := range m.ClientURLs {
			p.quoted("ClientURL", []byte(u))
		}
		p.field("IsLearner", m.IsLearner)
		p.line("")
	}
}

// memberListHexJSON is `member list --hex -w json`, the one JSON form in which
// ids are hexadecimal.
type memberListHexJSON struct {
	Header  headerHexJSON   `json:"header"`
	Members []memberHexJSON `json:"members"`
}

type headerHexJSON struct {
	ClusterID string `json:"cluster_id"`
	MemberID  string `json:"member_id"`
	Revision  int64  `json:"revision,omitempty"`
	RaftTerm  uint64 `json:"raft_term"`
}

type memberHexJSON struct {
	ID         string   `json:"ID"`
	Name       string   `json:"name,omitempty"`
	PeerURLs   []string `json:"peerURLs,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	IsLearner  bool     `json:"isLearner,omitempty"`
}

func newMemberListHexJSON(resp *pb.MemberListResponse) memberListHexJSON {
	h := resp.Header
	out := memberListHexJSON{Header: headerHexJSON{
		ClusterID: fmt.Sprintf("%x", h.GetClusterId()), MemberID: fmt.Sprintf("%x", h.GetMemberId()),
		Revision: h.GetRevision(), RaftTerm: h.GetRaftTerm(),
	}}
	for _, m := range resp.Members {
		out.Members = append(out.Members, memberHexJSON{
			ID: fmt.Sprintf("%x", m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}
	return out
}
