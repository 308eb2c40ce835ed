package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"
)

// healthHandler answers /health: no alarm, a leader, and a read that works.
//
//	?serializable=true   a read of this member is enough
//	?exclude=NOSPACE     this alarm does not count; may be repeated
type healthHandler struct{ opt Options }

type health struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

var healthy = health{Health: "true"}

func unhealthy(reason string) health { return health{Health: "false", Reason: reason} }

func (h *healthHandler) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	state := h.check(r.Context(), query.Get("serializable") == "true", setOf(query["exclude"]))
	body, err := json.Marshal(state)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if state != healthy {
		h.opt.Health.Failures.Inc()
		h.opt.Log.Warn("/health error", "output", string(body), "status-code", http.StatusServiceUnavailable)
		http.Error(w, string(body), http.StatusServiceUnavailable)
		return
	}
	h.opt.Health.Success.Inc()
	_, _ = w.Write(body) // the client is gone if this fails
}

func (h *healthHandler) check(ctx context.Context, serializable bool, excluded map[string]bool) health {
	for _, a := range h.opt.Member.Alarms() {
		if !excluded[a.Type] {
			h.opt.Log.Warn("serving /health false due to an alarm", "alarm", fmt.Sprintf("memberID:%d alarm:%s", a.Member, a.Type))
			return unhealthy("ALARM " + knownAlarm(a.Type))
		}
	}
	if !serializable && h.opt.Member.Leader() == 0 {
		h.opt.Log.Warn("serving /health false; no leader")
		return unhealthy("RAFT NO LEADER")
	}
	ctx, cancel := context.WithTimeout(ctx, h.opt.RequestTimeout)
	defer cancel()
	if err := h.opt.Member.Read(ctx, serializable); err != nil {
		h.opt.Log.Warn("serving /health false; Range fails", "error", err)
		return unhealthy("RANGE ERROR:" + err.Error())
	}
	return healthy
}

func knownAlarm(name string) string {
	if name == alarmNoSpace || name == alarmCorrupt {
		return name
	}
	return "UNKNOWN"
}

// check is one named question about the member; nil is a good answer.
type check struct {
	name string
	ask  func(context.Context) error
}

// checkSet is what one of /livez and /readyz asks.
type checkSet struct {
	opt    Options
	kind   string // livez or readyz
	checks []check
}

// livez asks whether a restart would help: can this member read at all?
func livez(opt Options) checkSet {
	return checkSet{opt, "livez", []check{serializableRead(opt)}}
}

// readyz asks whether clients should be sent here.
func readyz(opt Options) checkSet {
	return checkSet{opt, "readyz", []check{
		serializableRead(opt),
		{"linearizable_read", func(ctx context.Context) error { return opt.Member.Read(ctx, false) }},
		{"non_learner", func(context.Context) error { return votes(opt.Member) }},
		{"data_corruption", func(context.Context) error { return notCorrupt(opt.Member) }},
	}}
}

func serializableRead(opt Options) check {
	return check{"serializable_read", func(ctx context.Context) error { return opt.Member.Read(ctx, true) }}
}

func votes(m Member) error {
	if m.IsLearner() {
		return fmt.Errorf("not supported for learner")
	}
	return nil
}

func notCorrupt(m Member) error {
	for _, a := range m.Alarms() {
		if a.Type == alarmCorrupt {
			return fmt.Errorf("alarm activated: %s", a.Type)
		}
	}
	return nil
}

// addTo serves all checks under /kind and each under /kind/name.
func (s checkSet) addTo(mux *http.ServeMux) {
	mux.HandleFunc("/"+s.kind, getOnly(s.serve))
	for _, c := range s.checks {
		one := checkSet{s.opt, s.kind, []check{c}}
		mux.HandleFunc("/"+s.kind+"/"+c.name, getOnly(one.serve))
	}
}

// serve asks every check that is not excluded.
//
//	?verbose        tell the result of each check, not only of failed ones
//	?exclude=name   do not ask this one; may be repeated
func (s checkSet) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	excluded := setOf(query["exclude"])
	ctx, cancel := context.WithTimeout(r.Context(), s.opt.RequestTimeout)
	defer cancel()
	var report strings.Builder
	failed := false
	for _, c := range s.checks {
		if excluded[c.name] {
			delete(excluded, c.name)
			continue
		}
		failed = !s.askOne(ctx, c, &report) || failed
	}
	s.tellUnknown(excluded)
	if failed {
		s.opt.Log.Warn("Health request error", "path", r.URL.Path, "output", report.String(), "status-code", http.StatusServiceUnavailable)
		http.Error(w, report.String(), http.StatusServiceUnavailable)
		return
	}
	if !query.Has("verbose") {
		report.Reset()
	}
	report.WriteString("ok\n")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(report.String())) // the client is gone if this fails
}

// askOne asks one check, counts it and adds its line to the report.
func (s checkSet) askOne(ctx context.Context, c check, report *strings.Builder) (ok bool) {
	err := c.ask(ctx)
	if err != nil {
		s.count(c.name, 0, "error")
		fmt.Fprintf(report, "[-]%s failed: %v\n", c.name, err)
		return false
	}
	s.count(c.name, 1, "success")
	fmt.Fprintf(report, "[+]%s ok\n", c.name)
	return true
}

func (s checkSet) count(name string, good float64, status string) {
	s.opt.Health.Check.WithLabelValues(s.kind, name).Set(good)
	s.opt.Health.Checks.WithLabelValues(s.kind, name, status).Inc()
}

// tellUnknown warns about exclusions that name no check.
func (s checkSet) tellUnknown(excluded map[string]bool) {
	if len(excluded) == 0 {
		return
	}
	var names []string
	for name := range excluded {
		names = append(names, fmt.Sprintf("%q", name))
	}
	sort.Strings(names)
	s.opt.Log.Warn("some health checks cannot be excluded", "missing-health-checks", strings.Join(names, ","))
}

func setOf(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		if s != "" {
			set[s] = true
		}
	}
	return set
}
