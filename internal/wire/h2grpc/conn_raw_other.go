//go:build !unix

package h2grpc

import "net"

// rawWriter needs a system whose sockets can be written without waiting.
type rawWriter struct{}

func newRawWriter(net.Conn) *rawWriter { return nil }

func (*rawWriter) tryWrite([]byte) int { return 0 }
