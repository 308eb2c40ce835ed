package raftpb

import "google.golang.org/protobuf/encoding/protowire"

// Message on the wire, in number order, each field left out when zero:
//
//	1 type  2 to  3 from  4 term  5 logTerm  6 index  7 entries (repeated)
//	8 commit  9 snapshot  10 reject  11 rejectHint  12 context  13 vote
//	14 responses: never between members; skipped by readers
//
// 3.4 to 3.6 write the zeros too, 3.4 and 3.5 also an empty snapshot with every
// message; such a snapshot reads as none.

// Size is the length of the encoding.
func (m *Message) Size() int {
	n := sizeUintSet(enumVarint(int32(m.Type))) + sizeUintSet(m.To) + sizeUintSet(m.From) +
		sizeUintSet(m.Term) + sizeUintSet(m.LogTerm) + sizeUintSet(m.Index) +
		sizeUintSet(m.Commit) + sizeUintSet(boolVarint(m.Reject)) + sizeUintSet(m.RejectHint) +
		sizeBytesSet(len(m.Context)) + sizeUintSet(m.Vote)
	for i := range m.Entries {
		n += sizeBytes(m.Entries[i].Size())
	}
	if m.Snapshot != nil {
		n += sizeBytes(m.Snapshot.Size())
	}
	return n
}

// AppendTo appends the encoding to b.
func (m *Message) AppendTo(b []byte) []byte {
	b = appendUintSet(b, 1, enumVarint(int32(m.Type)))
	b = appendUintSet(b, 2, m.To)
	b = appendUintSet(b, 3, m.From)
	b = appendUintSet(b, 4, m.Term)
	b = appendUintSet(b, 5, m.LogTerm)
	b = appendUintSet(b, 6, m.Index)
	for i := range m.Entries {
		e := &m.Entries[i]
		b = e.AppendTo(appendLen(b, 7, e.Size()))
	}
	b = appendUintSet(b, 8, m.Commit)
	if m.Snapshot != nil {
		b = m.Snapshot.AppendTo(appendLen(b, 9, m.Snapshot.Size()))
	}
	b = appendUintSet(b, 10, boolVarint(m.Reject))
	b = appendUintSet(b, 11, m.RejectHint)
	b = appendBytesSet(b, 12, m.Context)
	return appendUintSet(b, 13, m.Vote)
}

// Marshal returns the encoding in a slice of its own.
func (m *Message) Marshal() []byte { return m.AppendTo(make([]byte, 0, m.Size())) }

// Unmarshal replaces m by what b encodes. Context, the data of the entries and
// of the snapshot alias b, so b must not change while m is in use.
func (m *Message) Unmarshal(b []byte) error {
	*m = Message{}
	for len(b) > 0 {
		f, rest, err := next(messageName, b)
		if err != nil {
			return err
		}
		switch f.kind {
		case protowire.VarintType:
			err = m.takeNumber(&f)
		case protowire.BytesType:
			err = m.takeBytes(&f, rest)
		default:
			err = refuseKnown(&f)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	if m.Snapshot.IsEmpty() {
		m.Snapshot = nil
	}
	return nil
}

const messageName = "Message"

func (m *Message) takeNumber(f *field) error {
	switch f.num {
	case 1:
		m.Type = MessageType(f.v)
	case 2:
		m.To = f.v
	case 3:
		m.From = f.v
	case 4:
		m.Term = f.v
	case 5:
		m.LogTerm = f.v
	case 6:
		m.Index = f.v
	case 8:
		m.Commit = f.v
	case 10:
		m.Reject = f.v != 0
	case 11:
		m.RejectHint = f.v
	case 13:
		m.Vote = f.v
	default:
		return refuseKnown(f)
	}
	return nil
}

// takeBytes stores f; rest is what follows it in the message, which tells how
// many entries to make room for.
func (m *Message) takeBytes(f *field, rest []byte) error {
	switch f.num {
	case 7:
		if m.Entries == nil {
			m.Entries = make([]Entry, 0, 1+countEntries(rest))
		}
		m.Entries = append(m.Entries, Entry{})
		return m.Entries[len(m.Entries)-1].Unmarshal(f.data)
	case 9:
		m.Snapshot = new(Snapshot)
		return m.Snapshot.Unmarshal(f.data)
	case 12:
		m.Context = emptyToNil(f.data)
		return nil
	}
	return refuseKnown(f)
}

// countEntries counts the entries that follow without a gap, as every writer
// puts them.
func countEntries(b []byte) (n int) {
	for len(b) > 0 && b[0] == tagBytes(7) {
		_, size := protowire.ConsumeBytes(b[1:])
		if size < 0 {
			break
		}
		b = b[1+size:]
		n++
	}
	return n
}

// refuseKnown is the answer to a field that no case above took: known numbers
// came with the wrong wire type, others are from a later version and skipped.
func refuseKnown(f *field) error {
	if f.num <= 13 {
		return malformed(messageName, f.num)
	}
	return nil
}
