package kv

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/steledb/stele/internal/core/mvcc"
)

// StreamOptions bound one chunk of a stream; zero means the default. A chunk has
// at least one key, however large.
type StreamOptions struct {
	ChunkBytes int // of encoded keys and values
	ChunkKeys  int
}

const (
	defaultChunkBytes = 512 << 10
	defaultChunkKeys  = 4096
)

// Stream answers a range request in chunks. Put together they are the answer of
// Range; header, count and more come with the last one only. Between chunks it
// holds a key, not what is left, unless the request has an order of its own:
// then it holds the keys of the whole answer, and as in Range the values too
// if they are the order.
//
// A reader does not change, so all chunks are of one revision. It must stay
// valid until the last chunk.
type Stream struct {
	r    Reader
	req  *pb.RangeRequest
	opt  StreamOptions
	last Result // what the last chunk says: revision, count, more
	next []byte // where the rest begins, in key order
	left int64  // keys that the limit still allows; negative for no limit
	rest []item // what is left of an answer in another order
	own  bool   // the request has an order of its own
	done bool
}

// NewStream starts answering a request that CheckStream has passed.
func NewStream(r Reader, req *pb.RangeRequest, opt StreamOptions) (*Stream, error) {
	if opt.ChunkBytes <= 0 {
		opt.ChunkBytes = defaultChunkBytes
	}
	if opt.ChunkKeys <= 0 {
		opt.ChunkKeys = defaultChunkKeys
	}
	s := &Stream{r: r, req: req, opt: opt, next: req.Key, left: -1, own: orderOf(req) != nil}
	if req.Limit > 0 {
		s.left = req.Limit
	}
	if s.own || isFiltered(req) || req.CountOnly || len(req.RangeEnd) == 0 {
		s.own = true // the answer is found at once, then cut up
		if err := s.last.find(r, req); err != nil {
			return nil, err
		}
		s.rest = s.last.items()
		s.last.found = nil
		return s, nil
	}
	s.last.Rev = r.Rev()
	s.last.form = formOf(req)
	return s, s.last.count(r, spanOf(req.Key, req.RangeEnd), req.Revision)
}

// Next returns the next chunk; last says that it is the final one.
func (s *Stream) Next() (chunk *pb.RangeStreamResponse, last bool, err error) {
	res, err := s.chunk()
	if err != nil {
		return nil, false, err
	}
	resp, err := res.response()
	if err != nil {
		return nil, false, err
	}
	return &pb.RangeStreamResponse{RangeResponse: resp}, !res.part, nil
}

// AppendNext is Next with the chunk encoded and appended to b.
func (s *Stream) AppendNext(b []byte, h Header) (out []byte, last bool, err error) {
	res, err := s.chunk()
	if err != nil {
		return b, false, err
	}
	b = protowire.AppendTag(b, streamRange, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(res.size(h)))
	return res.append(b, h), !res.part, nil
}

func (s *Stream) chunk() (*Result, error) {
	if s.done {
		panic("kv: a stream was asked for more after its last chunk")
	}
	res := &Result{form: s.last.form}
	take := s.takeScanned
	if s.own {
		take = s.takeRest
	}
	ended, err := take(res)
	if err != nil {
		return nil, err
	}
	if !ended {
		res.part = true
		return res, nil
	}
	s.done = true
	res.Rev, res.Count, res.More = s.last.Rev, s.last.Count, s.last.More
	return res, nil
}

// room counts what a chunk may still take.
type room struct{ bytes, keys int }

// takes reports whether the chunk takes an item, as it does with any first one.
func (m *room) takes(size int, opt StreamOptions) bool {
	first := m.keys == 0
	m.keys++
	m.bytes += size
	return first || m.keys <= opt.ChunkKeys && m.bytes <= opt.ChunkBytes
}

// takeRest fills a chunk from an answer that is already in order.
func (s *Stream) takeRest(res *Result) (ended bool, err error) {
	var m room
	for i := range s.rest {
		it := &s.rest[i]
		if err := res.form.fill(s.r, it); err != nil {
			return false, err
		}
		if !m.takes(res.form.size(it), s.opt) {
			res.found, s.rest = s.rest[:i:i], s.rest[i:]
			return false, nil
		}
	}
	res.found = s.rest
	return true, nil
}

// takeScanned fills a chunk with the keys that come next. Where it is full, the
// key that did not fit is where the next chunk begins.
func (s *Stream) takeScanned(res *Result) (ended bool, err error) {
	var m room
	ended = true
	scanErr := s.r.Scan(spanOf(s.next, s.req.RangeEnd), s.req.Revision, func(h mvcc.Hit) bool {
		if s.left == 0 {
			s.last.More = true
			return false
		}
		it := item{Hit: h}
		if err = res.form.fill(s.r, &it); err != nil {
			return false
		}
		if !m.takes(res.form.size(&it), s.opt) {
			s.next, ended = bytes.Clone(h.Key), false
			return false
		}
		s.left--
		res.found = append(res.found, it)
		return true
	})
	if scanErr != nil {
		return false, scanErr
	}
	return ended, err
}
