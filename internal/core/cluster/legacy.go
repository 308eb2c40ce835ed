package cluster

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/ids"
)

// etcd 3.4 and 3.5 wrote what members publish and the cluster version as
// requests to the old v2 store: a log entry holds a bare etcdserverpb.Request,
// or one in field 2 of an InternalRaftRequest. Only these two paths meant
// anything beyond the v2 store itself:
//
//	PUT /0/members/<id>/attributes   {"name":..,"clientURLs":[..]}
//	PUT /0/version                   3.5.0
//
// The fields used of Request (proto2): 1 id varint, 2 method, 3 path, 4 value.
const (
	v2FieldID     = 1
	v2FieldMethod = 2
	v2FieldPath   = 3
	v2FieldValue  = 4

	internalFieldV2 = 2

	v2Put           = "PUT"
	v2VersionPath   = "/0/version"
	v2MembersPrefix = "/0/members/"
	v2Attributes    = "/attributes"
)

// V2Request is a request to the v2 store, as far as it still matters.
type V2Request struct {
	ID     uint64
	Method string
	Path   string
	Value  string
}

// v2Methods are the methods that were ever logged.
var v2Methods = map[string]bool{"PUT": true, "POST": true, "DELETE": true, "QGET": true, "GET": true, "SYNC": true}

// ParseV2 reads an entry's payload if it is a v2 request. It reports false for
// the payloads of today: in those, field 2 is no method.
func ParseV2(payload []byte) (V2Request, bool) {
	if r, ok := parseV2(payload); ok {
		return r, true
	}
	if inner, ok := onlyMessage(payload, internalFieldV2); ok {
		return parseV2(inner)
	}
	return V2Request{}, false
}

func parseV2(b []byte) (r V2Request, ok bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, false
		}
		b = b[n:]
		if n = r.take(number, kind, b); n < 0 {
			return r, false
		}
		b = b[n:]
	}
	return r, v2Methods[r.Method]
}

// take reads one field and returns its length, negative if it is damaged.
func (r *V2Request) take(number protowire.Number, kind protowire.Type, b []byte) int {
	var into *string
	switch {
	case number == v2FieldID && kind == protowire.VarintType:
		v, n := protowire.ConsumeVarint(b)
		r.ID = v
		return n
	case number == v2FieldMethod:
		into = &r.Method
	case number == v2FieldPath:
		into = &r.Path
	case number == v2FieldValue:
		into = &r.Value
	default:
		return protowire.ConsumeFieldValue(number, kind, b)
	}
	if kind != protowire.BytesType {
		return -1
	}
	v, n := protowire.ConsumeBytes(b)
	*into = string(v)
	return n
}

// onlyMessage returns the field's content if the message holds that field.
func onlyMessage(b []byte, field protowire.Number) (inner []byte, ok bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return nil, false
		}
		if number == field && kind == protowire.BytesType {
			inner, _ = protowire.ConsumeBytes(b)
			ok = true
		}
		b = b[n:]
	}
	return inner, ok
}

// ApplyV2 carries out a v2 request. Those to other paths changed only the v2
// store and change nothing here.
func (c *Cluster) ApplyV2(r V2Request) ([]bucket.Op, error) {
	if r.Method != v2Put {
		return nil, nil
	}
	if r.Path == v2VersionPath {
		v, err := ParseVersion(r.Value)
		if err != nil {
			return nil, err
		}
		return c.SetVersion(v), nil
	}
	text, ok := strings.CutPrefix(r.Path, v2MembersPrefix)
	if !ok {
		return nil, nil
	}
	if text, ok = strings.CutSuffix(text, v2Attributes); !ok {
		return nil, nil
	}
	return c.setV2Attributes(text, r.Value)
}

func (c *Cluster) setV2Attributes(id, value string) ([]bucket.Op, error) {
	member, err := ids.Parse(id)
	if err != nil {
		return nil, err
	}
	var a Attributes
	if err := json.Unmarshal([]byte(value), &a); err != nil {
		return nil, fmt.Errorf("cluster: attributes of member %s: %w", id, err)
	}
	ops, _ := c.SetAttributes(member, a)
	return ops, nil
}
