package utl

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/snap"
	"github.com/steledb/stele/internal/disk/wal"
)

// bootTerm is the term of a new cluster's first entries.
const bootTerm = 1

// restoreFlags say what the restored member is.
type restoreFlags struct {
	dataDir, walDir                string
	name, initialCluster, token    string
	advertised                     string // peer URLs with commas between
	skipHashCheck, markCompacted   bool
	bumpRevision, initialMemoryMap uint64
}

func (u *util) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{Use: "restore <filename> --data-dir {output dir} [options]", Short: "Restores an etcd member snapshot to an etcd directory",
		Run: u.run(func(args []string) error {
			if len(args) != 1 {
				return badArgs("snapshot restore requires exactly one argument")
			}
			if (f.bumpRevision > 0) != f.markCompacted {
				return badArgs("--mark-compacted required if --revision-bump > 0")
			}
			return u.restore(args[0], &f)
		})}
	fs := cmd.Flags()
	fs.StringVar(&f.dataDir, "data-dir", "", "Path to the output data directory")
	fs.StringVar(&f.walDir, "wal-dir", "", "Path to the WAL directory (use --data-dir if none given)")
	fs.StringVar(&f.initialCluster, "initial-cluster", "default=http://localhost:2380", "Initial cluster configuration for restore bootstrap")
	fs.StringVar(&f.token, "initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during restore bootstrap")
	fs.StringVar(&f.advertised, "initial-advertise-peer-urls", "http://localhost:2380", "List of this member's peer URLs to advertise to the rest of the cluster")
	fs.StringVar(&f.name, "name", "default", "Human-readable name for this member")
	fs.BoolVar(&f.skipHashCheck, "skip-hash-check", false, "Ignore snapshot integrity hash value (required if copied from data directory)")
	flagval.Uint64(fs, &f.initialMemoryMap, "initial-memory-map-size", mmapSize, "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0")
	fs.BoolVar(&f.markCompacted, "mark-compacted", false, "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)")
	flagval.Uint64(fs, &f.bumpRevision, "bump-revision", 0, "How much to increase the latest revision after restore")
	return cmd
}

// restore builds a data directory in which the cluster is new and its keys are
// those of the snapshot:
//
//	member/snap/db       the snapshot; members are those of --initial-cluster,
//	                     applied index n, term 1
//	member/wal           n entries that add those n members, committed, and the
//	                     mark of a raft snapshot at n
//	member/snap/*.snap   that snapshot, for etcd up to 3.6
//
// A crash in between leaves a directory that a second restore refuses; nothing
// else is touched.
func (u *util) restore(path string, f *restoreFlags) error {
	members, err := u.checkedMembers(f)
	if err != nil {
		return err
	}
	r := newRestoration(u, path, f, members)
	if err := r.checkDirs(); err != nil {
		return err
	}
	fields := []any{
		"path", path, "wal-dir", r.walDir, "data-dir", r.dataDir, "snap-dir", snapDir(r.dataDir),
		"initial-memory-map-size", r.mmap,
	}
	u.log.Info("restoring snapshot", fields...)
	steps := []func() error{r.copyDB, r.trimMembership, r.bumpRevision, r.addMembers, r.writeLog, r.writeSnap, r.setIndex}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	u.log.Info("restored snapshot", fields...)
	return nil
}

// checkedMembers reads the new cluster's description and makes sure that this
// member is in it as it will announce itself.
func (u *util) checkedMembers(f *restoreFlags) ([]cluster.Member, error) {
	advertised, err := cluster.CheckURLs(strings.Split(f.advertised, ","))
	if err != nil {
		return nil, err
	}
	initial, err := cluster.ParseInitial(f.initialCluster)
	if err != nil {
		return nil, err
	}
	if err := initial.Check(f.name); err != nil {
		return nil, err
	}
	if err := initial.CheckAdvertised(f.name, advertised, u.sameURLs(advertised, initial[f.name])); err != nil {
		return nil, err
	}
	members, err := initial.Members(f.token)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(members, func(a, b cluster.Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, nil
}

// restoration is one restore under way.
type restoration struct {
	*util
	path            string // of the snapshot
	dataDir, walDir string
	mmap            uint64
	f               *restoreFlags

	members []cluster.Member // by id
	self    uint64
	clustr  uint64
	changes []raftpb.ConfChange // that add the members; entries 1 to n of the log
}

func newRestoration(u *util, path string, f *restoreFlags, members []cluster.Member) *restoration {
	r := &restoration{
		util: u, path: path, f: f, members: members, clustr: cluster.ClusterID(members),
		changes: cluster.Bootstrap(members), dataDir: f.dataDir, walDir: f.walDir, mmap: f.initialMemoryMap,
	}
	if r.dataDir == "" {
		r.dataDir = f.name + ".etcd"
	}
	if r.walDir == "" {
		r.walDir = walDir(r.dataDir)
	}
	if r.mmap == 0 {
		r.mmap = mmapSize
	}
	for _, m := range members {
		if m.Name == f.name {
			r.self = m.ID
		}
	}
	return r
}

// lastIndex is the index of the last entry that adds a member.
func (r *restoration) lastIndex() uint64 { return uint64(len(r.changes)) }

func (r *restoration) confState() raftpb.ConfState {
	var cs raftpb.ConfState
	for _, m := range r.members {
		cs.Voters = append(cs.Voters, m.ID)
	}
	return cs
}

func (r *restoration) checkDirs() error {
	if !absentOrEmpty(r.dataDir) {
		return fmt.Errorf("data-dir %q not empty or could not be read", r.dataDir)
	}
	if !absentOrEmpty(r.walDir) {
		return fmt.Errorf("wal-dir %q not empty or could not be read", r.walDir)
	}
	return nil
}

func absentOrEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0
}

// copyDB puts the snapshot's pages where the member expects its backend file,
// and checks them against the digest that follows them.
func (r *restoration) copyDB() error {
	src, err := os.Open(r.path)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := os.MkdirAll(snapDir(r.dataDir), 0o700); err != nil {
		return err
	}
	db := dbPath(r.dataDir)
	dst, err := os.OpenFile(db, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	size, err := io.Copy(dst, src)
	if err != nil {
		return err
	}
	pages, err := r.checkDigest(dst, size)
	if err != nil {
		return err
	}
	if err := dst.Truncate(pages); err != nil {
		return err
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	return syncDir(snapDir(r.dataDir))
}

// checkDigest returns the size of the file without the digest. Pages come in
// multiples of 512 bytes; what is over is the digest, if it is that long.
func (r *restoration) checkDigest(f io.ReaderAt, size int64) (pages int64, err error) {
	hasDigest := size%512 == sha256.Size
	if !hasDigest && !r.f.skipHashCheck {
		return 0, errors.New("snapshot missing hash but --skip-hash-check=false")
	}
	if !hasDigest {
		return size, nil
	}
	pages = size - sha256.Size
	if r.f.skipHashCheck {
		return pages, nil
	}
	want := make([]byte, sha256.Size)
	if _, err := f.ReadAt(want, pages); err != nil {
		return 0, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, pages)); err != nil {
		return 0, err
	}
	if got := h.Sum(nil); !bytes.Equal(got, want) {
		return 0, fmt.Errorf("expected sha256 %v, got %v", want, got)
	}
	return pages, nil
}

// inDB opens the new backend file for one transaction.
func (r *restoration) inDB(fn func(*bolt.Tx) error) error {
	db, err := r.openWritable(dbPath(r.dataDir), r.mmap, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(fn)
}

// trimMembership forgets the members of the cluster the snapshot came from.
func (r *restoration) trimMembership() error {
	return r.inDB(func(tx *bolt.Tx) error {
		r.log.Info("Trimming membership information from the backend...")
		for _, name := range []bucket.Name{bucket.Members, bucket.MembersRemoved} {
			if err := tx.DeleteBucket([]byte(name)); err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
				return err
			}
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// bumpRevision raises the current revision by a record that is no key, and
// compacts up to it: watchers and caches that saw newer revisions than the
// snapshot has must notice, instead of reading other history under equal numbers.
func (r *restoration) bumpRevision() error {
	if r.f.bumpRevision == 0 {
		return nil
	}
	return r.inDB(func(tx *bolt.Tx) error {
		records, err := bucketOf(tx, bucket.Key)
		if err != nil {
			return err
		}
		latest, err := latestRevision(records)
		if err != nil {
			return err
		}
		bumped := latest + int64(r.f.bumpRevision)
		r.log.Info("bumping latest revision", "latest-revision", latest, "bump-amount", r.f.bumpRevision, "new-latest-revision", bumped)
		r.log.Info("marking revision compacted", "revision", bumped)
		key := mvcc.Rev{Main: bumped}.AppendKey(nil, false)
		return writeOps(tx, []bucket.Op{
			bucket.Put(bucket.Key, key, []byte{}),
			bucket.Put(bucket.Meta, []byte(bucket.ScheduledCompactRev), key),
		})
	})
}

// latestRevision is that of the last record, 1 for a store nobody wrote to.
func latestRevision(records *bolt.Bucket) (int64, error) {
	last, _ := records.Cursor().Last()
	if last == nil {
		return 1, nil
	}
	rev, _, err := mvcc.ParseKey(last)
	return rev.Main, err
}

// addMembers stores the new membership as if its entries had been applied.
func (r *restoration) addMembers() error {
	return r.inDB(func(tx *bolt.Tx) error {
		c := cluster.New(r.clustr, cluster.DefaultMaxLearners)
		for _, cc := range r.changes {
			change, ops, err := c.Apply(cc)
			if err != nil {
				return err
			}
			if err := writeOps(tx, ops); err != nil {
				return err
			}
			m := change.Member
			r.log.Info("added member", "cluster-id", ids.Text(r.clustr), "local-member-id", "0",
				"added-peer-id", ids.Text(m.ID), "added-peer-peer-urls", m.PeerURLs, "added-peer-is-learner", m.IsLearner)
		}
		return nil
	})
}

// writeLog writes the entries that add the members, committed, and the mark of
// a raft snapshot behind them.
func (r *restoration) writeLog() error {
	metadata, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pb.Metadata{NodeID: &r.self, ClusterID: &r.clustr})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.walDir), 0o700); err != nil {
		return err
	}
	w, err := wal.Create(files.OS, r.walDir, metadata, wal.Options{})
	if err != nil {
		return err
	}
	defer w.Close()
	var entries []raftpb.Entry
	for i := range r.changes {
		entries = append(entries, raftpb.Entry{
			Type: raftpb.EntryConfChange, Term: bootTerm, Index: uint64(i) + 1, Data: r.changes[i].Marshal(),
		})
	}
	state := raftpb.HardState{Term: bootTerm, Vote: r.members[0].ID, Commit: r.lastIndex()}
	if err := w.Save(state, entries); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	conf := r.confState()
	if err := w.SaveMark(wal.Mark{Index: r.lastIndex(), Term: bootTerm, ConfState: &conf}); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	return w.Close()
}

func (r *restoration) writeSnap() error {
	var dump snap.Membership
	for _, m := range r.members {
		dump.Members = append(dump.Members, snap.Member{ID: m.ID, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner})
	}
	data, err := snap.EncodeMembership(dump)
	if err != nil {
		return err
	}
	return snap.NewStore(files.OS, snapDir(r.dataDir), snap.Events{}).Save(&raftpb.Snapshot{
		Data:     data,
		Metadata: raftpb.SnapshotMetadata{ConfState: r.confState(), Index: r.lastIndex(), Term: bootTerm},
	})
}

// setIndex makes the backend file agree with the log: everything in it is applied.
func (r *restoration) setIndex() error {
	conf, err := json.Marshal(storedConfState(r.confState()))
	if err != nil {
		return err
	}
	return r.inDB(func(tx *bolt.Tx) error {
		return writeOps(tx, []bucket.Op{
			bucket.Put(bucket.Meta, []byte(bucket.ConsistentIndex), binary.BigEndian.AppendUint64(nil, r.lastIndex())),
			bucket.Put(bucket.Meta, []byte(bucket.Term), binary.BigEndian.AppendUint64(nil, bootTerm)),
			bucket.Put(bucket.Meta, []byte(bucket.ConfState), conf),
		})
	})
}

// storedConfState is the JSON of the confState record.
type storedConfState struct {
	Voters         []uint64 `json:"voters,omitempty"`
	Learners       []uint64 `json:"learners,omitempty"`
	VotersOutgoing []uint64 `json:"voters_outgoing,omitempty"`
	LearnersNext   []uint64 `json:"learners_next,omitempty"`
	AutoLeave      bool     `json:"auto_leave"`
}
