package backend

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"github.com/steledb/stele/internal/base/bucket"
)

const (
	// chunkBytes of pairs are read and written at a time: enough to make a
	// transaction worth while, little enough that the pages it read are pinned
	// for some tens of milliseconds only.
	chunkBytes = 4 << 20

	// deltaBytesMax bounds the commits that wait to be replayed. They are what
	// arrived while one chunk was copied or the copy was synced, so a flusher
	// that exceeds it writes faster than the copy can, and the copy gives up.
	deltaBytesMax = 256 << 20
)

var errOutrun = errors.New("commits arrive faster than they can be replayed")

// fileCopy is a new file that becomes equal to the current one, from its first
// bucket and key to its last:
//
//	alarm auth ... key             lease ... meta
//	[copied      ...   |  not yet               ]
//	               (at, last)
//
// A commit is relevant to the copy where it changes keys before the position;
// beyond it the next read sees the change anyway.
type fileCopy struct {
	path       string
	h          *handle
	chunkBytes int64
	deltaMax   int64

	names []bucket.Name // in the order of the file

	at   int    // buckets before names[at] are copied
	last []byte // in names[at], keys up to this one are; nil if none is

	delta      []Batch // commits since the last read began; guarded by Bolt.commitMu
	deltaBytes int64   // their size; guarded by Bolt.commitMu
}

// newCopyLocked creates an empty file beside the current one, with its buckets.
func (b *Bolt) newCopyLocked(mapped int64) (*fileCopy, error) {
	cur, err := b.current()
	if err != nil {
		return nil, err
	}
	defer cur.release()
	b.tmpSeq++
	c := &fileCopy{
		path:       fmt.Sprintf("%s%s%d", b.path, tmpInfix, b.tmpSeq),
		chunkBytes: b.chunkBytes, deltaMax: b.deltaBytesMax,
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := openLocked(c.path, false, lockRetry)
	if err != nil {
		return nil, err
	}
	if c.h, err = openHandle(c.path, f, b.opt, max(mapped, cur.mapped)); err != nil {
		return nil, errors.Join(err, os.Remove(c.path))
	}
	c.h.db.NoSync = true // until it takes the name; synced as a whole before
	if err := errors.Join(b.view(c.readNames), c.h.db.Update(c.createBuckets)); err != nil {
		c.discard()
		return nil, err
	}
	return c, nil
}

func (c *fileCopy) readNames(tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		c.names = append(c.names, bucket.Name(name))
		return nil
	})
}

func (c *fileCopy) createBuckets(tx *bbolt.Tx) error {
	for _, name := range c.names {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return nil
}

// discard removes a copy that will not be used.
func (c *fileCopy) discard() {
	_ = os.Remove(c.path)
	_ = c.h.close()
}

func (c *fileCopy) done() bool { return c.at == len(c.names) }

// has reports whether a key is behind the position.
func (c *fileCopy) has(name bucket.Name, key []byte) bool {
	switch {
	case c.done() || name < c.names[c.at]:
		return true
	case name == c.names[c.at] && c.last != nil:
		return bytes.Compare(key, c.last) <= 0
	}
	return false
}

// noteLocked remembers a commit for the copy.
func (c *fileCopy) noteLocked(batch Batch) {
	c.deltaBytes += batch.bytes()
	if c.deltaBytes > c.deltaMax {
		c.delta = nil
		return
	}
	c.delta = append(c.delta, batch)
}

// takeDeltaLocked empties the list of commits.
func (c *fileCopy) takeDeltaLocked() ([]Batch, error) {
	if c.deltaBytes > c.deltaMax {
		return nil, errOutrun
	}
	delta := c.delta
	c.delta, c.deltaBytes = nil, 0
	return delta, nil
}

func (batch *Batch) bytes() (n int64) {
	const perChange = 64 // slice headers and the like
	for _, r := range batch.Records {
		n += int64(len(r.Key)+len(r.Value)) + perChange
	}
	for _, k := range batch.Deletes {
		n += int64(len(k)) + perChange
	}
	for _, op := range batch.Ops {
		n += int64(len(op.Key)+len(op.Value)) + perChange
	}
	return n
}

// advance replays delta behind the position and copies the next chunk from src,
// in one transaction.
func (c *fileCopy) advance(src *bbolt.Tx, delta []Batch) error {
	dst, err := c.h.db.Begin(true)
	if err != nil {
		return err
	}
	if err := c.advanceIn(dst, src, delta); err != nil {
		return errors.Join(fmt.Errorf("copy to %s: %w", c.path, err), dst.Rollback())
	}
	if err := dst.Commit(); err != nil {
		return fmt.Errorf("copy to %s: %w", c.path, err)
	}
	return nil
}

func (c *fileCopy) advanceIn(dst, src *bbolt.Tx, delta []Batch) error {
	for i := range delta {
		if err := delta[i].apply(opener(dst), c.has); err != nil {
			return err
		}
	}
	for left := int(c.chunkBytes); left > 0 && !c.done(); {
		n, end, err := c.copyBucket(dst, src, left)
		if err != nil {
			return err
		}
		left -= n
		if end {
			c.at, c.last = c.at+1, nil
		}
	}
	return nil
}

// copyBucket copies pairs of the bucket at the position until their bytes reach
// limit, and reports the bytes and whether the bucket ended.
func (c *fileCopy) copyBucket(dst, src *bbolt.Tx, limit int) (n int, end bool, err error) {
	name := c.names[c.at]
	from, to := src.Bucket([]byte(name)), dst.Bucket([]byte(name))
	to.FillPercent = keyFill // pairs come in ascending order
	cur := from.Cursor()
	k, v := cur.Seek(c.last)
	if k != nil && c.last != nil && bytes.Equal(k, c.last) {
		k, v = cur.Next()
	}
	var last []byte
	for ; k != nil && n < limit; k, v = cur.Next() {
		if v == nil {
			return n, false, fmt.Errorf("bucket %s holds a bucket %q", name, k)
		}
		if err := to.Put(k, v); err != nil {
			return n, false, fmt.Errorf("put %x into bucket %s: %w", k, name, err)
		}
		n += len(k) + len(v)
		last = k
	}
	if last != nil {
		c.last = bytes.Clone(last)
	}
	return n, k == nil, nil
}
