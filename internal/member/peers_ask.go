package member

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/lease"
)

// applyWait is how long the leader waits for its own applier before it answers
// about a lease.
const applyWait = time.Second

// leaderURLs are where the leader can be asked; lease.ErrNotPrimary while
// there is none or it is this member, which will be told so in a moment.
func (m *Member) leaderURLs() ([]string, error) {
	id := m.Leader()
	if id == 0 || id == m.id {
		return nil, lease.ErrNotPrimary
	}
	m.state.RLock()
	defer m.state.RUnlock()
	c, ok := m.machine.Cluster.Member(id)
	if !ok {
		return nil, lease.ErrNotPrimary
	}
	return c.PeerURLs, nil
}

// question is a request to another member.
type question struct {
	method, path, contentType string
	body                      []byte
	token                     string
}

// answer is what came of it.
type answer struct {
	status int
	body   []byte
}

// ask puts a question to a member, at one URL after the other until it answers.
func (m *Member) ask(ctx context.Context, urls []string, q question) (a answer, err error) {
	err = errors.New("no URL to ask")
	for _, base := range urls {
		if a, err = m.askURL(ctx, base, q); err == nil || ctx.Err() != nil {
			return a, err
		}
	}
	return a, err
}

func (m *Member) askURL(ctx context.Context, base string, q question) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	target, err := url.JoinPath(base, q.path)
	if err != nil {
		return answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, q.method, target, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, err
	}
	if q.contentType != "" {
		r.Header.Set("Content-Type", q.contentType)
	}
	if q.token != "" {
		r.Header.Set("Authorization", q.token)
	}
	r.Header.Set(headerClusterID, ids.Text(m.clusterID))
	resp, err := m.peers.net.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	return answer{resp.StatusCode, body}, err
}

// text is what an error answer says.
func (a answer) text() string { return strings.TrimSpace(string(a.body)) }

// renewAtLeader has the leader renew a lease.
func (m *Member) renewAtLeader(ctx context.Context, id int64) (ttl int64, err error) {
	body, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: id})
	if err != nil {
		return 0, err
	}
	var resp pb.LeaseKeepAliveResponse
	err = m.askLease(ctx, pathLeases, body, func(b []byte) error { return proto.Unmarshal(b, &resp) })
	if err != nil {
		return 0, err
	}
	if resp.TTL <= 0 {
		return 0, lease.ErrNotFound
	}
	return resp.TTL, nil
}

// timeToLiveAtLeader asks the leader how long a lease still has.
func (m *Member) timeToLiveAtLeader(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	body, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	resp := &pb.LeaseTimeToLiveResponse{}
	err = m.askLease(ctx, pathLeaseTTL, wrapField1(body), func(b []byte) error {
		inner, err := unwrapField1(b)
		if err != nil {
			return err
		}
		return proto.Unmarshal(inner, resp)
	})
	return resp, err
}

// askLease puts a question about a lease to the leader. When that goes wrong in
// a way that may pass it says lease.ErrNotPrimary, and the caller asks again.
func (m *Member) askLease(ctx context.Context, path string, body []byte, unmarshal func([]byte) error) error {
	urls, err := m.leaderURLs()
	if err != nil {
		return err
	}
	a, err := m.ask(ctx, urls, question{method: http.MethodPost, path: path, contentType: "application/protobuf", body: body})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", lease.ErrNotPrimary, err)
	case a.status == http.StatusNotFound && a.text() == errLeaseNotFound:
		return lease.ErrNotFound
	case a.status != http.StatusOK:
		return fmt.Errorf("%w: leader answered %d %s", lease.ErrNotPrimary, a.status, a.text())
	}
	return unmarshal(a.body)
}

// promoteAtLeader has the leader promote a learner.
func (m *Member) promoteAtLeader(ctx context.Context, id uint64) error {
	urls, err := m.leaderURLs()
	if err != nil {
		return err
	}
	token, _ := ctx.Value(tokenKey{}).(string)
	a, err := m.ask(ctx, urls, question{method: http.MethodPost, path: pathPromote + fmt.Sprint(id), token: token})
	if err != nil {
		return fmt.Errorf("%w: %w", lease.ErrNotPrimary, err)
	}
	if a.status == http.StatusOK {
		return nil
	}
	for _, known := range []*cluster.Error{cluster.ErrNotFound, cluster.ErrNotLearner, cluster.ErrLearnerNotReady, cluster.ErrNotEnoughStarted, cluster.ErrUnhealthy} {
		if strings.Contains(a.text(), strings.TrimPrefix(known.Internal(), "etcdserver: ")) {
			return known
		}
	}
	return fmt.Errorf("member promote: unknown error(%s)", a.text())
}

// memberVersions asks every member which version it runs. Members that cannot
// be asked are left out.
func (m *Member) memberVersions(ctx context.Context) map[uint64]cluster.Version {
	versions := map[uint64]cluster.Version{m.id: serverVersion}
	for _, c := range m.memberList() {
		if c.ID == m.id {
			continue
		}
		v, err := m.askVersion(ctx, c.PeerURLs)
		if err != nil {
			m.log.Warn("failed to get version", "remote-member-id", ids.Text(c.ID), "error", err)
			continue
		}
		versions[c.ID] = v
	}
	return versions
}

func (m *Member) askVersion(ctx context.Context, urls []string) (cluster.Version, error) {
	a, err := m.ask(ctx, urls, question{method: http.MethodGet, path: pathVersion})
	if err != nil {
		return cluster.Version{}, err
	}
	var v peerVersions
	if err := json.Unmarshal(a.body, &v); err != nil {
		return cluster.Version{}, err
	}
	return cluster.ParseVersion(v.Server)
}
