package member

import (
	"github.com/dustin/go-humanize"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/core/raft"
)

// PanicError is a state of the data directory in which etcd panics at start.
// The command ends with the same first line and exit status.
type PanicError struct {
	Msg  string // etcd's
	Path string
	Err  error
}

func (e *PanicError) Error() string { return e.Msg + ": " + e.Err.Error() }
func (e *PanicError) Unwrap() error { return e.Err }

// tellLoaded writes what was found in the backend; a new member has nothing to
// tell.
func (b *boot) tellLoaded() {
	if b.machine.Auth != nil && b.opt.Auth.Token.Kind == auth.SimpleTokens {
		b.log.Warn("simple token is not cryptographically signed")
	}
	if b.isNew {
		return
	}
	size, used := b.backend.Size(), b.backend.SizeInUse()
	b.log.Info("recovered v3 backend", "backend-size-bytes", size, "backend-size", humanize.Bytes(uint64(size)),
		"backend-size-in-use-bytes", used, "backend-size-in-use", humanize.Bytes(uint64(used)))
	for _, m := range b.machine.Cluster.Members() {
		b.log.Info("recovered/added member from store", "cluster-id", ids.Text(b.clusterID), "local-member-id", ids.Text(b.id),
			"recovered-remote-peer-id", ids.Text(m.ID), "recovered-remote-peer-urls", m.PeerURLs, "recovered-remote-peer-is-learner", m.IsLearner)
	}
	if v := b.machine.Cluster.Version(); !v.IsZero() {
		b.log.Info("set cluster version from store", "cluster-version", v.Short())
		b.log.Info("enabled capabilities for version", "cluster-version", v.Short())
	}
	b.log.Info("restore consistentIndex", "index", b.index)
	if b.finished != mvcc.Never {
		b.log.Info("restored last compact revision", "meta-bucket-name-key", bucket.FinishedCompactRev, "restored-compact-revision", b.finished)
	}
	if b.resume != mvcc.Never {
		b.log.Info("resume scheduled compaction", "scheduled-compact-revision", b.resume)
	}
}

// tellReady says who this member is.
func (b *boot) tellReady(r *raft.Raft) {
	b.log.Info("bootstrap successfully")
	if b.isNew {
		b.log.Info("starting local member", "local-member-id", ids.Text(b.id), "cluster-id", ids.Text(b.clusterID))
		return
	}
	b.log.Info("restarting local member", "cluster-id", ids.Text(b.clusterID), "local-member-id", ids.Text(b.id), "commit-index", r.Status().Committed)
}
