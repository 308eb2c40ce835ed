package peer

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/steledb/stele/internal/base/raftpb"
)

// The frames of a msgapp stream begin with their kind:
//
//	0  link heartbeat, nothing follows
//	1  entries:  u64 BE count | count x (u64 BE length | raftpb.Entry) | u64 BE commit
//	2  message:  u64 BE length | raftpb.Message
//
// Kind 1 is a MsgApp that goes on exactly where the stream's last one ended, in
// the same term: everything but entries and commit index follows from the
// position that both ends remember.
const (
	kindHeartbeat = 0
	kindEntries   = 1
	kindMessage   = 2
)

// position is where the last MsgApp of a stream ended.
type position struct{ term, index uint64 }

// after is the position behind a full message.
func after(m *raftpb.Message) position {
	p := position{m.Term, m.Index}
	if n := len(m.Entries); n > 0 {
		p.index = m.Entries[n-1].Index
	}
	return p
}

// appendEncoder is the writing end of a msgapp stream.
type appendEncoder struct{ at position }

func (e *appendEncoder) append(b []byte, m *raftpb.Message) []byte {
	switch {
	case isLinkHeartbeat(m):
		return append(b, kindHeartbeat)
	case e.continues(m):
		return e.appendEntries(b, m)
	default:
		e.at = after(m)
		return appendMessage(append(b, kindMessage), m)
	}
}

func (e *appendEncoder) continues(m *raftpb.Message) bool {
	return e.at == position{m.LogTerm, m.Index} && m.LogTerm == m.Term
}

func (e *appendEncoder) appendEntries(b []byte, m *raftpb.Message) []byte {
	b = append(b, kindEntries)
	b = binary.BigEndian.AppendUint64(b, uint64(len(m.Entries)))
	for i := range m.Entries {
		b = binary.BigEndian.AppendUint64(b, uint64(m.Entries[i].Size()))
		b = m.Entries[i].AppendTo(b)
	}
	e.at.index += uint64(len(m.Entries))
	return binary.BigEndian.AppendUint64(b, m.Commit)
}

// appendDecoder is the reading end of a msgapp stream from one member to
// another.
type appendDecoder struct {
	from, to uint64
	at       position
}

func (d *appendDecoder) decode(r io.Reader) (raftpb.Message, error) {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return raftpb.Message{}, err
	}
	switch kind[0] {
	case kindHeartbeat:
		return linkHeartbeat(), nil
	case kindEntries:
		m, err := d.entries(r)
		return m, unexpected(err)
	case kindMessage:
		m, err := readMessage(r, maxFrameBytes)
		if err == nil {
			d.at = after(&m)
		}
		return m, unexpected(err)
	}
	return raftpb.Message{}, fmt.Errorf("peer: unknown kind %d of frame on a msgapp stream", kind[0])
}

func (d *appendDecoder) entries(r io.Reader) (raftpb.Message, error) {
	m := raftpb.Message{
		Type: raftpb.MsgApp, From: d.from, To: d.to,
		Term: d.at.term, LogTerm: d.at.term, Index: d.at.index,
	}
	count, err := readUint64(r)
	if err != nil {
		return m, err
	}
	left := uint64(maxFrameBytes)
	for range count {
		b, err := readBlob(r, left)
		if err != nil {
			return m, err
		}
		var e raftpb.Entry
		if err := e.Unmarshal(b); err != nil {
			return m, err
		}
		m.Entries = append(m.Entries, e)
		left -= min(left, max(uint64(len(b)), 8)) // empty entries cost something too
	}
	d.at.index += count
	m.Commit, err = readUint64(r)
	return m, err
}
