package h2grpc

import (
	"math"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Options are the settings of a Server. The zero value serves with grpc-go's
// defaults.
type Options struct {
	// Unary and Stream surround every call, the first outermost.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor

	// RecvMessageMax and SendMessageMax bound one message in bytes; 0 means
	// 4 MiB and no bound.
	RecvMessageMax, SendMessageMax int
	// StreamsMax bounds the open streams of one connection; 0 and anything
	// above streamsMax mean streamsMax.
	StreamsMax uint32

	Keepalive   keepalive.ServerParameters
	Enforcement keepalive.EnforcementPolicy

	// Creds shake hands on new connections and say who is at the other end;
	// nil means plain connections.
	Creds credentials.TransportCredentials

	// Quick names unary methods ("/package.Service/Method") some of whose
	// requests are answered at once, without waiting for anything: where the
	// function says so of the encoded request, the call runs on the
	// connection's own goroutine.
	Quick map[string]func(request []byte) bool

	// Received and Sent are told the size of each message that was decoded or
	// encoded; nil if nobody counts.
	Received, Sent func(sizeBytes int)

	// HTTP answers HTTP/2 requests that are not gRPC; nil means that they are
	// told 415.
	HTTP http.Handler

	Limits Limits
}

// Limits bound what connections may take up. Zero fields mean the defaults.
type Limits struct {
	// ConnRecvBytes bounds requests that one connection has sent and no
	// handler has taken yet; default 64 MiB, and at least two messages.
	ConnRecvBytes int64
	// TotalRecvBytes bounds the same of all connections; default 1 GiB.
	TotalRecvBytes int64
	// ConnSendBytes bounds answers that one connection does not take from us:
	// calls wait with encoding theirs while more is queued; default 8 MiB.
	ConnSendBytes int64
	// TotalSendBytes bounds the same of all connections: above it each has to
	// do with connSendShare; default 512 MiB.
	TotalSendBytes int64
	// HandshakeTimeout bounds the time until a new connection has said what
	// every connection begins with; default 10 s.
	HandshakeTimeout time.Duration
	// MessageTimeout bounds the time from the first byte of a frame, a header
	// block or a message to its last; default 60 s.
	MessageTimeout time.Duration
	// WriteTimeout bounds one write to a connection that does not take it;
	// default 30 s.
	WriteTimeout time.Duration
}

// Bounds that are no options.
const (
	// streamsMax streams at about 1 KiB each are 64 MiB in the worst
	// connection. Streams whose client has reset them count as long as their
	// handler runs.
	streamsMax = 1 << 16

	// headerBlockMax bounds the encoded header block, headerListMax the decoded
	// list as RFC 9113 counts it (32 bytes a field on top).
	headerBlockMax   = 64 << 10
	headerListMax    = 64 << 10
	continuationsMax = 32

	// streamWindow is what a client may send on a stream unasked: HTTP/2's own
	// default. A larger message gets the rest as a loan (conn_flow.go).
	streamWindow = 65535
	// connWindow is what it may send on all streams before we read on. It
	// bounds nothing but the socket: reading gives it back at once.
	connWindow = 4 << 20

	// connSendShare is what a connection may always queue, one message more.
	connSendShare = 64 << 10
	// outSoft is where the write buffer stops taking DATA, outHard where the
	// reader waits for the writer before it makes more answers.
	outSoft = 128 << 10
	outHard = 1 << 20
	// directMax is the largest answer that is encoded straight into the write
	// buffer.
	directMax = 8 << 10

	readBufferMin = 4 << 10
	readBufferMax = 64 << 10

	drainTimeout = 5 * time.Second // for the client to hear of GOAWAY
)

func (o Options) withDefaults() Options {
	def(&o.RecvMessageMax, 4<<20)
	def(&o.SendMessageMax, math.MaxInt32)
	if o.StreamsMax == 0 || o.StreamsMax > streamsMax {
		o.StreamsMax = streamsMax
	}
	def(&o.Keepalive.Time, 2*time.Hour)
	def(&o.Keepalive.Timeout, 20*time.Second)
	o.Keepalive.Time = max(o.Keepalive.Time, time.Second) // as grpc-go has it
	def(&o.Keepalive.MaxConnectionIdle, time.Duration(math.MaxInt64))
	def(&o.Keepalive.MaxConnectionAge, time.Duration(math.MaxInt64))
	def(&o.Keepalive.MaxConnectionAgeGrace, time.Duration(math.MaxInt64))
	def(&o.Enforcement.MinTime, 5*time.Minute)
	l := &o.Limits
	def(&l.ConnRecvBytes, 64<<20)
	l.ConnRecvBytes = max(l.ConnRecvBytes, 2*int64(o.RecvMessageMax))
	def(&l.TotalRecvBytes, 1<<30)
	def(&l.ConnSendBytes, 8<<20)
	def(&l.TotalSendBytes, 512<<20)
	def(&l.HandshakeTimeout, 10*time.Second)
	def(&l.MessageTimeout, 60*time.Second)
	def(&l.WriteTimeout, 30*time.Second)
	return o
}

// def sets p to value if it is zero.
func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
