package kv

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Range evaluates a range request. The response shares no memory with the
// reader.
func Range(r Reader, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	var res Result
	if err := res.find(r, req); err != nil {
		return nil, err
	}
	if err := res.load(r); err != nil {
		return nil, err
	}
	return res.response()
}

// AppendRange evaluates a range request and appends the encoded response to b:
// the same bytes as Range and an encoder give, without the messages between.
// After an error b is as it was.
func AppendRange(b []byte, r Reader, req *pb.RangeRequest, h Header) ([]byte, error) {
	var res Result
	if err := res.find(r, req); err != nil {
		return b, err
	}
	if err := res.load(r); err != nil {
		return b, err
	}
	return res.append(b, h), nil
}

// response makes a message of a loaded result. The key-values are one
// allocation, and the bytes of each are one.
func (res *Result) response() (*pb.RangeResponse, error) {
	items := res.items()
	out := &pb.RangeResponse{Kvs: make([]*mvccpb.KeyValue, len(items))}
	kvs := make([]mvccpb.KeyValue, len(items))
	for i := range items {
		if err := res.form.decode(&kvs[i], &items[i]); err != nil {
			return nil, err
		}
		out.Kvs[i] = &kvs[i]
	}
	if !res.part {
		out.Header = &pb.ResponseHeader{Revision: res.Rev}
		out.Count, out.More = res.Count, res.More
	}
	return out, nil
}

// decode makes a message of a filled item.
func (f form) decode(kv *mvccpb.KeyValue, it *item) error {
	if f == fromIndex {
		decodeHit(kv, it.Hit)
		return nil
	}
	return decode(kv, it.record)
}

// append encodes a filled item.
func (f form) append(b []byte, it *item) []byte {
	if f == fromIndex {
		return appendHit(b, it.Hit)
	}
	return append(b, it.record...)
}

// size is the length of what append adds.
func (f form) size(it *item) int {
	if f == fromIndex {
		return hitSize(it.Hit)
	}
	return len(it.record)
}

// Header is what a response says about who gave it.
type Header struct {
	ClusterID, MemberID, RaftTerm uint64
}

// Field numbers of the messages that are encoded here.
const (
	respHeader = 1
	respKvs    = 2
	respMore   = 3
	respCount  = 4

	headCluster  = 1
	headMember   = 2
	headRevision = 3
	headTerm     = 4

	streamRange = 1 // RangeStreamResponse.range_response
)

// append encodes a loaded result as a RangeResponse. A record is a KeyValue in
// its encoded form, so it goes in as it is.
func (res *Result) append(b []byte, h Header) []byte {
	if !res.part {
		b = protowire.AppendTag(b, respHeader, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(h.size(res.Rev)))
		b = h.append(b, res.Rev)
	}
	items := res.items()
	for i := range items {
		b = protowire.AppendTag(b, respKvs, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(res.form.size(&items[i])))
		b = res.form.append(b, &items[i])
	}
	if !res.part {
		more := uint64(0)
		if res.More {
			more = 1
		}
		b = appendUint(b, respMore, more)
		b = appendUint(b, respCount, uint64(res.Count))
	}
	return b
}

// size is the length of what append adds.
func (res *Result) size(h Header) (n int) {
	if !res.part {
		n = fieldSize(h.size(res.Rev)) + uintSize(uint64(res.Count))
		if res.More {
			n += uintSize(1)
		}
	}
	items := res.items()
	for i := range items {
		n += fieldSize(res.form.size(&items[i]))
	}
	return n
}

func (h Header) append(b []byte, rev int64) []byte {
	b = appendUint(b, headCluster, h.ClusterID)
	b = appendUint(b, headMember, h.MemberID)
	b = appendUint(b, headRevision, uint64(rev))
	return appendUint(b, headTerm, h.RaftTerm)
}

func (h Header) size(rev int64) int {
	return uintSize(h.ClusterID) + uintSize(h.MemberID) + uintSize(uint64(rev)) + uintSize(h.RaftTerm)
}

// appendUint appends a varint field with a number below 16; zero is left out.
func appendUint(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func uintSize(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

// fieldSize is the size of a length-delimited field with a number below 16.
func fieldSize(n int) int { return 1 + protowire.SizeBytes(n) }
