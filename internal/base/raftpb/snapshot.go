package raftpb

import "google.golang.org/protobuf/encoding/protowire"

// SnapshotMetadata on the wire: 1 conf_state (always present), 2 index, 3 term
// (left out when zero).

// Size is the length of the encoding.
func (m *SnapshotMetadata) Size() int {
	return sizeBytes(m.ConfState.Size()) + sizeUintSet(m.Index) + sizeUintSet(m.Term)
}

// AppendTo appends the encoding to b.
func (m *SnapshotMetadata) AppendTo(b []byte) []byte {
	b = m.ConfState.AppendTo(appendLen(b, 1, m.ConfState.Size()))
	b = appendUintSet(b, 2, m.Index)
	return appendUintSet(b, 3, m.Term)
}

// Marshal returns the encoding in a slice of its own.
func (m *SnapshotMetadata) Marshal() []byte { return m.AppendTo(make([]byte, 0, m.Size())) }

// Unmarshal replaces m by what b encodes.
func (m *SnapshotMetadata) Unmarshal(b []byte) error {
	const name = "SnapshotMetadata"
	*m = SnapshotMetadata{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		ok := true
		switch f.num {
		case 1:
			ok = f.is(protowire.BytesType)
			if err := m.ConfState.Unmarshal(f.data); ok && err != nil {
				return err
			}
		case 2:
			ok, m.Index = f.is(protowire.VarintType), f.v
		case 3:
			ok, m.Term = f.is(protowire.VarintType), f.v
		}
		if !ok {
			return malformed(name, f.num)
		}
	}
	return nil
}

// Snapshot on the wire: 1 data (left out when empty), 2 metadata (always
// present).

// Size is the length of the encoding.
func (s *Snapshot) Size() int {
	return sizeBytesSet(len(s.Data)) + sizeBytes(s.Metadata.Size())
}

// AppendTo appends the encoding to b.
func (s *Snapshot) AppendTo(b []byte) []byte {
	b = appendBytesSet(b, 1, s.Data)
	return s.Metadata.AppendTo(appendLen(b, 2, s.Metadata.Size()))
}

// Marshal returns the encoding in a slice of its own.
func (s *Snapshot) Marshal() []byte { return s.AppendTo(make([]byte, 0, s.Size())) }

// Unmarshal replaces s by what b encodes. Data aliases b.
func (s *Snapshot) Unmarshal(b []byte) error {
	const name = "Snapshot"
	*s = Snapshot{}
	for len(b) > 0 {
		f, rest, err := next(name, b)
		if err != nil {
			return err
		}
		b = rest
		switch f.num {
		case 1:
			s.Data = emptyToNil(f.data)
		case 2:
			if err := s.Metadata.Unmarshal(f.data); err != nil {
				return err
			}
		default:
			continue
		}
		if !f.is(protowire.BytesType) {
			return malformed(name, f.num)
		}
	}
	return nil
}
