package h2grpc

import (
	"bytes"
	"encoding/binary"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // clients may ask for it, as with etcd
	"google.golang.org/grpc/status"
)

// messageLen is the length of the first message in b with its prefix.
func messageLen(b []byte) int { return prefixLen + int(binary.BigEndian.Uint32(b[1:])) }

// isKnownEncoding says whether messages in an encoding can be read.
func isKnownEncoding(name string) bool {
	return name == "" || name == encoding.Identity || encoding.GetCompressor(name) != nil
}

// answerEncoding is the encoding of answers to requests in name: the same.
func answerEncoding(name string) string {
	if name == encoding.Identity {
		return ""
	}
	return name
}

// decompress reads a compressed message that may not become larger than most.
func decompress(name string, p []byte, most int) ([]byte, error) {
	if name == "" || name == encoding.Identity {
		return nil, status.Error(codes.Internal, "grpc: compressed flag set with identity or empty encoding")
	}
	r, err := encoding.GetCompressor(name).Decompress(bytes.NewReader(p))
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: failed to decompress the message: %v", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, status.Errorf(codes.Internal, "grpc: failed to read decompressed data: %v", err)
	case len(out) > most:
		return nil, status.Errorf(codes.ResourceExhausted, "grpc: received message after decompression larger than max %d", most)
	}
	return out, nil
}

// compress turns a message with its prefix into the same compressed.
func compress(name string, framed []byte) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, prefixLen, prefixLen+len(framed)/2))
	w, err := encoding.GetCompressor(name).Compress(out)
	if err == nil {
		_, err = w.Write(framed[prefixLen:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: error while compressing: %v", err)
	}
	b := out.Bytes()
	b[0] = 1
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-prefixLen))
	return b, nil
}
