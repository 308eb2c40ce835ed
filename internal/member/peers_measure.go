package member

import (
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/wire/peer"
)

// peerEvents counts what the transport of member self reports.
func (m *meters) peerEvents(self uint64) peer.Events {
	n, local := &m.Network, ids.Text(self)
	return peer.Events{
		Sent:          func(id uint64, bytes int) { n.PeerSentBytes.WithLabelValues(ids.Text(id)).Add(float64(bytes)) },
		Received:      func(id uint64, bytes int) { n.PeerReceivedBytes.WithLabelValues(ids.Text(id)).Add(float64(bytes)) },
		SendFailed:    func(id uint64) { n.PeerSentFailures.WithLabelValues(ids.Text(id)).Inc() },
		ReceiveFailed: func(id uint64) { n.PeerReceivedFailures.WithLabelValues(ids.Text(id)).Inc() },
		RoundTrip: func(id uint64, took time.Duration) {
			n.PeerRoundTrip.WithLabelValues(ids.Text(id)).Observe(took.Seconds())
		},
		Active: func(id uint64, active bool) {
			n.KnownPeers.WithLabelValues(local, ids.Text(id)).Set(1)
			if active {
				n.ActivePeers.WithLabelValues(local, ids.Text(id)).Inc()
				return
			}
			n.ActivePeers.WithLabelValues(local, ids.Text(id)).Dec()
			n.DisconnectedPeers.WithLabelValues(local, ids.Text(id)).Inc()
		},
	}
}
