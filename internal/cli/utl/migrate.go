package utl

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	bolt "go.etcd.io/bbolt"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/core/cluster"
)

// The storage versions there are. 3.5 is the one without a record of it.
var (
	oldestStorage = cluster.Version{Major: 3, Minor: 5}
	newestStorage = cluster.Version{Major: 3, Minor: 7}
)

func (u *util) migrateCommand() *cobra.Command {
	var dataDir, target string
	var force bool
	cmd := &cobra.Command{Use: "migrate", Short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
		Run: u.run(func([]string) error {
			v, err := parseMigrateTarget(target)
			if err != nil {
				return err
			}
			return u.migrate(dbPath(dataDir), v)
		})}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "Path to the etcd data dir")
	cmd.Flags().StringVar(&target, "target-version", "", `Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.`)
	cmd.Flags().BoolVar(&force, "force", false, "Ignore migration failure and forcefully override storage version. Not recommended.")
	_ = cmd.MarkFlagRequired("data-dir")
	_ = cmd.MarkFlagRequired("target-version")
	return cmd
}

func parseMigrateTarget(text string) (cluster.Version, error) {
	major, minor, ok := strings.Cut(text, ".")
	v := cluster.Version{}
	var errMajor, errMinor error
	v.Major, errMajor = strconv.ParseInt(major, 10, 64)
	v.Minor, errMinor = strconv.ParseInt(minor, 10, 64)
	if !ok || errors.Join(errMajor, errMinor) != nil {
		return v, badArgs("wrong target version format, expected \"X.Y\", got %q", text)
	}
	if v.Less(oldestStorage) {
		return v, badArgs("target version %q not supported. Minimal \"%s\"", text, oldestStorage.Short())
	}
	return v, nil
}

// migrate sets the storage version of a file. The versions differ in nothing
// but the record of it, so there is nothing else to move, and nothing that
// --force would have to override.
func (u *util) migrate(path string, target cluster.Version) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	db, err := u.openWritable(path, mmapSize, u.lockTimeout)
	if err != nil {
		return err
	}
	defer db.Close()
	current, err := storageVersion(db)
	if err != nil {
		return err
	}
	if current == target {
		u.log.Info("storage version up-to-date", "storage-version", target.Short())
		return nil
	}
	for _, v := range []cluster.Version{current, target} {
		if newestStorage.Less(v) {
			return fmt.Errorf("cannot create migration plan: version %q is not supported", v)
		}
	}
	op := bucket.Put(bucket.Meta, []byte(bucket.StorageVersion), []byte(target.String()))
	if target == oldestStorage {
		op = bucket.Drop(bucket.Meta, []byte(bucket.StorageVersion))
	}
	if err := db.Update(func(tx *bolt.Tx) error { return writeOps(tx, []bucket.Op{op}) }); err != nil {
		return err
	}
	u.log.Info("updated storage version", "new-storage-version", target.String())
	return nil
}

func storageVersion(db *bolt.DB) (v cluster.Version, err error) {
	err = db.View(func(tx *bolt.Tx) error {
		term := bigEndian(metaValue(tx, bucket.Term))
		v, err = cluster.StorageVersion(string(metaValue(tx, bucket.StorageVersion)), term)
		return err
	})
	if err == nil && v.IsZero() {
		err = errors.New("the file has no term information")
	}
	if err != nil {
		return v, fmt.Errorf("cannot detect storage schema version: %w", err)
	}
	return v, nil
}
