package raftpb

import "google.golang.org/protobuf/encoding/protowire"

// ConfChange on the wire:
//
//	1 id       varint, left out when zero (3.4 to 3.6 write it always)
//	2 type     varint, always
//	3 node_id  varint, always
//	4 context  bytes,  left out when empty

// Size is the length of the encoding.
func (c *ConfChange) Size() int {
	return sizeUintSet(c.ID) + sizeUint(enumVarint(int32(c.Type))) + sizeUint(c.NodeID) +
		sizeBytesSet(len(c.Context))
}

// AppendTo appends the encoding to b.
func (c *ConfChange) AppendTo(b []byte) []byte {
	b = appendUintSet(b, 1, c.ID)
	b = appendUint(b, 2, enumVarint(int32(c.Type)))
	b = appendUint(b, 3, c.NodeID)
	return appendBytesSet(b, 4, c.Context)
}

// Marshal returns the encoding in a slice of its own.
func (c *ConfChange) Marshal() []byte { return c.AppendTo(make([]byte, 0, c.Size())) }

// Unmarshal replaces c by what b encodes. Context aliases b.
func (c *ConfChange) Unmarshal(b []byte) error {
	const name = "ConfChange"
	*c = ConfChange{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		ok := true
		switch f.num {
		case 1:
			ok, c.ID = f.is(protowire.VarintType), f.v
		case 2:
			ok, c.Type = f.is(protowire.VarintType), ConfChangeType(f.v)
		case 3:
			ok, c.NodeID = f.is(protowire.VarintType), f.v
		case 4:
			ok, c.Context = f.is(protowire.BytesType), emptyToNil(f.data)
		}
		if !ok {
			return malformed(name, f.num)
		}
	}
	return nil
}

// ConfChangeSingle on the wire: 1 type, 2 node_id; both always written.

// Size is the length of the encoding.
func (c *ConfChangeSingle) Size() int {
	return sizeUint(enumVarint(int32(c.Type))) + sizeUint(c.NodeID)
}

// AppendTo appends the encoding to b.
func (c *ConfChangeSingle) AppendTo(b []byte) []byte {
	b = appendUint(b, 1, enumVarint(int32(c.Type)))
	return appendUint(b, 2, c.NodeID)
}

// Unmarshal replaces c by what b encodes.
func (c *ConfChangeSingle) Unmarshal(b []byte) error {
	const name = "ConfChangeSingle"
	*c = ConfChangeSingle{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		switch f.num {
		case 1:
			c.Type = ConfChangeType(f.v)
		case 2:
			c.NodeID = f.v
		default:
			continue
		}
		if !f.is(protowire.VarintType) {
			return malformed(name, f.num)
		}
	}
	return nil
}

// ConfChangeV2 on the wire: 1 transition (left out when Auto), 2 changes
// (repeated), 3 context (left out when empty). The change that leaves a joint
// configuration is therefore no bytes at all.

// Size is the length of the encoding.
func (c *ConfChangeV2) Size() int {
	n := sizeUintSet(enumVarint(int32(c.Transition))) + sizeBytesSet(len(c.Context))
	for i := range c.Changes {
		n += sizeBytes(c.Changes[i].Size())
	}
	return n
}

// AppendTo appends the encoding to b.
func (c *ConfChangeV2) AppendTo(b []byte) []byte {
	b = appendUintSet(b, 1, enumVarint(int32(c.Transition)))
	for i := range c.Changes {
		single := &c.Changes[i]
		b = single.AppendTo(appendLen(b, 2, single.Size()))
	}
	return appendBytesSet(b, 3, c.Context)
}

// Marshal returns the encoding in a slice of its own.
func (c *ConfChangeV2) Marshal() []byte { return c.AppendTo(make([]byte, 0, c.Size())) }

// Unmarshal replaces c by what b encodes. Context aliases b.
func (c *ConfChangeV2) Unmarshal(b []byte) error {
	const name = "ConfChangeV2"
	*c = ConfChangeV2{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		ok := true
		switch f.num {
		case 1:
			ok, c.Transition = f.is(protowire.VarintType), ConfChangeTransition(f.v)
		case 2:
			var single ConfChangeSingle
			if err := single.Unmarshal(f.data); err != nil {
				return err
			}
			ok, c.Changes = f.is(protowire.BytesType), append(c.Changes, single)
		case 3:
			ok, c.Context = f.is(protowire.BytesType), emptyToNil(f.data)
		}
		if !ok {
			return malformed(name, f.num)
		}
	}
	return nil
}
