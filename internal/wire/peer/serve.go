package peer

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
	"github.com/steledb/stele/internal/base/version"
)

// Serve adds the paths of the protocol to mux.
func (t *Transport) Serve(mux *http.ServeMux) {
	mux.HandleFunc(pathPost, t.servePost)
	mux.HandleFunc(pathPost+"/", http.NotFound)
	mux.HandleFunc(pathStream, t.serveStream)
	mux.HandleFunc(pathSnapshot, t.serveSnapshot)
	mux.HandleFunc(pathProbing, t.serveProbing)
}

// admit makes the checks that all requests of the protocol begin with; false
// when the answer was given.
func (t *Transport) admit(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method != method {
		w.Header().Set("Allow", method)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return false
	}
	w.Header().Set(headerCluster, ids.Text(t.opt.ClusterID))
	err := t.opt.check(r.Header)
	if err == nil {
		return true
	}
	facts := []any{
		"local-member-id", ids.Text(t.opt.ID), "local-member-cluster-id", ids.Text(t.opt.ClusterID),
		"local-member-server-version", version.Etcd, "local-member-server-minimum-cluster-version", version.MinCluster,
		"remote-peer-server-name", r.Header.Get(headerFrom), "remote-peer-server-version", headerOr(r.Header, headerVersion),
		"remote-peer-server-minimum-cluster-version", headerOr(r.Header, headerMinCluster),
	}
	if errors.Is(err, ErrWrongCluster) {
		t.log.Warn("request cluster ID mismatch", append(facts, "remote-peer-cluster-id", r.Header.Get(headerCluster))...)
	} else {
		t.log.Warn("failed version compatibility check", append(facts, "error", err)...)
	}
	http.Error(w, err.Error(), http.StatusPreconditionFailed)
	return false
}

// meet notes where a sender can be reached that is not known yet.
func (t *Transport) meet(h http.Header) {
	from, err := ids.Parse(h.Get(headerFrom))
	if err != nil {
		return
	}
	if urls := h.Get(headerPeerURLs); urls != "" && !t.opt.Handler.IsRemoved(from) {
		t.AddRemote(from, strings.Split(urls, ","))
	}
}

// serveStream writes to a peer until it goes away, another stream takes the
// place of this one, or the transport stops.
func (t *Transport) serveStream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerVersion, version.Etcd)
	if !t.admit(w, r, http.MethodGet) {
		return
	}
	kind, ok := streamOf(r.URL.Path)
	if !ok {
		http.Error(w, "invalid path", http.StatusNotFound)
		return
	}
	l := t.caller(w, r)
	if l == nil {
		return
	}
	q := newQueue()
	if !l.attach(kind, q) {
		http.Error(w, "error sender not found", http.StatusNotFound)
		return
	}
	defer l.detach(kind, q)
	w.WriteHeader(http.StatusOK)
	out := &writer{l: l, out: w, ctl: http.NewResponseController(w), enc: l.encoder(kind), q: q, kind: kind}
	if err := out.ctl.Flush(); err != nil {
		return
	}
	l.state.activate()
	facts := []any{"stream-writer-type", kind.String(), "local-member-id", ids.Text(t.opt.ID), "remote-peer-id", ids.Text(l.id)}
	t.log.Info("established TCP streaming connection with remote peer", facts...)
	err := out.run(r.Context())
	if err != nil && t.ctx.Err() == nil {
		t.log.Warn("lost TCP streaming connection with remote peer", append(facts, "error", err)...)
		l.state.deactivate("failed to write "+l.name()+" on "+kind.String(), err)
		t.opt.Handler.ReportUnreachable(l.id)
	}
}

// streamOf tells which stream a path means.
func streamOf(path string) (streamKind, bool) {
	name, _, ok := strings.Cut(strings.TrimPrefix(path, pathStream), "/")
	for kind := range streamKinds {
		if ok && name == kind.path() {
			return kind, true
		}
	}
	return 0, false
}

// caller finds the peer that asks for a stream; nil when the answer was given.
func (t *Transport) caller(w http.ResponseWriter, r *http.Request) *link {
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	from, err := ids.Parse(id)
	if err != nil {
		t.log.Warn("failed to parse path into ID", "local-member-id", ids.Text(t.opt.ID), "remote-peer-id-stream-handler", ids.Text(t.opt.ID), "path", id, "error", err)
		http.Error(w, "invalid from", http.StatusNotFound)
		return nil
	}
	if t.opt.Handler.IsRemoved(from) {
		t.log.Warn("rejected stream from remote peer because it was removed", "local-member-id", ids.Text(t.opt.ID),
			"remote-peer-id-stream-handler", ids.Text(t.opt.ID), "remote-peer-id-from", ids.Text(from))
		w.WriteHeader(http.StatusGone)
		return nil
	}
	l := t.peer(from)
	if l == nil {
		t.meet(r.Header)
		t.log.Warn("failed to find remote peer in cluster", "local-member-id", ids.Text(t.opt.ID),
			"remote-peer-id-stream-handler", ids.Text(t.opt.ID), "remote-peer-id-from", ids.Text(from), "cluster-id", ids.Text(t.opt.ClusterID))
		http.Error(w, "error sender not found", http.StatusNotFound)
		return nil
	}
	if to := r.Header.Get(headerTo); to != ids.Text(t.opt.ID) {
		t.log.Warn("ignored streaming request; ID mismatch", "local-member-id", ids.Text(t.opt.ID),
			"remote-peer-id-stream-handler", ids.Text(t.opt.ID), "remote-peer-id-header", to, "remote-peer-id-from", ids.Text(from), "cluster-id", ids.Text(t.opt.ClusterID))
		http.Error(w, "to field mismatch", http.StatusPreconditionFailed)
		return nil
	}
	return l
}

// Limits of what is read whole.
const (
	postBytesMax            = 512 << 20
	snapshotMessageBytesMax = 64 << 20
)

// servePost takes in one message.
func (t *Transport) servePost(w http.ResponseWriter, r *http.Request) {
	if !t.admit(w, r, http.MethodPost) {
		return
	}
	t.meet(r.Header)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, postBytesMax))
	if err != nil {
		t.log.Warn("failed to read Raft message", "local-member-id", ids.Text(t.opt.ID), "error", err)
		http.Error(w, "error reading raft message", http.StatusBadRequest)
		return
	}
	var m raftpb.Message
	if err := m.Unmarshal(body); err != nil {
		t.log.Warn("failed to unmarshal Raft message", "local-member-id", ids.Text(t.opt.ID), "error", err)
		http.Error(w, "error unmarshalling raft message", http.StatusBadRequest)
		return
	}
	if m.Snapshot != nil && m.Snapshot.IsEmpty() {
		m.Snapshot = nil
	}
	if f := t.opt.Events.Received; f != nil {
		f(m.From, len(body))
	}
	if err := t.opt.Handler.Process(r.Context(), m); err != nil {
		t.log.Warn("failed to process Raft message", "local-member-id", ids.Text(t.opt.ID), "error", err)
		t.refuse(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers a message that was not taken in, and cuts the connection.
func (t *Transport) refuse(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	http.Error(w, "error processing raft message", http.StatusInternalServerError)
	if err := http.NewResponseController(w).Flush(); err == nil {
		panic(http.ErrAbortHandler)
	}
}

// serveSnapshot takes in a snapshot: the message first, then the database,
// which goes to disk as it comes.
func (t *Transport) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	if !t.admit(w, r, http.MethodPost) {
		return
	}
	t.meet(r.Header)
	start := time.Now()
	m, err := readMessage(r.Body, snapshotMessageBytesMax)
	if err != nil {
		t.log.Warn("failed to decode Raft message", "local-member-id", ids.Text(t.opt.ID), "remote-snapshot-sender-id", r.Header.Get(headerFrom), "error", err)
		http.Error(w, "error reading raft message", http.StatusBadRequest)
		return
	}
	if m.Type != raftpb.MsgSnap || m.Snapshot == nil {
		t.log.Warn("unexpected Raft message type", "local-member-id", ids.Text(t.opt.ID), "message-type", int(m.Type))
		http.Error(w, "wrong raft message type", http.StatusBadRequest)
		return
	}
	facts := []any{"local-member-id", ids.Text(t.opt.ID), "remote-snapshot-sender-id", ids.Text(m.From), "incoming-snapshot-index", m.Snapshot.Metadata.Index}
	t.log.Info("receiving database snapshot", facts...)
	if f := t.opt.Events.Getting; f != nil {
		f(m.From, 1)
		defer f(m.From, -1)
	}
	body := &counter{r: &steady{r.Body, http.NewResponseController(w)}}
	err = t.opt.Handler.SaveSnapshot(&m, body)
	if f := t.opt.Events.SnapshotReceived; f != nil {
		f(m.From, int64(body.n), time.Since(start), err == nil)
	}
	if err != nil {
		t.log.Warn("failed to save incoming database snapshot", append(facts, "error", err)...)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	t.log.Info("received and saved database snapshot", append(facts, "incoming-snapshot-size-bytes", body.n, "download-took", time.Since(start))...)
	if err := t.opt.Handler.Process(r.Context(), m); err != nil {
		t.log.Warn("failed to process Raft message", "local-member-id", ids.Text(t.opt.ID), "error", err)
		t.refuse(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// steady ends a request whose sender makes no progress.
type steady struct {
	io.Reader
	ctl *http.ResponseController
}

func (s *steady) Read(b []byte) (int, error) {
	if err := s.ctl.SetReadDeadline(time.Now().Add(bodyPauseMax)); err != nil {
		return 0, err
	}
	return s.Reader.Read(b)
}

// bodyPauseMax is how long the sender of a snapshot may say nothing.
const bodyPauseMax = 30 * time.Second

func (t *Transport) serveProbing(w http.ResponseWriter, _ *http.Request) {
	if err := json.NewEncoder(w).Encode(probeAnswer{OK: true, Now: time.Now()}); err != nil {
		t.log.Debug("failed to answer a probe", "error", err)
	}
}
