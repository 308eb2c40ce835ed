package kv

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Within a transaction no key may be put twice, or put and deleted, because the
// order of changes inside one revision is not meant to matter. Two deletions do
// no harm. The rules are etcd's, with their corners:
//
//   - the branches of one transaction exclude each other and may overlap, but
//     both count against what stands beside that transaction;
//   - a put inside a nested transaction is compared with the deletions beside
//     it and those of nested transactions before it, not after it;
//   - a range end of "\0" is an end like any other here, so that a deletion of
//     everything from a key on overlaps nothing; nor does an inverted one.

// writes is what a list of operations may put and delete.
type writes struct {
	puts map[string]struct{}
	dels spans
}

// writesOf collects the writes of one list of operations, or returns
// ErrDuplicateKey.
func writesOf(ops []*pb.RequestOp) (w writes, err error) {
	w.puts = map[string]struct{}{}
	for _, op := range ops {
		if del := op.GetRequestDeleteRange(); del != nil {
			w.dels = w.dels.with(spanOfDelete(del))
		}
	}
	for _, op := range ops {
		if nested := op.GetRequestTxn(); nested != nil {
			if err := w.addTxn(nested); err != nil {
				return w, err
			}
		}
	}
	for _, op := range ops {
		if put := op.GetRequestPut(); put != nil {
			if w.touches(string(put.Key)) {
				return w, ErrDuplicateKey
			}
			w.puts[string(put.Key)] = struct{}{}
		}
	}
	return w, nil
}

// addTxn adds both branches of a nested transaction.
func (w *writes) addTxn(req *pb.TxnRequest) error {
	then, err := writesOf(req.Success)
	if err != nil {
		return err
	}
	otherwise, err := writesOf(req.Failure)
	if err != nil {
		return err
	}
	for _, branch := range []writes{then, otherwise} {
		for key := range branch.puts {
			if w.touches(key) {
				return ErrDuplicateKey
			}
		}
	}
	w.puts = union(w.puts, union(then.puts, otherwise.puts))
	w.dels = w.dels.union(then.dels).union(otherwise.dels)
	return nil
}

func (w *writes) touches(key string) bool {
	_, put := w.puts[key]
	return put || w.dels.has([]byte(key))
}

// union adds the smaller set to the larger one, so that a key moves only a
// logarithmic number of times on its way up through nested transactions.
func union(a, b map[string]struct{}) map[string]struct{} {
	if len(a) < len(b) {
		a, b = b, a
	}
	for k := range b {
		a[k] = struct{}{}
	}
	return a
}

// span is the keys in [from, to), never empty.
type span struct{ from, to []byte }

func spanOfDelete(req *pb.DeleteRangeRequest) span {
	if len(req.RangeEnd) == 0 {
		return span{req.Key, append(bytes.Clone(req.Key), 0)}
	}
	return span{req.Key, req.RangeEnd}
}

// spans is a set of keys: spans in order that neither overlap nor touch.
type spans []span

func (s spans) has(key []byte) bool {
	i := s.after(key)
	return i > 0 && bytes.Compare(key, s[i-1].to) < 0
}

// after is the number of spans that start at or before key.
func (s spans) after(key []byte) int {
	i, found := slices.BinarySearchFunc(s, key, func(e span, key []byte) int { return bytes.Compare(e.from, key) })
	if found {
		i++
	}
	return i
}

// with adds a span, in the place of those that it overlaps or touches.
func (s spans) with(n span) spans {
	if bytes.Compare(n.from, n.to) >= 0 {
		return s
	}
	first := s.after(n.from)
	if first > 0 && bytes.Compare(s[first-1].to, n.from) >= 0 {
		first--
		n.from = s[first].from
	}
	last := s.after(n.to)
	if last > first && bytes.Compare(s[last-1].to, n.to) > 0 {
		n.to = s[last-1].to
	}
	return slices.Replace(s, first, last, n)
}

func (s spans) union(o spans) spans {
	if len(s) < len(o) {
		s, o = o, s
	}
	for _, n := range o {
		s = s.with(n)
	}
	return s
}
