package bench

import (
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"math/rand/v2"
)

// keyspace makes keys: a number from a space, as a varint at the start of a
// key of a given size. These are the keys of etcd's benchmark.
type keyspace struct {
	size       int
	space      int
	sequential bool
}

func (k keyspace) check() error {
	if k.space <= 0 {
		return errors.New("expected positive --key-space-size")
	}
	if k.size < 1 {
		return errors.New("expected positive --key-size")
	}
	if n := len(binary.AppendVarint(nil, int64(k.space-1))); k.size < n {
		return errors.New("--key-size is too small for --key-space-size")
	}
	return nil
}

// key writes the key of request i into b, which has k.size bytes.
func (k keyspace) key(b []byte, i int64, r *rand.Rand) {
	n := r.IntN(k.space)
	if k.sequential {
		n = int(i % int64(k.space))
	}
	clear(b)
	binary.PutVarint(b, int64(n))
}

func randomBytes(n int) []byte {
	b := make([]byte, max(n, 0))
	crand.Read(b) // never fails, see its documentation
	return b
}
