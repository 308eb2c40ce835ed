package kv

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/core/mvcc"
)

// A record is an encoded mvccpb.KeyValue. Its revisions are known from the index
// already; what is missing is mostly the value, and it is often not needed at
// all. So records are cut open only where a request asks for it, and copied into
// responses as they are.
const (
	fieldKey     = 1
	fieldCreate  = 2
	fieldMod     = 3
	fieldVersion = 4
	fieldValue   = 5
	fieldLease   = 6
)

var errRecord = errors.New("kv: record is not a KeyValue")

// eachField calls fn for the fields of an encoded message: bytes for length
// delimited ones, a number for varints. raw is the whole field. Other types are
// passed over.
func eachField(b []byte, fn func(num protowire.Number, data []byte, n uint64, raw []byte)) error {
	for len(b) > 0 {
		num, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return fmt.Errorf("%w: %w", errRecord, protowire.ParseError(tag))
		}
		size := protowire.ConsumeFieldValue(num, typ, b[tag:])
		if size < 0 {
			return fmt.Errorf("%w: field %d: %w", errRecord, num, protowire.ParseError(size))
		}
		raw := b[:tag+size]
		switch typ {
		case protowire.BytesType:
			data, _ := protowire.ConsumeBytes(raw[tag:])
			fn(num, data, 0, raw)
		case protowire.VarintType:
			n, _ := protowire.ConsumeVarint(raw[tag:])
			fn(num, nil, n, raw)
		}
		b = b[tag+size:]
	}
	return nil
}

// valueAndLease cuts the two fields that the index does not know out of a
// record. The value aliases it.
func valueAndLease(record []byte) (value []byte, lease int64, err error) {
	err = eachField(record, func(num protowire.Number, data []byte, n uint64, _ []byte) {
		switch num {
		case fieldValue:
			value = data
		case fieldLease:
			lease = int64(n)
		}
	})
	return value, lease, err
}

// decode reads a record into kv, which then owns its bytes: it is a copy, since
// a record may be a piece of a file that is unmapped before the response has
// been written.
func decode(kv *mvccpb.KeyValue, record []byte) error {
	record = bytes.Clone(record)
	return eachField(record, func(num protowire.Number, data []byte, n uint64, _ []byte) {
		switch num {
		case fieldKey:
			kv.Key = data[:len(data):len(data)]
		case fieldCreate:
			kv.CreateRevision = int64(n)
		case fieldMod:
			kv.ModRevision = int64(n)
		case fieldVersion:
			kv.Version = int64(n)
		case fieldValue:
			kv.Value = data
		case fieldLease:
			kv.Lease = int64(n)
		}
	})
}

// decodeHit makes the KeyValue of a key whose record was not read.
func decodeHit(kv *mvccpb.KeyValue, h mvcc.Hit) {
	kv.Key = bytes.Clone(h.Key)
	kv.CreateRevision, kv.ModRevision, kv.Version = h.Create, h.Mod.Main, h.Version
}

// appendHit appends the same, encoded.
func appendHit(b []byte, h mvcc.Hit) []byte {
	b = protowire.AppendTag(b, fieldKey, protowire.BytesType)
	b = protowire.AppendBytes(b, h.Key)
	b = appendUint(b, fieldCreate, uint64(h.Create))
	b = appendUint(b, fieldMod, uint64(h.Mod.Main))
	return appendUint(b, fieldVersion, uint64(h.Version))
}

func hitSize(h mvcc.Hit) int {
	return fieldSize(len(h.Key)) + uintSize(uint64(h.Create)) + uintSize(uint64(h.Mod.Main)) + uintSize(uint64(h.Version))
}

// withoutValue returns a copy of a record without its value.
func withoutValue(record []byte) (b []byte) {
	err := eachField(record, func(num protowire.Number, _ []byte, _ uint64, raw []byte) {
		if num != fieldValue {
			b = append(b, raw...)
		}
	})
	if err != nil {
		return record // decoding it will tell
	}
	return b
}
