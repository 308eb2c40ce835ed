package utl

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/cli/flagval"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/disk/backend"
)

func (u *util) hashKVCommand() *cobra.Command {
	var rev int64
	cmd := &cobra.Command{Use: "hashkv <filename>", Short: "Prints the KV history hash of a given file", Args: cobra.ExactArgs(1),
		Run: u.run(func(args []string) error {
			h, err := hashFile(args[0], rev)
			if err != nil {
				return err
			}
			return u.show(hashReport(h))
		})}
	flagval.Int64(cmd.Flags(), &rev, "rev", 0, "maximum revision to hash (default: latest revision)")
	return cmd
}

// hashFile opens the file as a store, read-only, and hashes it as a member would.
func hashFile(path string, rev int64) (mvcc.KeyHash, error) {
	if _, err := os.Stat(path); err != nil {
		return mvcc.KeyHash{}, err
	}
	be, err := backend.Open(path, backend.Options{ReadOnly: true})
	if err != nil {
		return mvcc.KeyHash{}, err
	}
	defer be.Close()
	base, err := be.Base()
	if err != nil {
		return mvcc.KeyHash{}, err
	}
	defer base.Release()
	opt := mvcc.Options{}
	if opt.FinishedCompact, err = compactRev(be, bucket.FinishedCompactRev); err != nil {
		return mvcc.KeyHash{}, err
	}
	if opt.ScheduledCompact, err = compactRev(be, bucket.ScheduledCompactRev); err != nil {
		return mvcc.KeyHash{}, err
	}
	store, err := mvcc.Open(base, opt)
	if err != nil {
		return mvcc.KeyHash{}, err
	}
	view := store.View()
	defer view.Close()
	return view.HashKV(rev)
}

func compactRev(be backend.Backend, key string) (int64, error) {
	v, err := be.Get(bucket.Meta, []byte(key))
	if err != nil || v == nil {
		return mvcc.Never, err
	}
	rev, _, err := mvcc.ParseKey(v)
	return rev.Main, err
}

func hashReport(h mvcc.KeyHash) report {
	return report{
		json: struct {
			Hash            uint32 `json:"hash"`
			HashRevision    int64  `json:"hashRevision"`
			CompactRevision int64  `json:"compactRevision"`
		}{h.Hash, h.Rev, h.CompactRev},
		names:  []string{"Hash", "Hash revision", "Compact revision"},
		values: []any{h.Hash, h.Rev, h.CompactRev},
		header: []string{"HASH", "HASH REVISION", "COMPACT REVISION"},
		cells:  []string{fmt.Sprint(h.Hash), fmt.Sprint(h.Rev), fmt.Sprint(h.CompactRev)},
	}
}
