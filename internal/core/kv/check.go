package kv

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// CheckRange checks the form of a range request.
func CheckRange(req *pb.RangeRequest) error {
	if len(req.Key) == 0 {
		return ErrEmptyKey
	}
	_, order := pb.RangeRequest_SortOrder_name[int32(req.SortOrder)]
	_, target := pb.RangeRequest_SortTarget_name[int32(req.SortTarget)]
	if !order || !target {
		return ErrInvalidSortOption
	}
	return nil
}

// CheckStream checks the form of a range request that asks for a stream. As in
// etcd, a stream is in key order and unfiltered; an explicit order is taken only
// if it says so.
func CheckStream(req *pb.RangeRequest) error {
	if err := CheckRange(req); err != nil {
		return err
	}
	if req.SortOrder != pb.RangeRequest_NONE &&
		(req.SortOrder != pb.RangeRequest_ASCEND || req.SortTarget != pb.RangeRequest_KEY) {
		return ErrStreamSort
	}
	if isFiltered(req) {
		return ErrStreamFilter
	}
	return nil
}

// CheckPut checks the form of a put.
func CheckPut(req *pb.PutRequest) error {
	switch {
	case len(req.Key) == 0:
		return ErrEmptyKey
	case req.IgnoreValue && len(req.Value) != 0:
		return ErrValueProvided
	case req.IgnoreLease && req.Lease != 0:
		return ErrLeaseProvided
	}
	return nil
}

// CheckDelete checks the form of a deletion.
func CheckDelete(req *pb.DeleteRangeRequest) error {
	if len(req.Key) == 0 {
		return ErrEmptyKey
	}
	return nil
}

// CheckTxn checks the form of a transaction with everything nested in it: sizes
// and operations first, then that no key is written twice.
func CheckTxn(req *pb.TxnRequest, maxOps int) error {
	if err := checkTxnOps(req, maxOps); err != nil {
		return err
	}
	if _, err := writesOf(req.Success); err != nil {
		return err
	}
	_, err := writesOf(req.Failure)
	return err
}

// checkTxnOps checks the operations of a transaction of which no list, compares
// included, may be longer than maxOps. A nested one may have as many as the
// longest list around it left over, which also bounds how deep nesting goes.
func checkTxnOps(req *pb.TxnRequest, maxOps int) error {
	longest := max(len(req.Compare), len(req.Success), len(req.Failure))
	if longest > maxOps {
		return ErrTooManyOps
	}
	for _, c := range req.Compare {
		if len(c.Key) == 0 {
			return ErrEmptyKey
		}
	}
	for _, ops := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range ops {
			if err := checkOp(op, maxOps-longest); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, maxOps int) error {
	switch {
	case op.GetRequestRange() != nil:
		return CheckRange(op.GetRequestRange())
	case op.GetRequestPut() != nil:
		return CheckPut(op.GetRequestPut())
	case op.GetRequestDeleteRange() != nil:
		return CheckDelete(op.GetRequestDeleteRange())
	case op.GetRequestTxn() != nil:
		return checkTxnOps(op.GetRequestTxn(), maxOps)
	}
	return ErrKeyNotFound // an operation without a request: etcd answers with this text
}

// IsReadOnly reports whether neither branch of a transaction can change
// anything, so that it can be answered from a view with ReadTxn.
func IsReadOnly(req *pb.TxnRequest) bool {
	return everyOp(req, func(op *pb.RequestOp) bool {
		return op.GetRequestPut() == nil && op.GetRequestDeleteRange() == nil
	})
}

// IsSerializable reports whether a transaction consists of serializable ranges
// only, so that it may be answered without asking the other members.
func IsSerializable(req *pb.TxnRequest) bool {
	return onlyRanges(req) && everyOp(req, func(op *pb.RequestOp) bool { return op.GetRequestRange().Serializable })
}

// HasPut reports whether either branch of a transaction contains a put, which
// is what a member that has run out of space refuses.
func HasPut(req *pb.TxnRequest) bool {
	return !everyOp(req, func(op *pb.RequestOp) bool { return op.GetRequestPut() == nil })
}

// onlyRanges reports whether there is nothing but ranges on the top level. Only
// such a transaction is read-only to etcd, which shows in how it takes negative
// revisions.
func onlyRanges(req *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}

// everyOp reports whether ok holds for each operation of both branches that is
// not itself a transaction, nested ones included.
func everyOp(req *pb.TxnRequest, ok func(*pb.RequestOp) bool) bool {
	for _, ops := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range ops {
			if nested := op.GetRequestTxn(); nested != nil {
				if !everyOp(nested, ok) {
					return false
				}
			} else if !ok(op) {
				return false
			}
		}
	}
	return true
}
