package utl

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/logs"
)

// The layout of a member's data directory.
func snapDir(dataDir string) string { return filepath.Join(dataDir, "member", "snap") }
func walDir(dataDir string) string  { return filepath.Join(dataDir, "member", "wal") }
func dbPath(dataDir string) string  { return filepath.Join(snapDir(dataDir), "db") }

// mmapSize is the address space that is reserved for a file unless told otherwise.
const mmapSize = 10 << 30

// openWritable opens a backend file to change it. bbolt itself reports it in
// the log. timeout 0 waits for ever for a lock.
func (u *util) openWritable(path string, mmap uint64, timeout time.Duration) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: timeout, NoFreelistSync: true, InitialMmapSize: int(mmap),
		MmapFlags: mmapFlags,
		Logger:    &boltLog{logs.Named(u.log, "bbolt")},
	})
	if err != nil {
		return nil, fmt.Errorf("failed to open database %s: %w", path, err)
	}
	return db, nil
}

// openReadOnly opens a file to look at it. A digest behind the pages, as in
// snapshot files, does no harm and stays valid.
func openReadOnly(path string) (*bolt.DB, error) {
	return bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
}

// boltLog gives bbolt's remarks to our log.
type boltLog struct{ *slog.Logger }

func (l *boltLog) Debug(v ...any)                 {}
func (l *boltLog) Debugf(format string, v ...any) {}
func (l *boltLog) Info(v ...any)                  { l.Logger.Info(fmt.Sprint(v...)) }
func (l *boltLog) Infof(format string, v ...any)  { l.Logger.Info(fmt.Sprintf(format, v...)) }
func (l *boltLog) Warning(v ...any)               { l.Logger.Warn(fmt.Sprint(v...)) }
func (l *boltLog) Warningf(format string, v ...any) {
	l.Logger.Warn(fmt.Sprintf(format, v...))
}
func (l *boltLog) Error(v ...any)                 { l.Logger.Error(fmt.Sprint(v...)) }
func (l *boltLog) Errorf(format string, v ...any) { l.Logger.Error(fmt.Sprintf(format, v...)) }
func (l *boltLog) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (l *boltLog) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (l *boltLog) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (l *boltLog) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }

// bucketOf is a bucket of a file that must have it to be etcd's.
func bucketOf(tx *bolt.Tx, name bucket.Name) (*bolt.Bucket, error) {
	b := tx.Bucket([]byte(name))
	if b == nil {
		return nil, fmt.Errorf("%s: bucket %q does not exist", tx.DB().Path(), name)
	}
	return b, nil
}

// metaValue is a value of the meta bucket, nil if it or the bucket is not there.
func metaValue(tx *bolt.Tx, key string) []byte {
	if b := tx.Bucket([]byte(bucket.Meta)); b != nil {
		return b.Get([]byte(key))
	}
	return nil
}

// bigEndian is a number as meta values hold it; anything else counts as 0.
func bigEndian(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// writeOps carries changes out in order, in one transaction.
func writeOps(tx *bolt.Tx, ops []bucket.Op) error {
	for _, op := range ops {
		b, err := tx.CreateBucketIfNotExists([]byte(op.Bucket))
		if err != nil {
			return err
		}
		if op.Delete {
			err = b.Delete(op.Key)
		} else {
			err = b.Put(op.Key, op.Value)
		}
		if err != nil {
			return fmt.Errorf("%s: bucket %q: %w", tx.DB().Path(), op.Bucket, err)
		}
	}
	return nil
}
