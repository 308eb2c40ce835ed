package wal

import (
	"errors"
	"fmt"
	"io"
)

// Outcomes that a caller may expect. The texts are those operators know from
// etcd.
var (
	ErrFileNotFound     = errors.New("wal: file not found")
	ErrMarkNotFound     = errors.New("wal: snapshot not found")
	ErrMarkMismatch     = errors.New("wal: snapshot mismatch")
	ErrMetadataConflict = errors.New("wal: conflicting metadata found")
	ErrGap              = errors.New("wal: slice bounds out of range")
	ErrLost             = errors.New("wal: committed entries are missing")
	ErrClosed           = errors.New("wal: closed")

	// ErrTorn marks damage that a power cut leaves at the end of the last
	// segment. It may be cut off, since it was never acknowledged.
	ErrTorn = io.ErrUnexpectedEOF

	errCRC       = errors.New("walpb: crc mismatch")
	errMalformed = errors.New("wal: malformed record")
	errRunsOver  = errors.New("wal: record runs over the end of its segment")
	errNoHeader  = errors.New("wal: segment without a first record")
	errType      = errors.New("wal: unexpected record type")
)

// Damage is an error found at one place of the log.
type Damage struct {
	File   string // base name of the segment
	Offset int64  // start of the frame that cannot be used; all before it is good
	Err    error
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%v: in file '%s' at position: %d", d.Err, d.File, d.Offset)
}

// Unwrap gives the reason.
func (d *Damage) Unwrap() error { return d.Err }

func crcMismatch(stored, computed uint32) error {
	return fmt.Errorf("%w: expected: %x computed: %x", errCRC, stored, computed)
}
