package member

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/mvcc"
)

// AutoCompact says what history to keep. At most one of the two is set.
type AutoCompact struct {
	Period    time.Duration // keep this long
	Revisions int64         // keep this many revisions
}

// revisionRound is how often the revision mode looks, as in etcd.
const revisionRound = 5 * time.Minute

// round is how often to look at the revision.
func (a AutoCompact) round() time.Duration {
	if a.Revisions > 0 {
		return revisionRound
	}
	return a.interval() / samplesPerInterval
}

// interval is how often the period mode compacts: with the period itself, but
// at least once an hour.
func (a AutoCompact) interval() time.Duration { return min(a.Period, time.Hour) }

// samplesPerInterval is how finely the period mode remembers revisions.
const samplesPerInterval = 10

// autoCompactor decides when to compact to what. It is pure; its rounds come
// from outside.
type autoCompactor struct {
	AutoCompact
	samples []int64 // revisions at the last rounds, oldest first; period mode
	last    int64   // revision of the last compaction asked for
	since   int     // rounds since then; period mode
}

// decide takes the revision at one round and says what to compact to; 0 for
// nothing.
func (a *autoCompactor) decide(rev int64) int64 {
	to := int64(0)
	if a.Revisions > 0 {
		to = rev - a.Revisions
	} else {
		to = a.periodic(rev)
	}
	if to <= a.last || to <= 0 {
		return 0
	}
	return to
}

// done notes that the compaction to rev was carried out.
func (a *autoCompactor) done(rev int64) { a.last, a.since = rev, 0 }

// periodic compacts to the revision of one period ago, each interval.
func (a *autoCompactor) periodic(rev int64) int64 {
	keep := int(a.Period/a.round()) + 1
	a.samples = append(a.samples, rev)
	if len(a.samples) > keep {
		a.samples = a.samples[len(a.samples)-keep:]
	}
	a.since++
	if len(a.samples) < keep || a.last > 0 && a.since < samplesPerInterval {
		return 0
	}
	return a.samples[0]
}

// autoCompactDuty compacts as the operator asked for. Only the leader proposes;
// the others keep their notes, so that a new leader knows the past.
func (m *Member) autoCompactDuty(stop <-chan struct{}) {
	if m.opt.AutoCompact == (AutoCompact{}) {
		return
	}
	auto := autoCompactor{AutoCompact: m.opt.AutoCompact}
	ticker := time.NewTicker(max(auto.round(), time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
		to := auto.decide(m.Rev())
		if to == 0 || !m.IsLeader() {
			continue
		}
		start := time.Now()
		m.log.Info("starting auto compaction", "revision", to)
		_, err := m.proposeAs(context.Background(), m.root(), &pb.InternalRaftRequest{Compaction: &pb.CompactionRequest{Revision: to}})
		switch {
		case err == nil, errors.Is(err, mvcc.ErrCompacted):
			auto.done(to)
			m.log.Info("completed auto compaction", "revision", to, "took", time.Since(start))
		default:
			m.log.Warn("failed auto compaction", "revision", to, "error", err)
		}
	}
}
