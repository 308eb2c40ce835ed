package member

import (
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/metrics"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/disk/backend"
)

// Options are what a member is started with.
type Options struct {
	FS      files.FS
	DataDir string
	WALDir  string // empty: inside DataDir
	Log     *slog.Logger

	Name       string
	ClientURLs []string // published to clients
	PeerURLs   []string // where this member says others can reach it

	// Initial is the cluster that a first start founds; not looked at when the
	// data directory holds a log already.
	Initial      cluster.Initial
	Token        string // of the cluster to found
	JoinExisting bool   // the cluster exists: do not found one

	Tick           time.Duration // heartbeat interval
	ElectionTicks  int
	PreVote        bool
	MaxLearners    int
	StrictReconfig bool

	SnapshotCount     uint64 // entries between two raft snapshots
	CatchUpEntries    uint64 // entries kept in memory behind a snapshot
	MaxSnapshots      int    // .snap files to keep
	MaxWALs           int    // WAL segments to keep
	QuotaBytes        int64  // negative: no quota
	FlushInterval     time.Duration
	FreelistType      string
	UnsafeNoSync      bool
	MaxRequestBytes   int
	CompactionBatch   int
	CompactionPause   time.Duration
	AutoCompact       AutoCompact
	LeaseCheckpoint   bool
	PersistCheckpoint bool

	Auth AuthOptions

	// PeerTLS is for calling other members; nil: only plain connections and
	// what the system trusts.
	PeerTLS *tls.Config
	// PeerAddr is the local address to call other members from; empty: any.
	PeerAddr string

	// Metrics takes what is measured; nil: nobody looks.
	Metrics   *metrics.Metrics
	WarnApply time.Duration // a request that takes longer to apply is told of; 0: none is

	// Defragmenting is told when a defragmentation begins and ends; nil: nobody.
	Defragmenting func(running bool)

	// OpenBackend replaces the bbolt file, for tests and simulation; nil opens
	// the file.
	OpenBackend func(path string, opt backend.Options) (backend.Backend, error)
}

// RequestTimeout is how long a request may take: the time for two elections
// and an ample time for the disks.
func (o *Options) RequestTimeout() time.Duration {
	return 5*time.Second + 2*time.Duration(o.ElectionTicks)*o.Tick
}
