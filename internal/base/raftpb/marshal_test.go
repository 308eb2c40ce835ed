package raftpb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	peer "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The generated encoder of etcd's own raftpb is the twin: the same values must
// give the same bytes, and its bytes the same values. set makes a field present
// only if it is not zero; always, in any case.
func set[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func always[T any](v T) *T { return &v }

func peerEntry(e *Entry) *peer.Entry {
	return &peer.Entry{Type: set(peer.EntryType(e.Type)), Term: set(e.Term), Index: set(e.Index), Data: e.Data}
}

func peerConfState(c *ConfState) *peer.ConfState {
	return &peer.ConfState{Voters: c.Voters, Learners: c.Learners, VotersOutgoing: c.VotersOutgoing,
		LearnersNext: c.LearnersNext, AutoLeave: always(c.AutoLeave)}
}

func peerSnapshot(s *Snapshot) *peer.Snapshot {
	if s == nil {
		return nil
	}
	return &peer.Snapshot{Data: s.Data, Metadata: &peer.SnapshotMetadata{
		ConfState: peerConfState(&s.Metadata.ConfState),
		Index:     set(s.Metadata.Index), Term: set(s.Metadata.Term)}}
}

func peerMessage(m *Message) *peer.Message {
	p := &peer.Message{Type: set(peer.MessageType(m.Type)), To: set(m.To), From: set(m.From), Term: set(m.Term),
		LogTerm: set(m.LogTerm), Index: set(m.Index), Commit: set(m.Commit), Vote: set(m.Vote),
		Snapshot: peerSnapshot(m.Snapshot), Reject: set(m.Reject), RejectHint: set(m.RejectHint), Context: m.Context}
	for i := range m.Entries {
		p.Entries = append(p.Entries, peerEntry(&m.Entries[i]))
	}
	return p
}

func peerHardState(h *HardState) *peer.HardState {
	return &peer.HardState{Term: always(h.Term), Vote: always(h.Vote), Commit: always(h.Commit)}
}

func peerConfChange(c *ConfChange) *peer.ConfChange {
	return &peer.ConfChange{Id: set(c.ID), Type: always(peer.ConfChangeType(c.Type)), NodeId: always(c.NodeID), Context: c.Context}
}

func peerConfChangeV2(c *ConfChangeV2) *peer.ConfChangeV2 {
	p := &peer.ConfChangeV2{Transition: set(peer.ConfChangeTransition(c.Transition)), Context: c.Context}
	for _, s := range c.Changes {
		p.Changes = append(p.Changes, &peer.ConfChangeSingle{Type: always(peer.ConfChangeType(s.Type)), NodeId: always(s.NodeID)})
	}
	return p
}

// chance makes values that are often zero, often small and sometimes huge, as
// varints have their edges there.
type chance struct{ *rand.Rand }

func (c chance) number() uint64 { return c.Uint64() >> [...]int{63, 57, 50, 7, 0, 64}[c.IntN(6)] }

func (c chance) bytes() []byte {
	n := [...]int{0, 1, 5, 127, 128, 300}[c.IntN(6)]
	if n == 0 {
		return nil
	}
	return bytes.Repeat([]byte{byte(c.IntN(256))}, n)
}

func (c chance) ids() (ids []uint64) {
	for range c.IntN(4) {
		ids = append(ids, c.number())
	}
	return ids
}

func (c chance) entry() Entry {
	return Entry{Type: EntryType(c.IntN(3)), Term: c.number(), Index: c.number(), Data: c.bytes()}
}

func (c chance) snapshot() Snapshot {
	return Snapshot{Data: c.bytes(), Metadata: SnapshotMetadata{
		ConfState: ConfState{Voters: c.ids(), Learners: c.ids(), VotersOutgoing: c.ids(), LearnersNext: c.ids(), AutoLeave: c.IntN(2) == 0},
		Index:     c.number(), Term: c.number()}}
}

func (c chance) message() Message {
	m := Message{Type: MessageType(c.IntN(24)), To: c.number(), From: c.number(), Term: c.number(), LogTerm: c.number(),
		Index: c.number(), Commit: c.number(), Vote: c.number(), Reject: c.IntN(2) == 0, RejectHint: c.number(), Context: c.bytes()}
	for range c.IntN(5) {
		m.Entries = append(m.Entries, c.entry())
	}
	if s := c.snapshot(); s.Metadata.Index > 0 {
		m.Snapshot = &s
	}
	return m
}

// codec is what every value here can do.
type codec[T any] interface {
	*T
	Size() int
	Marshal() []byte
	Unmarshal([]byte) error
}

func sameAsPeer[T any, P codec[T]](t *testing.T, value P, twin proto.Message) {
	t.Helper()
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(twin)
	if err != nil {
		t.Fatal(err)
	}
	got := value.Marshal()
	if !bytes.Equal(got, want) {
		t.Fatalf("%T %+v\n encodes as %x\n etcd's is   %x", value, value, got, want)
	}
	if len(got) != value.Size() || len(got) != cap(got) {
		t.Fatalf("%T: %d bytes in a slice of %d, size said %d", value, len(got), cap(got), value.Size())
	}
	var back T
	if err := P(&back).Unmarshal(want); err != nil {
		t.Fatalf("%T: %v", value, err)
	}
	if !reflect.DeepEqual(&back, (*T)(value)) {
		t.Fatalf("%T reads back as %+v, want %+v", value, back, *value)
	}
}

func TestBytesAreThoseOfEtcd(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(1, 1))}
	for range 3000 {
		e := c.entry()
		sameAsPeer(t, &e, peerEntry(&e))
		s := c.snapshot()
		sameAsPeer(t, &s, peerSnapshot(&s))
		sameAsPeer(t, &s.Metadata.ConfState, peerConfState(&s.Metadata.ConfState))
		m := c.message()
		sameAsPeer(t, &m, peerMessage(&m))
		h := HardState{Term: c.number(), Vote: c.number(), Commit: c.number()}
		sameAsPeer(t, &h, peerHardState(&h))
		cc := ConfChange{ID: c.number(), Type: ConfChangeType(c.IntN(4)), NodeID: c.number(), Context: c.bytes()}
		sameAsPeer(t, &cc, peerConfChange(&cc))
		v2 := ConfChangeV2{Transition: ConfChangeTransition(c.IntN(3)), Context: c.bytes()}
		for range c.IntN(4) {
			v2.Changes = append(v2.Changes, ConfChangeSingle{Type: ConfChangeType(c.IntN(4)), NodeID: c.number()})
		}
		sameAsPeer(t, &v2, peerConfChangeV2(&v2))
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// 3.4 and 3.5 attach an empty snapshot to every message.
func TestEmptySnapshotOfOldPeersIsNone(t *testing.T) {
	var m Message
	if err := m.Unmarshal(unhex(t, "08081000180020002800300040004a0a12080a0228001000180050005800")); err != nil {
		t.Fatal(err)
	}
	if want := (Message{Type: MsgHeartbeat}); !reflect.DeepEqual(m, want) {
		t.Fatalf("decoded %+v, want a bare heartbeat", m)
	}
}

func TestPackedIDsAreRead(t *testing.T) {
	var c ConfState
	if err := c.Unmarshal([]byte{0x0a, 3, 1, 0x80, 1, 0x08, 9, 0x12, 0}); err != nil {
		t.Fatal(err)
	}
	if want := (ConfState{Voters: []uint64{1, 128, 9}}); !reflect.DeepEqual(c, want) {
		t.Fatalf("decoded %+v, want %+v", c, want)
	}
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	e := Entry{Term: 1, Index: 2, Data: []byte("x")}
	later := append(e.Marshal(), 0xfa, 0x01, 2, 'h', 'i', 0xf8, 0x01, 7, 0xfd, 0x01, 1, 2, 3, 4)
	var got Entry
	if err := got.Unmarshal(later); err != nil || !reflect.DeepEqual(got, e) {
		t.Fatalf("decoded %+v, %v; want %+v", got, err, e)
	}
	m := Message{Type: MsgApp, Context: []byte("c")}
	withResponses := append(m.Marshal(), 14<<3|2, 2, 8, 1)
	var back Message
	if err := back.Unmarshal(withResponses); err != nil || !reflect.DeepEqual(back, m) {
		t.Fatalf("decoded %+v, %v; want %+v", back, err, m)
	}
}

func TestDamageIsAnError(t *testing.T) {
	m := chance{rand.New(rand.NewPCG(2, 2))}.message()
	m.Entries = []Entry{{Term: 1, Index: 1, Data: []byte("data")}}
	whole := m.Marshal()
	var got Message
	if err := got.Unmarshal(whole[:len(whole)-1]); !errors.Is(err, ErrMalformed) {
		t.Errorf("a message cut short gives %v", err)
	}
	for _, wrongType := range []string{"0a0101", "3801", "4a0108", "6a00"} {
		if err := got.Unmarshal(unhex(t, wrongType)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s gives %v, want a malformed message", wrongType, err)
		}
	}
}

func TestOneAllocationToMarshal(t *testing.T) {
	m := Message{Type: MsgApp, To: 1, From: 2, Term: 3, Index: 4, Entries: make([]Entry, 20)}
	for i := range m.Entries {
		m.Entries[i] = Entry{Term: 3, Index: uint64(5 + i), Data: make([]byte, 300)}
	}
	if n := testing.AllocsPerRun(100, func() { m.Marshal() }); n > 1 {
		t.Errorf("Marshal allocates %v times, want once", n)
	}
	b := m.Marshal()
	var back Message
	if n := testing.AllocsPerRun(100, func() { _ = back.Unmarshal(b) }); n > 1 {
		t.Errorf("Unmarshal allocates %v times, want once for the entries", n)
	}
}

// roundTrip holds for every decoder: what it accepts, it writes and reads again
// without loss.
func roundTrip[T any, P codec[T]](t *testing.T, b []byte) {
	var first, second T
	if P(&first).Unmarshal(b) != nil {
		return
	}
	encoded := P(&first).Marshal()
	if len(encoded) != P(&first).Size() {
		t.Fatalf("%T: size is %d, encoding has %d bytes", first, P(&first).Size(), len(encoded))
	}
	if err := P(&second).Unmarshal(encoded); err != nil {
		t.Fatalf("%T: own encoding does not decode: %v", first, err)
	}
	if !bytes.Equal(P(&second).Marshal(), encoded) {
		t.Fatalf("%T: %+v became %+v", first, first, second)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(unhex(f, "080010021802"))
	f.Add((&Entry{Type: EntryConfChange, Term: 1, Index: 2, Data: []byte("x")}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) { roundTrip[Entry](t, b) })
}

func FuzzMessage(f *testing.F) {
	f.Add(unhex(f, "08081000180020002800300040004a0a12080a0228001000180050005800"))
	f.Add(unhex(f, "080310b8c0ad9bbbaaca841d18dcd38fb9afe4d5f2632002280130033a04100218044003"))
	f.Fuzz(func(t *testing.T, b []byte) { roundTrip[Message](t, b) })
}

func FuzzSnapshot(f *testing.F) {
	f.Add(unhex(f, "120a0a0228001000180050005800"))
	f.Add((&Snapshot{Data: []byte("x"), Metadata: SnapshotMetadata{Index: 3, Term: 1}}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip[Snapshot](t, b)
		roundTrip[SnapshotMetadata](t, b)
		roundTrip[ConfState](t, b)
	})
}

func FuzzStates(f *testing.F) {
	f.Add(unhex(f, "080110001801"))
	f.Add(unhex(f, "100018e48ec9bdd0c5f4cbe601220161"))
	f.Add(unhex(f, "0801120408001001"))
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip[HardState](t, b)
		roundTrip[ConfChange](t, b)
		roundTrip[ConfChangeV2](t, b)
	})
}

func BenchmarkMessageMarshal(b *testing.B) {
	m := Message{Type: MsgApp, To: 1 << 60, From: 1 << 61, Term: 3, LogTerm: 3, Index: 4, Commit: 4}
	for i := range uint64(16) {
		m.Entries = append(m.Entries, Entry{Term: 3, Index: 5 + i, Data: make([]byte, 256)})
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Marshal()
	}
}

func BenchmarkMessageUnmarshal(b *testing.B) {
	m := Message{Type: MsgApp, To: 1 << 60, From: 1 << 61, Term: 3, LogTerm: 3, Index: 4, Commit: 4}
	for i := range uint64(16) {
		m.Entries = append(m.Entries, Entry{Term: 3, Index: 5 + i, Data: make([]byte, 256)})
	}
	data := m.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Unmarshal(data); err != nil {
			b.Fatal(err)
		}
	}
}
