package kv

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/steledb/stele/internal/core/mvcc"
)

// A transaction is evaluated in three passes, each over the branches that are
// taken and no others:
//
//	decide   all compares, nested ones too, against the state before
//	check    leases, keys and revisions that the operations take for granted
//	run      the operations, in order; each sees the changes of those before
//
// so that nothing is changed unless everything can be, and no compare sees a
// change of its own transaction.

// Txn evaluates a transaction. An error of a request leaves everything as it
// was; after a failure to read a record the writer has to be given up.
func Txn(w Writer, l Leases, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	plan, err := decide(w, req)
	if err != nil {
		return nil, err
	}
	if !onlyRanges(req) {
		if err := plan.check(w, l); err != nil {
			return nil, err
		}
	}
	resp, err := (&run{Reader: w, w: w, l: l}).txn(plan)
	if err != nil {
		return nil, err
	}
	resp.Header = &pb.ResponseHeader{Revision: w.Rev()}
	return resp, nil
}

// ReadTxn evaluates a transaction that IsReadOnly on a view.
func ReadTxn(r Reader, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if !IsReadOnly(req) {
		panic("kv: ReadTxn of a transaction that writes")
	}
	plan, err := decide(r, req)
	if err != nil {
		return nil, err
	}
	if !onlyRanges(req) {
		if err := plan.check(r, nil); err != nil {
			return nil, err
		}
	}
	resp, err := (&run{Reader: r}).txn(plan)
	if err != nil {
		return nil, err
	}
	resp.Header = &pb.ResponseHeader{Revision: r.Rev()}
	return resp, nil
}

// plan is a transaction whose branch is decided.
type plan struct {
	succeeded bool
	ops       []*pb.RequestOp // of the branch taken
	nested    []*plan         // of those ops that are transactions, in their order
}

// decide evaluates the compares of a transaction and of those nested in the
// branch it takes.
func decide(r Reader, req *pb.TxnRequest) (*plan, error) {
	ok, err := compareAll(r, req.Compare)
	if err != nil {
		return nil, err
	}
	p := &plan{succeeded: ok, ops: req.Failure}
	if ok {
		p.ops = req.Success
	}
	for _, op := range p.ops {
		if nested := op.GetRequestTxn(); nested != nil {
			n, err := decide(r, nested)
			if err != nil {
				return nil, err
			}
			p.nested = append(p.nested, n)
		}
	}
	return p, nil
}

// check checks the state for every operation, in order.
func (p *plan) check(r Reader, l Leases) error {
	nested := p.nested
	for _, op := range p.ops {
		var err error
		switch {
		case op.GetRequestPut() != nil:
			err = checkPutState(r, l, op.GetRequestPut())
		case op.GetRequestRange() != nil:
			err = checkRevision(r, op.GetRequestRange().Revision)
		case op.GetRequestTxn() != nil:
			err = nested[0].check(r, l)
			nested = nested[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRevision checks the revision of a range inside a transaction. A negative
// one means the current revision elsewhere, but here etcd compares it as it is.
func checkRevision(r Reader, rev int64) error {
	switch {
	case rev == 0:
		return nil
	case rev > r.Rev():
		return ErrFutureRev
	case rev < r.CompactRev():
		return ErrCompacted
	}
	return nil
}

// run evaluates operations. w and l are nil where nothing writes.
type run struct {
	Reader
	w Writer
	l Leases
}

// txn runs a plan. The response has no header: that of the whole transaction
// is for the caller, and one inside another has an empty one.
func (x *run) txn(p *plan) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Succeeded: p.succeeded, Responses: make([]*pb.ResponseOp, len(p.ops))}
	nested := p.nested
	for i, op := range p.ops {
		var err error
		if op.GetRequestTxn() != nil {
			resp.Responses[i], err = x.nested(nested[0])
			nested = nested[1:]
		} else {
			resp.Responses[i], err = x.op(op)
		}
		if err != nil {
			return nil, err
		}
	}
	return resp, nil
}

func (x *run) nested(p *plan) (*pb.ResponseOp, error) {
	resp, err := x.txn(p)
	if err != nil {
		return nil, err
	}
	resp.Header = &pb.ResponseHeader{}
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: resp}}, nil
}

func (x *run) op(op *pb.RequestOp) (*pb.ResponseOp, error) {
	switch {
	case op.GetRequestRange() != nil:
		resp, err := Range(x, op.GetRequestRange())
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: resp}}, err
	case op.GetRequestPut() != nil:
		resp, err := put(x.w, x.l, op.GetRequestPut())
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: resp}}, err
	case op.GetRequestDeleteRange() != nil:
		resp, err := DeleteRange(x.w, x.l, op.GetRequestDeleteRange())
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: resp}}, err
	}
	return nil, fmt.Errorf("kv: operation without a request: %w", ErrKeyNotFound) // CheckTxn refuses it
}

// compareAll reports whether every compare holds.
func compareAll(r Reader, cs []*pb.Compare) (bool, error) {
	for _, c := range cs {
		if ok, err := compareSpan(r, c); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// compareSpan reports whether a compare holds for every key of its span. Where
// there is none it looks at a key of zeros, but a value is never equal,
// unequal, or anything else to a value that is not there.
func compareSpan(r Reader, c *pb.Compare) (holds bool, err error) {
	found := false
	holds = true
	scanErr := r.Scan(spanOf(c.Key, c.RangeEnd), 0, func(h mvcc.Hit) bool {
		found = true
		holds, err = compareHit(r, c, h)
		return holds && err == nil
	})
	switch {
	case scanErr != nil:
		return false, scanErr
	case err != nil || found:
		return holds, err
	case c.Target == pb.Compare_VALUE:
		return false, nil
	}
	return outcome(c, nil, 0, mvcc.Hit{}), nil
}

func compareHit(r Reader, c *pb.Compare, h mvcc.Hit) (bool, error) {
	if c.Target != pb.Compare_VALUE && c.Target != pb.Compare_LEASE {
		return outcome(c, nil, 0, h), nil
	}
	it := item{Hit: h}
	if err := it.load(r); err != nil {
		return false, err
	}
	value, lease, err := valueAndLease(it.record)
	return outcome(c, value, lease, h), err
}
