package member

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/version"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/lease"
)

// Paths that members ask each other on, beside those of raft.
const (
	pathMembers   = "/members"
	pathPromote   = "/members/promote/"
	pathHashKV    = "/members/hashkv"
	pathLeases    = "/leases"
	pathLeaseTTL  = "/leases/internal"
	pathVersion   = "/version"
	pathDowngrade = "/downgrade/enabled"

	headerClusterID = "X-Etcd-Cluster-ID"
)

// requestBytesMax bounds a request of another member.
const requestBytesMax = 1 << 20

// PeerHandler answers other members.
func (m *Member) PeerHandler() http.Handler {
	mux := http.NewServeMux()
	m.peers.net.Serve(mux)
	for path, h := range map[string]http.HandlerFunc{
		pathMembers:   only(http.MethodGet, m.serveMembers),
		pathPromote:   only(http.MethodPost, m.servePromote),
		pathHashKV:    only(http.MethodGet, m.serveHashKV),
		pathLeases:    only(http.MethodPost, m.serveLeaseRenew),
		pathLeaseTTL:  only(http.MethodPost, m.serveLeaseTTL),
		pathVersion:   only(http.MethodGet, m.serveVersion),
		pathDowngrade: only(http.MethodGet, m.serveDowngrade),
	} {
		mux.HandleFunc(path, h)
	}
	return mux
}

// only turns away requests of other methods.
func only(method string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			w.Header().Set("Allow", method)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	}
}

func (m *Member) answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set(headerClusterID, ids.Text(m.clusterID))
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		m.log.Warn("failed to encode an answer to a peer", "error", err)
	}
}

// memberList is the membership as peers see it.
func (m *Member) memberList() []cluster.Member {
	m.state.RLock()
	defer m.state.RUnlock()
	return m.machine.Cluster.Members()
}

func (m *Member) serveMembers(w http.ResponseWriter, _ *http.Request) {
	m.answerJSON(w, m.memberList())
}

// peerVersions is the body of /version.
type peerVersions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
	Storage string `json:"storage"`
}

func (m *Member) serveVersion(w http.ResponseWriter, _ *http.Request) {
	v := peerVersions{Server: version.Etcd, Cluster: "not_decided", Storage: "unknown"}
	if c := m.ClusterVersion(); !c.IsZero() {
		v.Cluster = c.String()
	}
	if s := m.StorageVersion(); !s.IsZero() {
		v.Storage = s.String()
	}
	m.answerJSON(w, v)
}

func (m *Member) serveDowngrade(w http.ResponseWriter, _ *http.Request) {
	m.state.RLock()
	enabled := m.machine.Cluster.Downgrade().Enabled
	m.state.RUnlock()
	w.Header().Set(headerClusterID, ids.Text(m.clusterID))
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, strconv.FormatBool(enabled))
}

// servePromote promotes a learner for a member that does not lead.
func (m *Member) servePromote(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimPrefix(r.URL.Path, pathPromote)
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		http.Error(w, "member "+text+" not found in cluster", http.StatusNotFound)
		return
	}
	ctx := WithToken(r.Context(), r.Header.Get("Authorization"))
	_, err = m.promoteHere(ctx, id)
	var known *cluster.Error
	switch {
	case err == nil:
		m.answerJSON(w, m.memberList())
	case !errors.As(err, &known):
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case known == cluster.ErrNotFound:
		http.Error(w, known.Internal(), http.StatusNotFound)
	case known == cluster.ErrNotLearner, known == cluster.ErrLearnerNotReady:
		http.Error(w, known.Internal(), http.StatusPreconditionFailed)
	default:
		http.Error(w, known.Internal(), http.StatusInternalServerError)
	}
}

func (m *Member) serveHashKV(w http.ResponseWriter, r *http.Request) {
	if id := r.Header.Get(headerClusterID); id != "" && id != ids.Text(m.clusterID) {
		http.Error(w, "cluster ID mismatch", http.StatusPreconditionFailed)
		return
	}
	var ask struct {
		Revision int64 `json:"revision"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, requestBytesMax)).Decode(&ask); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return
	}
	resp, err := m.HashKV(r.Context(), ask.Revision)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp.Header.ClusterId, resp.Header.MemberId, resp.Header.RaftTerm = m.Header()
	m.answerJSON(w, resp)
}

// errLeaseNotFound is the text between members.
const errLeaseNotFound = "lease not found"

// serveLeaseRenew renews a lease for a member that does not lead.
func (m *Member) serveLeaseRenew(w http.ResponseWriter, r *http.Request) {
	var ask pb.LeaseKeepAliveRequest
	if !m.readLease(w, r, func(b []byte) error { return proto.Unmarshal(b, &ask) }) {
		return
	}
	ttl, err := m.renewHere(r.Context(), ask.ID)
	if err != nil {
		leaseError(w, err)
		return
	}
	b, err := proto.Marshal(&pb.LeaseKeepAliveResponse{ID: ask.ID, TTL: ttl})
	answerProto(w, b, err)
}

// The messages of /leases/internal have one field, 1, that holds the public
// request or response.

func wrapField1(b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
}

func unwrapField1(b []byte) ([]byte, error) {
	num, kind, n := protowire.ConsumeTag(b)
	if n < 0 || num != 1 || kind != protowire.BytesType {
		return nil, errors.New("unexpected field")
	}
	inner, n2 := protowire.ConsumeBytes(b[n:])
	return inner, protowire.ParseError(min(n2, 0))
}

func (m *Member) serveLeaseTTL(w http.ResponseWriter, r *http.Request) {
	var ask pb.LeaseTimeToLiveRequest
	unmarshal := func(b []byte) error {
		inner, err := unwrapField1(b)
		if err != nil {
			return err
		}
		return proto.Unmarshal(inner, &ask)
	}
	if !m.readLease(w, r, unmarshal) {
		return
	}
	resp, err := m.timeToLiveHere(&ask)
	if err != nil {
		leaseError(w, err)
		return
	}
	b, err := proto.Marshal(resp)
	answerProto(w, wrapField1(b), err)
}

// readLease reads a request about a lease and waits until this member has
// applied what it knows to be committed; false when the answer was given.
func (m *Member) readLease(w http.ResponseWriter, r *http.Request, unmarshal func([]byte) error) bool {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestBytesMax))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
		return false
	case err != nil:
		http.Error(w, "error reading body", http.StatusBadRequest)
		return false
	}
	if err := unmarshal(b); err != nil {
		http.Error(w, "error unmarshalling request", http.StatusBadRequest)
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), applyWait)
	defer cancel()
	if err := m.applied.wait(ctx, m.stopping, m.loop.raftStatus().Committed); err != nil {
		http.Error(w, "waiting for node to catch up its applied index has timed out", http.StatusRequestTimeout)
		return false
	}
	return true
}

func leaseError(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, lease.ErrNotFound), errors.Is(err, lease.ErrExpiring):
		http.Error(w, errLeaseNotFound, http.StatusNotFound)
	default:
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func answerProto(w http.ResponseWriter, b []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/protobuf")
	w.Write(b)
}
