package bench

import (
	"encoding/binary"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// A fan-out to 10,000 watchers is 10,000 messages per put; decoding them into
// objects would measure this program. scanWatch walks over the encoded bytes
// and keeps what the benchmarks ask.

// watchNews is what a WatchResponse says.
type watchNews struct {
	created, canceled bool
	reason            string
	events            int
	stamp             []byte // the value of the last event; a part of the message
}

// Field numbers of rpc.proto and kv.proto.
const (
	fieldWatchCreated  = 3
	fieldWatchCanceled = 4
	fieldWatchReason   = 6
	fieldWatchEvents   = 11
	fieldEventKV       = 2
	fieldKVValue       = 5
)

func scanWatch(msg []byte) (n watchNews, err error) {
	err = fields(msg, func(num protowire.Number, value uint64, b []byte) error {
		switch num {
		case fieldWatchCreated:
			n.created = value != 0
		case fieldWatchCanceled:
			n.canceled = value != 0
		case fieldWatchReason:
			n.reason = string(b)
		case fieldWatchEvents:
			n.events++
			stamp, err := valueOfEvent(b)
			n.stamp = stamp
			return err
		}
		return nil
	})
	return n, err
}

func valueOfEvent(event []byte) (value []byte, err error) {
	err = fields(event, func(num protowire.Number, _ uint64, kv []byte) error {
		if num != fieldEventKV {
			return nil
		}
		return fields(kv, func(num protowire.Number, _ uint64, b []byte) error {
			if num == fieldKVValue {
				value = b
			}
			return nil
		})
	})
	return value, err
}

// fields calls fn with each field of a message: its number for varints, its
// bytes for the rest.
func fields(msg []byte, fn func(num protowire.Number, value uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return fmt.Errorf("watch response: %w", protowire.ParseError(n))
		}
		msg = msg[n:]
		var value uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return fmt.Errorf("watch response: %w", protowire.ParseError(n))
		}
		msg = msg[n:]
		if err := fn(num, value, b); err != nil {
			return err
		}
	}
	return nil
}

// createWatch wraps a creation for the stream.
func createWatch(m *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: m}}
}

// Values of watched keys begin with the time of their put, on this process's
// clock: nanoseconds since epoch. So each event tells how long it travelled.
var epoch = time.Now()

const stampBytes = 8

func putStamp(b []byte) { binary.BigEndian.PutUint64(b, uint64(time.Since(epoch))) }

// travelled is how old a stamp is at now.
func travelled(stamp []byte, now time.Time) (time.Duration, bool) {
	if len(stamp) < stampBytes {
		return 0, false
	}
	return now.Sub(epoch) - time.Duration(binary.BigEndian.Uint64(stamp)), true
}
