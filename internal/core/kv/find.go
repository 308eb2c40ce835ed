package kv

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/base/keys"
	"github.com/steledb/stele/internal/core/mvcc"
)

// item is one key of an answer.
type item struct {
	mvcc.Hit
	record []byte // its encoded KeyValue, once it was needed
	value  []byte // its value, if the order is by values
}

// Result is the answer to a range request before it takes a form. It aliases
// what its reader gave, and is to be turned into a response while that is valid.
type Result struct {
	Rev   int64 // revision of the reader, for the header
	Count int64 // keys in the span, whatever was filtered or cut off
	More  bool  // the limit left some out

	found  []item
	one    [1]item // in the place of found if single is set, so that the commonest request allocates nothing
	single bool
	form   form
	part   bool // of a stream, and not the last: no header, count or more
}

// form is how much of its keys an answer shows.
type form int

const (
	whole form = iota
	// fromIndex is keys_only as etcd 3.7 has it: what the index knows, which
	// leaves out the lease too. No record is read.
	fromIndex
	// valueless is keys_only in the order of values: the record has been read
	// anyway, and its lease is shown.
	valueless
)

func formOf(req *pb.RangeRequest) form {
	switch {
	case !req.KeysOnly:
		return whole
	case req.SortTarget == pb.RangeRequest_VALUE:
		return valueless
	}
	return fromIndex
}

// Len is the number of keys in the result.
func (res *Result) Len() int { return len(res.items()) }

func (res *Result) items() []item {
	if res.single {
		return res.one[:]
	}
	return res.found
}

func spanOf(key, end []byte) keys.Span { return keys.Span{Key: key, End: end} }

// find evaluates a range request into res. In order of the work it saves:
//
//	one key               one look into the index
//	count only            no key is visited at the current revision
//	key order, limit n    stops after n+1 keys
//	another order, limit  visits all keys, remembers about 2n
//
// Records are read for the keys of the answer only, or for all that pass the
// filters if the order is by values.
func (res *Result) find(r Reader, req *pb.RangeRequest) error {
	res.Rev = r.Rev()
	res.form = formOf(req)
	span := spanOf(req.Key, req.RangeEnd)
	if req.CountOnly {
		return res.count(r, span, req.Revision)
	}
	if span.IsPoint() {
		return res.findOne(r, req)
	}
	p := newPicker(r, req)
	visited, all := int64(0), true
	err := r.Scan(span, req.Revision, func(h mvcc.Hit) bool {
		visited++
		all = p.take(h)
		return all
	})
	if err := cmp.Or(err, p.err); err != nil {
		return err
	}
	res.found, res.More = p.finish()
	if all {
		res.Count = visited
		return nil
	}
	return res.count(r, span, req.Revision)
}

func (res *Result) count(r Reader, span keys.Span, at int64) (err error) {
	res.Count, err = r.Count(span, at)
	return err
}

// findOne is the path of most requests: it allocates nothing.
func (res *Result) findOne(r Reader, req *pb.RangeRequest) error {
	h, ok, err := r.Get(req.Key, req.Revision)
	if err != nil || !ok {
		return err
	}
	res.Count = 1
	if passes(req, h) {
		res.one[0], res.single = item{Hit: h}, true
	}
	return nil
}

// load reads the record of an item unless that was done.
func (it *item) load(r Reader) (err error) {
	if it.record == nil {
		if it.record, err = r.Load(it.Mod); err != nil {
			return fmt.Errorf("kv: key %q: %w", it.Key, err)
		}
	}
	return nil
}

// fill reads what an item shows beyond the index.
func (f form) fill(r Reader, it *item) error {
	if f == fromIndex {
		return nil
	}
	if err := it.load(r); err != nil {
		return err
	}
	if f == valueless {
		it.record = withoutValue(it.record)
	}
	return nil
}

// load fills every item.
func (res *Result) load(r Reader) error {
	items := res.items()
	for i := range items {
		if err := res.form.fill(r, &items[i]); err != nil {
			return err
		}
	}
	return nil
}

func isFiltered(req *pb.RangeRequest) bool {
	return req.MinModRevision != 0 || req.MaxModRevision != 0 || req.MinCreateRevision != 0 || req.MaxCreateRevision != 0
}

// passes applies the revision filters; a bound of zero is none.
func passes(req *pb.RangeRequest, h mvcc.Hit) bool {
	inside := func(v, low, high int64) bool { return (low == 0 || v >= low) && (high == 0 || v <= high) }
	return inside(h.Mod.Main, req.MinModRevision, req.MaxModRevision) &&
		inside(h.Create, req.MinCreateRevision, req.MaxCreateRevision)
}

// picker collects the items of an answer from keys that come in key order.
type picker struct {
	r      Reader
	req    *pb.RangeRequest
	limit  int                  // keys wanted, 0 for all
	before func(a, b *item) int // the order asked for, nil for that of keys
	items  []item
	err    error

	// inKeyOrder: the limit counts keys as they come. It does so, too, if a
	// target is named without an order and without filters: the keys at hand,
	// which are one more than the limit, are then sorted, and the last is cut
	// off. So etcd answers; to sort all keys the order has to be named.
	inKeyOrder bool
}

func newPicker(r Reader, req *pb.RangeRequest) *picker {
	p := &picker{r: r, req: req, before: orderOf(req)}
	p.inKeyOrder = p.before == nil || req.SortOrder == pb.RangeRequest_NONE && !isFiltered(req)
	if req.Limit > 0 {
		p.limit = int(min(req.Limit, 1<<40))
	}
	return p
}

// take considers one key, and reports whether to go on.
func (p *picker) take(h mvcc.Hit) (more bool) {
	if !passes(p.req, h) {
		return true
	}
	it := item{Hit: h}
	if p.byValue() {
		if p.err = it.load(p.r); p.err != nil {
			return false
		}
		if it.value, _, p.err = valueAndLease(it.record); p.err != nil {
			return false
		}
	}
	p.items = append(p.items, it)
	if p.limit == 0 {
		return true
	}
	if p.inKeyOrder {
		return len(p.items) <= p.limit
	}
	if len(p.items) > 2*p.limit+sortSlack {
		p.sort()
		clear(p.items[p.limit+1:])
		p.items = p.items[:p.limit+1]
	}
	return true
}

// sortSlack is how many items beyond twice the limit are collected before the
// worst are dropped, so that small limits do not sort often.
const sortSlack = 256

func (p *picker) byValue() bool {
	return p.before != nil && p.req.SortTarget == pb.RangeRequest_VALUE
}

// sort orders the items. Equal ones stay in key order, descending too; those
// kept from an earlier sort come first, and their keys are smaller.
func (p *picker) sort() {
	slices.SortStableFunc(p.items, func(a, b item) int { return p.before(&a, &b) })
}

func (p *picker) finish() (items []item, more bool) {
	if p.before != nil {
		p.sort()
	}
	if p.limit > 0 && len(p.items) > p.limit {
		return p.items[:p.limit], true
	}
	return p.items, false
}

// orderOf returns how a request compares keys, nil for the order they come in.
// A target other than the key means ascending if no order is named.
func orderOf(req *pb.RangeRequest) func(a, b *item) int {
	order := req.SortOrder
	if order == pb.RangeRequest_NONE && req.SortTarget != pb.RangeRequest_KEY {
		order = pb.RangeRequest_ASCEND
	}
	if order != pb.RangeRequest_DESCEND && (order != pb.RangeRequest_ASCEND || req.SortTarget == pb.RangeRequest_KEY) {
		return nil
	}
	compare := compareBy[req.SortTarget]
	if order == pb.RangeRequest_DESCEND && compare != nil {
		return func(a, b *item) int { return compare(b, a) }
	}
	return compare
}

var compareBy = map[pb.RangeRequest_SortTarget]func(a, b *item) int{
	pb.RangeRequest_KEY:     func(a, b *item) int { return bytes.Compare(a.Key, b.Key) },
	pb.RangeRequest_VERSION: func(a, b *item) int { return cmp.Compare(a.Version, b.Version) },
	pb.RangeRequest_CREATE:  func(a, b *item) int { return cmp.Compare(a.Create, b.Create) },
	pb.RangeRequest_MOD:     func(a, b *item) int { return cmp.Compare(a.Mod.Main, b.Mod.Main) },
	pb.RangeRequest_VALUE:   func(a, b *item) int { return bytes.Compare(a.value, b.value) },
}
