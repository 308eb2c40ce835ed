package auth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/keys"
)

// Goal: every answer of etcd 3.7.1 about users and rights is given here too.
// Method: the recorded requests go through the checks of this package in the
// order in which a member makes them; requests on keys only up to the point
// where rights are decided. What hangs on which lease is followed on the side.
func TestRecordedAnswers(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/oracle/corpus/auth-*.jsonl.gz")
	if len(files) == 0 {
		t.Skip("no recordings here")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			replay(t, file)
		})
	}
}

type step struct {
	N      int
	Op     string
	Method string
	As     *string
	Stream string
	Req    json.RawMessage
	Reqs   []json.RawMessage
	Resp   json.RawMessage
	Status *struct{ Code, Msg string }
	Watch  []struct {
		Resp struct {
			CancelReason string `json:"cancel_reason"`
		}
	}
}

// player is a member without a network.
type player struct {
	t       *testing.T
	store   *Store
	now     time.Time
	given   map[string]string // token by the step that got it
	streams map[string]*string
	leases  playedLeases
}

// playedLeases is which keys hang on which lease.
type playedLeases struct {
	exists map[int64]bool
	of     map[string]int64
}

func (l playedLeases) Keys(id int64) (all [][]byte) {
	for key, lease := range l.of {
		if lease == id {
			all = append(all, []byte(key))
		}
	}
	return all
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
	p := &player{
		t: t, store: newStore(), now: time.Unix(0, 0),
		given: map[string]string{}, streams: map[string]*string{},
		leases: playedLeases{exists: map[int64]bool{}, of: map[string]int64{}},
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	lines.Scan() // what was recorded
	for n := 2; lines.Scan(); n++ {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		if want, got := s.outcome(), p.play(&s); got != want {
			t.Errorf("line %d: %s\nwant %q\ngot  %q", n, lines.Bytes(), want, got)
		}
	}
}

func newStore() *Store {
	s := New(newSimple(DefaultTTL), Options{})
	s.Start()
	return s
}

// outcome is what the recorded answer says about rights, and all of it where
// the answer is this package's.
func (s *step) outcome() string {
	switch {
	case s.Op == "watch-send":
		if len(s.Watch) == 1 {
			if _, msg, _ := strings.Cut(s.Watch[0].Resp.CancelReason, "desc = "); isRefusal(msg) {
				return msg
			}
		}
		return "ok"
	case s.Status != nil && (s.isOurs() || isRefusal(s.Status.Msg)):
		return s.Status.Msg
	case s.isOurs():
		return canonical(s.response())
	}
	return "ok"
}

func (s *step) isOurs() bool { return strings.Contains(s.Method, "Auth/") }

func isRefusal(msg string) bool {
	return slices.Contains([]Error{ErrPermissionDenied, ErrUserEmpty, ErrInvalidToken, ErrOldRevision}, Error(msg))
}

func (s *step) response() proto.Message {
	resp := responses[filepath.Base(s.Method)]()
	if err := protojson.Unmarshal(s.Resp, resp); err != nil {
		panic(err)
	}
	return resp
}

// canonical is an answer without header and token.
func canonical(m proto.Message) string {
	m = proto.Clone(m)
	if a, ok := m.(*pb.AuthenticateResponse); ok {
		a.Token = ""
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	m.ProtoReflect().Clear(fields.ByName("header"))
	var text bytes.Buffer // protojson varies its white space on purpose
	if raw, err := protojson.Marshal(m); err != nil || json.Compact(&text, raw) != nil {
		panic(fmt.Sprintf("writing %v: %v", m, err))
	}
	return string(m.ProtoReflect().Descriptor().Name()) + " " + text.String()
}

var responses = map[string]func() proto.Message{
	"AuthStatus":           func() proto.Message { return &pb.AuthStatusResponse{} },
	"AuthEnable":           func() proto.Message { return &pb.AuthEnableResponse{} },
	"AuthDisable":          func() proto.Message { return &pb.AuthDisableResponse{} },
	"Authenticate":         func() proto.Message { return &pb.AuthenticateResponse{} },
	"UserAdd":              func() proto.Message { return &pb.AuthUserAddResponse{} },
	"UserGet":              func() proto.Message { return &pb.AuthUserGetResponse{} },
	"UserList":             func() proto.Message { return &pb.AuthUserListResponse{} },
	"UserDelete":           func() proto.Message { return &pb.AuthUserDeleteResponse{} },
	"UserChangePassword":   func() proto.Message { return &pb.AuthUserChangePasswordResponse{} },
	"UserGrantRole":        func() proto.Message { return &pb.AuthUserGrantRoleResponse{} },
	"UserRevokeRole":       func() proto.Message { return &pb.AuthUserRevokeRoleResponse{} },
	"RoleAdd":              func() proto.Message { return &pb.AuthRoleAddResponse{} },
	"RoleGet":              func() proto.Message { return &pb.AuthRoleGetResponse{} },
	"RoleList":             func() proto.Message { return &pb.AuthRoleListResponse{} },
	"RoleDelete":           func() proto.Message { return &pb.AuthRoleDeleteResponse{} },
	"RoleGrantPermission":  func() proto.Message { return &pb.AuthRoleGrantPermissionResponse{} },
	"RoleRevokePermission": func() proto.Message { return &pb.AuthRoleRevokePermissionResponse{} },
}

func read[M proto.Message](p *player, raw json.RawMessage, into M) M {
	if err := protojson.Unmarshal(raw, into); err != nil {
		p.t.Fatal(err)
	}
	return into
}

// play carries a step out as far as this package goes.
func (p *player) play(s *step) string {
	p.now = p.now.Add(time.Millisecond)
	switch s.Op {
	case "watch-open":
		p.streams[s.Stream] = s.As
		return "ok"
	case "watch-close":
		return "ok"
	case "watch-send":
		s.As = p.streams[s.Stream]
	}
	c, err := p.identify(s)
	if err == nil {
		err = p.store.View().CheckMethod(c, s.Method)
	}
	if err == nil && s.isOurs() {
		return p.manage(c, s)
	}
	if err == nil {
		err = p.check(c, s)
	}
	if err != nil {
		return err.Error()
	}
	p.follow(s)
	return "ok"
}

func (p *player) identify(s *step) (Caller, error) {
	if s.As == nil {
		return Caller{}, nil
	}
	token, ok := p.given[*s.As]
	if !ok {
		token = *s.As
	}
	return p.store.Authenticate(token, p.now)
}

func (p *player) manage(c Caller, s *step) string {
	r, err := p.entry(s)
	if err == nil {
		err = p.store.View().CheckEntry(c, r, p.leases)
	}
	var result Result
	if err == nil {
		result, err = p.store.Apply(r, Entry{Index: uint64(s.N), Now: p.now, Answer: true})
	}
	if err != nil {
		return err.Error()
	}
	if a, ok := result.Resp.(*pb.AuthenticateResponse); ok {
		p.given[fmt.Sprintf("@%d", s.N)] = a.Token
	}
	return canonical(result.Resp)
}

// entry is what a member would propose for a request.
func (p *player) entry(s *step) (*pb.InternalRaftRequest, error) {
	r, raw := &pb.InternalRaftRequest{}, s.Req
	var err error
	switch filepath.Base(s.Method) {
	case "AuthStatus":
		r.AuthStatus = read(p, raw, &pb.AuthStatusRequest{})
	case "AuthEnable":
		r.AuthEnable = read(p, raw, &pb.AuthEnableRequest{})
	case "AuthDisable":
		r.AuthDisable = read(p, raw, &pb.AuthDisableRequest{})
	case "Authenticate":
		q := read(p, raw, &pb.AuthenticateRequest{})
		_, err = p.store.View().CheckPassword(q.Name, q.Password)
		r.Authenticate = &pb.InternalAuthenticateRequest{Name: q.Name, SimpleToken: "prefix"}
	case "UserAdd":
		q := read(p, raw, &pb.AuthUserAddRequest{})
		if !q.Options.GetNoPassword() {
			q.HashedPassword, err = HashPassword(q.Password, MinCost)
		}
		q.Password = ""
		r.AuthUserAdd = q
	case "UserChangePassword":
		q := read(p, raw, &pb.AuthUserChangePasswordRequest{})
		q.HashedPassword, err = HashPassword(q.Password, MinCost)
		q.Password = ""
		r.AuthUserChangePassword = q
	case "UserGet":
		r.AuthUserGet = read(p, raw, &pb.AuthUserGetRequest{})
	case "UserList":
		r.AuthUserList = read(p, raw, &pb.AuthUserListRequest{})
	case "UserDelete":
		r.AuthUserDelete = read(p, raw, &pb.AuthUserDeleteRequest{})
	case "UserGrantRole":
		r.AuthUserGrantRole = read(p, raw, &pb.AuthUserGrantRoleRequest{})
	case "UserRevokeRole":
		r.AuthUserRevokeRole = read(p, raw, &pb.AuthUserRevokeRoleRequest{})
	case "RoleAdd":
		r.AuthRoleAdd = read(p, raw, &pb.AuthRoleAddRequest{})
	case "RoleGet":
		r.AuthRoleGet = read(p, raw, &pb.AuthRoleGetRequest{})
	case "RoleList":
		r.AuthRoleList = read(p, raw, &pb.AuthRoleListRequest{})
	case "RoleDelete":
		r.AuthRoleDelete = read(p, raw, &pb.AuthRoleDeleteRequest{})
	case "RoleGrantPermission":
		r.AuthRoleGrantPermission = read(p, raw, &pb.AuthRoleGrantPermissionRequest{})
	case "RoleRevokePermission":
		r.AuthRoleRevokePermission = read(p, raw, &pb.AuthRoleRevokePermissionRequest{})
	default:
		p.t.Fatalf("unknown method %s", s.Method)
	}
	return r, err
}

// check asks for the rights that the content of a request needs.
func (p *player) check(c Caller, s *step) error {
	v := p.store.View()
	switch filepath.Base(s.Method) {
	case "Range", "RangeStream":
		return v.CheckRangeRequest(c, read(p, s.Req, &pb.RangeRequest{}))
	case "Put":
		return v.CheckEntry(c, &pb.InternalRaftRequest{Put: read(p, s.Req, &pb.PutRequest{})}, p.leases)
	case "DeleteRange":
		return v.CheckEntry(c, &pb.InternalRaftRequest{DeleteRange: read(p, s.Req, &pb.DeleteRangeRequest{})}, p.leases)
	case "Txn":
		return v.CheckEntry(c, &pb.InternalRaftRequest{Txn: read(p, s.Req, &pb.TxnRequest{})}, p.leases)
	case "LeaseRevoke":
		return v.CheckEntry(c, &pb.InternalRaftRequest{LeaseRevoke: read(p, s.Req, &pb.LeaseRevokeRequest{})}, p.leases)
	case "LeaseKeepAlive":
		for _, raw := range s.Reqs {
			if err := v.CheckLeaseWrite(c, read(p, raw, &pb.LeaseKeepAliveRequest{}).ID, p.leases); err != nil {
				return err
			}
		}
	case "LeaseTimeToLive":
		if q := read(p, s.Req, &pb.LeaseTimeToLiveRequest{}); q.Keys {
			return v.CheckLeaseRead(c, q.ID, p.leases)
		}
	case "LeaseLeases":
		for id := range p.leases.exists {
			if err := v.CheckLeaseRead(c, id, p.leases); err != nil {
				return err
			}
		}
	case "Alarm":
		return v.CheckAlarm(c, read(p, s.Req, &pb.AlarmRequest{}).Action == pb.AlarmRequest_GET)
	case "Watch":
		if q := read(p, s.Req, &pb.WatchRequest{}).GetCreateRequest(); q != nil {
			return v.CheckWatch(c, keys.Span{Key: q.Key, End: q.RangeEnd})
		}
	}
	return nil
}

// follow keeps track of leases after a request that was answered without error.
func (p *player) follow(s *step) {
	if s.Status != nil {
		return
	}
	switch filepath.Base(s.Method) {
	case "Put":
		p.put(read(p, s.Req, &pb.PutRequest{}))
	case "DeleteRange":
		p.delete(read(p, s.Req, &pb.DeleteRangeRequest{}))
	case "Txn":
		p.txn(read(p, s.Req, &pb.TxnRequest{}), read(p, s.Resp, &pb.TxnResponse{}).Succeeded)
	case "LeaseGrant":
		p.leases.exists[read(p, s.Req, &pb.LeaseGrantRequest{}).ID] = true
	case "LeaseRevoke":
		id := read(p, s.Req, &pb.LeaseRevokeRequest{}).ID
		for _, key := range p.leases.Keys(id) {
			delete(p.leases.of, string(key))
		}
		delete(p.leases.exists, id)
	}
}

func (p *player) put(r *pb.PutRequest) {
	if r.IgnoreLease {
		return
	}
	delete(p.leases.of, string(r.Key))
	if r.Lease != 0 {
		p.leases.of[string(r.Key)] = r.Lease
	}
}

func (p *player) delete(r *pb.DeleteRangeRequest) {
	span := keys.Span{Key: r.Key, End: r.RangeEnd}
	for key := range p.leases.of {
		if span.Contains([]byte(key)) {
			delete(p.leases.of, key)
		}
	}
}

func (p *player) txn(r *pb.TxnRequest, succeeded bool) {
	branch := r.Failure
	if succeeded {
		branch = r.Success
	}
	for _, op := range branch {
		switch {
		case op.GetRequestPut() != nil:
			p.put(op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil:
			p.delete(op.GetRequestDeleteRange())
		}
	}
}

// The bytes of a hash survive the way through a request.
func TestHashSurvivesTheRequest(t *testing.T) {
	hashed, err := HashPassword("secret", MinCost)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := newStore().hashOf("", hashed)
	if err != nil || !bytes.HasPrefix(hash, []byte("$2a$04$")) {
		t.Errorf("%q, %v", hash, err)
	}
}
