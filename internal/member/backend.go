package member

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/disk/backend"
)

// currentBackend is the backend that the member uses now. A snapshot from the
// leader puts another in its place; a call that comes upon the old one when it
// is closed waits for the new one.
type currentBackend struct {
	now atomic.Pointer[opened]
}

// opened is one backend.
type opened struct {
	backend.Backend
	once sync.Once
	over chan struct{} // closed when there is a successor, or will be none
}

func newCurrentBackend(b backend.Backend) *currentBackend {
	c := &currentBackend{}
	c.now.Store(&opened{Backend: b, over: make(chan struct{})})
	return c
}

// replace closes the backend, has open make the next and goes on with it.
func (c *currentBackend) replace(open func() (backend.Backend, error)) error {
	old := c.now.Load()
	defer old.end()
	if err := old.Close(); err != nil && !errors.Is(err, backend.ErrReadsOpen) {
		return err
	}
	next, err := open()
	if err != nil {
		return err
	}
	c.now.Store(&opened{Backend: next, over: make(chan struct{})})
	return nil
}

func (o *opened) end() { o.once.Do(func() { close(o.over) }) }

// do calls f with the backend, and again with its successor if that is why it
// was closed.
func (c *currentBackend) do(f func(backend.Backend) error) error {
	for {
		o := c.now.Load()
		err := f(o.Backend)
		if !errors.Is(err, backend.ErrClosed) {
			return err
		}
		<-o.over
		if c.now.Load() == o {
			return err
		}
	}
}

// Close closes the backend for good.
func (c *currentBackend) Close() error {
	o := c.now.Load()
	defer o.end()
	return o.Close()
}

func (c *currentBackend) Load(name bucket.Name, fn func(k, v []byte) error) error {
	return c.do(func(b backend.Backend) error { return b.Load(name, fn) })
}

func (c *currentBackend) Get(name bucket.Name, key []byte) (value []byte, err error) {
	err = c.do(func(b backend.Backend) (err error) { value, err = b.Get(name, key); return err })
	return value, err
}

func (c *currentBackend) Commit(batch backend.Batch) error { return c.now.Load().Commit(batch) }

func (c *currentBackend) Base() (base backend.Base, err error) {
	err = c.do(func(b backend.Backend) (err error) { base, err = b.Base(); return err })
	return base, err
}

func (c *currentBackend) Snapshot() (s backend.Snapshot, err error) {
	err = c.do(func(b backend.Backend) (err error) { s, err = b.Snapshot(); return err })
	return s, err
}

func (c *currentBackend) Hash(ignore func(b bucket.Name, key []byte) bool) (sum uint32, err error) {
	err = c.do(func(b backend.Backend) (err error) { sum, err = b.Hash(ignore); return err })
	return sum, err
}

func (c *currentBackend) Defrag(ctx context.Context) (backend.DefragStats, error) {
	return c.now.Load().Defrag(ctx)
}

func (c *currentBackend) Size() int64      { return c.now.Load().Size() }
func (c *currentBackend) SizeInUse() int64 { return c.now.Load().SizeInUse() }
func (c *currentBackend) OpenReads() int64 { return c.now.Load().OpenReads() }
