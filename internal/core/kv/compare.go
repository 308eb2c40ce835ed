package kv

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/mvcc"
)

// outcome evaluates a compare for one key. A target value that is missing, or
// is another target's, compares as zero or empty; an unknown target compares as
// equal.
func outcome(c *pb.Compare, value []byte, lease int64, h mvcc.Hit) bool {
	diff := 0
	switch c.Target {
	case pb.Compare_VALUE:
		diff = bytes.Compare(value, c.GetValue())
	case pb.Compare_CREATE:
		diff = cmp.Compare(h.Create, c.GetCreateRevision())
	case pb.Compare_MOD:
		diff = cmp.Compare(h.Mod.Main, c.GetModRevision())
	case pb.Compare_VERSION:
		diff = cmp.Compare(h.Version, c.GetVersion())
	case pb.Compare_LEASE:
		diff = cmp.Compare(lease, c.GetLease())
	}
	return holds(c.Result, diff)
}

// holds reports whether a difference is the one asked for. A result that does
// not exist is always true.
func holds(want pb.Compare_CompareResult, diff int) bool {
	switch want {
	case pb.Compare_EQUAL:
		return diff == 0
	case pb.Compare_GREATER:
		return diff > 0
	case pb.Compare_LESS:
		return diff < 0
	case pb.Compare_NOT_EQUAL:
		return diff != 0
	}
	return true
}
