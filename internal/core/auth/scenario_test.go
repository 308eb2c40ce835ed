package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/base/scenario"
)

// script is a store with what it has stored, and callers that keep the revision
// at which they were identified.
type script struct {
	t       *testing.T
	store   *Store
	stored  map[string]bucket.Op
	callers map[string]Caller
	tokens  map[string]string
	leases  map[int64][]string
	index   uint64
	now     time.Time
}

func (s *script) Keys(id int64) (all [][]byte) {
	for _, k := range s.leases[id] {
		all = append(all, []byte(k))
	}
	return all
}

// The scripts in testdata tell who may do what, and when.
func TestScenarios(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func(t *testing.T) func(scenario.Command) string {
		s := &script{
			t: t, stored: map[string]bucket.Op{}, callers: map[string]Caller{},
			tokens: map[string]string{}, leases: map[int64][]string{}, now: start,
		}
		s.restart()
		return s.do
	})
}

func (s *script) restart() {
	s.store = New(newSimple(time.Minute), Options{})
	for _, op := range s.stored {
		if err := s.store.Load(op.Bucket, op.Key, op.Value); err != nil {
			s.t.Fatal(err)
		}
	}
	s.keep(s.store.Start())
}

func (s *script) keep(ops []bucket.Op) {
	for _, op := range ops {
		at := string(op.Bucket) + "/" + string(op.Key)
		s.stored[at] = op
		if op.Delete {
			delete(s.stored, at)
		}
	}
}

func (s *script) do(c scenario.Command) string {
	arg := func(i int) string {
		if i < len(c.Args) {
			return c.Args[i]
		}
		return ""
	}
	span := keys.Span{Key: []byte(arg(1)), End: endOf(c)}
	v := s.store.View()
	switch c.Name {
	case "restart":
		s.restart()
		return fmt.Sprintf("enabled %v, revision %d", s.store.View().IsEnabled(), s.store.View().Revision())
	case "stored":
		var out strings.Builder
		for _, at := range slices.Sorted(maps.Keys(s.stored)) {
			fmt.Fprintf(&out, "%s = %q\n", at, s.stored[at].Value)
		}
		return out.String()
	case "sleep":
		s.now = s.now.Add(time.Duration(c.Int(0)) * time.Second)
		return ""
	case "lease":
		s.leases[c.Int(0)] = c.Args[1:]
		return ""
	case "identify":
		s.callers[arg(0)] = v.Identify(arg(0))
		return ""
	case "login":
		return s.login(arg(0), arg(1))
	case "use":
		caller, err := s.store.Authenticate(s.tokens[arg(0)], s.now)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s at revision %d", caller.User, caller.Revision)
	case "read":
		return allowed(v.CheckRange(s.callers[arg(0)], span))
	case "write":
		return allowed(v.CheckWrite(s.callers[arg(0)], span))
	case "watch":
		return allowed(v.CheckWatch(s.callers[arg(0)], span))
	case "revoke":
		return allowed(v.CheckLeaseWrite(s.callers[arg(0)], c.Int(1), s))
	case "call":
		return allowed(v.CheckMethod(s.callers[arg(0)], arg(1)))
	case "entry":
		r := &pb.InternalRaftRequest{}
		if err := prototext.Unmarshal([]byte(strings.Join(c.Input, "\n")), r); err != nil {
			s.t.Fatal(err)
		}
		return allowed(v.CheckEntry(s.callers[arg(0)], r, s))
	}
	return s.apply(s.request(c, arg))
}

// request is the entry that a command stands for.
func (s *script) request(c scenario.Command, arg func(int) string) *pb.InternalRaftRequest {
	switch c.Name {
	case "enable":
		return &pb.InternalRaftRequest{AuthEnable: &pb.AuthEnableRequest{}}
	case "disable":
		return &pb.InternalRaftRequest{AuthDisable: &pb.AuthDisableRequest{}}
	case "useradd":
		q := &pb.AuthUserAddRequest{Name: arg(0), HashedPassword: arg(1)}
		if c.Has("nopassword") {
			q = &pb.AuthUserAddRequest{Name: arg(0), Options: &authpb.UserAddOptions{NoPassword: true}}
		}
		return &pb.InternalRaftRequest{AuthUserAdd: q}
	case "userdel":
		return &pb.InternalRaftRequest{AuthUserDelete: &pb.AuthUserDeleteRequest{Name: arg(0)}}
	case "userget":
		return &pb.InternalRaftRequest{AuthUserGet: &pb.AuthUserGetRequest{Name: arg(0)}}
	case "passwd":
		return &pb.InternalRaftRequest{AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{Name: arg(0), HashedPassword: arg(1)}}
	case "grantrole":
		return &pb.InternalRaftRequest{AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: arg(0), Role: arg(1)}}
	case "revokerole":
		return &pb.InternalRaftRequest{AuthUserRevokeRole: &pb.AuthUserRevokeRoleRequest{Name: arg(0), Role: arg(1)}}
	case "roleadd":
		return &pb.InternalRaftRequest{AuthRoleAdd: &pb.AuthRoleAddRequest{Name: arg(0)}}
	case "roledel":
		return &pb.InternalRaftRequest{AuthRoleDelete: &pb.AuthRoleDeleteRequest{Role: arg(0)}}
	case "roleget":
		return &pb.InternalRaftRequest{AuthRoleGet: &pb.AuthRoleGetRequest{Role: arg(0)}}
	case "grant":
		return &pb.InternalRaftRequest{AuthRoleGrantPermission: &pb.AuthRoleGrantPermissionRequest{
			Name: arg(0),
			Perm: &authpb.Permission{PermType: authpb.Permission_Type(c.NamedInt("type", 2)), Key: []byte(arg(1)), RangeEnd: endOf(c)},
		}}
	case "ungrant":
		return &pb.InternalRaftRequest{AuthRoleRevokePermission: &pb.AuthRoleRevokePermissionRequest{
			Role: arg(0), Key: []byte(arg(1)), RangeEnd: endOf(c),
		}}
	}
	s.t.Fatalf("unknown command %s", c.Name)
	return nil
}

func (s *script) apply(r *pb.InternalRaftRequest) string {
	s.index++
	before := s.store.View().Revision()
	result, err := s.store.Apply(r, Entry{Index: s.index, Now: s.now, Answer: true})
	if err != nil {
		return err.Error()
	}
	s.keep(result.Ops)
	out := canonical(result.Resp)
	if after := s.store.View().Revision(); after != before {
		out += fmt.Sprintf(" revision %d", after)
	}
	return out
}

func (s *script) login(user, prefix string) string {
	s.index++
	r := &pb.InternalRaftRequest{Authenticate: &pb.InternalAuthenticateRequest{Name: user, SimpleToken: prefix}}
	result, err := s.store.Apply(r, Entry{Index: s.index, Now: s.now, Answer: true})
	if err != nil {
		return err.Error()
	}
	s.tokens[user] = result.Resp.(*pb.AuthenticateResponse).Token
	s.callers[user], _ = s.store.Authenticate(s.tokens[user], s.now)
	return s.tokens[user]
}

// endOf reads end=x, "open" for no upper end.
func endOf(c scenario.Command) []byte {
	switch end := c.Named["end"]; end {
	case "":
		return nil
	case "open":
		return []byte{0}
	default:
		return []byte(end)
	}
}

func allowed(err error) string {
	if err != nil {
		return err.Error()
	}
	return "allowed"
}
