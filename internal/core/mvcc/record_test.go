package mvcc

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Records are hashed and compared between members, so the bytes must be those
// of the protobuf library, for values at every varint boundary too.
func TestRecordsAreWhatProtobufWrites(t *testing.T) {
	ints := []int64{0, 1, 127, 128, 16383, 16384, math.MaxInt32, math.MaxInt64, -1, math.MinInt64}
	lengths := []int{0, 1, 127, 128, 300, 16384}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		kv := &mvccpb.KeyValue{
			Key:            bytes.Repeat([]byte{'k'}, lengths[rng.IntN(len(lengths))]),
			Value:          bytes.Repeat([]byte{'v'}, lengths[rng.IntN(len(lengths))]),
			CreateRevision: ints[rng.IntN(len(ints))], ModRevision: ints[rng.IntN(len(ints))],
			Version: ints[rng.IntN(len(ints))], Lease: ints[rng.IntN(len(ints))],
		}
		want, err := proto.Marshal(kv)
		if err != nil {
			t.Fatal(err)
		}
		at := Rev{Main: rng.Int64N(math.MaxInt64), Sub: rng.Int64N(maxSub)}
		r := newPutRecord(at, keyValue{
			key: kv.Key, create: kv.CreateRevision, mod: kv.ModRevision,
			version: kv.Version, value: kv.Value, lease: kv.Lease,
		})
		if !bytes.Equal(r.Value, want) || r.Rev() != at || r.Tombstone() {
			t.Fatalf("record of %v at %s is %x, want %x", kv, at, r.Value, want)
		}
		back, err := parseRecord(want)
		if err != nil || !bytes.Equal(back.key, kv.Key) || !bytes.Equal(back.value, kv.Value) ||
			back.create != kv.CreateRevision || back.mod != kv.ModRevision || back.version != kv.Version || back.lease != kv.Lease {
			t.Fatalf("%v came back as %+v (%v)", kv, back, err)
		}
	}
	r := newTombstoneRecord(Rev{7, 1}, []byte("k"))
	want, _ := proto.Marshal(&mvccpb.KeyValue{Key: []byte("k")})
	if !bytes.Equal(r.Value, want) || !r.Tombstone() || r.Rev() != (Rev{7, 1}) || string(keyOf(r.Value)) != "k" {
		t.Errorf("deletion is %+v", r)
	}
}

// A record that is written costs one allocation: the buffer holds as many
// records as there are puts between two flushes.
func TestARecordIsOneAllocation(t *testing.T) {
	kv := keyValue{key: []byte("key"), value: make([]byte, 300), create: 1000, mod: 2000, version: 300, lease: -1}
	if n := testing.AllocsPerRun(100, func() { newPutRecord(Rev{2000, 1}, kv) }); n != 1 {
		t.Errorf("%v allocations", n)
	}
}

// parseRecord must read what any protobuf writer may have written, and agree
// with the library on what is damaged as far as both look.
func FuzzParseRecord(f *testing.F) {
	f.Add([]byte{})
	f.Add(newPutRecord(Rev{7, 0}, keyValue{key: []byte("a"), value: []byte("b"), create: 5, mod: 7, version: 2, lease: -3}).Value)
	f.Add([]byte{0x0a, 0x05, 'x'})
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add(protowire.AppendFixed64(protowire.AppendTag(nil, 3, protowire.Fixed64Type), 9))
	f.Add([]byte{0x10, 0x80})
	f.Add([]byte{0x0b, 0x0c})
	f.Add([]byte("\x80\xff\xff\xff0000")) // a field number above the largest
	f.Fuzz(func(t *testing.T, b []byte) {
		kv, err := parseRecord(b)
		var want mvccpb.KeyValue
		if libErr := proto.Unmarshal(b, &want); (err == nil) != (libErr == nil) {
			t.Fatalf("%x: we say %v, the library %v", b, err, libErr)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(kv.key, want.Key) || !bytes.Equal(kv.value, want.Value) || kv.create != want.CreateRevision ||
			kv.mod != want.ModRevision || kv.version != want.Version || kv.lease != want.Lease {
			t.Fatalf("%x: %+v, want %v", b, kv, &want)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(Rev{1, 0}.AppendKey(nil, false))
	f.Add(Rev{math.MaxInt64 - 1, maxSub}.AppendKey(nil, true))
	f.Add(Rev{-1, 0}.AppendKey(nil, false))
	f.Add([]byte("short"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		rev, tombstone, err := ParseKey(b)
		if err != nil {
			return
		}
		if !bytes.Equal(rev.AppendKey(nil, tombstone), b) || rev.Main < 0 || rev.Sub < 0 {
			t.Fatalf("%x was read as %s, deletion %v", b, rev, tombstone)
		}
	})
}
