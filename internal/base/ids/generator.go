package ids

import (
	"math"
	"sync/atomic"
	"time"
)

// Widths of the parts of a generated id:
//
//	| 16 bits member | 40 bits milliseconds at start | 8 bits counter |
//
// The last 48 bits count up as one number. A member would have to hand out 256
// ids in every millisecond of its life to meet the ids of its next start.
const (
	memberBits  = 16
	timeBits    = 40
	counterBits = 8
	suffixBits  = timeBits + counterBits
)

// Generator hands out ids that no other member hands out, nor this one after a
// restart. It is safe for concurrent use.
type Generator struct {
	member uint64        // low bits of the member id, at the top of every id
	suffix atomic.Uint64 // the last suffix handed out; only its low 48 bits count
}

// NewGenerator returns the generator of a member that starts at start.
func NewGenerator(memberID uint64, start time.Time) *Generator {
	g := &Generator{member: memberID << suffixBits}
	g.suffix.Store(low(uint64(start.UnixMilli()), timeBits) << counterBits)
	return g
}

// Next returns an id for a request.
func (g *Generator) Next() uint64 {
	return g.member | low(g.suffix.Add(1), suffixBits)
}

// NextLease returns an id for a lease: positive, never 0.
func (g *Generator) NextLease() int64 {
	for {
		if id := int64(g.Next() & math.MaxInt64); id != int64(None) {
			return id
		}
	}
}

func low(v uint64, bits uint) uint64 { return v & (1<<bits - 1) }
