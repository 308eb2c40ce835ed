package member

import (
	"errors"
	"io"

	"github.com/steledb/stele/internal/base/raftpb"
)

// prepare makes snapshots for members that can only go on from one. Loop only.
func (p *peers) prepare(members []uint64) {
	for _, id := range members {
		p.ReportSnapshot(id, false)
	}
}

// sendSnapshot sends a snapshot with the body prepared for it. Loop only.
func (p *peers) sendSnapshot(m raftpb.Message) {}

// discard lets go of snapshots that are of no use any more.
func (p *peers) discard(members []uint64) {}

// SaveSnapshot implements peer.Handler.
func (p *peers) SaveSnapshot(m *raftpb.Message, body io.Reader) error { return errors.New("not taken") }
