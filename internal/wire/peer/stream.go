package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// readStream keeps one stream from the peer open and takes in what comes.
func (l *link) readStream(ctx context.Context, kind streamKind) {
	l.t.log.Info("started stream reader with remote peer", "stream-reader-type", kind.String(),
		"local-member-id", ids.Text(l.t.opt.ID), "remote-peer-id", ids.Text(l.id))
	for {
		l.readOnce(ctx, kind)
		if !pause(ctx, redialPause) {
			return
		}
	}
}

// readOnce opens the stream and reads until it ends.
func (l *link) readOnce(ctx context.Context, kind streamKind) {
	body, err := l.dial(ctx, kind)
	if err != nil {
		if ctx.Err() == nil {
			l.state.deactivate("failed to dial "+l.name()+" on "+kind.String(), err)
		}
		return
	}
	defer body.Close()
	l.state.activate()
	facts := []any{"stream-reader-type", kind.String(), "local-member-id", ids.Text(l.t.opt.ID), "remote-peer-id", ids.Text(l.id)}
	l.t.log.Info("established TCP streaming connection with remote peer", facts...)
	err = l.takeIn(ctx, kind, body)
	if ctx.Err() != nil {
		return
	}
	l.t.log.Warn("lost TCP streaming connection with remote peer", append(facts, "error", err)...)
	if !errors.Is(err, io.EOF) {
		l.state.deactivate("failed to read "+l.name()+" on "+kind.String(), err)
	}
}

func (l *link) name() string { return ids.Text(l.id) }

// dial asks the peer for a stream.
func (l *link) dial(ctx context.Context, kind streamKind) (io.ReadCloser, error) {
	base, err := l.to.current()
	if err != nil {
		return nil, err
	}
	target, err := join(base, pathStream+kind.path()+"/"+ids.Text(l.t.opt.ID))
	if err != nil {
		l.to.failed(base)
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		l.to.failed(base)
		return nil, err
	}
	l.t.opt.introduce(r.Header)
	r.Header.Set(headerTo, ids.Text(l.id))
	resp, err := l.t.streams.Do(r)
	if err != nil {
		l.to.failed(base)
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	l.to.failed(base)
	return nil, l.refused(resp)
}

// refused says why a peer did not give what it was asked for, and has the
// member know if that is because it was removed.
func (l *link) refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	switch reason := strings.TrimSpace(string(text)); resp.StatusCode {
	case http.StatusGone, http.StatusForbidden:
		l.t.opt.Handler.Expelled(l.id)
		return ErrRemoved
	case http.StatusNotFound:
		return fmt.Errorf("peer %s failed to find local node %s", l.name(), ids.Text(l.t.opt.ID))
	case http.StatusPreconditionFailed:
		switch reason {
		case ErrIncompatible.Error():
			return ErrIncompatible
		case ErrWrongCluster.Error():
			return ErrWrongCluster
		}
		fallthrough
	default:
		return fmt.Errorf("unexpected http status %s: %s", http.StatusText(resp.StatusCode), reason)
	}
}

// streamBuffer is how much is read from a stream at a time.
const streamBuffer = 64 << 10

// takeIn gives what comes to the handler until the stream fails.
func (l *link) takeIn(ctx context.Context, kind streamKind, body io.Reader) error {
	counted := &counter{r: body}
	in := bufio.NewReaderSize(counted, streamBuffer)
	decode := l.decoder(kind)
	for {
		m, err := decode.decode(in)
		if err != nil {
			return err
		}
		l.received(counted)
		if isLinkHeartbeat(&m) {
			continue
		}
		if err := l.t.opt.Handler.Process(ctx, m); err != nil {
			l.t.log.Warn("dropped Raft message received from remote", "message-type", int(m.Type),
				"local-member-id", ids.Text(l.t.opt.ID), "from", ids.Text(m.From), "error", err)
		}
	}
}

func (l *link) decoder(kind streamKind) decoder {
	if kind == streamAppend {
		return &appendDecoder{from: l.id, to: l.t.opt.ID}
	}
	return plainCodec{}
}

func (l *link) received(c *counter) {
	if f := l.t.opt.Events.Received; f != nil && c.n > 0 {
		f(l.id, c.n)
	}
	c.n = 0
}

// counter counts what is read. Its reader owns it.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	return n, err
}

// writeAtBytes is how much of a batch of messages goes out at a time, keptBytes
// how large a buffer is kept for the next batch.
const (
	writeAtBytes = 256 << 10
	keptBytes    = 1 << 20
)

// writer puts messages of one queue into the answer to the peer's GET.
type writer struct {
	l    *link
	out  http.ResponseWriter
	ctl  *http.ResponseController
	enc  encoder
	q    *queue
	buf  []byte
	kind streamKind
}

func (l *link) encoder(kind streamKind) encoder {
	if kind == streamAppend {
		return &appendEncoder{}
	}
	return plainCodec{}
}

// run writes until the queue is closed, which is nil, or the stream fails.
func (w *writer) run(ctx context.Context) error {
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()
	for {
		var msgs []raftpb.Message
		select {
		case <-w.q.wake:
			msgs = w.q.take()
		case <-beat.C:
			msgs = []raftpb.Message{linkHeartbeat()}
		case <-w.q.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := w.write(msgs); err != nil {
			return err
		}
	}
}

func (w *writer) write(msgs []raftpb.Message) error {
	for i := range msgs {
		w.buf = w.enc.append(w.buf, &msgs[i])
		if len(w.buf) >= writeAtBytes {
			if err := w.put(); err != nil {
				return err
			}
		}
	}
	if err := w.put(); err != nil {
		return err
	}
	return w.ctl.Flush()
}

func (w *writer) put() error {
	if err := w.ctl.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	n, err := w.out.Write(w.buf)
	if f := w.l.t.opt.Events.Sent; f != nil {
		f(w.l.id, n)
	}
	w.buf = w.buf[:0]
	if cap(w.buf) > keptBytes {
		w.buf = nil
	}
	return err
}
