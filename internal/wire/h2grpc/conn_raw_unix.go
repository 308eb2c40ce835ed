//go:build unix

package h2grpc

import (
	"net"
	"syscall"
)

// rawWriter writes to a socket without waiting for it. Owned by the reader.
type rawWriter struct {
	conn  syscall.RawConn
	write func(fd uintptr) bool // made once
	buf   []byte
	n     int
}

func newRawWriter(nc net.Conn) *rawWriter {
	sc := underTLS(nc)
	if sc == nil {
		return nil
	}
	conn, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &rawWriter{conn: conn}
	w.write = func(fd uintptr) bool {
		n, err := syscall.Write(int(fd), w.buf)
		if err == nil && n > 0 {
			w.n = n
		}
		return true // never wait
	}
	return w
}

// tryWrite returns how much of b the socket took. An error shows as 0: the
// writer will meet it again.
func (w *rawWriter) tryWrite(b []byte) int {
	w.buf, w.n = b, 0
	_ = w.conn.Write(w.write) // n says it
	w.buf = nil
	return w.n
}
