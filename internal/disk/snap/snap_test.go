package snap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/disk/disktest"
)

const dir = "/snap"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func snapshot(term, index uint64) *raftpb.Snapshot {
	return &raftpb.Snapshot{
		Data: fmt.Appendf(nil, "state at %d", index),
		Metadata: raftpb.SnapshotMetadata{
			Index: index, Term: term, ConfState: raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		},
	}
}

func newStore(t *testing.T, events Events) (*files.Mem, *Store) {
	t.Helper()
	fsys := files.NewMem()
	must(t, files.MkdirAllSync(fsys, dir, files.PrivateDir))
	return fsys, NewStore(fsys, dir, events)
}

func TestSavedSnapshotIsLoaded(t *testing.T) {
	saved := 0
	fsys, s := newStore(t, Events{Saved: func(SaveTimes) { saved++ }})
	want := snapshot(2, 0x65)
	must(t, s.Save(want))
	if saved != 1 {
		t.Errorf("events told of %d saves, want 1", saved)
	}
	if ok, err := files.Exists(fsys, "/snap/0000000000000002-0000000000000065.snap"); !ok || err != nil {
		t.Fatalf("no file of the expected name: %v", err)
	}
	got, err := s.Load(Ref{Term: 2, Index: 0x65})
	must(t, err)
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
	wantErr(t, s.Save(&raftpb.Snapshot{}), ErrEmpty)
}

func TestNewestIntactAndWantedIsFound(t *testing.T) {
	var broken []string
	fsys, s := newStore(t, Events{Broken: func(path string, _ error) { broken = append(broken, filepath.Base(path)) }})
	_, err := s.Newest(nil)
	wantErr(t, err, ErrNoSnapshot)

	for i := uint64(1); i <= 5; i++ {
		must(t, s.Save(snapshot(i/4+1, i*10)))
	}
	// The newest is cut short, the next belongs to another index, the third is
	// empty, so the fourth is the answer.
	damage := func(ref Ref, content []byte) {
		must(t, files.WriteFile(fsys, filepath.Join(dir, ref.FileName()), content, 0o644))
	}
	damage(Ref{2, 50}, Encode(snapshot(2, 50))[:20])
	damage(Ref{2, 40}, Encode(snapshot(2, 41)))
	damage(Ref{1, 30}, nil)
	got, err := s.Newest(nil)
	must(t, err)
	if got.Metadata.Index != 20 {
		t.Errorf("newest is %d, want 20", got.Metadata.Index)
	}
	if len(broken) != 3 {
		t.Errorf("set aside %v, want three files", broken)
	}
	for _, name := range broken {
		if ok, err := files.Exists(fsys, filepath.Join(dir, name+".broken")); !ok || err != nil {
			t.Errorf("%s was not set aside: %v", name, err)
		}
	}
	got, err = s.Newest(func(r Ref) bool { return r.Index < 20 })
	must(t, err)
	if got.Metadata.Index != 10 {
		t.Errorf("newest wanted is %d, want 10", got.Metadata.Index)
	}
}

func TestUnreadableDiskIsNoDamage(t *testing.T) {
	fsys, s := newStore(t, Events{})
	must(t, s.Save(snapshot(1, 1)))
	ioErr := errors.New("input/output error")
	s.fs = files.NewFaulty(fsys, files.FailNth(1, ioErr, files.OpRead))
	_, err := s.Newest(nil)
	wantErr(t, err, ioErr)
	_, err = s.Newest(nil) // it was not renamed
	must(t, err)
}

func TestPurgeKeepsTheNewestOfEachKind(t *testing.T) {
	fsys, s := newStore(t, Events{})
	for i := uint64(1); i <= 6; i++ {
		must(t, s.Save(snapshot(1, i)))
		must(t, files.WriteFile(fsys, filepath.Join(dir, DBFileName(i)), []byte("db"), files.PrivateFile))
	}
	must(t, files.WriteFile(fsys, filepath.Join(dir, "db"), []byte("db"), files.PrivateFile))
	removed, err := s.Purge(2)
	must(t, err)
	if len(removed) != 8 {
		t.Errorf("removed %d files, want 4 of each kind: %v", len(removed), removed)
	}
	refs, err := s.Refs()
	must(t, err)
	if want := []Ref{{1, 6}, {1, 5}}; !slices.Equal(refs, want) {
		t.Errorf("left are %v, want %v", refs, want)
	}
	for _, name := range []string{"db", DBFileName(5), DBFileName(6)} {
		if ok, _ := files.Exists(fsys, filepath.Join(dir, name)); !ok {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	var ignored []string
	fsys, s := newStore(t, Events{Ignored: func(path string) { ignored = append(ignored, filepath.Base(path)) }})
	must(t, s.Save(snapshot(1, 1)))
	for _, name := range []string{"tmp123", Ref{1, 2}.FileName() + ".tmp", "db", "db.tmp.77", "notes.txt", "x.snap.broken"} {
		must(t, files.WriteFile(fsys, filepath.Join(dir, name), []byte("x"), files.PrivateFile))
	}
	removed, err := s.RemoveTemporary()
	must(t, err)
	if len(removed) != 2 {
		t.Errorf("removed %v, want tmp123 and the half-written snapshot", removed)
	}
	_, err = s.Refs()
	must(t, err)
	if want := []string{"notes.txt"}; !slices.Equal(ignored, want) {
		t.Errorf("ignored %v, want %v", ignored, want)
	}
}

// A power cut before any operation of Save leaves the earlier snapshot alone,
// and the new one whole or absent.
func TestPowerCutWhileSaving(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var found = map[uint64]int{}
	for range 30 {
		mem, s := newStore(t, Events{})
		must(t, s.Save(snapshot(1, 10)))
		s.fs = files.NewFaulty(mem, func(files.Op) error {
			left := NewStore(mem.CrashClone(rng), dir, Events{Broken: func(path string, err error) {
				t.Errorf("%s is damaged: %v", path, err)
			}})
			newest, err := left.Newest(nil)
			must(t, err)
			found[newest.Metadata.Index]++
			return nil
		})
		big := snapshot(1, 20)
		big.Data = bytes.Repeat([]byte("x"), 5000)
		must(t, s.Save(big))
		newest, err := NewStore(mem.CrashClone(nil), dir, Events{}).Newest(nil)
		must(t, err)
		if newest.Metadata.Index != 20 {
			t.Fatalf("after Save returned, a power cut lost the snapshot")
		}
	}
	if found[10] == 0 || found[20] == 0 {
		t.Errorf("found %v, want both", found)
	}
}

func membershipOf(t *testing.T, name, member string) Membership {
	t.Helper()
	var recorded struct {
		Version string `json:"cluster_version"`
		Members []struct {
			ID         string
			Name       string
			PeerURLs   []string
			ClientURLs []string
			IsLearner  bool
		}
	}
	must(t, json.Unmarshal(disktest.Expected(t, name), &recorded))
	m := Membership{ClusterVersion: recorded.Version}
	for _, r := range recorded.Members {
		var id uint64
		_, err := fmt.Sscanf(r.ID, "%x", &id)
		must(t, err)
		m.Members = append(m.Members, Member{ID: id, Name: r.Name, PeerURLs: r.PeerURLs, ClientURLs: r.ClientURLs, IsLearner: r.IsLearner})
	}
	return m
}

// The newest snapshot of every directory holds the members that the server
// listed; 3.7's single-member dumps are written again byte for byte.
func TestSnapshotsOfEtcd(t *testing.T) {
	for _, name := range disktest.Fixtures(t, "v3.*") {
		if !strings.Contains(name, "raftsnap") && !strings.Contains(name, "three") && !strings.Contains(name, "upgraded") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fsys, members := disktest.Unpack(t, name, func(path string) bool { return strings.HasSuffix(path, fileSuffix) })
			for _, member := range members {
				checkEtcdSnapshots(t, fsys, member, name)
			}
		})
	}
}

func checkEtcdSnapshots(t *testing.T, fsys *files.Mem, member, name string) {
	store := NewStore(fsys, filepath.Join(member, "member/snap"), Events{
		Broken: func(path string, err error) { t.Errorf("%s: %v", path, err) },
	})
	refs, err := store.Refs()
	must(t, err)
	for _, ref := range refs {
		s, err := store.Load(ref)
		must(t, err)
		checkReencodes(t, fsys, filepath.Join(store.dir, ref.FileName()), &s, name)
	}
	newest, err := store.Newest(nil)
	must(t, err)
	got, err := DecodeMembership(newest.Data)
	must(t, err)
	if want := membershipOf(t, name, member); !sameMembers(got, want) {
		t.Errorf("%s: membership is\n %+v, want\n %+v", member, got, want)
	}
	if strings.Contains(name, "three") && len(got.Removed) != 1 {
		t.Errorf("%s: removed members are %x, want one", member, got.Removed)
	}
}

func sameMembers(got, want Membership) bool {
	byID := func(a, b Member) int { return strings.Compare(fmt.Sprintf("%016x", a.ID), fmt.Sprintf("%016x", b.ID)) }
	slices.SortFunc(want.Members, byID)
	return got.ClusterVersion == want.ClusterVersion && reflect.DeepEqual(got.Members, want.Members)
}

func checkReencodes(t *testing.T, fsys files.FS, path string, s *raftpb.Snapshot, name string) {
	t.Helper()
	content, err := files.ReadFile(fsys, path)
	must(t, err)
	if strings.HasPrefix(name, "v3.7") && !bytes.Equal(Encode(s), content) {
		t.Errorf("%s: we write other bytes than etcd", path)
	}
	if !strings.HasPrefix(name, "v3.7") {
		return
	}
	m, err := DecodeMembership(s.Data)
	must(t, err)
	dump, err := EncodeMembership(m)
	must(t, err)
	// etcd puts several members in an order of chance.
	if len(m.Members) == 1 && !bytes.Equal(dump, s.Data) || len(dump) != len(s.Data) {
		t.Errorf("%s: our dump is\n %.900s\netcd's is\n %.900s", path, dump, s.Data)
	}
}

func TestMembershipSurvivesTheDump(t *testing.T) {
	want := Membership{
		Members: []Member{
			{ID: 1, PeerURLs: []string{"http://a:1", "http://b:1"}, Name: "one", ClientURLs: []string{"http://a:2?x=1&y=2"}},
			{ID: 0xfedcba9876543210, PeerURLs: []string{"http://c:1"}, IsLearner: true}, // not started yet
		},
		Removed:        []uint64{7, 0xf000000000000000},
		ClusterVersion: "3.7.0",
	}
	shuffled := want
	shuffled.Members = []Member{want.Members[1], want.Members[0]}
	dump, err := EncodeMembership(shuffled)
	must(t, err)
	got, err := DecodeMembership(dump)
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back %+v, want %+v", got, want)
	}
}

func TestDumpOfAnEmptyClusterIsRead(t *testing.T) {
	dump, err := EncodeMembership(Membership{})
	must(t, err)
	got, err := DecodeMembership(dump)
	must(t, err)
	if !reflect.DeepEqual(got, Membership{}) {
		t.Errorf("read back %+v", got)
	}
}

// More members than history slots: the ring keeps the newest events.
func TestHistoryOfALargeClusterFitsItsSlots(t *testing.T) {
	m := Membership{ClusterVersion: "3.7.0"}
	for id := uint64(1); id <= 1200; id++ {
		m.Members = append(m.Members, Member{ID: id, PeerURLs: []string{"http://x:1"}})
	}
	dump, err := EncodeMembership(m)
	must(t, err)
	var store v2Store
	must(t, json.Unmarshal(dump, &store))
	h := store.WatcherHub.EventHistory
	if len(h.Queue.Events) != historySlots || h.StartIndex != 202 || h.LastIndex != 1201 || h.Queue.Back != 0 {
		t.Errorf("%d slots, events %d to %d, back %d", len(h.Queue.Events), h.StartIndex, h.LastIndex, h.Queue.Back)
	}
}

func TestNoDumpIsAnError(t *testing.T) {
	for _, dump := range []string{"", "null", "{}", "[]", `{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"zz":null}}}}}}}`} {
		_, err := DecodeMembership([]byte(dump))
		if !errors.Is(err, ErrNoMembership) {
			t.Errorf("%q gives %v, want ErrNoMembership", dump, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(snapshot(1, 2)))
	f.Add([]byte{8, 1, 18, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(Encode(&s))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}

func FuzzDecodeMembership(f *testing.F) {
	dump, _ := EncodeMembership(Membership{Members: []Member{{ID: 1, Name: "a"}}, Removed: []uint64{2}, ClusterVersion: "3.6.0"})
	f.Add(bytes.ReplaceAll(dump, []byte("null,"), nil))
	f.Add([]byte(`{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"1":null}}}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMembership(b)
		if err != nil {
			return
		}
		if _, err := EncodeMembership(m); err != nil {
			t.Fatal(err)
		}
	})
}
