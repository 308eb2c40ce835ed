package lease

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/bucket"
)

// A lease in the lease bucket:
//
//	key    8 bytes, the id, big endian
//	value  protobuf leasepb.Lease: 1 id, 2 granted seconds, 3 seconds left at
//	       the last checkpoint; varints, fields that are 0 are left out
//
// Deadlines are not stored: they mean nothing on another machine's clock.
const (
	fieldID        = 1
	fieldTTL       = 2
	fieldRemaining = 3
)

type record struct{ id, ttl, remaining int64 }

func (le *lease) put() bucket.Op {
	return bucket.Put(bucket.Lease, recordKey(le.id), record{le.id, le.ttl, le.remaining}.encode())
}

func (le *lease) drop() bucket.Op { return bucket.Drop(bucket.Lease, recordKey(le.id)) }

func recordKey(id int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

func (r record) encode() []byte {
	var b []byte
	for _, f := range []struct {
		number protowire.Number
		value  int64
	}{{fieldID, r.id}, {fieldTTL, r.ttl}, {fieldRemaining, r.remaining}} {
		if f.value != 0 {
			b = protowire.AppendTag(b, f.number, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(f.value))
		}
	}
	return b
}

func decodeRecord(key, value []byte) (record, error) {
	r, err := parseRecord(value)
	if err == nil {
		err = r.check(key)
	}
	if err != nil {
		return record{}, fmt.Errorf("lease: record %x: %w", key, err)
	}
	return r, nil
}

func (r record) check(key []byte) error {
	switch {
	case r.id == None:
		return errors.New("it has no id")
	case len(key) != 8 || int64(binary.BigEndian.Uint64(key)) != r.id:
		return fmt.Errorf("it belongs to lease %d", r.id)
	}
	return nil
}

func parseRecord(b []byte) (r record, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, protowire.ParseError(n)
		}
		b = b[n:]
		into := r.field(number, kind)
		if into == nil {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return r, protowire.ParseError(n)
			}
		} else {
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n < 0 {
				return r, protowire.ParseError(n)
			}
			*into = int64(v)
		}
		b = b[n:]
	}
	return r, nil
}

// field is where a field's value goes, nil for one that is not known.
func (r *record) field(number protowire.Number, kind protowire.Type) *int64 {
	if kind != protowire.VarintType {
		return nil
	}
	switch number {
	case fieldID:
		return &r.id
	case fieldTTL:
		return &r.ttl
	case fieldRemaining:
		return &r.remaining
	}
	return nil
}
