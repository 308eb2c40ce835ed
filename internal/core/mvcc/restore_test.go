package mvcc

import (
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/keys"
)

// A store without records begins at revision 1, was never compacted, and
// writes its first change at 2.
func TestEmptyStore(t *testing.T) {
	s, err := Open(nil, Options{FinishedCompact: Never, ScheduledCompact: Never})
	if err != nil {
		t.Fatal(err)
	}
	v := s.View()
	if v.Rev() != 1 || v.CompactRev() != Never || s.Rev() != 1 {
		t.Errorf("revision %d, compacted %d", v.Rev(), v.CompactRev())
	}
	if h, err := v.HashKV(0); err != nil || h != (KeyHash{Hash: emptyHash, Rev: 1, CompactRev: Never}) {
		t.Errorf("hash %+v (%v)", h, err)
	}
	v.Close()
	txn := s.Begin()
	if rev := txn.Put([]byte("a"), []byte("1"), 0); rev != (Rev{2, 0}) {
		t.Errorf("first put at %s", rev)
	}
	txn.Commit()
	s.Publish()
	s.Close()
}

// `snapshot restore --bump-revision` leaves a record with an empty value. It
// raises the revision, is no event and no key that a request can name, and is
// kept by compactions like the value of a key.
func TestBumpRecordRaisesTheRevisionOnly(t *testing.T) {
	disk := &memDisk{t: t}
	disk.commit([]Record{
		newPutRecord(Rev{2, 0}, keyValue{key: []byte("a"), value: []byte("1"), create: 2, mod: 2, version: 1}),
		{Key: Rev{1002, 0}.AppendKey(nil, false)},
	}, nil)
	s, err := Open(disk.base(), Options{FinishedCompact: Never, ScheduledCompact: 1002})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v := s.View()
	defer v.Close()
	if n, _ := v.Count(keys.All(), 0); v.Rev() != 1002 || v.CompactRev() != 1002 || n != 1 {
		t.Errorf("revision %d, compacted %d, %d keys", v.Rev(), v.CompactRev(), n)
	}
	if err := v.Changes(1002, 2000, func(c Change) bool { t.Errorf("event %+v", c); return true }); err != nil {
		t.Error(err)
	}
	if _, err := v.HashKV(0); err != nil {
		t.Error(err)
	}
	c := s.NewCompaction(Never, 1002)
	deletes, done := c.Step(disk.base(), 100)
	if !done || c.Err() != nil || len(deletes) != 0 {
		t.Errorf("the compaction deletes %x (%v)", deletes, c.Err())
	}
}

// The revision is the newest that anything names: after a compaction of a
// store whose keys are all deleted, only the meta bucket still knows it.
func TestRevisionComesFromCompactionToo(t *testing.T) {
	s, err := Open(nil, Options{FinishedCompact: 40, ScheduledCompact: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Rev() != 40 || s.CompactRev() != 40 {
		t.Errorf("revision %d, compacted %d", s.Rev(), s.CompactRev())
	}
}

// Damage is an error that names the revision, never a panic and never a store
// with a key less.
func TestDamagedRecordsAreNamed(t *testing.T) {
	good := newPutRecord(Rev{2, 0}, keyValue{key: []byte("a"), value: []byte("1"), create: 2, mod: 2, version: 1})
	at := Rev{7, 3}.AppendKey(nil, false)
	for _, c := range []struct {
		what string
		bad  Record
		says string
	}{
		{"cut short", Record{Key: at, Value: good.Value[:2]}, "revision 7.3"},
		{"not protobuf", Record{Key: at, Value: []byte{0xff, 0xff}}, "revision 7.3"},
		{"without a key", Record{Key: at, Value: good.Value[3:]}, "revision 7.3"},
		{"never created", Record{Key: at, Value: good.Value[:3]}, "revision 7.3"},
		{"key of 3 bytes", Record{Key: []byte("key"), Value: good.Value}, "after revision 2"},
		{"negative revision", Record{Key: Rev{-2, 0}.AppendKey(nil, false), Value: good.Value}, "after revision 2"},
	} {
		disk := &memDisk{t: t}
		disk.commit([]Record{good, c.bad}, nil)
		base := disk.base()
		if s, err := Open(base, Options{FinishedCompact: Never, ScheduledCompact: Never}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: opened %v, error %v, want one with %q", c.what, s != nil, err, c.says)
		}
		base.Release() // a failed Open leaves the reference with the caller
	}
}

// Damage that appears after opening ends compactions and scans with an error.
func TestDamageAfterOpening(t *testing.T) {
	disk := &memDisk{t: t}
	disk.commit([]Record{newPutRecord(Rev{2, 0}, keyValue{key: []byte("a"), create: 2, mod: 2, version: 1})}, nil)
	s, err := Open(disk.base(), Options{FinishedCompact: Never, ScheduledCompact: Never})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Compact(2); err != nil {
		t.Fatal(err)
	}
	disk.recs = []Record{{Key: disk.recs[0].Key, Value: []byte{0x0a, 0x09}}}
	s.Publish()
	s.Rebase(disk.base(), 2)
	c := s.NewCompaction(Never, 2)
	if deletes, done := c.Step(disk.base(), 10); len(deletes) != 0 || !done || c.Err() == nil {
		t.Errorf("deletes %x, done %v, error %v", deletes, done, c.Err())
	}
	if _, ok := c.Hash(); ok {
		t.Error("a failed compaction has a hash")
	}
	v := s.View()
	defer v.Close()
	if err := v.Changes(2, 3, func(Change) bool { return true }); err == nil || !strings.Contains(err.Error(), "2.0") {
		t.Errorf("changes: %v", err)
	}
	if _, err := v.HashKV(0); err == nil || !strings.Contains(err.Error(), "2.0") {
		t.Errorf("hash: %v", err)
	}
	disk.recs = nil
	s.Rebase(disk.base(), 2)
	w := s.View()
	defer w.Close()
	if _, err := w.Load(Rev{2, 0}); err == nil {
		t.Error("a record that is not there was loaded")
	}
}

// A transaction deletes a key and puts it twice. Compacted at that revision,
// the deletion and the second put remain; the key is still what it was.
func TestGapLeftByCompactionWithinATransaction(t *testing.T) {
	disk := &memDisk{t: t}
	disk.commit([]Record{
		newTombstoneRecord(Rev{7, 1}, []byte("a")),
		newPutRecord(Rev{7, 3}, keyValue{key: []byte("a"), create: 7, mod: 7, version: 2}),
		newPutRecord(Rev{8, 0}, keyValue{key: []byte("a"), create: 7, mod: 8, version: 3}),
	}, nil)
	s, err := Open(disk.base(), Options{FinishedCompact: 7, ScheduledCompact: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v := s.View()
	defer v.Close()
	for at, version := range map[int64]int64{7: 2, 8: 3} {
		if h, ok, err := v.Get([]byte("a"), at); !ok || err != nil || h.Create != 7 || h.Version != version {
			t.Errorf("at %d the key is %+v, %v, %v", at, h, ok, err)
		}
	}
	if n, _ := v.Count(keys.All(), 0); n != 1 {
		t.Errorf("%d keys", n)
	}
}
