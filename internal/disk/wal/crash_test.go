package wal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

// The naive twin of a log: a list of what was saved and how much of it was
// synced. After a crash the log must read like the twin cut off somewhere
// between synced and saved.
type twin struct {
	created bool // Create returned
	records []twinRecord
	synced  int // records safe for sure
}

type twinRecord struct {
	entry *raftpb.Entry
	state *raftpb.HardState
	mark  *Mark
}

func (w *twin) save(state raftpb.HardState, es []raftpb.Entry) {
	for i := range es {
		w.records = append(w.records, twinRecord{entry: &es[i]})
	}
	if !state.IsEmpty() {
		w.records = append(w.records, twinRecord{state: &state})
	}
}

// text is what a restart finds if exactly n records survived.
func (w *twin) text(n int) string {
	var state raftpb.HardState
	marks := []Mark{{}}
	log := map[uint64]raftpb.Entry{}
	last := uint64(0)
	for _, r := range w.records[:n] {
		switch {
		case r.entry != nil:
			log[r.entry.Index], last = *r.entry, r.entry.Index
		case r.state != nil:
			state = *r.state
		default:
			marks, last = append(marks, *r.mark), max(last, r.mark.Index)
		}
	}
	for len(marks) > 0 && marks[len(marks)-1].Index > state.Commit {
		marks = marks[:len(marks)-1]
	}
	start := marks[len(marks)-1]
	var es []raftpb.Entry
	for i := start.Index + 1; i <= last; i++ {
		es = append(es, log[i])
	}
	return describe(Replay{Mark: start, HardState: state, Entries: es})
}

func describe(r Replay) string {
	text := fmt.Sprintf("mark %d/%d state %v:", r.Mark.Index, r.Mark.Term, r.HardState)
	for _, e := range r.Entries {
		text += fmt.Sprintf(" %d/%d/%d/%.12s", e.Index, e.Term, len(e.Data), e.Data)
	}
	return text
}

// check restarts from what a crash left and compares with the twin.
func (w *twin) check(left *files.Mem, opt Options) error {
	exists, err := Exists(left, dir)
	if err != nil || !exists {
		if w.created {
			return fmt.Errorf("the log is gone: %v", err)
		}
		return nil
	}
	marks, err := Marks(left, dir)
	if err != nil {
		return err
	}
	log, replay, err := Open(left, dir, marks[len(marks)-1], opt)
	if err != nil {
		return err
	}
	got := describe(replay)
	if !slices.ContainsFunc(w.possible(), func(want string) bool { return want == got }) {
		return fmt.Errorf("found a log that never was\n got  %s\n want %s or later", got, w.text(w.synced))
	}
	// It must take new entries and show them after the next start.
	next := entry(99, replay.LastIndex()+1, 700)
	if err := log.Save(hard(99, replay.Mark.Index), []raftpb.Entry{next}); err != nil {
		return err
	}
	if err := log.Sync(); err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	again, err := Read(left.CrashClone(nil), dir, Mark{Index: replay.Mark.Index, Term: replay.Mark.Term})
	if err != nil {
		return fmt.Errorf("second start: %w", err)
	}
	if again.LastIndex() != next.Index {
		return fmt.Errorf("second start: last index is %d, want %d", again.LastIndex(), next.Index)
	}
	return nil
}

func (w *twin) possible() (texts []string) {
	for n := w.synced; n <= len(w.records); n++ {
		texts = append(texts, w.text(n))
	}
	return texts
}

// changesDisk tells the operations before which a crash is worth a look.
func changesDisk(op files.Op) bool {
	switch op.Kind {
	case files.OpRead, files.OpReadDir, files.OpStat, files.OpLock, files.OpClose:
		return false
	}
	return true
}

// A member's life with small segments: entries of all sizes, elections that
// replace the end of the log, marks, releases, purges, restarts. Power is cut
// before every single operation that touches the disk; each time several of the
// states the disk could be in must restart to the twin.
func TestPowerCutAtEveryStep(t *testing.T) {
	seeds, clonesPerStep := uint64(4), 3
	if testing.Short() {
		seeds = 1
	}
	var cuts, repairs int
	opt := Options{SegmentBytes: 4096}
	checkOpt := opt
	checkOpt.Events.Repaired = func(Repair) { repairs++ }
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := files.NewMem()
		w := &twin{}
		faulty := files.NewFaulty(mem, func(op files.Op) error {
			if !changesDisk(op) || t.Failed() {
				return nil
			}
			for range clonesPerStep {
				cuts++
				if err := w.check(mem.CrashClone(rng), checkOpt); err != nil {
					t.Errorf("seed %d, power cut before %s %s: %v", seed, op.Kind, op.Path, err)
				}
			}
			return nil
		})
		live(t, faulty, w, opt, rng)
		if t.Failed() {
			return
		}
	}
	if repairs == 0 {
		t.Error("no crash left a torn tail: the test looks at nothing")
	}
	t.Logf("%d power cuts, %d torn tails", cuts, repairs)
}

// live runs one member's life and keeps its twin.
func live(t *testing.T, fsys files.FS, w *twin, opt Options, rng *rand.Rand) {
	log, err := Create(fsys, dir, meta, opt)
	must(t, err)
	w.created = true
	term, last, commit, marked := uint64(1), uint64(0), uint64(0), Mark{}
	for range 25 {
		switch rng.IntN(8) {
		case 0: // a new leader replaces what was not committed
			term++
			last = commit + rng.Uint64N(last-commit+1)
		case 1: // a snapshot
			if commit <= marked.Index {
				break
			}
			mark := Mark{Index: commit, Term: term}
			marked = mark
			w.records = append(w.records, twinRecord{mark: &mark})
			must(t, log.SaveMark(mark))
			w.synced = len(w.records)
			must(t, log.ReleaseTo(mark.Index))
			_, err := Purge(fsys, dir, 1)
			must(t, err)
		case 2: // a restart
			must(t, log.Close())
			w.synced = len(w.records)
			marks, err := Marks(fsys, dir)
			must(t, err)
			log, _, err = Open(fsys, dir, marks[len(marks)-1], opt)
			must(t, err)
		}
		n := 1 + rng.Uint64N(4)
		batch := entries(term, last+1, last+1+n, 1+rng.IntN(1200))
		last += n
		commit += rng.Uint64N(last - commit + 1)
		state := hard(term, commit)
		w.save(state, batch)
		must(t, log.Save(state, batch))
		if rng.IntN(3) > 0 {
			must(t, log.Sync())
			w.synced = len(w.records)
		}
	}
	must(t, log.Close())
}

// A restart after a power cut is cut off itself, at every step of the repair.
func TestPowerCutDuringRepair(t *testing.T) {
	opt := Options{SegmentBytes: 8192}
	rng := rand.New(rand.NewPCG(5, 5))
	mem := files.NewMem()
	w := &twin{created: true}
	log := create(t, mem, opt)
	first := entries(1, 1, 5, 300)
	w.save(hard(1, 4), first)
	save(t, log, hard(1, 4), first...)
	w.synced = len(w.records)
	second := entries(1, 5, 7, 2000)
	w.save(hard(1, 6), second)
	must(t, log.Save(hard(1, 6), second))
	must(t, log.flush()) // written, not synced

	torn := 0
	for range 60 {
		left := mem.CrashClone(rng)
		if _, err := Verify(left, dir, Mark{}); err == nil {
			continue
		}
		torn++
		restart := files.NewFaulty(left, func(op files.Op) error {
			if changesDisk(op) {
				if err := w.check(left.CrashClone(rng), opt); err != nil {
					t.Fatalf("power cut before %s %s of the repair: %v", op.Kind, op.Path, err)
				}
			}
			return nil
		})
		again, _, err := Open(restart, dir, Mark{}, opt)
		must(t, err)
		restart.Inject(nil)
		must(t, again.Close())
	}
	if torn == 0 {
		t.Error("no crash left a torn tail: the test looks at nothing")
	}
}

// Power fails, the member restarts, and power fails again before its new
// records are synced. Sectors of the first lost write that did reach the disk
// must not show up between sectors of the second.
func TestPowerCutTwice(t *testing.T) {
	opt := Options{SegmentBytes: 1 << 15}
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 9))
		mem := files.NewMem()
		log := create(t, mem, opt)
		w := &twin{created: true}
		for life := range 4 {
			state := hard(uint64(life+1), 0)
			batch := entries(state.Term, 1, 2+rng.Uint64N(8), 300+rng.IntN(600))
			w.save(state, batch)
			must(t, log.Save(state, batch))
			if rng.IntN(3) == 0 {
				must(t, log.Sync())
				w.synced = len(w.records)
			}
			must(t, log.flush()) // in the file, but not safe

			mem = mem.CrashClone(rng)
			next, replay, err := Open(mem, dir, Mark{}, opt)
			if err != nil || !w.found(describe(replay)) {
				t.Fatalf("seed %d, life %d: found %s, %v", seed, life, describe(replay), err)
			}
			log = next
		}
	}
}

// found cuts the twin off where a restart showed that the log ends; Open synced
// what it found.
func (w *twin) found(text string) bool {
	for n := w.synced; n <= len(w.records); n++ {
		if w.text(n) == text {
			w.records, w.synced = w.records[:n], n
			return true
		}
	}
	return false
}
