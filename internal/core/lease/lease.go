// Package lease keeps the leases of a cluster: which there are, which keys hang
// on each, and when each runs out.
//
// Two kinds of state live side by side. What is replicated (ids, granted times,
// checkpoints, attachments) changes only by applied entries, so that all
// members agree on it; those changes come back as bucket.Ops. What is local
// (deadlines) exists on the primary only, the lessor of the raft leader: it
// alone lets time run, and turns a passed deadline into a proposal to revoke.
// A lessor that is not primary holds every lease for ever.
//
// The promise to clients is one-sided: a lease never ends before its time. It
// may end later, because a new primary grants every lease its whole time again
// and spreads leases that would run out together.
//
// The package is pure. The caller serialises access, passes the time in, and
// proposes what Expired and DueCheckpoints ask for. See DESIGN.md.
package lease

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
)

// None is the id of no lease.
const None int64 = 0

// MaxTTL is the longest time of a lease in seconds: as nanoseconds it still
// fits a time.Duration.
const MaxTTL int64 = 9_000_000_000

// Outcomes a caller expects. The texts are those clients of etcd see.
var (
	ErrNotFound    = errors.New("etcdserver: requested lease not found")
	ErrExists      = errors.New("etcdserver: lease already exists")
	ErrTTLTooLarge = errors.New("etcdserver: too large lease TTL")
	// ErrNotPrimary says that another member lets time run: ask the leader.
	ErrNotPrimary = errors.New("lease: not the primary lessor")
	// ErrExpiring says that the lease has run out and its revocation is on its
	// way: wait for it, then answer ErrNotFound.
	ErrExpiring = errors.New("lease: expired, about to be revoked")
)

// MinTTL is the shortest time of a lease in seconds, for a raft with these
// settings: one and a half elections, so that a lease outlives a change of
// leader.
func MinTTL(electionTicks int, tick time.Duration) int64 {
	shortest := time.Duration(3*electionTicks/2) * tick
	return int64(math.Ceil(shortest.Seconds()))
}

// Options are the settings of a Lessor.
type Options struct {
	MinTTL          int64         // seconds; a grant below it is raised to it
	CheckpointEvery time.Duration // 0: checkpoints are not taken
}

// Lessor owns all leases. It is not safe for concurrent use.
type Lessor struct {
	opt    Options
	origin time.Time // deadlines are durations since then
	leases map[int64]*lease
	keys   map[string]attachment // which lease each key hangs on

	primary     bool
	expiries    timerHeap // every lease, when primary; empty otherwise
	checkpoints timerHeap // leases that wait for a checkpoint, when primary
}

// lease is one lease. A million of them are expected to be cheap, so it holds
// no map and no pointers but its keys.
type lease struct {
	id        int64
	ttl       int64 // seconds, as granted
	remaining int64 // seconds left at the last checkpoint; 0: never checkpointed
	deadline  moment
	timers    [timerKinds]timer
	keys      []string // attached keys, in no order; attachment.slot points in here
}

// attachment is one key's place in its lease.
type attachment struct {
	lease *lease
	slot  int
}

// moment is a point in time, counted from Lessor.origin.
type moment time.Duration

// never is the deadline of a lease on a lessor that is not primary.
const never moment = math.MaxInt64

// New returns a lessor without leases that is not primary. now only sets where
// moments are counted from.
func New(opt Options, now time.Time) *Lessor {
	return &Lessor{
		opt:         opt,
		origin:      now,
		leases:      map[int64]*lease{},
		keys:        map[string]attachment{},
		expiries:    timerHeap{kind: timerExpiry},
		checkpoints: timerHeap{kind: timerCheckpoint},
	}
}

// Load adds a lease found in the lease bucket at start.
func (l *Lessor) Load(key, value []byte) error {
	r, err := decodeRecord(key, value)
	if err != nil {
		return err
	}
	l.leases[r.id] = newLease(r.id, max(r.ttl, l.opt.MinTTL), r.remaining)
	return nil
}

// LoadKey hangs a live key found at start on its lease. It reports false when
// there is no such lease: the key then lives for ever.
func (l *Lessor) LoadKey(id int64, key []byte) bool {
	if !l.Exists(id) {
		return false
	}
	l.Attach(id, key)
	return true
}

// Grant creates a lease and returns the seconds it was granted. An id of 0 must
// have been replaced before the request was proposed, or members would choose
// differently.
func (l *Lessor) Grant(id, ttl int64, now time.Time) (granted int64, ops []bucket.Op, err error) {
	if id == None {
		return 0, nil, ErrNotFound
	}
	if ttl > MaxTTL {
		return 0, nil, ErrTTLTooLarge
	}
	if l.Exists(id) {
		return 0, nil, ErrExists
	}
	le := newLease(id, max(ttl, l.opt.MinTTL), 0)
	l.leases[id] = le
	if l.primary {
		l.start(le, l.after(now, le.ttl))
		l.planCheckpoint(le, now)
	}
	return le.ttl, []bucket.Op{le.put()}, nil
}

// Revoke ends a lease and returns the keys that go with it, in key order, for
// the caller to delete.
func (l *Lessor) Revoke(id int64) (keys [][]byte, ops []bucket.Op, err error) {
	le, ok := l.leases[id]
	if !ok {
		return nil, nil, ErrNotFound
	}
	keys = sortedKeys(le)
	for _, k := range le.keys {
		delete(l.keys, k)
	}
	l.expiries.remove(le)
	l.checkpoints.remove(le)
	delete(l.leases, id)
	return keys, []bucket.Op{le.drop()}, nil
}

// Exists reports whether a lease is there, expired or not.
func (l *Lessor) Exists(id int64) bool {
	_, ok := l.leases[id]
	return ok
}

// Len is the number of leases.
func (l *Lessor) Len() int { return len(l.leases) }

// Status is what a client may know of a lease.
type Status struct {
	GrantedTTL   int64 // seconds
	RemainingTTL int64 // whole seconds left; negative once the revocation is late
}

// TimeToLive tells how long a lease still has. Only the primary knows.
func (l *Lessor) TimeToLive(id int64, now time.Time) (Status, error) {
	if !l.primary {
		return Status{}, ErrNotPrimary
	}
	le, ok := l.leases[id]
	if !ok {
		return Status{}, ErrNotFound
	}
	left := time.Duration(le.deadline - l.at(now))
	return Status{GrantedTTL: le.ttl, RemainingTTL: int64(left / time.Second)}, nil
}

// List returns the ids of all leases, those that run out first in front. A
// lessor that is not primary knows no order and gives them by id.
func (l *Lessor) List() []int64 {
	all := l.byDeadline()
	ids := make([]int64, len(all))
	for i, le := range all {
		ids[i] = le.id
	}
	return ids
}

func (l *Lessor) byDeadline() []*lease {
	all := make([]*lease, 0, len(l.leases))
	for _, le := range l.leases {
		all = append(all, le)
	}
	slices.SortFunc(all, func(a, b *lease) int {
		if a.deadline != b.deadline {
			return compare(a.deadline, b.deadline)
		}
		return compare(a.id, b.id)
	})
	return all
}

func newLease(id, ttl, remaining int64) *lease {
	le := &lease{id: id, ttl: ttl, remaining: remaining, deadline: never}
	for kind := range le.timers {
		le.timers[kind].slot = noSlot
	}
	return le
}

// rest is the seconds that a new primary has to give the lease. What a stored
// record or a checkpoint says beyond MaxTTL is not believed.
func (le *lease) rest() int64 {
	if le.remaining > 0 {
		return min(le.remaining, MaxTTL)
	}
	return min(le.ttl, MaxTTL)
}

// at places a time on the lessor's own scale.
func (l *Lessor) at(now time.Time) moment { return moment(now.Sub(l.origin)) }

// after is the moment a number of seconds after now, or as late as a moment
// can be.
func (l *Lessor) after(now time.Time, seconds int64) moment {
	return l.at(now).plus(time.Duration(seconds) * time.Second)
}

// plus adds without running over: MaxTTL is close to the end of the scale.
func (m moment) plus(d time.Duration) moment {
	if sum := m + moment(d); d < 0 || sum >= m {
		return sum
	}
	return never - 1
}

func compare[T moment | int64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (le *lease) String() string {
	return fmt.Sprintf("lease %d ttl=%d remaining=%d keys=%d", le.id, le.ttl, le.remaining, len(le.keys))
}
