package embed

import (
	"context"
	"net/http"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/version"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/raft"
	"github.com/steledb/stele/internal/front/gateway"
	"github.com/steledb/stele/internal/front/inproc"
	"github.com/steledb/stele/internal/front/rpc"
	"github.com/steledb/stele/internal/front/web"
	"github.com/steledb/stele/internal/member"
)

// clientWeb answers what is not gRPC on the client ports.
func (s *Server) clientWeb() http.Handler {
	opt := s.webOptions()
	opt.Pprof = s.cfg.EnablePprof
	opt.CORS, opt.HostWhitelist = s.cfg.CORS, s.cfg.HostWhitelist
	opt.Vars = map[string]func() any{"raft.status": func() any { return raftStatus(s.member.RaftStatus()) }}
	if s.cfg.EnableGRPCGateway {
		opt.Gateway = s.jsonGateway()
	}
	return web.Client(opt)
}

// jsonGateway makes the handler of /v3/, over services of its own within the
// process.
func (s *Server) jsonGateway() http.Handler {
	services := inproc.New(s.around())
	s.registerServices(services)
	s.gateway = gateway.New(services, gateway.Options{RequestBytesMax: s.cfg.RequestBytesMax()})
	return s.gateway
}

// metricsWeb answers on the metrics ports.
func (s *Server) metricsWeb() http.Handler { return web.MetricsOnly(s.webOptions()) }

func (s *Server) webOptions() web.Options {
	return web.Options{
		Member: webMember{s.member}, Metrics: s.scrape, Health: &s.metrics.Health,
		RequestTimeout: s.cfg.RequestTimeout(), Log: s.log,
	}
}

// raftStatus is the protocol's state in the words of etcd's /debug/vars.
func raftStatus(r raft.Status) any {
	return struct {
		ID         string `json:"id"`
		Term       uint64 `json:"term"`
		Vote       string `json:"vote"`
		Commit     uint64 `json:"commit"`
		Leader     string `json:"lead"`
		Role       string `json:"raftState"`
		Applied    uint64 `json:"applied"`
		Transferee string `json:"leadtransferee"`
	}{ids.Text(r.ID), r.Term, ids.Text(r.Vote), r.Committed, ids.Text(r.Leader), roleNames[r.Role], r.Applied, ids.Text(r.Transferee)}
}

// roleNames are the roles as etcd's raft writes them.
var roleNames = map[raft.Role]string{
	raft.Follower: "StateFollower", raft.PreCandidate: "StatePreCandidate", raft.Candidate: "StateCandidate", raft.Leader: "StateLeader",
}

// webMember is the member as the HTTP side asks it.
type webMember struct{ *member.Member }

func (m webMember) Alarms() []web.Alarm {
	var out []web.Alarm
	for _, a := range m.Member.Alarms() {
		out = append(out, web.Alarm{Type: a.Alarm.String(), Member: a.MemberID})
	}
	return out
}

// Read takes a view, after asking the quorum if need be. That a view can be
// had and a key be looked up is all there is to a read here.
func (m webMember) Read(ctx context.Context, serializable bool) error {
	if !serializable {
		if err := m.LinearizableRead(ctx); err != nil {
			return err
		}
	}
	view := m.View()
	defer view.Close()
	_, _, err := view.Get([]byte{0}, 0)
	return err
}

func (m webMember) Versions() web.Versions {
	return web.Versions{Server: version.Etcd, Cluster: clusterVersionText(m.Member), Storage: versionText(m.StorageVersion(), "unknown")}
}

func clusterVersionText(m *member.Member) string {
	return versionText(m.ClusterVersion(), "not_decided")
}

func versionText(v cluster.Version, none string) string {
	if v.IsZero() {
		return none
	}
	return v.String()
}

// watchObserver measures what is sent on watch streams.
func (s *Server) watchObserver() rpc.WatchObserver {
	w, failures := &s.metrics.Watch, s.metrics.Network.ServerStreamFailures
	return rpc.WatchObserver{
		Failed: func(kind string) { failures.WithLabelValues(kind, "watch").Inc() },
		SentEvents: func(events int, took time.Duration) {
			w.SendLoop.Observe(took.Seconds())
			w.SendLoopPerEvent.Observe(took.Seconds() / float64(events))
		},
		SentControl:  func(took time.Duration) { w.SendLoopControl.Observe(took.Seconds()) },
		SentProgress: func(took time.Duration) { w.SendLoopProgress.Observe(took.Seconds()) },
	}
}
