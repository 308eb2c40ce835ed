// Package metrics holds the measurements of one member, under the names, types,
// labels and buckets that etcd's dashboards and alerts ask for.
//
// New declares every family once (families.go) in a registry of its own, so
// that several members can live in one process. Code that measures gets the
// small struct of its area (Disk, MVCC, Server, ...) and feeds typed handles;
// it never sees a name or a label list. Values that are cheaper to ask for than
// to follow are set by OnScrape hooks.
//
// Families without labels exist from the start, at zero; those with labels
// appear when a label value is first used, as in etcd.
package metrics

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// Metrics are all measurements of one member.
type Metrics struct {
	Disk    Disk
	Snap    Snap
	MVCC    MVCC
	Watch   Watch
	Lease   Lease
	Auth    Auth
	Server  Server
	Network Network
	GRPC    GRPC
	Health  Health
	Proxy   Proxy
	V2      V2
	OS      OS

	registry *prometheus.Registry
	families []Family

	mu    sync.Mutex
	hooks []func() // guarded by mu
}

// Family describes one declared family.
type Family struct {
	Name    string
	Type    string // counter, gauge or histogram
	Labels  []string
	Buckets []float64
}

// Options choose between the two sets of metrics.
type Options struct {
	// Extensive adds histograms of gRPC handling time (--metrics=extensive).
	Extensive bool
}

// New declares every family. Collectors of the Go runtime and of the process
// are part of it.
func New(opt Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.declare()
	m.GRPC.init(m, opt.Extensive)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.OnScrape(m.OS.measure)
	return m
}

// Families lists what was declared, in the order of declaration.
func (m *Metrics) Families() []Family { return m.families }

// Registry takes further collectors, those of the proxy for example.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// OnScrape has fn called before the values are read. fn must be quick and may
// be called by several goroutines at a time.
func (m *Metrics) OnScrape(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks = append(m.hooks, fn)
}

// Gather reads all values, after the hooks.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	m.mu.Lock()
	hooks := m.hooks
	m.mu.Unlock()
	for _, fn := range hooks {
		fn()
	}
	return m.registry.Gather()
}

// Handler serves /metrics. Call it once: it counts its own requests.
func (m *Metrics) Handler() http.Handler {
	return promhttp.InstrumentMetricHandler(m.registry, promhttp.HandlerFor(m, promhttp.HandlerOpts{}))
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.register(c, Family{Name: name, Type: "counter"})
	return c
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.register(g, Family{Name: name, Type: "gauge"})
	return g
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.register(h, Family{Name: name, Type: "histogram", Buckets: buckets})
	return h
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.register(c, Family{Name: name, Type: "counter", Labels: labels})
	return c
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.register(g, Family{Name: name, Type: "gauge", Labels: labels})
	return g
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.register(h, Family{Name: name, Type: "histogram", Labels: labels, Buckets: buckets})
	return h
}

func (m *Metrics) register(c prometheus.Collector, f Family) {
	m.registry.MustRegister(c)
	m.families = append(m.families, f)
}
