package utl

import (
	"fmt"
	"hash/crc32"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/mvcc"
)

func (u *util) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "snapshot <subcommand>", Short: "Manages etcd node snapshots"}
	cmd.AddCommand(
		&cobra.Command{Use: "status <filename>", Short: "Gets backend snapshot status of a given file",
			Long: "Prints hash, revision, number of keys, size and storage version of a snapshot file.",
			Run: u.run(func(args []string) error {
				if len(args) != 1 {
					return badArgs("snapshot status requires exactly one argument")
				}
				st, err := readStatus(args[0])
				if err != nil {
					return err
				}
				return u.show(st.report())
			})},
		u.restoreCommand(),
	)
	return cmd
}

// status is what a backend file tells without a server. The names are those of
// its JSON.
type status struct {
	Hash      uint32 `json:"hash"`
	Revision  int64  `json:"revision"`
	TotalKey  int    `json:"totalKey"`
	TotalSize int64  `json:"totalSize"`
	Version   string `json:"version"` // "" before 3.6
}

func (s status) report() report {
	return report{
		json:   s,
		names:  []string{"Hash", "Revision", "Keys", "Size", "Version"},
		values: []any{s.Hash, s.Revision, s.TotalKey, s.TotalSize, s.Version},
		header: []string{"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"},
		cells: []string{
			fmt.Sprintf("%x", s.Hash), fmt.Sprint(s.Revision), fmt.Sprint(s.TotalKey),
			humanize.Bytes(uint64(s.TotalSize)), s.Version,
		},
	}
}

func readStatus(path string) (s status, err error) {
	if _, err := os.Stat(path); err != nil {
		return s, err
	}
	db, err := openReadOnly(path)
	if err != nil {
		return s, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if err := checkPages(tx); err != nil {
			return err
		}
		s.TotalSize = tx.Size()
		s.Version = string(metaValue(tx, bucket.StorageVersion))
		return s.walk(tx)
	})
	return s, err
}

// checkPages makes bbolt look at every page, so that damage is a sentence here
// and not a surprise at a restore.
func checkPages(tx *bolt.Tx) error {
	var found []string
	for err := range tx.Check() {
		found = append(found, err.Error())
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("snapshot file integrity check failed. %d errors found.\n%s", len(found), strings.Join(found, "\n"))
}

// walk hashes every bucket name and pair in file order, and counts keys on the
// way through the key bucket.
func (s *status) walk(tx *bolt.Tx) error {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	live := map[string]struct{}{}
	err := tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		h.Write(name)
		isKey := string(name) == string(bucket.Key)
		return b.ForEach(func(k, v []byte) error {
			h.Write(k)
			h.Write(v)
			if isKey {
				return s.count(live, k, v)
			}
			return nil
		})
	})
	s.Hash, s.TotalKey = h.Sum32(), len(live)
	return err
}

// count follows one record of the key bucket.
func (s *status) count(live map[string]struct{}, k, v []byte) error {
	rev, tombstone, err := mvcc.ParseKey(k)
	if err != nil {
		return fmt.Errorf("bucket %q: %w", bucket.Key, err)
	}
	s.Revision = rev.Main
	if len(v) == 0 {
		return nil // a revision bumped by a restore, no key
	}
	var kv mvccpb.KeyValue
	if err := proto.Unmarshal(v, &kv); err != nil {
		return fmt.Errorf("bucket %q, revision %d: %w", bucket.Key, rev.Main, err)
	}
	if tombstone {
		delete(live, string(kv.Key))
	} else {
		live[string(kv.Key)] = struct{}{}
	}
	return nil
}
