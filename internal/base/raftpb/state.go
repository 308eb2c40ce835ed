package raftpb

import "google.golang.org/protobuf/encoding/protowire"

// HardState on the wire: 1 term, 2 vote, 3 commit; all three always written.

// Size is the length of the encoding.
func (h *HardState) Size() int { return sizeUint(h.Term) + sizeUint(h.Vote) + sizeUint(h.Commit) }

// AppendTo appends the encoding to b.
func (h *HardState) AppendTo(b []byte) []byte {
	b = appendUint(b, 1, h.Term)
	b = appendUint(b, 2, h.Vote)
	return appendUint(b, 3, h.Commit)
}

// Marshal returns the encoding in a slice of its own.
func (h *HardState) Marshal() []byte { return h.AppendTo(make([]byte, 0, h.Size())) }

// Unmarshal replaces h by what b encodes.
func (h *HardState) Unmarshal(b []byte) error {
	const name = "HardState"
	*h = HardState{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		switch f.num {
		case 1:
			h.Term = f.v
		case 2:
			h.Vote = f.v
		case 3:
			h.Commit = f.v
		default:
			continue
		}
		if !f.is(protowire.VarintType) {
			return malformed(name, f.num)
		}
	}
	return nil
}

// ConfState on the wire:
//
//	1 voters, 2 learners, 3 voters_outgoing, 4 learners_next
//	             one varint field per member (unpacked); readers take packed too
//	5 auto_leave varint, always written

// Size is the length of the encoding.
func (c *ConfState) Size() int {
	n := sizeUint(boolVarint(c.AutoLeave))
	for _, ids := range [...][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
		for _, id := range ids {
			n += sizeUint(id)
		}
	}
	return n
}

// AppendTo appends the encoding to b.
func (c *ConfState) AppendTo(b []byte) []byte {
	for i, ids := range [...][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
		for _, id := range ids {
			b = appendUint(b, i+1, id)
		}
	}
	return appendUint(b, 5, boolVarint(c.AutoLeave))
}

// Marshal returns the encoding in a slice of its own.
func (c *ConfState) Marshal() []byte { return c.AppendTo(make([]byte, 0, c.Size())) }

// Unmarshal replaces c by what b encodes.
func (c *ConfState) Unmarshal(b []byte) error {
	const name = "ConfState"
	*c = ConfState{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		ok := true
		switch f.num {
		case 1:
			c.Voters, ok = appendIDs(c.Voters, &f)
		case 2:
			c.Learners, ok = appendIDs(c.Learners, &f)
		case 3:
			c.VotersOutgoing, ok = appendIDs(c.VotersOutgoing, &f)
		case 4:
			c.LearnersNext, ok = appendIDs(c.LearnersNext, &f)
		case 5:
			ok, c.AutoLeave = f.is(protowire.VarintType), f.v != 0
		}
		if !ok {
			return malformed(name, f.num)
		}
	}
	return nil
}

// appendIDs takes one id, or a packed run of them.
func appendIDs(ids []uint64, f *field) ([]uint64, bool) {
	if f.kind == protowire.VarintType {
		return append(ids, f.v), true
	}
	if f.kind != protowire.BytesType {
		return ids, false
	}
	for b := f.data; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return ids, false
		}
		ids, b = append(ids, v), b[n:]
	}
	return ids, true
}
