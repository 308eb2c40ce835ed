package rpc

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Quick names the methods some of whose requests are answered without waiting
// for anything, with the function that knows them by their encoded form. A
// server may run these on the goroutine that reads the connection.
func Quick() map[string]func(request []byte) bool {
	return map[string]func([]byte) bool{pb.KV_Range_FullMethodName: isPointRead}
}

// Fields of RangeRequest.
const (
	rangeKeyField          = 1
	rangeEndField          = 2
	rangeSerializableField = 7
)

// isPointRead knows a serializable read of one key: it touches one record and
// waits for no other member. Whether the request is valid is not its matter.
func isPointRead(r []byte) bool {
	key, serializable := false, false
	for len(r) > 0 {
		field, kind, n := protowire.ConsumeTag(r)
		if n < 0 {
			return false
		}
		r = r[n:]
		switch {
		case field == rangeEndField:
			return false
		case field == rangeKeyField:
			key = true
		case field == rangeSerializableField && kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(r)
			serializable = v != 0
		}
		if n = protowire.ConsumeFieldValue(field, kind, r); n < 0 {
			return false
		}
		r = r[n:]
	}
	return key && serializable
}
