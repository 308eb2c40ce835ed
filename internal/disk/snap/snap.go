package snap

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/files"
	"github.com/steledb/stele/internal/base/raftpb"
)

const (
	fileSuffix   = ".snap"
	dbSuffix     = ".snap.db"
	brokenSuffix = ".broken"
	tmpSuffix    = ".tmp"

	filePerm fs.FileMode = 0o666 // minus umask, as etcd creates them
)

// Outcomes that a caller may expect; texts as in etcd.
var (
	ErrNoSnapshot = errors.New("snap: no available snapshot")
	ErrEmpty      = errors.New("snap: empty snapshot")
	ErrCRC        = errors.New("snap: crc mismatch")
	ErrMalformed  = errors.New("snap: malformed snapshot")
)

// Ref names one snapshot.
type Ref struct{ Term, Index uint64 }

// FileName is <term>-<index>.snap, each as 16 hex digits, so that name order is
// age.
func (r Ref) FileName() string { return fmt.Sprintf("%016x-%016x%s", r.Term, r.Index, fileSuffix) }

// DBFileName is the name of the bbolt file that came with a snapshot from the
// leader, until it is put in place.
func DBFileName(index uint64) string { return fmt.Sprintf("%016x%s", index, dbSuffix) }

func parseFileName(name string) (Ref, bool) {
	stem, isSnap := strings.CutSuffix(name, fileSuffix)
	if !isSnap || len(stem) != 33 || stem[16] != '-' {
		return Ref{}, false
	}
	term, errTerm := strconv.ParseUint(stem[:16], 16, 64)
	index, errIndex := strconv.ParseUint(stem[17:], 16, 64)
	return Ref{Term: term, Index: index}, errTerm == nil && errIndex == nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode gives the content of a .snap file, a snappb.Snapshot:
//
//	1 crc   varint: CRC-32C of data
//	2 data  bytes:  raftpb.Snapshot
func Encode(s *raftpb.Snapshot) []byte {
	data := s.Marshal()
	crc := crc32.Checksum(data, castagnoli)
	b := make([]byte, 0, len(data)+2+protowire.SizeVarint(uint64(crc))+protowire.SizeVarint(uint64(len(data))))
	b = protowire.AppendVarint(append(b, 1<<3|byte(protowire.VarintType)), uint64(crc))
	return protowire.AppendBytes(append(b, 2<<3|byte(protowire.BytesType)), data)
}

// Decode reads the content of a .snap file. The snapshot's data aliases b.
func Decode(b []byte) (raftpb.Snapshot, error) {
	if len(b) == 0 {
		return raftpb.Snapshot{}, ErrEmpty
	}
	crc, data, err := decodeFrame(b)
	if err != nil {
		return raftpb.Snapshot{}, err
	}
	if len(data) == 0 || crc == 0 {
		return raftpb.Snapshot{}, ErrEmpty
	}
	if got := crc32.Checksum(data, castagnoli); got != crc {
		return raftpb.Snapshot{}, fmt.Errorf("%w: expected: %x computed: %x", ErrCRC, crc, got)
	}
	var s raftpb.Snapshot
	if err := s.Unmarshal(data); err != nil {
		return raftpb.Snapshot{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return s, nil
}

func decodeFrame(b []byte) (crc uint32, data []byte, err error) {
	for len(b) > 0 {
		num, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, nil, ErrMalformed
		}
		b = b[n:]
		var v uint64
		switch {
		case num == 1 && wire == protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
			crc = uint32(v)
		case num == 2 && wire == protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		case num <= 2:
			n = -1
		default:
			n = protowire.ConsumeFieldValue(num, wire, b)
		}
		if n < 0 {
			return 0, nil, ErrMalformed
		}
		b = b[n:]
	}
	return crc, data, nil
}

// Events are the store's reports; nil fields are skipped.
type Events struct {
	Saved   func(SaveTimes)              // a snapshot is safe on disk
	Broken  func(path string, err error) // a damaged file was set aside
	Ignored func(path string)            // a file that does not belong here
}

// SaveTimes tells where the time of one Save went.
type SaveTimes struct {
	Encode time.Duration
	Write  time.Duration // write, sync, rename and directory sync
}

func (e *Events) saved(times SaveTimes) {
	if e.Saved != nil {
		e.Saved(times)
	}
}

func (e *Events) broken(path string, err error) {
	if e.Broken != nil {
		e.Broken(path, err)
	}
}

func (e *Events) ignored(path string) {
	if e.Ignored != nil {
		e.Ignored(path)
	}
}

// Store is the directory of .snap files. It holds no state of its own; calls
// that change the directory must not overlap.
type Store struct {
	fs     files.FS
	dir    string
	events Events
}

// NewStore uses dir, which must exist by the first call.
func NewStore(fsys files.FS, dir string, events Events) *Store {
	return &Store{fs: fsys, dir: dir, events: events}
}

// Save writes the snapshot so that after a crash its file is whole or absent,
// and is certainly there once Save has returned.
func (s *Store) Save(snapshot *raftpb.Snapshot) error {
	if snapshot.IsEmpty() {
		return fmt.Errorf("snap: save: %w", ErrEmpty)
	}
	ref := Ref{Term: snapshot.Metadata.Term, Index: snapshot.Metadata.Index}
	path := filepath.Join(s.dir, ref.FileName())
	begin := time.Now()
	content := Encode(snapshot)
	encoded := time.Now()
	if err := files.WriteFileAtomic(s.fs, path, path+tmpSuffix, content, filePerm); err != nil {
		return fmt.Errorf("snap: save: %w", err)
	}
	s.events.saved(SaveTimes{Encode: encoded.Sub(begin), Write: time.Since(encoded)})
	return nil
}

// Refs lists the snapshots by name, newest first.
func (s *Store) Refs() ([]Ref, error) {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("snap: list: %w", err)
	}
	var refs []Ref
	for _, entry := range entries {
		if ref, ok := parseFileName(entry.Name()); ok {
			refs = append(refs, ref)
		} else if isForeign(entry.Name()) {
			s.events.ignored(filepath.Join(s.dir, entry.Name()))
		}
	}
	slices.Reverse(refs)
	return refs, nil
}

// isForeign tells names that no part of a member puts into its snap directory.
func isForeign(name string) bool {
	return name != "db" && !strings.HasPrefix(name, "db.tmp") && !strings.HasPrefix(name, "tmp") &&
		!strings.HasSuffix(name, dbSuffix) && !strings.HasSuffix(name, tmpSuffix) && !strings.HasSuffix(name, brokenSuffix)
}

// Load reads one snapshot.
func (s *Store) Load(ref Ref) (raftpb.Snapshot, error) {
	path := filepath.Join(s.dir, ref.FileName())
	content, err := files.ReadFile(s.fs, path)
	if err != nil {
		return raftpb.Snapshot{}, fmt.Errorf("snap: load: %w", err)
	}
	snapshot, err := Decode(content)
	if err == nil && ref != (Ref{Term: snapshot.Metadata.Term, Index: snapshot.Metadata.Index}) {
		err = fmt.Errorf("%w: it is of term %d, index %d", ErrMalformed, snapshot.Metadata.Term, snapshot.Metadata.Index)
	}
	if err != nil {
		return raftpb.Snapshot{}, fmt.Errorf("snap: load %s: %w", path, err)
	}
	return snapshot, nil
}

// Newest returns the newest intact snapshot that wanted accepts, usually those
// with a usable mark in the log; nil accepts all. Damaged files on the way are
// renamed to .broken. Without any it returns ErrNoSnapshot.
func (s *Store) Newest(wanted func(Ref) bool) (raftpb.Snapshot, error) {
	refs, err := s.Refs()
	if err != nil {
		return raftpb.Snapshot{}, err
	}
	for _, ref := range refs {
		snapshot, err := s.Load(ref)
		if isDamage(err) {
			if err := s.setAside(ref, err); err != nil {
				return raftpb.Snapshot{}, err
			}
			continue
		}
		if err != nil {
			return raftpb.Snapshot{}, err
		}
		if wanted == nil || wanted(ref) {
			return snapshot, nil
		}
	}
	return raftpb.Snapshot{}, ErrNoSnapshot
}

func isDamage(err error) bool {
	return errors.Is(err, ErrEmpty) || errors.Is(err, ErrCRC) || errors.Is(err, ErrMalformed)
}

func (s *Store) setAside(ref Ref, reason error) error {
	path := filepath.Join(s.dir, ref.FileName())
	if err := s.fs.Rename(path, path+brokenSuffix); err != nil {
		return fmt.Errorf("snap: set aside: %w", err)
	}
	s.events.broken(path, reason)
	return nil
}

// Purge removes the oldest .snap files and the oldest .snap.db files beyond keep
// of each and returns the paths it removed.
func (s *Store) Purge(keep int) (removed []string, err error) {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("snap: purge: %w", err)
	}
	for _, suffix := range []string{fileSuffix, dbSuffix} {
		var names []string
		for _, entry := range entries { // in name order: oldest first
			if strings.HasSuffix(entry.Name(), suffix) {
				names = append(names, entry.Name())
			}
		}
		for _, name := range names[:max(0, len(names)-keep)] {
			path := filepath.Join(s.dir, name)
			if err := s.fs.Remove(path); err != nil {
				return removed, fmt.Errorf("snap: purge: %w", err)
			}
			removed = append(removed, path)
		}
	}
	return removed, nil
}

// RemoveTemporary removes what a crash left unfinished: half-written .snap files
// and received databases under their temporary names. It is called before
// anything is written.
func (s *Store) RemoveTemporary() (removed []string, err error) {
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("snap: remove temporary files: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !strings.HasPrefix(name, "tmp") && !strings.HasSuffix(name, fileSuffix+tmpSuffix) {
			continue
		}
		path := filepath.Join(s.dir, name)
		if err := s.fs.Remove(path); err != nil {
			return removed, fmt.Errorf("snap: remove temporary files: %w", err)
		}
		removed = append(removed, path)
	}
	return removed, nil
}
