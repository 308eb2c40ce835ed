package lease

import (
	"time"

	"github.com/steledb/stele/internal/base/bucket"
)

// How fast a primary ends leases. A revocation is a raft entry that may delete
// many keys, so a crowd of leases that run out together must not crowd out the
// clients' writes.
const (
	// RevokesPerSecond bounds what the caller should ask of Expired in a second.
	RevokesPerSecond = 1000
	// spreadPerSecond is how many leases a new primary lets run out in a second.
	// It stays below RevokesPerSecond so that ordinary expiries find room.
	spreadPerSecond = RevokesPerSecond * 3 / 4
	// retryAfter is when a lease that was reported as expired is reported again,
	// in case the proposal to revoke it got lost.
	retryAfter = 3 * time.Second
)

// Promote makes the lessor primary: from now on time runs. Every lease gets its
// whole time again, plus extend, because clients could not renew while there
// was no primary. When there are enough leases to pile up, those that would run
// out together are spread.
func (l *Lessor) Promote(now time.Time, extend time.Duration) {
	l.primary = true
	l.expiries.clear()
	l.checkpoints.clear()
	for _, le := range l.leases {
		le.deadline = l.after(now, le.rest()).plus(extend)
	}
	ordered := l.byDeadline()
	if len(ordered) >= RevokesPerSecond {
		spread(ordered)
	}
	for _, le := range ordered {
		l.start(le, le.deadline)
		l.planCheckpoint(le, now)
	}
}

// spread moves deadlines, given in order, so that each follows the one before
// by at least a slot. None gets earlier and the order stays.
func spread(ordered []*lease) {
	const slot = moment(time.Second / spreadPerSecond)
	for i := 1; i < len(ordered); i++ {
		ordered[i].deadline = max(ordered[i].deadline, ordered[i-1].deadline.plus(time.Duration(slot)))
	}
}

// Demote makes the lessor one that only follows: no lease runs out any more.
func (l *Lessor) Demote() {
	l.primary = false
	l.expiries.clear()
	l.checkpoints.clear()
	for _, le := range l.leases {
		le.deadline = never
	}
}

// IsPrimary reports whether time runs here.
func (l *Lessor) IsPrimary() bool { return l.primary }

// start lets a lease run until its deadline.
func (l *Lessor) start(le *lease, deadline moment) {
	le.deadline = deadline
	l.expiries.set(le, deadline)
}

// Renewal is the outcome of a keep-alive.
type Renewal struct {
	TTL int64 // seconds that the client has from now
	// ClearCheckpoint asks the caller to commit a checkpoint with remaining 0
	// before it answers the client. Without it the next primary would start
	// from the old checkpoint and end the lease before its time.
	ClearCheckpoint bool
}

// Renew gives a lease its whole time again.
func (l *Lessor) Renew(id int64, now time.Time) (Renewal, error) {
	if !l.primary {
		return Renewal{}, ErrNotPrimary
	}
	le, ok := l.leases[id]
	if !ok {
		return Renewal{}, ErrNotFound
	}
	if le.deadline <= l.at(now) {
		return Renewal{}, ErrExpiring
	}
	// A timer that is early stays where it is and is put right when it fires: a
	// keep-alive is the most frequent thing that happens to a lease and should
	// cost no heap work. Only what a promotion has added can make it late.
	le.deadline = l.after(now, min(le.ttl, MaxTTL))
	if le.timers[timerExpiry].at > le.deadline {
		l.expiries.set(le, le.deadline)
	}
	return Renewal{TTL: le.ttl, ClearCheckpoint: l.opt.CheckpointEvery > 0 && le.remaining > 0}, nil
}

// Expired returns up to limit leases that have run out, in the order of their
// deadlines, for the caller to propose their revocation. They stay until Revoke
// is applied; each is returned again after a while if it is not.
func (l *Lessor) Expired(now time.Time, limit int) []int64 {
	var ids []int64
	for len(ids) < limit {
		le := l.expiries.first()
		if le == nil || le.timers[timerExpiry].at > l.at(now) {
			break
		}
		if le.deadline > l.at(now) { // renewed since the timer was set
			l.expiries.set(le, le.deadline)
			continue
		}
		ids = append(ids, le.id)
		l.expiries.set(le, l.at(now).plus(retryAfter))
	}
	return ids
}

// NextExpiry is when it makes sense to call Expired again; ok is false when no
// lease runs. It may be early, never late.
func (l *Lessor) NextExpiry() (at time.Time, ok bool) {
	le := l.expiries.first()
	if le == nil {
		return time.Time{}, false
	}
	return l.origin.Add(time.Duration(le.timers[timerExpiry].at)), true
}

// Checkpoint is the time that a lease has left, to be replicated so that a new
// primary does not start from the granted time again.
type Checkpoint struct {
	ID        int64
	Remaining int64 // seconds
}

// CheckpointBatch is how many checkpoints should go into one proposal, and
// CheckpointBatchesPerSecond how many proposals should be made in a second.
const (
	CheckpointBatch            = 1000
	CheckpointBatchesPerSecond = 1000
)

// DueCheckpoints returns up to limit checkpoints for the caller to propose.
func (l *Lessor) DueCheckpoints(now time.Time, limit int) []Checkpoint {
	var due []Checkpoint
	for len(due) < limit {
		le := l.checkpoints.first()
		if le == nil || le.timers[timerCheckpoint].at > l.at(now) {
			break
		}
		left := time.Duration(le.deadline - l.at(now))
		if left <= 0 {
			l.checkpoints.remove(le) // about to be revoked
			continue
		}
		// Applying the checkpoint plans the next one; this is for the case that
		// the proposal gets lost.
		l.checkpoints.set(le, l.at(now).plus(l.opt.CheckpointEvery))
		remaining := int64((left-1)/time.Second) + 1
		if remaining < le.ttl { // else it was renewed just now: nothing to tell
			due = append(due, Checkpoint{ID: le.id, Remaining: remaining})
		}
	}
	return due
}

// Checkpoint applies a checkpoint; remaining 0 clears it. It is stored only if
// persist is set: members before 3.6 would not expect it.
func (l *Lessor) Checkpoint(c Checkpoint, persist bool, now time.Time) ([]bucket.Op, error) {
	le, ok := l.leases[c.ID]
	if !ok {
		return nil, ErrNotFound
	}
	le.remaining = c.Remaining
	if l.primary {
		l.planCheckpoint(le, now)
	}
	if !persist {
		return nil, nil
	}
	return []bucket.Op{le.put()}, nil
}

// planCheckpoint sets the next checkpoint of a lease that lives long enough to
// need one.
func (l *Lessor) planCheckpoint(le *lease, now time.Time) {
	every := l.opt.CheckpointEvery
	if every <= 0 || le.rest() <= int64(every/time.Second) {
		return
	}
	l.checkpoints.set(le, l.at(now).plus(every))
}
