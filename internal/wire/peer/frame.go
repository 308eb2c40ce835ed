package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/steledb/stele/internal/base/raftpb"
)

// maxFrameBytes bounds what one length field may claim, as in etcd.
const maxFrameBytes = 512 << 20

// errFrameTooLarge ends a stream whose other side has lost its place.
var errFrameTooLarge = errors.New("peer: frame exceeds the limit")

// A message frame, as on the message stream and in front of a snapshot:
//
//	u64 BE length | raftpb.Message

// appendMessage appends the frame of m.
func appendMessage(b []byte, m *raftpb.Message) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(m.Size()))
	return m.AppendTo(b)
}

// readMessage reads one frame of at most limit bytes. The message owns its
// memory.
func readMessage(r io.Reader, limit uint64) (m raftpb.Message, err error) {
	b, err := readBlob(r, limit)
	if err != nil {
		return m, err
	}
	if err := m.Unmarshal(b); err != nil {
		return m, err
	}
	if m.Snapshot != nil && m.Snapshot.IsEmpty() {
		m.Snapshot = nil // old versions attach an empty one to every message
	}
	return m, nil
}

// readUint64 reads a big-endian number. An end of input inside it is
// unexpected.
func readUint64(r io.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// trustedBytes is how much is allocated because a length field says so. Beyond
// it memory grows with the bytes that have really come.
const trustedBytes = 1 << 20

// readBlob reads a length and that many bytes into a slice of its own.
func readBlob(r io.Reader, limit uint64) ([]byte, error) {
	n, err := readUint64(r)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes", errFrameTooLarge, n)
	}
	if n <= trustedBytes {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, unexpected(err)
	}
	var b bytes.Buffer
	got, err := io.CopyN(&b, r, int64(n))
	if err != nil {
		return nil, unexpected(fmt.Errorf("%d of %d bytes: %w", got, n, err))
	}
	return b.Bytes(), nil
}

// unexpected says of an end of input inside a frame that it is no proper end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// isLinkHeartbeat reports whether m only keeps a connection alive.
func isLinkHeartbeat(m *raftpb.Message) bool {
	return m.Type == raftpb.MsgHeartbeat && m.From == 0 && m.To == 0
}

// linkHeartbeat is such a message.
func linkHeartbeat() raftpb.Message { return raftpb.Message{Type: raftpb.MsgHeartbeat} }

// encoder writes the frames of one stream. It may remember what it wrote, so
// an encoder and its stream begin and end together.
type encoder interface {
	// append appends the frame of m to b.
	append(b []byte, m *raftpb.Message) []byte
}

// decoder reads the frames of one stream.
type decoder interface {
	decode(r io.Reader) (raftpb.Message, error)
}

// plainCodec is both ends of a message stream.
type plainCodec struct{}

func (plainCodec) append(b []byte, m *raftpb.Message) []byte { return appendMessage(b, m) }
func (plainCodec) decode(r io.Reader) (raftpb.Message, error) {
	return readMessage(r, maxFrameBytes)
}
