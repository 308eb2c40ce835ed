package auth

import (
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/bucket"
)

// Options are the settings of a Store.
type Options struct {
	// LegacyHash hashes the plain password that entries written before 3.5 hold.
	// Its outcome is a matter of chance, so members end up with different
	// hashes of one password, as they did then.
	LegacyHash func(password string) ([]byte, error)
}

// Store owns the auth state. The applier alone calls the methods that change
// it; View and Tokens are for everyone.
type Store struct {
	opt     Options
	loading *View                // while records are loaded, nil afterwards
	view    atomic.Pointer[View] // replaced by the applier
	tokens  Tokens
}

// New returns a store without users. Load may follow, Start must.
func New(tokens Tokens, opt Options) *Store {
	s := &Store{opt: opt, loading: newView(), tokens: tokens}
	s.view.Store(newView())
	return s
}

// Load adds a record of the buckets auth, authUsers and authRoles.
func (s *Store) Load(b bucket.Name, key, value []byte) error {
	return s.loading.load(b, key, value)
}

// Reload begins to load another state, as a snapshot brings it. Views and
// checks go by the state before until Start. Tokens stay.
func (s *Store) Reload() { s.loading = newView() }

// Start publishes what was loaded. It returns what a new backend file has to be
// told: the first revision.
func (s *Store) Start() []bucket.Op {
	v := s.loading
	s.loading = nil
	for _, u := range v.users {
		v.setRights(u)
	}
	var ops []bucket.Op
	if v.revision == 0 {
		v.revision = 1
		ops = append(ops, putRevision(v.revision))
	}
	s.view.Store(v)
	return ops
}

// View returns the state after the last applied change.
func (s *Store) View() *View { return s.view.Load() }

// Tokens returns the keeper of tokens.
func (s *Store) Tokens() Tokens { return s.tokens }

// Authenticate turns a token into a caller. The caller of the method has waited
// for the index that Tokens.Index names.
func (s *Store) Authenticate(token string, now time.Time) (Caller, error) {
	v := s.View()
	if !v.enabled {
		return Caller{}, nil
	}
	c, ok := s.tokens.Lookup(token, v.revision, now)
	if !ok {
		return Caller{}, ErrInvalidToken
	}
	return c, nil
}

// Entry is where and when a request is applied.
type Entry struct {
	Index uint64 // raft index, a part of simple tokens
	Now   time.Time
	// Answer says that a client of this member waits for the answer: only then
	// is a token signed.
	Answer bool
}

// Result is what applying a request gave. Resp has no header.
type Result struct {
	Resp proto.Message
	Ops  []bucket.Op
}

// handler carries out one kind of request. It changes next through its methods
// only, and returns the changes of the buckets but that of the revision.
type handler func(s *Store, next *View, r *pb.InternalRaftRequest, e Entry) (o outcome, err error)

type outcome struct {
	resp    proto.Message
	ops     []bucket.Op
	changed bool   // the revision goes up
	forget  string // user whose tokens end
}

// handlers is the table of requests; the first whose field is set applies.
var handlers = []struct {
	is func(*pb.InternalRaftRequest) bool
	do handler
}{
	{func(r *pb.InternalRaftRequest) bool { return r.AuthEnable != nil }, enable},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthDisable != nil }, disable},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthStatus != nil }, status},
	{func(r *pb.InternalRaftRequest) bool { return r.Authenticate != nil }, authenticate},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserAdd != nil }, userAdd},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserDelete != nil }, userDelete},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserGet != nil }, userGet},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserList != nil }, userList},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserChangePassword != nil }, userChangePassword},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserGrantRole != nil }, userGrantRole},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthUserRevokeRole != nil }, userRevokeRole},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthRoleAdd != nil }, roleAdd},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthRoleDelete != nil }, roleDelete},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthRoleGet != nil }, roleGet},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthRoleList != nil }, roleList},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthRoleGrantPermission != nil }, roleGrantPermission},
	{func(r *pb.InternalRaftRequest) bool { return r.AuthRoleRevokePermission != nil }, roleRevokePermission},
}

func handlerOf(r *pb.InternalRaftRequest) handler {
	for _, h := range handlers {
		if h.is(r) {
			return h.do
		}
	}
	return nil
}

// Handles reports whether a request is for Apply.
func Handles(r *pb.InternalRaftRequest) bool { return handlerOf(r) != nil }

// Apply carries out a committed request. Rights have been checked before. After
// an error nothing has changed.
func (s *Store) Apply(r *pb.InternalRaftRequest, e Entry) (Result, error) {
	do := handlerOf(r)
	if do == nil {
		panic("auth: applied a request that is none of users and roles")
	}
	next := s.View().next()
	o, err := do(s, next, r, e)
	if err != nil {
		return Result{}, err
	}
	if o.changed {
		next.revision++
		o.ops = append(o.ops, putRevision(next.revision))
	}
	if len(o.ops) > 0 {
		s.view.Store(next)
	}
	// Tokens end after the change is published: a request in between carries an
	// older revision and fails for that.
	if o.forget != "" {
		s.tokens.Forget(o.forget)
	}
	if !next.enabled {
		s.tokens.Clear()
	}
	return Result{Resp: o.resp, Ops: o.ops}, nil
}
