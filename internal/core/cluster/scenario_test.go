package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/base/scenario"
)

// script is a cluster and what it has stored.
type script struct {
	t       *testing.T
	cluster *Cluster
	stored  map[string]bucket.Op
}

// The scripts in testdata tell how a cluster grows, shrinks and changes version.
func TestScenarios(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func(t *testing.T) func(scenario.Command) string {
		s := &script{t, New(0xc1, DefaultMaxLearners), map[string]bucket.Op{}}
		return s.do
	})
}

func (s *script) do(c scenario.Command) string {
	urls := strings.Split(c.Named["urls"], ",")
	id := func() uint64 { return uint64(c.Int(0)) }
	switch c.Name {
	case "bootstrap":
		return s.bootstrap(c)
	case "members":
		return s.members()
	case "restart":
		s.cluster = loaded(s.t, s.stored)
		return s.members()
	case "stored":
		return s.dump()
	case "add":
		return s.apply(Add(Member{ID: id(), PeerURLs: urls, IsLearner: c.Has("learner")}))
	case "promote":
		return s.apply(Promote(id()))
	case "remove":
		return s.apply(Remove(id()))
	case "update":
		return s.apply(Update(id(), urls))
	case "raw":
		return s.apply(raftpb.ConfChange{Type: raftpb.ConfChangeType(c.NamedInt("type", 0)), NodeID: id(), Context: []byte(strings.Join(c.Input, ""))})
	case "publish":
		ops, ok := s.cluster.SetAttributes(id(), Attributes{Name: c.Named["name"], ClientURLs: []string{c.Named["client"]}})
		return s.keep(ops, fmt.Sprint(ok))
	case "v2":
		ops, err := s.cluster.ApplyV2(V2Request{Method: c.Args[0], Path: c.Args[1], Value: strings.Join(c.Input, "")})
		if err != nil {
			return err.Error()
		}
		return s.keep(ops, "")
	case "mayadd":
		return verdict(s.cluster.MayAdd(Member{IsLearner: c.Has("learner")}, int(c.NamedInt("connected", 1))))
	case "mayremove":
		return verdict(s.cluster.MayRemove(id(), uint64(c.NamedInt("self", 1)), activeOf(c.Named["active"])))
	case "maypromote":
		return verdict(s.cluster.MayPromote(id()))
	case "version", "decide", "downgrade", "target", "done", "server":
		return s.version(c)
	}
	s.t.Fatalf("unknown command %s", c.Name)
	return ""
}

func (s *script) version(c scenario.Command) string {
	switch c.Name {
	case "version":
		if len(c.Args) == 0 {
			return s.cluster.Version().String()
		}
		v, err := ParseVersion(c.Args[0])
		if err != nil {
			return err.Error()
		}
		return s.keep(s.cluster.SetVersion(v), "")
	case "server":
		return verdict(s.cluster.CheckServer(s.mustVersion(c.Args[0])))
	case "target":
		v, err := ParseTarget(strings.Join(c.Args, " "))
		if err != nil {
			return err.Error()
		}
		return verdict(s.cluster.CheckDowngrade(v))
	case "downgrade":
		d := Downgrade{}
		if len(c.Args) > 0 {
			d = Downgrade{Target: c.Args[0], Enabled: true}
		}
		return s.keep(s.cluster.SetDowngrade(d), "")
	case "done":
		return fmt.Sprint(s.cluster.IsDowngraded(s.servers(c)))
	}
	v, ok := s.cluster.DecideVersion(s.servers(c))
	if !ok {
		return "as it is"
	}
	return v.String()
}

// servers reads 1=3.7.1 2=3.6.0.
func (s *script) servers(c scenario.Command) map[uint64]Version {
	servers := map[uint64]Version{}
	for id, v := range c.Named {
		n, err := ids.Parse(id)
		if err != nil {
			s.t.Fatal(err)
		}
		servers[n] = s.mustVersion(v)
	}
	return servers
}

func (s *script) mustVersion(text string) Version {
	v, err := ParseVersion(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *script) bootstrap(c scenario.Command) string {
	initial, err := ParseInitial(strings.Join(c.Input, ""))
	if err != nil {
		return err.Error()
	}
	members, err := initial.Members("etcd-cluster")
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	fmt.Fprintf(&out, "cluster %s of %s\n", ids.Text(ClusterID(members)), initial)
	for _, cc := range Bootstrap(members) {
		fmt.Fprintf(&out, "%s\n%s\n", cc.Context, s.apply(cc))
	}
	return out.String()
}

func (s *script) apply(cc raftpb.ConfChange) string {
	check := s.cluster.Check(cc)
	change, ops, err := s.cluster.Apply(cc)
	if (check == nil) != (err == nil) {
		s.t.Errorf("Check says %v and Apply says %v", check, err)
	}
	if err != nil {
		var known *Error
		if errors.As(err, &known) {
			return known.Error() + " (" + known.Internal() + ")"
		}
		return err.Error()
	}
	return s.keep(ops, fmt.Sprintf("%s %s", change.Kind, ids.Text(change.Member.ID)))
}

func (s *script) keep(ops []bucket.Op, out string) string {
	for _, op := range ops {
		keep(s.stored, op)
		if op.Delete {
			out += fmt.Sprintf("\n  drop %s/%s", op.Bucket, op.Key)
		} else {
			out += fmt.Sprintf("\n  %s/%s = %s", op.Bucket, op.Key, op.Value)
		}
	}
	return strings.TrimPrefix(out, "\n")
}

func keep(stored map[string]bucket.Op, op bucket.Op) {
	at := string(op.Bucket) + "/" + string(op.Key)
	stored[at] = op
	if op.Delete {
		delete(stored, at)
	}
}

// loaded is the cluster that a restart finds.
func loaded(t *testing.T, stored map[string]bucket.Op) *Cluster {
	t.Helper()
	c := New(0xc1, DefaultMaxLearners)
	for _, op := range stored {
		if err := c.Load(op.Bucket, op.Key, op.Value); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (s *script) members() string {
	var out strings.Builder
	for _, m := range s.cluster.Members() {
		fmt.Fprintf(&out, "%s\n", m.encode())
	}
	cs := s.cluster.ConfState()
	fmt.Fprintf(&out, "voters %x learners %x removed %x version %s downgrade %v\n",
		cs.Voters, cs.Learners, s.cluster.Removed(), s.cluster.Version(), s.cluster.Downgrade())
	return out.String()
}

func (s *script) dump() string {
	return fmt.Sprint(len(s.stored), " records")
}

func activeOf(list string) func(uint64) bool {
	return func(id uint64) bool {
		for text := range strings.SplitSeq(list, ",") {
			if text == ids.Text(id) {
				return true
			}
		}
		return false
	}
}

func verdict(err error) string {
	if err != nil {
		return err.Error()
	}
	return "yes"
}
