package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Record is one pair of the key bucket: a change of one key. Both slices are
// shared and never modified.
//
//	Key    17 bytes of the revision, or 18 with the mark of a deletion
//	Value  encoded mvccpb.KeyValue; of a deletion it holds the key only
type Record struct {
	Key, Value []byte
}

// Rev is the revision of the change.
func (r Record) Rev() Rev { return revOf(r.Key) }

// Tombstone reports whether the change is a deletion.
func (r Record) Tombstone() bool { return len(r.Key) == tombstoneBytes }

func (r Record) sizeBytes() int64 { return int64(len(r.Key)+len(r.Value)) + recordOverhead }

// recordOverhead is what a buffered record costs beside its bytes: two slice
// headers.
const recordOverhead = 48

// Field numbers of mvccpb.KeyValue.
const (
	fieldKey     = 1
	fieldCreate  = 2
	fieldMod     = 3
	fieldVersion = 4
	fieldValue   = 5
	fieldLease   = 6
)

// keyValue is what a put record says.
type keyValue struct {
	key, value           []byte
	create, mod, version int64
	lease                int64
}

// newPutRecord encodes one put. Revision and value share one allocation.
//
// Every tag is one byte, because the field numbers are below 16; zero fields
// are absent, as proto3 writes them.
//
//	08+n.. | 0a len key | 10 create | 18 mod | 20 version | 2a len value | 30 lease
func newPutRecord(at Rev, kv keyValue) Record {
	size := revBytes + bytesFieldSize(kv.key) + intFieldSize(kv.create) + intFieldSize(kv.mod) +
		intFieldSize(kv.version) + bytesFieldSize(kv.value) + intFieldSize(kv.lease)
	b := at.AppendKey(make([]byte, 0, size), false)
	b = appendBytesField(b, fieldKey, kv.key)
	b = appendIntField(b, fieldCreate, kv.create)
	b = appendIntField(b, fieldMod, kv.mod)
	b = appendIntField(b, fieldVersion, kv.version)
	b = appendBytesField(b, fieldValue, kv.value)
	b = appendIntField(b, fieldLease, kv.lease)
	return Record{Key: b[:revBytes:revBytes], Value: b[revBytes:]}
}

// newTombstoneRecord encodes one deletion.
func newTombstoneRecord(at Rev, key []byte) Record {
	b := at.AppendKey(make([]byte, 0, tombstoneBytes+bytesFieldSize(key)), true)
	b = appendBytesField(b, fieldKey, key)
	return Record{Key: b[:tombstoneBytes:tombstoneBytes], Value: b[tombstoneBytes:]}
}

func bytesFieldSize(v []byte) int {
	if len(v) == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(len(v))
}

func intFieldSize(v int64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(uint64(v))
}

func appendBytesField(b []byte, n protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

func appendIntField(b []byte, n protowire.Number, v int64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
}

var errRecordCut = errors.New("record is cut short")

// parseRecord reads an encoded KeyValue; the slices of the result alias b.
// Unknown fields are passed over, a repeated field counts with its last value,
// both as protobuf has it.
func parseRecord(b []byte) (kv keyValue, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return keyValue{}, fmt.Errorf("record has a malformed tag: %w", protowire.ParseError(n))
		}
		if num > protowire.MaxValidNumber {
			return keyValue{}, fmt.Errorf("record has an impossible field %d", num)
		}
		b = b[n:]
		switch {
		case typ == protowire.BytesType && (num == fieldKey || num == fieldValue):
			var v []byte
			if v, b, err = cutBytes(b); err != nil {
				return keyValue{}, err
			}
			kv.setBytes(num, v)
		case typ == protowire.VarintType:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return keyValue{}, errRecordCut
			}
			b = b[n:]
			kv.setInt(num, int64(v))
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return keyValue{}, fmt.Errorf("record has a malformed field %d: %w", num, protowire.ParseError(n))
			}
			b = b[n:]
		}
	}
	return kv, nil
}

// cutBytes reads a length and as many bytes from the front of b.
func cutBytes(b []byte) (v, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errRecordCut
	}
	b = b[n:]
	return b[:size:size], b[size:], nil
}

func (kv *keyValue) setBytes(num protowire.Number, v []byte) {
	if num == fieldKey {
		kv.key = v
		return
	}
	kv.value = v
}

func (kv *keyValue) setInt(num protowire.Number, v int64) {
	switch num {
	case fieldCreate:
		kv.create = v
	case fieldMod:
		kv.mod = v
	case fieldVersion:
		kv.version = v
	case fieldLease:
		kv.lease = v
	}
}

// keyOf is the key that a record of ours begins with: the key is always the
// first field.
func keyOf(value []byte) []byte {
	kv, _, err := cutBytes(value[1:])
	if err != nil {
		panic(fmt.Sprintf("mvcc: record %x was not written by newPutRecord", value))
	}
	return kv
}
