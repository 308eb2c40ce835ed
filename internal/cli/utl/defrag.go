package utl

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	bolt "go.etcd.io/bbolt"
)

// defragTxBytes bounds one transaction of the copy.
const defragTxBytes = 64 << 10

func (u *util) defragCommand() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{Use: "defrag", Short: "Defragments the storage of the etcd",
		Run: u.run(func([]string) error {
			if err := u.defrag(dbPath(dataDir)); err != nil {
				return fmt.Errorf("Failed to defragment etcd data[%s] (%w)", dataDir, err) //lint:ignore ST1005 as etcdutl says it
			}
			return nil
		})}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "Required. Defragments a data directory not in use by etcd.")
	_ = cmd.MarkFlagRequired("data-dir")
	return cmd
}

// room is how much of a file is used.
type room struct{ size, inUse int64 }

func roomOf(db *bolt.DB) (r room, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		r.size = tx.Size()
		r.inUse = r.size - int64(db.Stats().FreePageN)*int64(db.Info().PageSize)
		return nil
	})
	return r, err
}

// defrag copies the file beside itself and renames the copy, which is whole
// and synced by then: a crash leaves the old file or the new one.
func (u *util) defrag(path string) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	start := time.Now()
	db, err := u.openWritable(path, mmapSize, u.lockTimeout)
	if err != nil {
		return err
	}
	defer func() { db.Close() }()
	before, err := roomOf(db)
	if err != nil {
		return err
	}
	u.log.Info("defragmenting", "path", path,
		"current-db-size-bytes", before.size, "current-db-size", humanize.Bytes(uint64(before.size)),
		"current-db-size-in-use-bytes", before.inUse, "current-db-size-in-use", humanize.Bytes(uint64(before.inUse)))

	if err := rewrite(db, path); err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if db, err = u.openWritable(path, mmapSize, u.lockTimeout); err != nil {
		return err
	}
	after, err := roomOf(db)
	if err != nil {
		return err
	}
	u.log.Info("finished defragmenting directory", "path", path,
		"current-db-size-bytes-diff", after.size-before.size,
		"current-db-size-bytes", after.size, "current-db-size", humanize.Bytes(uint64(after.size)),
		"current-db-size-in-use-bytes-diff", after.inUse-before.inUse,
		"current-db-size-in-use-bytes", after.inUse, "current-db-size-in-use", humanize.Bytes(uint64(after.inUse)),
		"took", time.Since(start))
	return nil
}

// rewrite puts a compact copy of db in its place. db keeps reading the old file.
func rewrite(db *bolt.DB, path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "db.tmp.*")
	if err != nil {
		return err
	}
	tmp := f.Name()
	f.Close()
	defer os.Remove(tmp) // nothing is left to remove when all went well
	dst, err := bolt.Open(tmp, 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true})
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := bolt.Compact(dst, db, defragTxBytes); err != nil {
		return err
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	if err := dst.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
