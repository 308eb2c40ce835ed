// Package backend keeps what a member has applied: the buckets of the file
// member/snap/db.
//
// It owns the file, its lock and its maintenance, and promises four things. A
// batch is on disk in whole or not at all, together with the index of the log
// entry it reflects. A snapshot (Base, Snapshot) never changes while it is held
// and holds nobody up. Maintenance (Defrag, Snapshot, Hash) runs beside commits.
// A damaged file is refused at Open by name, page and offset.
//
// What is in the buckets, and when it is written, is for others to decide: one
// flusher calls Commit, everyone else reads. The bytes of the file are those of
// bbolt, so that etcd can open it and we can open etcd's; docs/formats tells
// what each bucket holds. Bolt is that file, Memory its twin for tests and for
// the simulator. DESIGN.md beside this file tells how the parts meet.
package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/steledb/stele/internal/base/bucket"
)

// Backend is the buckets of one member. Commit is for one caller, the flusher;
// everything else is safe for concurrent use.
type Backend interface {
	// Load calls fn for each pair of a bucket in key order, as of the last
	// commit, until fn fails. k and v are valid only inside fn.
	Load(b bucket.Name, fn func(k, v []byte) error) error
	// Get returns a copy of one value of a bucket, nil if there is none.
	Get(b bucket.Name, key []byte) ([]byte, error)
	// Commit writes a batch. When it returns nil the batch is on disk. The
	// memory of the batch must not change afterwards.
	Commit(Batch) error
	// Base returns the records of the key bucket as of the last commit. The
	// caller owns one reference and must release it.
	Base() (Base, error)
	// Snapshot returns everything as of the last commit, to be copied.
	Snapshot() (Snapshot, error)
	// Hash is the CRC-32C of all names and pairs but those that ignore picks.
	Hash(ignore func(b bucket.Name, key []byte) bool) (uint32, error)
	// Defrag rewrites the file without holes while commits go on.
	Defrag(context.Context) (DefragStats, error)

	Size() int64      // bytes of the file
	SizeInUse() int64 // bytes of it that are not free
	OpenReads() int64 // bases and snapshots not yet released

	Close() error
}

// Base is an immutable view of the records in the key bucket. It is safe for
// concurrent readers and lives until every reference is released.
type Base interface {
	// Get returns the value of a record, nil if there is none. The value is
	// valid until the base is released.
	Get(key []byte) []byte
	// Ascend calls fn for the records in [from, to) in key order until it
	// returns false; a nil to means the end. k and v are valid only inside fn.
	Ascend(from, to []byte, fn func(k, v []byte) bool)
	Retain()
	Release()
}

// Snapshot is a consistent copy of the whole file that can be streamed.
type Snapshot interface {
	Size() int64 // bytes that WriteTo will write
	WriteTo(w io.Writer) (int64, error)
	Close() error
}

// Record is one pair of the key bucket.
type Record struct {
	Key, Value []byte
}

// Batch is what one commit changes. It is applied in the order of the fields.
type Batch struct {
	Records []Record    // pairs to put into the key bucket, best in key order
	Deletes [][]byte    // keys to delete from the key bucket
	Ops     []bucket.Op // changes of the other buckets

	// The log position that the store has reached with this batch; zero leaves
	// what is there.
	ConsistentIndex, Term uint64
}

// CommitStats tells how long the parts of one commit took.
type CommitStats struct {
	Rebalance, Spill, Write, Total time.Duration
}

// DefragStats tells what a defragmentation did.
type DefragStats struct {
	Before, After int64         // size of the file in bytes
	Took          time.Duration // from start to end
	Stall         time.Duration // for which a commit may have waited
}

// Errors a caller may expect. They come wrapped with the operation and the file.
var (
	ErrClosed    = errors.New("backend is closed")
	ErrCorrupt   = errors.New("file is damaged")
	ErrDiskRoom  = errors.New("not enough room on disk")
	ErrLocked    = errors.New("file is in use by another process")
	ErrReadsOpen = errors.New("snapshots are still in use")
	ErrReadOnly  = errors.New("file is open for reading only")
)

// Position reads the log position that a backend holds: the index and term of
// the last applied entry, zero if it never had one.
func Position(b Backend) (index, term uint64, err error) {
	if index, err = metaUint64(b, bucket.ConsistentIndex); err != nil {
		return 0, 0, err
	}
	term, err = metaUint64(b, bucket.Term)
	return index, term, err
}

func metaUint64(b Backend, key string) (uint64, error) {
	v, err := b.Get(bucket.Meta, []byte(key))
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("backend: meta key %s has %d bytes, not 8: %w", key, len(v), ErrCorrupt)
	}
	return binary.BigEndian.Uint64(v), nil
}

// IgnoredByHash picks the pairs that Maintenance.Hash leaves out, because equal
// stores may differ in them (formats: Hashes).
func IgnoredByHash(b bucket.Name, key []byte) bool {
	if b != bucket.Meta {
		return false
	}
	switch string(key) {
	case bucket.ConsistentIndex, bucket.Term, bucket.StorageVersion:
		return true
	}
	return false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// store is one bucket that a batch can be applied to. Both engines have one, so
// that the order of a batch is told once.
type store interface {
	Put(key, value []byte) error
	Delete(key []byte) error
}

// keep says whether a change is to be applied; nil means all are.
type keep func(b bucket.Name, key []byte) bool

// apply makes the changes of a batch in their order.
func (batch *Batch) apply(open func(bucket.Name) (store, error), only keep) error {
	if len(batch.Records)+len(batch.Deletes) > 0 {
		s, err := open(bucket.Key)
		if err != nil {
			return err
		}
		if err := batch.applyRecords(s, only); err != nil {
			return err
		}
	}
	for i := range batch.Ops {
		if err := applyOp(&batch.Ops[i], open, only); err != nil {
			return err
		}
	}
	return batch.applyPosition(open, only)
}

func (batch *Batch) applyRecords(s store, only keep) error {
	for _, r := range batch.Records {
		if only != nil && !only(bucket.Key, r.Key) {
			continue
		}
		if err := s.Put(r.Key, r.Value); err != nil {
			return fmt.Errorf("put record %x: %w", r.Key, err)
		}
	}
	for _, k := range batch.Deletes {
		if only != nil && !only(bucket.Key, k) {
			continue
		}
		if err := s.Delete(k); err != nil {
			return fmt.Errorf("delete record %x: %w", k, err)
		}
	}
	return nil
}

func applyOp(op *bucket.Op, open func(bucket.Name) (store, error), only keep) error {
	if only != nil && !only(op.Bucket, op.Key) {
		return nil
	}
	s, err := open(op.Bucket)
	if err != nil {
		return err
	}
	if op.Delete {
		err = s.Delete(op.Key)
	} else {
		err = s.Put(op.Key, op.Value)
	}
	if err != nil {
		return fmt.Errorf("change %x in bucket %s: %w", op.Key, op.Bucket, err)
	}
	return nil
}

func (batch *Batch) applyPosition(open func(bucket.Name) (store, error), only keep) error {
	for _, p := range []struct {
		key   string
		value uint64
	}{{bucket.ConsistentIndex, batch.ConsistentIndex}, {bucket.Term, batch.Term}} {
		if p.value == 0 {
			continue
		}
		op := bucket.Put(bucket.Meta, []byte(p.key), binary.BigEndian.AppendUint64(nil, p.value))
		if err := applyOp(&op, open, only); err != nil {
			return err
		}
	}
	return nil
}
