// Package kv evaluates the requests of the KV service: ranges, puts, deletions
// and transactions, with every option they have.
//
// It is pure: a request, a Reader or Writer and the leases come in; a response
// comes out, and changes go to the Writer. Each request is checked in two
// steps. The checks of its form need no state (CheckRange, CheckPut,
// CheckDelete, CheckTxn, CheckStream) and run before it is proposed. The checks
// against the state run at evaluation, all of them before the first change, so
// that an error leaves nothing behind.
//
// Responses hold only a revision in their headers; the edge adds who answers.
// Errors are sentinels with the text users see; the edge gives them codes.
// Permissions, quotas, raft and the wire are for others.
package kv

import (
	"errors"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
)

// Reader is a store at one moment. *mvcc.View is one, and so is *mvcc.Txn, which
// sees its own changes.
type Reader interface {
	// Rev is the revision of the newest change that is visible.
	Rev() int64
	// CompactRev is the oldest revision that can be read, mvcc.Never if all can.
	CompactRev() int64
	// Get returns a key as it was at a revision; at <= 0 means now.
	Get(key []byte, at int64) (mvcc.Hit, bool, error)
	// Count counts the keys of a span, cheaply at the current revision.
	Count(span keys.Span, at int64) (int64, error)
	// Scan visits the keys of a span in key order until fn returns false.
	Scan(span keys.Span, at int64, fn func(mvcc.Hit) bool) error
	// Load returns the encoded mvccpb.KeyValue that was written at mod. The
	// bytes are shared and valid while the reader is.
	Load(mod mvcc.Rev) ([]byte, error)
}

// Writer is a transaction on the store; all its changes become one revision.
type Writer interface {
	Reader
	Put(key, value []byte, lease int64) mvcc.Rev
	Delete(key []byte) (deleted bool)
}

// Leases are what a put must know and say about leases.
type Leases interface {
	Exists(id int64) bool
	LeaseOf(key []byte) int64 // 0 if the key hangs on none
	Attach(id int64, key []byte)
	Detach(key []byte)
}

// Errors of requests, with the texts of etcd.
var (
	ErrEmptyKey          = errors.New("etcdserver: key is not provided")
	ErrKeyNotFound       = errors.New("etcdserver: key not found")
	ErrValueProvided     = errors.New("etcdserver: value is provided")
	ErrLeaseProvided     = errors.New("etcdserver: lease is provided")
	ErrLeaseNotFound     = errors.New("etcdserver: requested lease not found")
	ErrTooManyOps        = errors.New("etcdserver: too many operations in txn request")
	ErrDuplicateKey      = errors.New("etcdserver: duplicate key given in txn request")
	ErrInvalidSortOption = errors.New("etcdserver: invalid sort option")
	ErrCompacted         = mvcc.ErrCompacted
	ErrFutureRev         = mvcc.ErrFutureRev

	// Two kinds of request that RangeStream does not take (code Unimplemented).
	ErrStreamSort   = errors.New("RangeStream does not support custom sort orders")
	ErrStreamFilter = errors.New("RangeStream does not support revision filters")
)
