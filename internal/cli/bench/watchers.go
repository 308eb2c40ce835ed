package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/wire/h2client"
)

// watchers are many watches on many streams, created one after the other on
// each stream and all streams at once.
type watchers struct {
	ctx     context.Context
	sample  bool
	created []*tally // per stream; owned by the stream's reader
	arrived []*tally // likewise: events, by how long they travelled
	streams []*watchStream

	mu        sync.Mutex
	ready     int           // watches created; guarded by mu
	events    int64         // guarded by mu
	lastEvent time.Time     // guarded by mu
	err       error         // guarded by mu; why a stream ended
	moved     chan struct{} // guarded by mu; closed and replaced when something above changes what someone waits for
	wantReady int           // guarded by mu; 0: nobody waits
	wantEvent int64         // likewise
}

// watchStream belongs to the reader of its connection.
type watchStream struct {
	all      *watchers
	conn     *h2client.Conn
	stream   h2client.Stream
	requests []*pb.WatchCreateRequest // not yet sent
	sent     time.Time
	created  *tally
	arrived  *tally
}

// open starts one stream per list of requests, spread over conns.
func openWatchers(ctx context.Context, conns []*h2client.Conn, sample bool, perStream [][]*pb.WatchCreateRequest) (*watchers, error) {
	ws := &watchers{ctx: ctx, sample: sample, moved: make(chan struct{})}
	for i, requests := range perStream {
		s := &watchStream{all: ws, conn: conns[i%len(conns)], requests: requests, created: newTally(sample), arrived: newTally(sample)}
		ws.created, ws.arrived = append(ws.created, s.created), append(ws.arrived, s.arrived)
		ws.streams = append(ws.streams, s)
		s.stream.OnMessage = func(_ *h2client.Stream, msg []byte) { s.handle(msg) }
		s.stream.OnEnd = func(_ *h2client.Stream, err error) { s.ended(err) }
	}
	for _, s := range ws.streams {
		body, err := s.next()
		if err != nil {
			return nil, err
		}
		if body == nil {
			continue
		}
		if err := s.conn.Start(&s.stream, methodWatch, body, false); err != nil {
			return nil, err
		}
		s.conn.Flush()
	}
	return ws, nil
}

// next encodes the next creation; nil if all were sent.
func (s *watchStream) next() ([]byte, error) {
	if len(s.requests) == 0 {
		return nil, nil
	}
	body, err := proto.Marshal(createWatch(s.requests[0]))
	if err != nil {
		return nil, fmt.Errorf("watch request: %w", err)
	}
	s.requests = s.requests[1:]
	s.sent = time.Now()
	return body, nil
}

func (s *watchStream) handle(msg []byte) {
	news, err := scanWatch(msg)
	now := time.Now()
	switch {
	case err != nil:
	case news.canceled:
		err = fmt.Errorf("a watch was cancelled: %s", news.reason)
	case news.created:
		s.created.ok(now, now.Sub(s.sent))
		var body []byte
		if body, err = s.next(); err == nil && body != nil {
			s.conn.Send(&s.stream, body, false)
		}
	case news.events > 0:
		if d, ok := travelled(news.stamp, now); ok {
			for range news.events { // of one revision, or of a catch-up: the newest tells
				s.arrived.ok(now, d)
			}
		}
	}
	if err != nil {
		s.created.failed(err)
	}
	s.all.note(news.created, int64(news.events), now, err)
}

func (s *watchStream) ended(err error) {
	if err == nil {
		err = errors.New("the server ended a watch stream")
	}
	s.all.note(false, 0, time.Now(), err)
}

// note counts news, and wakes who waits for exactly that.
func (ws *watchers) note(created bool, events int64, now time.Time, err error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if created {
		ws.ready++
	}
	if events > 0 {
		ws.events += events
		ws.lastEvent = now
	}
	if err != nil && ws.err == nil {
		ws.err = err
	}
	if ws.err != nil || (ws.wantReady > 0 && ws.ready >= ws.wantReady) || (ws.wantEvent > 0 && ws.events >= ws.wantEvent) {
		close(ws.moved)
		ws.moved = make(chan struct{})
	}
}

// await returns when that many watches exist and that many events came.
func (ws *watchers) await(ready int, events int64) error {
	for {
		ws.mu.Lock()
		ws.wantReady, ws.wantEvent = ready, events
		enough, err, moved := ws.ready >= ready && ws.events >= events, ws.err, ws.moved
		ws.mu.Unlock()
		if enough || err != nil {
			return err
		}
		select {
		case <-moved:
		case <-ws.ctx.Done():
			return ws.ctx.Err()
		}
	}
}

// last is when the newest event came.
func (ws *watchers) last() time.Time {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.lastEvent
}

// close ends the streams. The tallies must be read after it.
func (ws *watchers) close() {
	for _, s := range ws.streams {
		s.conn.Cancel(&s.stream)
	}
}
