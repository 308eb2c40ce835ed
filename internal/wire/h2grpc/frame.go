package h2grpc

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/http2"
)

// The layout of every frame (RFC 9113, section 4.1):
//
//	 0      3     4      5          9
//	+------+-----+------+----------+---------
//	| len  |type |flags | stream   | payload
//	+------+-----+------+----------+---------
//	  24     8     8     0 + 31 bits
//
// x/net's Framer reads the same, but copies or allocates per frame and wants an
// io.Reader; here a frame is a window into the connection's read buffer. Names
// and numbers of the protocol still come from x/net.
const frameHeaderLen = 9

// frameMax is the largest payload we accept: SETTINGS_MAX_FRAME_SIZE as it is
// by default, which we do not raise.
const frameMax = 16384

// frame is one frame; payload is valid until the next read.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
}

func (f *frame) has(flag http2.Flags) bool { return f.flags&flag != 0 }

// frameError ends a connection (RFC 9113, section 5.4.1).
type frameError struct {
	code http2.ErrCode
	why  string
}

func (e frameError) Error() string { return fmt.Sprintf("http2: %v: %s", e.code, e.why) }

func protocolError(why string) error { return frameError{http2.ErrCodeProtocol, why} }
func sizeError(why string) error     { return frameError{http2.ErrCodeFrameSize, why} }
func calmDown(why string) error      { return frameError{http2.ErrCodeEnhanceYourCalm, why} }

// parseFrame takes one frame off the front of b; n is what it takes up, 0 if b
// does not hold all of it yet.
func parseFrame(b []byte) (f frame, n int, err error) {
	if len(b) < frameHeaderLen {
		return frame{}, 0, nil
	}
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if size > frameMax {
		return frame{}, 0, sizeError("frame longer than SETTINGS_MAX_FRAME_SIZE")
	}
	if len(b) < frameHeaderLen+size {
		return frame{}, 0, nil
	}
	f = frame{
		kind:    http2.FrameType(b[3]),
		flags:   http2.Flags(b[4]),
		stream:  binary.BigEndian.Uint32(b[5:]) &^ (1 << 31),
		payload: b[frameHeaderLen : frameHeaderLen+size : frameHeaderLen+size],
	}
	return f, frameHeaderLen + size, nil
}

// unpad strips the padding of DATA and HEADERS.
//
//	pad length (8) | data | padding
func unpad(f *frame) error {
	if !f.has(http2.FlagDataPadded) { // the same bit in HEADERS
		return nil
	}
	if len(f.payload) == 0 {
		return sizeError("padded frame without a pad length")
	}
	pad := int(f.payload[0])
	if pad > len(f.payload)-1 {
		return protocolError("padding longer than the frame")
	}
	f.payload = f.payload[1 : len(f.payload)-pad]
	return nil
}

// stripPriority takes the priority fields off a HEADERS payload and reports
// whether the stream depends on itself.
//
//	exclusive (1) stream dependency (31) | weight (8) | block
func stripPriority(f *frame) (self bool, err error) {
	if !f.has(http2.FlagHeadersPriority) {
		return false, nil
	}
	if len(f.payload) < 5 {
		return false, sizeError("HEADERS too short for its priority")
	}
	self = binary.BigEndian.Uint32(f.payload)&^(1<<31) == f.stream
	f.payload = f.payload[5:]
	return self, nil
}

func appendFrameHeader(b []byte, size int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(b, byte(size>>16), byte(size>>8), byte(size), byte(kind), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendReset(b []byte, stream uint32, code http2.ErrCode) []byte {
	b = appendFrameHeader(b, 4, http2.FrameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, stream uint32, n int64) []byte {
	b = appendFrameHeader(b, 4, http2.FrameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func appendPing(b []byte, ack bool, data [8]byte) []byte {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	return append(appendFrameHeader(b, 8, http2.FramePing, flags, 0), data[:]...)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, debug string) []byte {
	b = appendFrameHeader(b, 8+len(debug), http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, debug...)
}

// appendSettings writes pairs of (id, value).
func appendSettings(b []byte, pairs ...http2.Setting) []byte {
	b = appendFrameHeader(b, 6*len(pairs), http2.FrameSettings, 0, 0)
	for _, s := range pairs {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

func appendSettingsAck(b []byte) []byte {
	return appendFrameHeader(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

// appendHeaderBlock writes a header block as HEADERS and as many CONTINUATION
// frames as max asks for.
func appendHeaderBlock(b []byte, stream uint32, block []byte, endStream bool, max int) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if endStream {
		flags = http2.FlagHeadersEndStream
	}
	for {
		part := block[:min(len(block), max)]
		block = block[len(part):]
		if len(block) == 0 {
			flags |= http2.FlagHeadersEndHeaders
		}
		b = append(appendFrameHeader(b, len(part), kind, flags, stream), part...)
		if len(block) == 0 {
			return b
		}
		kind, flags = http2.FrameContinuation, 0
	}
}
