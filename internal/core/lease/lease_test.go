package lease

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
)

// twin is a lessor without any cleverness: it looks at every lease each time.
type twin struct {
	primary  bool
	deadline map[int64]time.Time
	ttl      map[int64]int64
	leaseOf  map[string]int64
}

func (w *twin) keysOf(id int64) [][]byte {
	var keys [][]byte
	for k, of := range w.leaseOf {
		if of == id {
			keys = append(keys, []byte(k))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

func (w *twin) overdue(now time.Time) []int64 {
	var ids []int64
	for id, d := range w.deadline {
		if w.primary && !d.After(now) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Goal: the heap, the lazy timers and the attachment lists never disagree with
// the plain definition of a lease. Method: random requests to a lessor and its
// naive twin, on a clock that moves by random steps.
func TestAgainstTwin(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runTwins(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func runTwins(t *testing.T, r *rand.Rand) {
	now := time.Unix(1000, 0)
	l := New(Options{MinTTL: 2}, now)
	w := &twin{deadline: map[int64]time.Time{}, ttl: map[int64]int64{}, leaseOf: map[string]int64{}}
	for step := range 600 {
		id, key := r.Int64N(12)+1, fmt.Sprintf("k%d", r.IntN(30))
		switch r.IntN(10) {
		case 0, 1:
			ttl := r.Int64N(20)
			_, _, err := l.Grant(id, ttl, now)
			if _, there := w.ttl[id]; there != (err == ErrExists) {
				t.Fatalf("step %d: grant %d: %v", step, id, err)
			}
			if err == nil {
				w.ttl[id] = max(ttl, 2)
				w.deadline[id] = now.Add(time.Duration(max(ttl, 2)) * time.Second)
			}
		case 2:
			keys, _, err := l.Revoke(id)
			if _, there := w.ttl[id]; there != (err == nil) {
				t.Fatalf("step %d: revoke %d: %v", step, id, err)
			}
			if want := w.keysOf(id); !slices.EqualFunc(keys, want, bytes.Equal) {
				t.Fatalf("step %d: revoke %d took %q, want %q", step, id, keys, want)
			}
			for _, k := range keys {
				delete(w.leaseOf, string(k))
			}
			delete(w.ttl, id)
			delete(w.deadline, id)
		case 3, 4, 5:
			if l.Exists(id) {
				l.Attach(id, []byte(key))
				w.leaseOf[key] = id
			}
		case 6:
			l.Detach([]byte(key))
			delete(w.leaseOf, key)
		case 7:
			if _, err := l.Renew(id, now); err == nil {
				w.deadline[id] = now.Add(time.Duration(w.ttl[id]) * time.Second)
			} else if d, there := w.deadline[id]; there && w.primary && d.After(now) {
				t.Fatalf("step %d: renewal of the live lease %d: %v", step, id, err)
			}
		case 8:
			now = now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
		case 9:
			if w.primary = r.IntN(3) > 0; !w.primary {
				l.Demote()
				continue
			}
			l.Promote(now, time.Second)
			for id, ttl := range w.ttl {
				w.deadline[id] = now.Add(time.Duration(ttl+1) * time.Second)
			}
		}
		compareTwins(t, step, l, w, now)
	}
}

func compareTwins(t *testing.T, step int, l *Lessor, w *twin, now time.Time) {
	t.Helper()
	for id := range w.ttl {
		if want := w.keysOf(id); !slices.EqualFunc(l.Keys(id), want, bytes.Equal) {
			t.Fatalf("step %d: lease %d has keys %q, want %q", step, id, l.Keys(id), want)
		}
		if s, err := l.TimeToLive(id, now); w.primary {
			if want := int64(w.deadline[id].Sub(now) / time.Second); err != nil || s.RemainingTTL != want {
				t.Fatalf("step %d: lease %d has %d s, %v, want %d", step, id, s.RemainingTTL, err, want)
			}
		}
	}
	if len(l.keys) != len(w.leaseOf) || l.Len() != len(w.ttl) {
		t.Fatalf("step %d: %d leases and %d keys, want %d and %d", step, l.Len(), len(l.keys), len(w.ttl), len(w.leaseOf))
	}
	// What was reported less than three seconds ago is kept back, so look far
	// enough into the future and hold it against the past.
	overdue := w.overdue(now)
	for _, id := range l.Expired(now, 1000) {
		if !slices.Contains(overdue, id) {
			t.Fatalf("step %d: lease %d expired before its time", step, id)
		}
	}
	for _, id := range overdue {
		if _, err := l.Renew(id, now); err != ErrExpiring {
			t.Fatalf("step %d: renewal of the overdue lease %d: %v", step, id, err)
		}
	}
	if l.expiries.first() == nil && len(overdue) > 0 {
		t.Fatalf("step %d: overdue leases %v will never be reported", step, overdue)
	}
}

// Every lease that is overdue is reported within one retry, however the timers
// were moved before.
func TestNothingIsForgotten(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	now := time.Unix(0, 0)
	l := New(Options{MinTTL: 1}, now)
	l.Promote(now, 0)
	for id := int64(1); id <= 500; id++ {
		if _, _, err := l.Grant(id, r.Int64N(50)+1, now); err != nil {
			t.Fatal(err)
		}
	}
	for range 300 {
		now = now.Add(time.Duration(r.IntN(200)) * time.Millisecond)
		_, _ = l.Renew(r.Int64N(500)+1, now)
		_ = l.Expired(now, 3)
	}
	now = now.Add(100 * time.Second)
	seen := map[int64]bool{}
	for _, id := range l.Expired(now, 1000) {
		seen[id] = true
	}
	if len(seen) != 500 {
		t.Errorf("%d of 500 leases were reported", len(seen))
	}
}

// A new leader with a crowd of equal leases lets them out a few at a time,
// none before its time.
func TestPromotionSpreadsPileUps(t *testing.T) {
	now := time.Unix(0, 0)
	l := New(Options{MinTTL: 1}, now)
	const crowd = 3000
	for id := int64(1); id <= crowd; id++ {
		_, _, _ = l.Grant(id, 10, now)
	}
	l.Promote(now, time.Second)
	if early := l.Expired(now.Add(11*time.Second-1), crowd); len(early) != 0 {
		t.Fatalf("%d leases ended before their time", len(early))
	}
	total := 0
	for s := 11; total < crowd; s++ {
		out := len(l.Expired(now.Add(time.Duration(s+1)*time.Second-1), crowd))
		if out == 0 || out > RevokesPerSecond {
			t.Fatalf("%d leases ended in second %d", out, s)
		}
		for _, le := range l.byDeadline()[:out] { // revoked before the retry
			_, _, _ = l.Revoke(le.id)
		}
		total += out
	}
	_, _, _ = l.Grant(1, 10, now)
	l.Promote(now, 0)
	if s, _ := l.TimeToLive(1, now); s.RemainingTTL != 10 {
		t.Errorf("a lonely lease was delayed to %d s", s.RemainingTTL)
	}
}

// The longest lease granted late in a server's life does not wrap round into
// the past.
func TestLongestLeaseDoesNotWrap(t *testing.T) {
	start := time.Unix(0, 0)
	l := New(Options{MinTTL: 2}, start)
	l.Promote(start, 0)
	late := start.Add(40 * 365 * 24 * time.Hour)
	if _, _, err := l.Grant(1, MaxTTL, late); err != nil {
		t.Fatal(err)
	}
	if ids := l.Expired(late.Add(time.Hour), 10); len(ids) != 0 {
		t.Errorf("it expired at once: %v", ids)
	}
}

// Records damaged or of another lease are refused with the record named; the
// good ones survive a round trip.
func TestRecords(t *testing.T) {
	for _, r := range []record{{1, 10, 0}, {-5, 2, 0}, {1 << 40, MaxTTL, 77}} {
		back, err := decodeRecord(recordKey(r.id), r.encode())
		if err != nil || back != r {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	}
	l := New(Options{MinTTL: 2}, time.Unix(0, 0))
	for _, bad := range []bucket.Op{
		{Key: recordKey(1), Value: []byte{0x08}},
		{Key: recordKey(1), Value: record{id: 2, ttl: 1}.encode()},
		{Key: []byte("short"), Value: record{id: 2, ttl: 1}.encode()},
		{Key: recordKey(0), Value: nil},
	} {
		if err := l.Load(bad.Key, bad.Value); err == nil {
			t.Errorf("record %x = %x was taken", bad.Key, bad.Value)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{0x08, 0xc1, 0x84, 0x3d, 0x10, 0x90, 0x1c})
	f.Add(record{-1, 5, 3}.encode())
	f.Add([]byte{0x22, 0x01, 0x00, 0x08, 0x01})
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := parseRecord(value)
		if err != nil {
			return
		}
		if back, err := parseRecord(r.encode()); err != nil || back != r {
			t.Fatalf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

// recorded is one step of an oracle file, as far as leases go.
type recorded struct {
	Op, Method string
	Req        struct {
		ID, TTL string
	}
	Reqs []struct{ ID string }
	Resp struct {
		ID, TTL, GrantedTTL string
		Leases              []struct{ ID string }
	}
	Resps  []struct{ ID, TTL string }
	Status struct{ Msg string }
}

// The answers of etcd 3.7.1, recorded. Attachments need the key-value core and
// are compared there.
func TestRecordedAnswers(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/oracle/corpus/lease-*.jsonl.gz")
	if len(files) == 0 {
		t.Skip("no recordings here")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	l := New(Options{MinTTL: MinTTL(10, 100*time.Millisecond)}, now)
	l.Promote(now, time.Second)
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	lines.Scan() // what was recorded
	for n := 2; lines.Scan(); n++ {
		now = now.Add(time.Millisecond)
		var step recorded
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			t.Fatal(err)
		}
		if step.Op == "await-gone" {
			now = now.Add(3 * time.Second)
			for _, id := range l.Expired(now, 100) {
				_, _, _ = l.Revoke(id)
			}
			continue
		}
		if got, want := l.answer(&step, now), step.answer(); want != "" && got != want {
			t.Fatalf("line %d: %s\nwant %s\ngot  %s", n, lines.Bytes(), want, got)
		}
	}
}

// answer is what the recorded server said, "" for methods of other services.
func (r *recorded) answer() string {
	if r.Status.Msg != "" && r.Op == "call" {
		return r.Status.Msg
	}
	switch filepath.Base(r.Method) {
	case "LeaseGrant":
		return r.Resp.TTL
	case "LeaseRevoke":
		return "revoked"
	case "LeaseTimeToLive":
		return r.Resp.GrantedTTL
	case "LeaseLeases":
		return fmt.Sprint(r.Resp.Leases)
	case "LeaseKeepAlive":
		return fmt.Sprint(r.Resps)
	}
	return ""
}

func (l *Lessor) answer(r *recorded, now time.Time) string {
	id, ttl := number(r.Req.ID), number(r.Req.TTL)
	switch filepath.Base(r.Method) {
	case "LeaseGrant":
		if id == None {
			id = number(r.Resp.ID)
		}
		if id == None && r.Status.Msg != "" {
			id = 1 << 50
		}
		granted, _, err := l.Grant(id, ttl, now)
		return orError(strconv.FormatInt(granted, 10), err)
	case "LeaseRevoke":
		_, _, err := l.Revoke(id)
		return orError("revoked", err)
	case "LeaseTimeToLive":
		s, err := l.TimeToLive(id, now)
		if err == ErrNotFound {
			return ""
		}
		return orError(strconv.FormatInt(s.GrantedTTL, 10), err)
	case "LeaseLeases":
		want := make([]struct{ ID string }, 0)
		for _, id := range l.List() {
			want = append(want, struct{ ID string }{strconv.FormatInt(id, 10)})
		}
		return fmt.Sprint(want)
	case "LeaseKeepAlive":
		var resps []struct{ ID, TTL string }
		for i, req := range r.Reqs {
			renewal, err := l.Renew(number(req.ID), now.Add(time.Duration(i)))
			resp := struct{ ID, TTL string }{ID: req.ID}
			if err == nil {
				resp.TTL = strconv.FormatInt(renewal.TTL, 10)
			}
			resps = append(resps, resp)
		}
		return fmt.Sprint(resps)
	}
	return r.answer()
}

func orError(text string, err error) string {
	if err != nil {
		return err.Error()
	}
	return text
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// A million leases with one key each: what they cost and how fast time passes.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		now := time.Unix(0, 0)
		l := New(Options{MinTTL: 2}, now)
		l.Promote(now, 0)
		for id := int64(1); id <= 1_000_000; id++ {
			_, _, _ = l.Grant(id, id%600+60, now)
			l.Attach(id, strconv.AppendInt(nil, id, 10))
		}
		for s := range 600 {
			_ = l.Expired(now.Add(time.Duration(s)*time.Second), RevokesPerSecond)
		}
	}
}
