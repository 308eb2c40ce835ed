package peer

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"time"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Handler is the member that a transport belongs to. Its methods are called
// from many goroutines and must not wait for the network.
type Handler interface {
	// Process takes a message in. An error means that it was not, and that the
	// sender may know.
	Process(ctx context.Context, m raftpb.Message) error
	// IsRemoved reports whether a member was removed for good.
	IsRemoved(id uint64) bool
	// ReportUnreachable says that messages to a member are probably lost.
	ReportUnreachable(id uint64)
	// ReportSnapshot says how the sending of a snapshot ended.
	ReportSnapshot(id uint64, ok bool)
	// Expelled says that another member knows this one as removed.
	Expelled(by uint64)
	// SaveSnapshot stores the body of a snapshot durably, before Process is
	// given the message.
	SaveSnapshot(m *raftpb.Message, body io.Reader) error
}

// Events are what metrics count; fields may be nil.
type Events struct {
	Sent, Received           func(id uint64, bytes int)
	SendFailed               func(id uint64)
	ReceiveFailed            func(id uint64)
	Active                   func(id uint64, active bool)
	RoundTrip                func(id uint64, took time.Duration)
	SnapshotSent             func(id uint64, bytes int64, took time.Duration, ok bool)
	SnapshotReceived         func(id uint64, bytes int64, took time.Duration, ok bool)
	SnapshotSending, Getting func(id uint64, delta int)
}

// Options of a transport.
type Options struct {
	ID, ClusterID uint64
	PeerURLs      []string // where the others reach this member
	Handler       Handler
	TLS           *tls.Config // for calling others; nil takes the system's trust
	LocalAddr     string      // to call from; empty for any
	Log           *slog.Logger
	Events        Events
}

// Times of the protocol, as etcd has them.
const (
	dialTimeout  = 5 * time.Second
	readTimeout  = 5 * time.Second // without a byte on a stream: it is dead
	writeTimeout = 5 * time.Second // without progress of a write: it is dead
	beatInterval = readTimeout / 3 // link heartbeats on an idle stream
	redialPause  = 100 * time.Millisecond
	postTimeout  = 5 * time.Second
	// snapshotAnswerTimeout bounds how long the receiver of a snapshot may take
	// to make it safe on its disk.
	snapshotAnswerTimeout = time.Minute
	probeInterval         = 4 * time.Second
	driftMax              = time.Second // between clocks, before a warning
)

// Bounds of the posts to one peer.
const (
	postsAtOnce = 4
	postQueue   = 64
)
