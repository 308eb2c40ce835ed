package lease

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/scenario"
)

// world is a lessor with a clock that only the script moves.
type world struct {
	lessor *Lessor
	now    time.Time
	stored map[string]bucket.Op // what the lease bucket holds
	opt    Options
}

// The scripts in testdata tell what a lessor does over time.
func TestScenarios(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func(t *testing.T) func(scenario.Command) string {
		w := &world{now: time.Unix(1_000_000, 0), stored: map[string]bucket.Op{}}
		return func(c scenario.Command) string { return w.do(t, c) }
	})
}

func (w *world) do(t *testing.T, c scenario.Command) string {
	switch c.Name {
	case "new":
		w.opt = Options{MinTTL: c.NamedInt("min", 2), CheckpointEvery: time.Duration(c.NamedInt("checkpoint", 0)) * time.Second}
		w.lessor = New(w.opt, w.now)
		return ""
	case "restart":
		return w.restart(t)
	case "sleep":
		w.now = w.now.Add(time.Duration(c.Int(0)) * time.Second)
		return ""
	case "promote":
		w.lessor.Promote(w.now, time.Duration(c.NamedInt("extend", 0))*time.Second)
		return ""
	case "demote":
		w.lessor.Demote()
		return ""
	case "grant":
		ttl, ops, err := w.lessor.Grant(c.Int(0), c.NamedInt("ttl", 0), w.now)
		return w.answer(ops, err, "granted %ds", ttl)
	case "revoke":
		keys, ops, err := w.lessor.Revoke(c.Int(0))
		return w.answer(ops, err, "revoked, keys %q", keys)
	case "attach":
		for _, key := range c.Args[1:] {
			w.lessor.Attach(c.Int(0), []byte(key))
		}
		return ""
	case "detach":
		w.lessor.Detach([]byte(c.Args[0]))
		return ""
	case "leaseof":
		return fmt.Sprint(w.lessor.LeaseOf([]byte(c.Args[0])))
	case "keys":
		return fmt.Sprintf("%q", w.lessor.Keys(c.Int(0)))
	case "renew":
		r, err := w.lessor.Renew(c.Int(0), w.now)
		return w.answer(nil, err, "ttl %ds, clear checkpoint %v", r.TTL, r.ClearCheckpoint)
	case "ttl":
		s, err := w.lessor.TimeToLive(c.Int(0), w.now)
		return w.answer(nil, err, "%ds of %ds", s.RemainingTTL, s.GrantedTTL)
	case "list":
		return fmt.Sprint(w.lessor.List())
	case "expired":
		return fmt.Sprint(w.lessor.Expired(w.now, int(c.NamedInt("limit", 500))))
	case "next":
		at, ok := w.lessor.NextExpiry()
		if !ok {
			return "nothing runs"
		}
		return fmt.Sprintf("in %v", at.Sub(w.now))
	case "due":
		return fmt.Sprint(w.lessor.DueCheckpoints(w.now, int(c.NamedInt("limit", CheckpointBatch))))
	case "checkpoint":
		ops, err := w.lessor.Checkpoint(Checkpoint{ID: c.Int(0), Remaining: c.NamedInt("remaining", 0)}, c.Has("persist"), w.now)
		return w.answer(ops, err, "applied")
	}
	t.Fatalf("unknown command %s", c.Name)
	return ""
}

// answer stores the ops, as the flusher would, and tells them.
func (w *world) answer(ops []bucket.Op, err error, format string, args ...any) string {
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, format+"\n", args...)
	for _, op := range ops {
		w.stored[string(op.Key)] = op
		if op.Delete {
			delete(w.stored, string(op.Key))
			fmt.Fprintf(&b, "  drop %x\n", op.Key)
		} else {
			fmt.Fprintf(&b, "  put %x = %x\n", op.Key, op.Value)
		}
	}
	return b.String()
}

// restart builds a new lessor of what is stored, with the attachments that live
// keys tell.
func (w *world) restart(t *testing.T) string {
	old := w.lessor
	w.lessor = New(w.opt, w.now)
	for _, op := range w.stored {
		if err := w.lessor.Load(op.Key, op.Value); err != nil {
			t.Fatal(err)
		}
	}
	lost := 0
	for key, a := range old.keys {
		if !w.lessor.LoadKey(a.lease.id, []byte(key)) {
			lost++
		}
	}
	return fmt.Sprintf("%d leases, %d keys without theirs", w.lessor.Len(), lost)
}
