package backend

import (
	"crypto/sha256"
	"io"
)

// DigestBytes is the length of what follows the pages in a snapshot file or
// stream: the SHA-256 of everything before. A file has it if its size modulo
// 512 is DigestBytes, as pages come in multiples of 512.
const DigestBytes = sha256.Size

// WriteSigned writes a snapshot followed by its digest, and returns the bytes
// written.
func WriteSigned(w io.Writer, s Snapshot) (int64, error) {
	h := sha256.New()
	n, err := s.WriteTo(io.MultiWriter(w, h))
	if err != nil {
		return n, err
	}
	m, err := w.Write(h.Sum(nil))
	return n + int64(m), err
}
