package cluster

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/raftpb"
)

// Goal: requests about members and downgrades end as with etcd 3.7.1. Method:
// the recorded requests of single members go through the checks in the order in
// which a member makes them; ids of added members are taken from the recording.
func TestRecordedAnswers(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/oracle/corpus/maint-*.jsonl.gz")
	if len(files) == 0 {
		t.Skip("no recordings here")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replay(t, file) })
	}
}

// player is a member without a network.
type player struct {
	t       *testing.T
	self    uint64
	cluster *Cluster
}

func replay(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	lines.Scan()
	var head struct {
		Self struct {
			Member     json.Number `json:"member_id"`
			Name       string
			PeerURLs   []string `json:"peer_urls"`
			ClientURLs []string `json:"client_urls"`
		}
	}
	if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, cluster: New(1, DefaultMaxLearners)}
	if err := json.Unmarshal([]byte(head.Self.Member), &p.self); err != nil {
		t.Fatal(err)
	}
	p.cluster.Restore([]Member{{ID: p.self, Name: head.Self.Name, PeerURLs: head.Self.PeerURLs, ClientURLs: head.Self.ClientURLs}}, nil, Version{3, 7})
	for n := 2; lines.Scan(); n++ {
		var s struct {
			Method    string
			Req, Resp json.RawMessage
			Status    *struct{ Msg string }
		}
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		err, ours := p.play(filepath.Base(s.Method), s.Req, s.Resp)
		if !ours {
			continue
		}
		want, got := "", ""
		if s.Status != nil {
			want = s.Status.Msg
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("line %d: %s\ngot %q", n, lines.Bytes(), got)
		}
	}
}

func (p *player) play(method string, req, resp json.RawMessage) (err error, ours bool) {
	switch method {
	case "MemberList":
		p.compare(read(p, resp, &pb.MemberListResponse{}).Members)
	case "MemberAdd":
		err = p.add(read(p, req, &pb.MemberAddRequest{}), read(p, resp, &pb.MemberAddResponse{}))
	case "MemberRemove":
		id := read(p, req, &pb.MemberRemoveRequest{}).ID
		if err = p.cluster.MayRemove(id, p.self, func(uint64) bool { return true }); err == nil {
			err = p.apply(Remove(id))
		}
	case "MemberUpdate":
		q := read(p, req, &pb.MemberUpdateRequest{})
		err = p.apply(Update(q.ID, q.PeerURLs))
	case "MemberPromote":
		id := read(p, req, &pb.MemberPromoteRequest{}).ID
		if m, _ := p.cluster.Member(id); m.IsLearner {
			err = CheckInSync(0, 100) // the learners were never started
		}
		if err == nil {
			err = p.cluster.MayPromote(id)
		}
		if err == nil {
			err = p.apply(Promote(id))
		}
	case "Downgrade":
		err = p.downgrade(read(p, req, &pb.DowngradeRequest{}))
	default:
		return nil, false
	}
	return err, true
}

func read[M proto.Message](p *player, raw json.RawMessage, into M) M {
	if raw == nil {
		return into
	}
	if err := protojson.Unmarshal(raw, into); err != nil {
		p.t.Fatal(err)
	}
	return into
}

func (p *player) apply(cc raftpb.ConfChange) error {
	_, _, err := p.cluster.Apply(cc)
	return err
}

func (p *player) add(q *pb.MemberAddRequest, resp *pb.MemberAddResponse) error {
	urls, err := CheckURLs(q.PeerURLs)
	if err != nil {
		return ErrBadURLs
	}
	m := Member{ID: resp.GetMember().GetID(), PeerURLs: urls, IsLearner: q.IsLearner}
	if m.ID == 0 {
		m.ID = 1 << 60 // it was refused
	}
	if err := p.cluster.MayAdd(m, len(p.cluster.Voters())); err != nil {
		return err
	}
	err = p.apply(Add(m))
	if err == nil {
		p.compare(resp.Members)
	}
	return err
}

func (p *player) downgrade(q *pb.DowngradeRequest) error {
	if q.Action == pb.DowngradeRequest_CANCEL {
		p.cluster.SetDowngrade(Downgrade{})
		return nil
	}
	target, err := ParseTarget(q.Version)
	if q.Action > pb.DowngradeRequest_CANCEL {
		return errors.New("etcdserver: unknown method") // the edge knows
	}
	if err == nil {
		err = p.cluster.CheckDowngrade(target)
	}
	if err == nil && q.Action == pb.DowngradeRequest_ENABLE {
		p.cluster.SetDowngrade(Downgrade{Target: target.String(), Enabled: true})
	}
	return err
}

func (p *player) compare(want []*pb.Member) {
	p.t.Helper()
	got := p.cluster.Members()
	if len(got) != len(want) {
		p.t.Fatalf("%d members, want %d", len(got), len(want))
	}
	for _, w := range want {
		m, ok := p.cluster.Member(w.ID)
		if !ok || m.Name != w.Name || m.IsLearner != w.IsLearner || !slices.Equal(m.PeerURLs, w.PeerURLs) || !slices.Equal(m.ClientURLs, w.ClientURLs) {
			p.t.Errorf("member %+v, want %v", m, w)
		}
	}
}
