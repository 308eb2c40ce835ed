package rpc

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/core/watch"
)

// WatchDecodedStream marks a server stream that hands responses to its client
// as they are, without encoding them. Events are put into WatchResponse.Events
// for it.
type WatchDecodedStream interface {
	WatchDecoded()
}

// watchEncoder turns the hub's responses into messages.
//
// Every event has been encoded once, for all its watchers, as an element of
// WatchResponse.events. Those bytes go into the message as fields that are not
// known to it: they are copied behind the known ones when the message is
// encoded, and since events have the highest field number of WatchResponse,
// the result is the same as if Events had been set. So sending an event costs
// a copy, and 10,000 watchers of one key do not encode it 10,000 times.
type watchEncoder struct {
	ws      *WatchServer
	decoded bool

	header *pb.ResponseHeader // of the last response; shared while its revision lasts
}

func newWatchEncoder(ws *WatchServer, stream any) watchEncoder {
	_, decoded := stream.(WatchDecodedStream)
	return watchEncoder{ws: ws, decoded: decoded}
}

// begin starts a new round of output: the term may have changed.
func (e *watchEncoder) begin() { e.header = nil }

// each calls send for the messages of r: one, or its fragments.
func (e *watchEncoder) each(r *watch.Response, send func(*pb.WatchResponse) error) error {
	rest := r.Events
	for {
		m := &pb.WatchResponse{
			Header:          e.headerAt(r.Rev),
			WatchId:         r.ID,
			Created:         r.Created,
			Canceled:        r.Canceled,
			CancelReason:    r.Reason,
			CompactRevision: r.Compacted,
		}
		n := len(rest)
		if r.Fragment && n > 1 {
			n = e.fragment(m, rest)
			m.Fragment = n < len(rest)
		}
		e.fill(m, rest[:n])
		if err := send(m); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) == 0 {
			return nil
		}
	}
}

// fragment returns how many events go into one message: all if they stay
// below the limit, else as many as do, at least one.
func (e *watchEncoder) fragment(m *pb.WatchResponse, events []*watch.Event) int {
	size := proto.Size(m)
	for i, ev := range events {
		size += len(ev.Wire())
		if i > 0 && size >= e.ws.opt.FragmentBytes {
			return i
		}
	}
	return len(events)
}

// fill puts the events into the message.
func (e *watchEncoder) fill(m *pb.WatchResponse, events []*watch.Event) {
	switch {
	case len(events) == 0:
	case e.decoded:
		m.Events = make([]*mvccpb.Event, len(events))
		for i, ev := range events {
			m.Events[i] = ev.Message()
		}
	case len(events) == 1:
		m.ProtoReflect().SetUnknown(events[0].Wire())
	default:
		m.ProtoReflect().SetUnknown(watchConcat(events))
	}
}

func watchConcat(events []*watch.Event) []byte {
	size := 0
	for _, ev := range events {
		size += len(ev.Wire())
	}
	b := make([]byte, 0, size)
	for _, ev := range events {
		b = append(b, ev.Wire()...)
	}
	return b
}

// headerAt returns a header for rev. Messages of one round share it.
func (e *watchEncoder) headerAt(rev int64) *pb.ResponseHeader {
	if e.header == nil || e.header.Revision != rev {
		cluster, member, term := e.ws.source.Header()
		e.header = &pb.ResponseHeader{ClusterId: cluster, MemberId: member, RaftTerm: term, Revision: rev}
	}
	return e.header
}

// watchEnded reports whether err is an ordinary end of a stream.
func watchEnded(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	return code == codes.Canceled || code == codes.DeadlineExceeded
}
