package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// postAll posts what no stream took.
func (l *link) postAll(ctx context.Context) {
	for {
		select {
		case m := <-l.queue:
			l.postMessage(ctx, m)
		case <-ctx.Done():
			return
		}
	}
}

func (l *link) postMessage(ctx context.Context, m raftpb.Message) {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	body := m.Marshal()
	err := l.post(ctx, pathPost, "application/protobuf", bytes.NewReader(body))
	if err == nil {
		l.state.activate()
		if f := l.t.opt.Events.Sent; f != nil {
			f(l.id, len(body))
		}
		return
	}
	l.state.deactivate("failed to write "+l.name()+" on pipeline", err)
	if f := l.t.opt.Events.SendFailed; f != nil {
		f(l.id)
	}
	l.t.opt.Handler.ReportUnreachable(l.id)
}

// post sends a request that is answered by 204, or 200 of old versions.
func (l *link) post(ctx context.Context, path, contentType string, body io.Reader) error {
	base, err := l.to.current()
	if err != nil {
		return err
	}
	target, err := join(base, path)
	if err != nil {
		l.to.failed(base)
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, body)
	if err != nil {
		l.to.failed(base)
		return err
	}
	l.t.opt.introduce(r.Header)
	r.Header.Set("Content-Type", contentType)
	resp, err := l.t.posts.Do(r)
	if err != nil {
		l.to.failed(base)
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusOK {
		return nil
	}
	l.to.failed(base)
	return l.refused(resp)
}

// sendSnapshot posts a snapshot:
//
//	u64 BE length | raftpb.Message | the database file, to the end
//
// The body is read as fast as the other side takes it; nothing is held but one
// buffer of the copy.
func (l *link) sendSnapshot(ctx context.Context, m raftpb.Message, body Body) {
	defer body.Close()
	start, size := time.Now(), body.Size()
	facts := []any{"snapshot-index", m.Snapshot.Metadata.Index, "remote-peer-id", ids.Text(l.id), "bytes", size, "size", sizeText(size)}
	l.t.log.Info("sending database snapshot", facts...)
	if f := l.t.opt.Events.SnapshotSending; f != nil {
		f(l.id, 1)
		defer f(l.id, -1)
	}
	err := l.postSnapshot(ctx, m, body)
	if f := l.t.opt.Events.SnapshotSent; f != nil {
		f(l.id, size, time.Since(start), err == nil)
	}
	l.t.opt.Handler.ReportSnapshot(l.id, err == nil)
	if err != nil {
		l.t.log.Warn("failed to send database snapshot", append(facts, "error", err)...)
		if ctx.Err() == nil {
			l.state.deactivate("failed to post "+l.name()+" on sendsnap", err)
			l.t.opt.Handler.ReportUnreachable(l.id)
		}
		return
	}
	l.state.activate()
	l.t.log.Info("sent database snapshot", facts...)
}

func (l *link) postSnapshot(ctx context.Context, m raftpb.Message, body Body) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, err := body.WriteTo(w)
		w.CloseWithError(err)
		time.AfterFunc(snapshotAnswerTimeout, cancel) // harmless once the post has ended
	}()
	head := binary.BigEndian.AppendUint64(nil, uint64(m.Size()))
	head = m.AppendTo(head)
	err := l.post(ctx, pathSnapshot, "application/octet-stream", io.MultiReader(bytes.NewReader(head), r))
	r.CloseWithError(io.ErrClosedPipe) // has the writer end if the post ended first
	<-written
	return err
}

// sizeText is a size for people: 41 kB.
func sizeText(n int64) string {
	const unit = 1000
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for v >= unit && i < len(units)-1 {
		v, i = v/unit, i+1
	}
	if i > 0 && v < 10 {
		return fmt.Sprintf("%.1f %s", v, units[i])
	}
	return fmt.Sprintf("%.0f %s", v, units[i])
}
