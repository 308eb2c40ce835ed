package h2grpc

import "time"

// nuisance is a kind of frame that costs its sender less than it costs us.
type nuisance int

const (
	nuisanceReset    nuisance = iota // streams opened and reset (CVE-2023-44487)
	nuisanceSettings                 // each wants an answer
	nuisancePing                     // each wants an answer
	nuisanceWindow                   // WINDOW_UPDATE
	nuisanceEmpty                    // DATA and CONTINUATION without content
	nuisanceOther                    // PRIORITY, unknown kinds, frames of closed streams
	nuisances
)

// allowance is a token bucket: burst at once, perSecond in the long run. The
// numbers are far above what any client does in earnest - a client that cancels
// sixteen thousand calls at once passes - and low enough that the worst sender
// takes a small part of one core.
type allowance struct{ burst, perSecond float64 }

var allowances = [nuisances]allowance{
	nuisanceReset:    {20000, 2000},
	nuisanceSettings: {100, 10},
	nuisancePing:     {1000, 100},
	nuisanceWindow:   {20000, 20000},
	nuisanceEmpty:    {1000, 100},
	nuisanceOther:    {10000, 1000},
}

// floodGuard counts nuisances of one connection. Owned by its reader.
type floodGuard struct {
	left [nuisances]float64
	seen [nuisances]time.Time // when left was settled; zero: bucket is full
}

// spend takes one of kind; false if there are too many.
func (g *floodGuard) spend(kind nuisance, now time.Time) bool {
	a := allowances[kind]
	if g.seen[kind].IsZero() {
		g.left[kind] = a.burst
	} else {
		g.left[kind] = min(a.burst, g.left[kind]+now.Sub(g.seen[kind]).Seconds()*a.perSecond)
	}
	g.seen[kind] = now
	g.left[kind]--
	return g.left[kind] >= 0
}

// pingPolice enforces how often a client may ping (the server side of gRPC's
// keepalive: three pings too early end the connection). Guarded by conn.mu,
// because whatever we send the client forgives.
type pingPolice struct {
	minTime       time.Duration
	withoutStream bool
	last          time.Time
	strikes       int
}

// idlePingTime is the least pause between pings of a client without calls, if
// it may ping then at all.
const idlePingTime = 2 * time.Hour

const pingStrikesMax = 2

// forgive forgets strikes: the server has sent headers or data.
func (p *pingPolice) forgive() { p.last, p.strikes = time.Time{}, 0 }

// isTooMany judges one ping.
func (p *pingPolice) isTooMany(now time.Time, hasStreams bool) bool {
	least := p.minTime
	if !hasStreams && !p.withoutStream {
		least = idlePingTime
	}
	if !p.last.IsZero() && now.Sub(p.last) < least {
		p.strikes++
	}
	p.last = now
	return p.strikes > pingStrikesMax
}
