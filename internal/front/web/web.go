// Package web is the HTTP side of the client port: health checks, version,
// metrics and debugging, with CORS and the host whitelist around them.
//
//	/health                 {"health":"true","reason":""}   alarms and one read
//	/livez /readyz          named checks; /readyz/<check> for one of them
//	/version                versions of member, cluster and storage
//	/metrics                Prometheus
//	/debug/vars             counters of the runtime
//	/debug/pprof/           profiles, if asked for
//	/v3/ /v3beta/           the JSON gateway, if there is one
//
// Anything else is 404. Client returns all of it, MetricsOnly the handler of
// --listen-metrics-urls. What the checks ask about is behind Member.
package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/metrics"
)

// Member is what the handlers need to know of the running member.
type Member interface {
	// Alarms are those raised in the cluster, of any member.
	Alarms() []Alarm
	// Leader is the id of the leader, 0 when none is known.
	Leader() uint64
	// IsLearner says that this member has no vote.
	IsLearner() bool
	// Read does the smallest possible read, without regard to auth:
	// linearizable ones ask the quorum.
	Read(ctx context.Context, serializable bool) error
	// Versions are what /version reports.
	Versions() Versions
}

// Alarm is one raised alarm.
type Alarm struct {
	Type   string // NOSPACE, CORRUPT or another name of the API
	Member uint64
}

// Names of alarms that the checks know.
const (
	alarmNoSpace = "NOSPACE"
	alarmCorrupt = "CORRUPT"
)

// Versions is the body of /version.
type Versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"` // "not_decided" before there is one
	Storage string `json:"storage"`     // "unknown" before there is one
}

// Options are what a handler is made from.
type Options struct {
	Member  Member
	Metrics http.Handler    // /metrics; may be nil
	Health  *metrics.Health // counts the checks; may be nil
	Gateway http.Handler    // /v3/ and /v3beta/; may be nil
	Pprof   bool
	// CORS and HostWhitelist: empty or with "*" they allow all.
	CORS, HostWhitelist map[string]struct{}
	// RequestTimeout bounds the read of a health check; 0 is defaultTimeout.
	RequestTimeout time.Duration
	// RejectCommonName says whether a client certificate with a common name
	// may not use the gateway: where auth is on and certificates name users,
	// the gateway cannot pass the name on. It may be nil.
	RejectCommonName func() bool
	// Vars are further variables of /debug/vars.
	Vars map[string]func() any
	Log  *slog.Logger // nil logs nothing
}

const defaultTimeout = 7 * time.Second

// Client is the handler of the client port.
func Client(opt Options) http.Handler {
	opt.defaults()
	mux := http.NewServeMux()
	opt.addHealth(mux)
	mux.HandleFunc("/version", getOnly(opt.version))
	mux.HandleFunc("/debug/vars", getOnly(opt.vars))
	if opt.Pprof {
		opt.Log.Info("pprof is enabled", "path", pprofPath)
		addPprof(mux)
	}
	if opt.Gateway != nil {
		mux.Handle("/v3/", opt.Gateway)
		mux.Handle("/v3beta/", opt.Gateway)
	}
	return &gate{opt: opt, next: mux}
}

// MetricsOnly is the handler of a metrics port: metrics and health, for
// machines only, hence without CORS and whitelist.
func MetricsOnly(opt Options) http.Handler {
	opt.defaults()
	mux := http.NewServeMux()
	opt.addHealth(mux)
	return mux
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = logs.Discard()
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = defaultTimeout
	}
	if o.Health == nil {
		unused := metrics.New(metrics.Options{})
		o.Health = &unused.Health
	}
}

func (o *Options) addHealth(mux *http.ServeMux) {
	if o.Metrics != nil {
		mux.Handle("/metrics", o.Metrics)
	}
	h := &healthHandler{opt: *o}
	mux.HandleFunc("/health", getOnly(h.serve))
	for _, set := range []checkSet{livez(*o), readyz(*o)} {
		set.addTo(mux)
	}
}

func (o *Options) version(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(o.Member.Versions())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone if this fails
}

// getOnly answers other methods, HEAD among them, with 405.
func getOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			next(w, r)
			return
		}
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	}
}
