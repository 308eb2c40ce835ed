package raftpb

import "google.golang.org/protobuf/encoding/protowire"

// Entry on the wire:
//
//	1 Type   varint, left out when EntryNormal
//	2 Term   varint, left out when zero
//	3 Index  varint, left out when zero (entries that only carry a request)
//	4 Data   bytes,  left out when empty
//
// 3.4 to 3.6 write fields 1 to 3 always; readers see no difference.

// Size is the length of the encoding.
func (e *Entry) Size() int {
	return sizeUintSet(enumVarint(int32(e.Type))) + sizeUintSet(e.Term) +
		sizeUintSet(e.Index) + sizeBytesSet(len(e.Data))
}

// AppendTo appends the encoding to b.
func (e *Entry) AppendTo(b []byte) []byte {
	b = appendUintSet(b, 1, enumVarint(int32(e.Type)))
	b = appendUintSet(b, 2, e.Term)
	b = appendUintSet(b, 3, e.Index)
	return appendBytesSet(b, 4, e.Data)
}

// Marshal returns the encoding in a slice of its own.
func (e *Entry) Marshal() []byte { return e.AppendTo(make([]byte, 0, e.Size())) }

// Unmarshal replaces e by what b encodes. Data aliases b.
func (e *Entry) Unmarshal(b []byte) error {
	const name = "Entry"
	*e = Entry{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		ok := true
		switch f.num {
		case 1:
			ok, e.Type = f.is(protowire.VarintType), EntryType(f.v)
		case 2:
			ok, e.Term = f.is(protowire.VarintType), f.v
		case 3:
			ok, e.Index = f.is(protowire.VarintType), f.v
		case 4:
			ok, e.Data = f.is(protowire.BytesType), emptyToNil(f.data)
		}
		if !ok {
			return malformed(name, f.num)
		}
	}
	return nil
}

// emptyToNil makes "present but empty" and "absent" the same, as the writers
// here do.
func emptyToNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
