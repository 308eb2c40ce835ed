package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes are the two series of a histogram that tells good results from bad
// ones by the label "success". Each appears when it is first used; from then on
// observing costs no look-up.
type Outcomes struct {
	vec  prometheus.ObserverVec
	seen [2]atomic.Pointer[prometheus.Observer]
}

// NewOutcomes fixes all labels of a histogram but "success".
func NewOutcomes(vec *prometheus.HistogramVec, labels prometheus.Labels) *Outcomes {
	return &Outcomes{vec: vec.MustCurryWith(labels)}
}

var outcomeNames = [2]string{"false", "true"}

// Observe adds one result and the time it took.
func (o *Outcomes) Observe(ok bool, took time.Duration) {
	i := 0
	if ok {
		i = 1
	}
	series := o.seen[i].Load()
	if series == nil {
		found := o.vec.WithLabelValues(outcomeNames[i]) // the same for everyone who gets here
		series = &found
		o.seen[i].Store(series)
	}
	(*series).Observe(took.Seconds())
}
