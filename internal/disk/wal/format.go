package wal

import (
	"encoding/binary"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

// RecordType tells what a record's data is.
type RecordType int64

// The record types.
const (
	TypeMetadata  RecordType = 1 // etcdserverpb.Metadata: who this member is
	TypeEntry     RecordType = 2 // raftpb.Entry
	TypeHardState RecordType = 3 // raftpb.HardState
	TypeCRC       RecordType = 4 // no data; the running CRC before this record
	TypeMark      RecordType = 5 // walpb.Snapshot: a snapshot of this index exists
)

// A frame is one record on disk. Frames lie end to end, always 8-byte aligned:
//
//	0        8                    8+length        8+length+pad
//	+--------+--------------------+---------------+
//	| length | record (protobuf)  | zeros         |
//	| u64 LE |                    | 0 to 7 bytes  |
//	+--------+--------------------+---------------+
//
// The top byte of the length word is 0 without padding and 0x80|pad with. A
// length word of zero ends the segment: preallocated room follows.
const (
	lengthBytes = 8
	lengthMask  = 1<<56 - 1
	padFlag     = 0x80
	padMask     = 0x07
)

// padOf is the padding behind a record of n bytes.
func padOf(n int) int { return -n & 7 }

func lengthWord(n int) uint64 {
	word := uint64(n)
	if pad := padOf(n); pad > 0 {
		word |= uint64(padFlag|pad) << 56
	}
	return word
}

// splitLength takes a length word apart.
func splitLength(word uint64) (record, pad int64) {
	if top := word >> 56; top&padFlag != 0 {
		pad = int64(top & padMask)
	}
	return int64(word & lengthMask), pad
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends the frame of one record to b. The record is
//
//	1 type  varint, always
//	2 crc   varint, always
//	3 data  bytes,  left out when empty
func appendFrame(b []byte, kind RecordType, crc uint32, data []byte) []byte {
	size := 1 + protowire.SizeVarint(uint64(kind)) + 1 + protowire.SizeVarint(uint64(crc))
	if len(data) > 0 {
		size += 1 + protowire.SizeBytes(len(data))
	}
	b = binary.LittleEndian.AppendUint64(b, lengthWord(size))
	b = protowire.AppendVarint(append(b, 1<<3|byte(protowire.VarintType)), uint64(kind))
	b = protowire.AppendVarint(append(b, 2<<3|byte(protowire.VarintType)), uint64(crc))
	if len(data) > 0 {
		b = protowire.AppendBytes(append(b, 3<<3|byte(protowire.BytesType)), data)
	}
	var zeros [8]byte
	return append(b, zeros[:padOf(size)]...)
}

// parseRecord reads a record; data aliases b.
func parseRecord(b []byte) (kind RecordType, crc uint32, data []byte, err error) {
	for len(b) > 0 {
		num, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, 0, nil, errMalformed
		}
		b = b[n:]
		var v uint64
		switch {
		case num == 1 && wire == protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
			kind = RecordType(v)
		case num == 2 && wire == protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
			crc = uint32(v)
		case num == 3 && wire == protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		case num <= 3:
			n = -1
		default:
			n = protowire.ConsumeFieldValue(num, wire, b)
		}
		if n < 0 {
			return 0, 0, nil, errMalformed
		}
		b = b[n:]
	}
	return kind, crc, data, nil
}

// hasLostSector reports whether some sector's share of b, which lies at file
// offset off, is all zero: what a sector looks like that a power cut kept from
// being written into preallocated room.
func hasLostSector(b []byte, off int64) bool {
	for len(b) > 0 {
		n := min(int64(len(b)), files.SectorSize-off%files.SectorSize)
		if allZero(b[:n]) {
			return true
		}
		b, off = b[n:], off+n
	}
	return false
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Mark says that a snapshot of the log up to Index exists. A restart begins at
// a mark; {0, 0} is the mark of the empty log.
type Mark struct {
	Index     uint64
	Term      uint64
	ConfState *raftpb.ConfState // nil in the empty log's mark and before 3.5
}

// walpb.Snapshot: 1 index, 2 term (both always written), 3 conf_state.
func (m *Mark) appendTo(b []byte) []byte {
	b = protowire.AppendVarint(append(b, 1<<3|byte(protowire.VarintType)), m.Index)
	b = protowire.AppendVarint(append(b, 2<<3|byte(protowire.VarintType)), m.Term)
	if m.ConfState == nil {
		return b
	}
	b = protowire.AppendVarint(append(b, 3<<3|byte(protowire.BytesType)), uint64(m.ConfState.Size()))
	return m.ConfState.AppendTo(b)
}

// ParseMark reads the data of a TypeMark record.
func ParseMark(b []byte) (m Mark, err error) {
	for len(b) > 0 {
		num, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return Mark{}, errMalformed
		}
		b = b[n:]
		switch {
		case num == 1 && wire == protowire.VarintType:
			m.Index, n = protowire.ConsumeVarint(b)
		case num == 2 && wire == protowire.VarintType:
			m.Term, n = protowire.ConsumeVarint(b)
		case num == 3 && wire == protowire.BytesType:
			var data []byte
			data, n = protowire.ConsumeBytes(b)
			m.ConfState = new(raftpb.ConfState)
			if m.ConfState.Unmarshal(data) != nil {
				return Mark{}, errMalformed
			}
		case num <= 3:
			n = -1
		default:
			n = protowire.ConsumeFieldValue(num, wire, b)
		}
		if n < 0 {
			return Mark{}, errMalformed
		}
		b = b[n:]
	}
	return m, nil
}
