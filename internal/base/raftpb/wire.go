package raftpb

import (
	"errors"
	"fmt"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed is wrapped by every Unmarshal error: the bytes are not the
// protobuf encoding of the message asked for.
var ErrMalformed = errors.New("raftpb: malformed message")

// malformed names the message and the field in which the bytes stop making
// sense. Field 0 is the tag itself.
func malformed(message string, num protowire.Number) error {
	return fmt.Errorf("%w: %s, field %d", ErrMalformed, message, num)
}

// field is one decoded field. Either v (varint) or data (bytes) is filled; the
// other wire types carry nothing we read and are skipped with kind set.
type field struct {
	num  protowire.Number
	kind protowire.Type
	v    uint64
	data []byte // aliases the input
}

// next takes one field off the front of b.
func next(message string, b []byte) (f field, rest []byte, err error) {
	num, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, nil, malformed(message, 0)
	}
	b = b[n:]
	f = field{num: num, kind: kind}
	switch kind {
	case protowire.VarintType:
		f.v, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.data, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(num, kind, b)
	}
	if n < 0 {
		return field{}, nil, malformed(message, num)
	}
	return f, b[n:], nil
}

// is reports whether f has the wire type its number asks for. A known number
// with another wire type is damage, not an extension.
func (f *field) is(kind protowire.Type) bool { return f.kind == kind }

// Tags of the fields below 16 take one byte.
func tagVarint(num int) byte { return byte(num<<3) | byte(protowire.VarintType) }
func tagBytes(num int) byte  { return byte(num<<3) | byte(protowire.BytesType) }

// sizeUint is the size of a varint field, tag included; always written.
func sizeUint(v uint64) int { return 1 + sizeVarint(v) }

// sizeUintSet is sizeUint of a field that is left out when zero.
func sizeUintSet(v uint64) int {
	if v == 0 {
		return 0
	}
	return sizeUint(v)
}

// sizeBytes is the size of a length-delimited field of n bytes, tag included.
func sizeBytes(n int) int { return 1 + sizeVarint(uint64(n)) + n }

// sizeBytesSet is sizeBytes of a field that is left out when empty.
func sizeBytesSet(n int) int {
	if n == 0 {
		return 0
	}
	return sizeBytes(n)
}

// sizeVarint counts seven bits to a byte; zero takes one.
func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendUint(b []byte, num int, v uint64) []byte {
	return protowire.AppendVarint(append(b, tagVarint(num)), v)
}

func appendUintSet(b []byte, num int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendUint(b, num, v)
}

func appendLen(b []byte, num, n int) []byte {
	return protowire.AppendVarint(append(b, tagBytes(num)), uint64(n))
}

func appendBytesSet(b []byte, num int, data []byte) []byte {
	if len(data) == 0 {
		return b
	}
	return append(appendLen(b, num, len(data)), data...)
}

// enumVarint widens an enum value the way protobuf does: through int64.
func enumVarint(v int32) uint64 { return uint64(int64(v)) }

func boolVarint(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}
