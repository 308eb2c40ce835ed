package backend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/steledb/stele/internal/base/bucket"
)

// Memory is a backend without a file: the oracle for Bolt, and the disk of
// simulated members. Its snapshots have a form of their own, which OpenMemory
// reads.
type Memory struct {
	mu     sync.Mutex
	state  memState // replaced as a whole by each commit; guarded by mu
	bytes  int64    // of all keys and values; guarded by mu
	closed bool     // guarded by mu

	openReads atomic.Int64
}

// memState is all buckets at one moment. Neither the map nor a tree changes
// once it can be seen.
type memState map[bucket.Name]*tree

var _ Backend = (*Memory)(nil)

// NewMemory returns an empty backend with all buckets.
func NewMemory() *Memory {
	m := &Memory{state: memState{}}
	for _, name := range bucket.AllNames() {
		m.state[name] = nil
	}
	return m
}

// Clone returns an independent backend with the same contents: the disk of a
// member at the moment it crashed.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{state: m.state, bytes: m.bytes}
}

func (m *Memory) now() (memState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("backend: memory: %w", ErrClosed)
	}
	return m.state, nil
}

// Load implements Backend.
func (m *Memory) Load(name bucket.Name, fn func(k, v []byte) error) error {
	state, err := m.now()
	if err != nil {
		return err
	}
	state[name].ascend(nil, func(k, v []byte) bool {
		err = fn(k, v)
		return err == nil
	})
	return err
}

// Get implements Backend.
func (m *Memory) Get(name bucket.Name, key []byte) ([]byte, error) {
	state, err := m.now()
	if err != nil {
		return nil, err
	}
	return bytes.Clone(state[name].get(key)), nil
}

// memStore changes one bucket of a state that nobody sees yet.
type memStore struct {
	state memState
	name  bucket.Name
	bytes *int64
}

var errEmptyKey = errors.New("empty key")

func (s memStore) Put(key, value []byte) error {
	if len(key) == 0 {
		return errEmptyKey
	}
	if value == nil {
		value = []byte{}
	}
	if err := s.Delete(key); err != nil {
		return err
	}
	*s.bytes += int64(len(key) + len(value))
	s.state[s.name] = s.state[s.name].put(key, value)
	return nil
}

func (s memStore) Delete(key []byte) error {
	if old := s.state[s.name].get(key); old != nil {
		*s.bytes -= int64(len(key) + len(old))
		s.state[s.name] = s.state[s.name].drop(key)
	}
	return nil
}

// Commit implements Backend.
func (m *Memory) Commit(batch Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("backend: commit to memory: %w", ErrClosed)
	}
	next, size := memState{}, m.bytes
	for name, t := range m.state {
		next[name] = t
	}
	open := func(name bucket.Name) (store, error) {
		if _, ok := next[name]; !ok {
			return nil, fmt.Errorf("no bucket %q", name)
		}
		return memStore{next, name, &size}, nil
	}
	if err := batch.apply(open, nil); err != nil {
		return fmt.Errorf("backend: commit to memory: %w", err)
	}
	m.state, m.bytes = next, size
	return nil
}

// Base implements Backend.
func (m *Memory) Base() (Base, error) {
	state, err := m.now()
	if err != nil {
		return nil, err
	}
	b := &memBase{records: state[bucket.Key], owner: m}
	b.refs.Store(1)
	m.openReads.Add(1)
	return b, nil
}

type memBase struct {
	records *tree
	owner   *Memory
	refs    atomic.Int64
}

func (b *memBase) Get(key []byte) []byte {
	b.mustLive()
	return b.records.get(key)
}

func (b *memBase) Ascend(from, to []byte, fn func(k, v []byte) bool) {
	b.mustLive()
	b.records.ascend(from, func(k, v []byte) bool {
		return (to == nil || bytes.Compare(k, to) < 0) && fn(k, v)
	})
}

func (b *memBase) mustLive() {
	if b.refs.Load() <= 0 {
		panic("backend: use of a released base")
	}
}

func (b *memBase) Retain() {
	if b.refs.Add(1) <= 1 {
		panic("backend: use of a released base")
	}
}

func (b *memBase) Release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		b.owner.openReads.Add(-1)
	case n < 0:
		panic("backend: base released more often than retained")
	}
}

// Hash implements Backend.
func (m *Memory) Hash(ignore func(b bucket.Name, key []byte) bool) (uint32, error) {
	state, err := m.now()
	if err != nil {
		return 0, err
	}
	sum := uint32(0)
	for _, name := range state.names() {
		sum = crc32.Update(sum, castagnoli, []byte(name))
		state[name].ascend(nil, func(k, v []byte) bool {
			if ignore == nil || !ignore(name, k) {
				sum = crc32.Update(sum, castagnoli, k)
				sum = crc32.Update(sum, castagnoli, v)
			}
			return true
		})
	}
	return sum, nil
}

func (s memState) names() []bucket.Name {
	names := make([]bucket.Name, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Defrag implements Backend: there is nothing to do.
func (m *Memory) Defrag(ctx context.Context) (DefragStats, error) {
	n := m.Size()
	return DefragStats{Before: n, After: n}, ctx.Err()
}

// Size implements Backend: the bytes of all keys and values.
func (m *Memory) Size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// SizeInUse implements Backend.
func (m *Memory) SizeInUse() int64 { return m.Size() }

// OpenReads implements Backend.
func (m *Memory) OpenReads() int64 { return m.openReads.Load() }

// Close implements Backend. What was committed stays, for Clone.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.openReads.Load() > 0 {
		return fmt.Errorf("backend: close memory: %w", ErrReadsOpen)
	}
	return nil
}

// The form of a memory snapshot, numbers as uvarints:
//
//	buckets, and for each: name length | name | pairs, and for each pair:
//	key length | key | value length | value

func (s memState) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	for _, name := range s.names() {
		b = appendBytes(b, []byte(name))
		pairs := 0
		s[name].ascend(nil, func(_, _ []byte) bool { pairs++; return true })
		b = binary.AppendUvarint(b, uint64(pairs))
		s[name].ascend(nil, func(k, v []byte) bool {
			b = appendBytes(appendBytes(b, k), v)
			return true
		})
	}
	return b
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// Snapshot implements Backend.
func (m *Memory) Snapshot() (Snapshot, error) {
	state, err := m.now()
	if err != nil {
		return nil, err
	}
	m.openReads.Add(1)
	return &memSnapshot{data: state.appendTo(nil), owner: m}, nil
}

type memSnapshot struct {
	data  []byte
	owner *Memory
	once  sync.Once
}

func (s *memSnapshot) Size() int64 { return int64(len(s.data)) }

func (s *memSnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.data)
	return int64(n), err
}

func (s *memSnapshot) Close() error {
	s.once.Do(func() { s.owner.openReads.Add(-1) })
	return nil
}

// OpenMemory reads a snapshot of a Memory. Buckets it does not have are empty.
func OpenMemory(r io.Reader) (*Memory, error) {
	m := NewMemory()
	in := bufio.NewReader(r)
	buckets, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, fmt.Errorf("backend: memory snapshot: %w", errors.Join(ErrCorrupt, err))
	}
	for range buckets {
		if err := m.readBucket(in); err != nil {
			return nil, fmt.Errorf("backend: memory snapshot: %w", errors.Join(ErrCorrupt, err))
		}
	}
	return m, nil
}

func (m *Memory) readBucket(in *bufio.Reader) error {
	name, err := readBytes(in)
	if err != nil {
		return err
	}
	pairs, err := binary.ReadUvarint(in)
	if err != nil {
		return err
	}
	s := memStore{m.state, bucket.Name(name), &m.bytes}
	if _, ok := m.state[s.name]; !ok {
		m.state[s.name] = nil
	}
	for range pairs {
		k, err := readBytes(in)
		if err != nil {
			return err
		}
		v, err := readBytes(in)
		if err != nil {
			return err
		}
		if err := s.Put(k, v); err != nil {
			return err
		}
	}
	return nil
}

// readBytes reads a length and so many bytes. Memory grows with what is really
// there, not with what the length claims.
func readBytes(in *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	if n > 1<<31 {
		return nil, fmt.Errorf("length %d", n)
	}
	var b bytes.Buffer
	got, err := io.CopyN(&b, in, int64(n))
	if err == io.EOF && uint64(got) < n {
		err = io.ErrUnexpectedEOF
	}
	if b.Len() == 0 {
		return []byte{}, err
	}
	return b.Bytes(), err
}
