package kv

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/core/mvcc"
)

// Put evaluates a put. An error leaves everything as it was.
func Put(w Writer, l Leases, req *pb.PutRequest) (*pb.PutResponse, error) {
	if err := checkPutState(w, l, req); err != nil {
		return nil, err
	}
	return put(w, l, req)
}

// checkPutState checks what a put takes for granted about the store.
func checkPutState(r Reader, l Leases, req *pb.PutRequest) error {
	if req.Lease != 0 && !l.Exists(req.Lease) {
		return ErrLeaseNotFound
	}
	if !req.IgnoreValue && !req.IgnoreLease {
		return nil
	}
	switch _, found, err := r.Get(req.Key, 0); {
	case err != nil:
		return err
	case !found:
		return ErrKeyNotFound
	}
	return nil
}

func put(w Writer, l Leases, req *pb.PutRequest) (*pb.PutResponse, error) {
	resp := &pb.PutResponse{}
	value, lease := req.Value, req.Lease
	if req.PrevKv || req.IgnoreValue || req.IgnoreLease {
		prev, err := current(w, req.Key)
		if err != nil {
			return nil, err
		}
		if req.IgnoreValue {
			value = prev.GetValue()
		}
		if req.IgnoreLease {
			lease = prev.GetLease()
		}
		if req.PrevKv {
			resp.PrevKv = prev
		}
	}
	rev := w.Put(req.Key, value, lease)
	moveLease(l, req.Key, lease)
	resp.Header = &pb.ResponseHeader{Revision: rev.Main}
	return resp, nil
}

// current returns a key as it is, nil if it is not there.
func current(r Reader, key []byte) (*mvccpb.KeyValue, error) {
	h, found, err := r.Get(key, 0)
	if err != nil || !found {
		return nil, err
	}
	return loadKV(r, h)
}

func loadKV(r Reader, h mvcc.Hit) (*mvccpb.KeyValue, error) {
	record, err := r.Load(h.Mod)
	if err != nil {
		return nil, fmt.Errorf("kv: key %q: %w", h.Key, err)
	}
	kv := &mvccpb.KeyValue{}
	return kv, decode(kv, record)
}

// moveLease hangs a key that was written on its lease, and off the one before.
func moveLease(l Leases, key []byte, lease int64) {
	old := l.LeaseOf(key)
	if old == lease {
		return
	}
	if old != 0 {
		l.Detach(key)
	}
	if lease != 0 && l.Exists(lease) {
		l.Attach(lease, key)
	}
}

// DeleteRange evaluates a deletion. An error leaves everything as it was.
func DeleteRange(w Writer, l Leases, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	var hits []mvcc.Hit
	err := w.Scan(spanOf(req.Key, req.RangeEnd), 0, func(h mvcc.Hit) bool {
		hits = append(hits, h)
		return true
	})
	if err != nil {
		return nil, err
	}
	resp := &pb.DeleteRangeResponse{Deleted: int64(len(hits))}
	if req.PrevKv {
		for _, h := range hits {
			kv, err := loadKV(w, h)
			if err != nil {
				return nil, err
			}
			resp.PrevKvs = append(resp.PrevKvs, kv)
		}
	}
	for _, h := range hits {
		w.Delete(h.Key)
		moveLease(l, h.Key, 0)
	}
	resp.Header = &pb.ResponseHeader{Revision: w.Rev()}
	return resp, nil
}
