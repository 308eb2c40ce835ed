package h2client

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Appending frames to c.out. Every function here needs c.mu.
//
//	+-----------------+--------+--------+---------------------+
//	| length (24)     | type 8 | flags 8| stream (31)         |  then payload
//	+-----------------+--------+--------+---------------------+

func (c *Conn) appendFrame(length int, t http2.FrameType, flags http2.Flags, id uint32) {
	c.out = append(c.out,
		byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func (c *Conn) appendHeaders(id uint32, block string) {
	first := min(len(block), c.frameMax)
	flags := http2.Flags(0)
	if first == len(block) {
		flags = http2.FlagHeadersEndHeaders
	}
	c.appendFrame(first, http2.FrameHeaders, flags, id)
	c.out = append(c.out, block[:first]...)
	for block = block[first:]; len(block) > 0; {
		n := min(len(block), c.frameMax)
		flags = 0
		if n == len(block) {
			flags = http2.FlagContinuationEndHeaders
		}
		c.appendFrame(n, http2.FrameContinuation, flags, id)
		c.out = append(c.out, block[:n]...)
		block = block[n:]
	}
}

func (c *Conn) appendReset(id uint32, code http2.ErrCode) {
	c.appendFrame(4, http2.FrameRSTStream, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

func (c *Conn) appendWindowUpdate(id uint32, n int64) {
	c.appendFrame(4, http2.FrameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

// greet says hello: the preface, our settings, and the connection's window,
// which settings cannot raise.
func (c *Conn) greet() {
	c.out = append(c.out, http2.ClientPreface...)
	settings := []http2.Setting{
		{ID: http2.SettingEnablePush, Val: 0},
		{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		{ID: http2.SettingMaxHeaderListSize, Val: headerBlockMax},
	}
	c.appendFrame(6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(s.ID))
		c.out = binary.BigEndian.AppendUint32(c.out, s.Val)
	}
	c.appendWindowUpdate(0, connWindow-65535)
	c.Flush()
}
