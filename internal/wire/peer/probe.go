package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/steledb/stele/internal/base/ids"
)

// probeAnswer is the body of /raft/probing.
type probeAnswer struct {
	OK  bool
	Now time.Time
}

// probe measures the way to the peer and its clock, each probeInterval.
func (l *link) probe(ctx context.Context) {
	for pause(ctx, probeInterval) {
		l.probeOnce(ctx)
	}
}

func (l *link) probeOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	start := time.Now()
	answer, err := l.askProbe(ctx)
	took := time.Since(start)
	if err != nil {
		if ctx.Err() == nil || ctx.Err() == context.DeadlineExceeded {
			l.t.log.Warn("prober detected unhealthy status", "round-tripper-name", "ROUND_TRIPPER_RAFT_MESSAGE",
				"remote-peer-id", l.name(), "rtt", took, "error", err)
		}
		return
	}
	if f := l.t.opt.Events.RoundTrip; f != nil {
		f(l.id, took)
	}
	// The answer was written somewhere between the two readings of our clock.
	if drift := answer.Now.Sub(start.Add(took / 2)); drift.Abs() > driftMax {
		l.t.log.Warn("prober found high clock drift", "round-tripper-name", "ROUND_TRIPPER_RAFT_MESSAGE",
			"remote-peer-id", ids.Text(l.id), "clock-drift", drift, "rtt", took)
	}
}

func (l *link) askProbe(ctx context.Context) (a probeAnswer, err error) {
	base, err := l.to.current()
	if err != nil {
		return a, err
	}
	target, err := join(base, pathProbing)
	if err != nil {
		return a, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return a, err
	}
	resp, err := l.t.posts.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("unexpected http status %s", resp.Status)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1024)).Decode(&a)
	return a, err
}
