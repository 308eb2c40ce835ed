package watch

import (
	"encoding/binary"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/core/mvcc"
)

// Event is one change as it is sent to watchers. It is immutable and shared by
// every watcher that gets it, together with its encoding.
type Event struct {
	Rev  int64
	wire []byte

	once    sync.Once // fills decoded
	decoded *mvccpb.Event
}

// eventOverheadBytes is what a queued event costs beside its encoding: the
// pointer in the queue and its share of the bookkeeping.
const eventOverheadBytes = 32

// Wire returns the event as one element of WatchResponse.events, tag and
// length included:
//
//	5a len                    field 11 of WatchResponse
//	   08 01                  type = DELETE; absent for PUT
//	   12 len KeyValue        kv, as stored; key and mod_revision of a deletion
//	   1a len KeyValue        prev_kv, as stored; absent if there is none
//
// The stored record already is an encoded KeyValue, so nothing is decoded or
// encoded to get here. The bytes are shared and must not be modified.
func (e *Event) Wire() []byte { return e.wire }

// Message returns the decoded event, the same one for every caller.
func (e *Event) Message() *mvccpb.Event {
	e.once.Do(func() {
		e.decoded = &mvccpb.Event{}
		_, headerLen := binary.Uvarint(e.wire[1:])
		if err := proto.Unmarshal(e.wire[1+headerLen:], e.decoded); err != nil {
			// The record was checked when it was written and again when the
			// store was opened; here it can only be a bug.
			panic("watch: stored record of an event does not decode: " + err.Error())
		}
	})
	return e.decoded
}

func (e *Event) size() int { return len(e.wire) + eventOverheadBytes }

// Tags of the fields above.
const (
	tagEvents      = 11<<3 | 2
	tagType        = 1 << 3
	tagKV          = 2<<3 | 2
	tagPrevKV      = 3<<3 | 2
	tagKey         = 1<<3 | 2
	tagModRevision = 3 << 3
)

func newEvent(c *mvcc.Change, prev []byte) *Event {
	kv := c.Record
	if c.Tombstone {
		kv = tombstoneKV(c)
	}
	size := fieldLen(len(kv))
	if c.Tombstone {
		size += 2
	}
	if prev != nil {
		size += fieldLen(len(prev))
	}
	b := make([]byte, 0, fieldLen(size))
	b = append(b, tagEvents)
	b = binary.AppendUvarint(b, uint64(size))
	if c.Tombstone {
		b = append(b, tagType, byte(mvccpb.Event_DELETE))
	}
	b = appendField(b, tagKV, kv)
	if prev != nil {
		b = appendField(b, tagPrevKV, prev)
	}
	return &Event{Rev: c.Mod.Main, wire: b}
}

// tombstoneKV encodes what a deletion tells: the key and when.
func tombstoneKV(c *mvcc.Change) []byte {
	b := make([]byte, 0, fieldLen(len(c.Key))+1+binary.MaxVarintLen64)
	b = appendField(b, tagKey, c.Key)
	b = append(b, tagModRevision)
	return binary.AppendUvarint(b, uint64(c.Mod.Main))
}

func appendField(b []byte, tag byte, value []byte) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// fieldLen is the length of a field of n bytes with its tag and length.
func fieldLen(n int) int {
	size := 1 + 1 + n
	for rest := n >> 7; rest > 0; rest >>= 7 {
		size++
	}
	return size
}
