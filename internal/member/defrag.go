package member

import (
	"context"

	"github.com/dustin/go-humanize"
)

// Defragment rewrites the backend file without holes, while requests go on.
func (m *Member) Defragment(ctx context.Context) error {
	m.log.Info("starting defragment")
	m.defragmenting(true)
	defer m.defragmenting(false)
	used := m.backend.SizeInUse()
	m.log.Info("defragmenting", append([]any{"path", m.opt.dbPath()}, sizes(m.backend.Size(), used)...)...)
	stats, err := m.backend.Defrag(ctx)
	if err != nil {
		m.log.Warn("failed to defragment", "error", err)
		return err
	}
	m.meters.Disk.BackendDefrag.Observe(stats.Took.Seconds())
	if err := m.flusher.rebaseNow(ctx); err != nil {
		return err
	}
	now := m.backend.SizeInUse()
	m.log.Info("finished defragmenting directory", append([]any{"path", m.opt.dbPath(), "took", stats.Took,
		"current-db-size-bytes-diff", stats.After - stats.Before, "current-db-size-in-use-bytes-diff", now - used}, sizes(stats.After, now)...)...)
	m.log.Info("finished defragment")
	return nil
}

// defragmenting tells those outside that a defragmentation begins or ends.
func (m *Member) defragmenting(running bool) {
	m.meters.Disk.DefragInflight.Set(one(running))
	if m.opt.Defragmenting != nil {
		m.opt.Defragmenting(running)
	}
}

// sizes are the fields of a line about the backend file.
func sizes(file, used int64) []any {
	return []any{
		"current-db-size-bytes", file, "current-db-size", humanize.Bytes(uint64(file)),
		"current-db-size-in-use-bytes", used, "current-db-size-in-use", humanize.Bytes(uint64(used)),
	}
}
