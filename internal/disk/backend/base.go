package backend

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/steledb/stele/internal/base/bucket"
)

// boltRead is a read transaction with a count of its users. The bucket is looked
// up once, here, because that is the one step of reading that bbolt does not
// allow from several goroutines; cursors on it are independent of each other.
type boltRead struct {
	owner *Bolt
	h     *handle
	tx    *bbolt.Tx
	key   *bbolt.Bucket
	refs  atomic.Int64
}

// Base implements Backend.
func (b *Bolt) Base() (Base, error) { return b.beginRead() }

// Snapshot implements Backend.
func (b *Bolt) Snapshot() (Snapshot, error) {
	r, err := b.beginRead()
	if err != nil {
		return nil, err
	}
	return &boltSnapshot{boltRead: r, size: r.tx.Size()}, nil
}

func (b *Bolt) beginRead() (*boltRead, error) {
	b.openReads.Add(1) // before the file is looked up, so that Close sees every read of it
	h, err := b.current()
	if err != nil {
		b.openReads.Add(-1)
		return nil, err
	}
	tx, err := h.db.Begin(false)
	if err != nil {
		h.release()
		b.openReads.Add(-1)
		return nil, fmt.Errorf("backend: read %s: %w", b.path, err)
	}
	r := &boltRead{owner: b, h: h, tx: tx, key: tx.Bucket([]byte(bucket.Key))}
	r.refs.Store(1)
	return r, nil
}

func (r *boltRead) Get(key []byte) []byte {
	if r.key == nil {
		return nil
	}
	return r.key.Get(key)
}

func (r *boltRead) Ascend(from, to []byte, fn func(k, v []byte) bool) {
	if r.key == nil {
		return
	}
	c := r.key.Cursor()
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if to != nil && bytes.Compare(k, to) >= 0 || !fn(k, v) {
			return
		}
	}
}

func (r *boltRead) Retain() {
	if r.refs.Add(1) <= 1 {
		panic("backend: use of a released base")
	}
}

func (r *boltRead) Release() {
	switch n := r.refs.Add(-1); {
	case n == 0:
		_ = r.tx.Rollback() // of a read transaction: never fails
		r.h.release()
		r.owner.openReads.Add(-1)
	case n < 0:
		panic("backend: base released more often than retained")
	}
}

// boltSnapshot is a boltRead with one user who copies pages.
type boltSnapshot struct {
	*boltRead
	size int64
	once sync.Once
}

func (s *boltSnapshot) Size() int64 { return s.size }

// WriteTo copies the pages as they are, holes included: the fastest copy, and
// one whose length is known beforehand.
func (s *boltSnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := s.tx.WriteTo(w)
	if err != nil {
		return n, fmt.Errorf("backend: copy %s: %w", s.owner.path, err)
	}
	return n, nil
}

func (s *boltSnapshot) Close() error {
	s.once.Do(s.Release)
	return nil
}
