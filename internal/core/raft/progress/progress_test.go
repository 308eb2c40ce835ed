package progress

import (
	"math/rand/v2"
	"testing"
)

func fresh(state State) *Progress {
	p := &Progress{ID: 2, Match: 3, Next: 6, State: state, Window: Window{MaxMessages: 2, MaxBytes: 100}}
	return p
}

// Goal: a probe is one message; the answer tells how to go on.
func TestProbe(t *testing.T) {
	p := fresh(Probe)
	p.Sent(1, 10)
	if !p.IsPaused() {
		t.Error("a second probe could leave before the first is answered")
	}
	if p.Rejected(4, 1) {
		t.Error("an answer to another probe counts")
	}
	if !p.Rejected(5, 4) || p.Next != 5 || p.IsPaused() {
		t.Errorf("refused behind 5 with hint 4: %v", p)
	}
	if !p.Rejected(4, 0) || p.Next != 4 {
		t.Errorf("the next try must lie behind the match: %v", p)
	}
	if !p.Accepted(3+1) || p.Match != 4 || p.Next != 5 {
		t.Errorf("accepted 4: %v", p)
	}
	p.BecomeReplicate()
	if p.Next != 5 || p.State != Replicate {
		t.Errorf("streaming starts behind the match: %v", p)
	}
}

// Goal: streaming pauses at a full window and goes on with each acknowledgement.
func TestReplicate(t *testing.T) {
	p := fresh(Replicate)
	p.Sent(2, 10) // 6, 7
	p.Sent(1, 10) // 8
	if !p.IsPaused() || p.Next != 9 {
		t.Fatalf("two messages fill the window: %v", p)
	}
	p.Accepted(6)
	p.Window.FreeTo(6)
	if p.Window.Len() != 2 {
		t.Error("half a message acknowledged frees nothing")
	}
	p.Accepted(7)
	p.Window.FreeTo(7)
	if p.IsPaused() || p.Window.Len() != 1 {
		t.Errorf("room again: %v", p)
	}
	if p.Rejected(7, 0) {
		t.Error("a rejection of what was accepted is old news")
	}
	if !p.Rejected(9, 0) || p.Next != 8 {
		t.Errorf("something was lost, start behind the match: %v", p)
	}
}

func TestSnapshot(t *testing.T) {
	p := fresh(Replicate)
	p.BecomeSnapshot()
	p.SentSnapshot(20)
	if !p.IsPaused() || p.Next != 21 {
		t.Errorf("waits for the snapshot: %v", p)
	}
	p.SnapshotFailed()
	if p.State != Probe || p.Next != 4 || !p.IsPaused() {
		t.Errorf("failed, start again from what is known: %v", p)
	}
	p.BecomeSnapshot()
	p.SentSnapshot(20)
	p.SnapshotDelivered()
	if p.State != Probe || p.Next != 21 || !p.IsPaused() {
		t.Errorf("delivered, go on behind it once it answers: %v", p)
	}
}

func TestNewsOfCommit(t *testing.T) {
	p := fresh(Replicate) // was sent up to 5
	p.SentCommit = 4
	for _, c := range []struct {
		commit uint64
		want   bool
	}{{4, false}, {5, true}, {9, true}} {
		if got := p.NewsOfCommit(c.commit); got != c.want {
			t.Errorf("commit %d is news: %v", c.commit, got)
		}
	}
	p.SentCommit = 5
	if p.NewsOfCommit(9) {
		t.Error("it cannot commit what it was not sent")
	}
}

// Goal: the ring is a queue, whatever its size.
// Method: random adding and freeing, next to a plain slice.
func TestWindowAgainstSlice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 6))
	for range 300 {
		w := Window{MaxMessages: 1 + rnd.IntN(9), MaxBytes: uint64(rnd.IntN(2) * 50)}
		var plain []flight
		last := uint64(0)
		for range 100 {
			if !w.IsFull() && rnd.IntN(3) > 0 {
				last += 1 + rnd.Uint64N(3)
				f := flight{last, rnd.Uint64N(20)}
				w.Add(f.last, f.bytes)
				plain = append(plain, f)
			} else {
				to := rnd.Uint64N(last + 2)
				w.FreeTo(to)
				for len(plain) > 0 && plain[0].last <= to {
					plain = plain[1:]
				}
			}
			bytes := uint64(0)
			for _, f := range plain {
				bytes += f.bytes
			}
			full := len(plain) >= w.MaxMessages || w.MaxBytes > 0 && bytes >= w.MaxBytes
			if w.Len() != len(plain) || w.Bytes() != bytes || w.IsFull() != full {
				t.Fatalf("%d messages, %d bytes, full %v; want %d, %d, %v", w.Len(), w.Bytes(), w.IsFull(), len(plain), bytes, full)
			}
		}
	}
}
