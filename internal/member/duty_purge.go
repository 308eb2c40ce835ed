package member

import (
	"time"

	"github.com/steledb/stele/internal/disk/wal"
)

// purgeRound is how often old files are looked for, as in etcd.
const purgeRound = 30 * time.Second

// purgeDuty removes log segments and snapshot files beyond the number to keep.
// A segment that a restart may need is locked and stays.
func (m *Member) purgeDuty(stop <-chan struct{}) {
	m.tellPurge(m.opt.snapDir(), "snap.db", m.opt.MaxSnapshots)
	m.tellPurge(m.opt.snapDir(), "snap", m.opt.MaxSnapshots)
	m.tellPurge(m.opt.walDir(), "wal", m.opt.MaxWALs)
	ticker := time.NewTicker(purgeRound)
	defer ticker.Stop()
	for {
		m.purge()
		select {
		case <-ticker.C:
		case <-stop:
			return
		}
	}
}

func (m *Member) tellPurge(dir, suffix string, limit int) {
	if limit > 0 {
		m.log.Info("started to purge file", "dir", dir, "suffix", suffix, "max", limit, "interval", purgeRound)
	}
}

func (m *Member) purge() {
	var removed []string
	if m.opt.MaxWALs > 0 {
		gone, err := wal.Purge(m.opt.FS, m.opt.walDir(), m.opt.MaxWALs)
		if err != nil {
			m.log.Warn("failed to purge", "path", m.opt.walDir(), "error", err)
		}
		removed = append(removed, gone...)
	}
	if m.opt.MaxSnapshots > 0 {
		gone, err := m.snaps.Purge(m.opt.MaxSnapshots)
		if err != nil {
			m.log.Warn("failed to purge", "path", m.opt.snapDir(), "error", err)
		}
		removed = append(removed, gone...)
	}
	for _, path := range removed {
		m.log.Info("purged", "path", path)
	}
}
