package rpc

import (
	"context"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/steledb/stele/internal/base/metrics"
	"github.com/steledb/stele/internal/core/apply"
	"github.com/steledb/stele/internal/core/mvcc"
)

// Proposer puts a request through the log and returns what applying it gave.
// The caller's identity, if auth is on, is taken from ctx.
type Proposer interface {
	Propose(ctx context.Context, r *pb.InternalRaftRequest) (apply.Result, error)
}

// Identity says what every response header repeats.
type Identity interface {
	Header() (clusterID, memberID, term uint64)
	Rev() int64
}

// Viewer gives the published state of the store, ready to read from.
type Viewer interface {
	View() *mvcc.View
}

// Linearizer makes reads linearizable.
type Linearizer interface {
	// LinearizableRead returns once a View taken afterwards contains every
	// write that was acknowledged before the call.
	LinearizableRead(ctx context.Context) error
}

// Member is all that the services need; each uses its own part.
type Member interface {
	kvMember
	leaseMember
	maintenanceMember
	clusterMember
	authMember
}

// Options are the limits that requests are checked against.
type Options struct {
	MaxTxnOps int // operations in one list of a transaction
	// WarnRead is the time after which a read counts as slow; 0: none does.
	WarnRead time.Duration
	Metrics  *metrics.Metrics // nil: nobody looks
	Log      *slog.Logger     // nil: nobody reads
}

// Register adds every service but Watch to r.
func Register(r grpc.ServiceRegistrar, m Member, opt Options) {
	pb.RegisterKVServer(r, &kvService{m: m, head: header{m}, opt: opt, reading: newReading(opt)})
	pb.RegisterLeaseServer(r, &leaseService{m: m, head: header{m}})
	pb.RegisterMaintenanceServer(r, &maintenanceService{m: m, head: header{m}})
	pb.RegisterClusterServer(r, &clusterService{m: m, head: header{m}})
	pb.RegisterAuthServer(r, &authService{m: m, head: header{m}})
}

// header fills response headers.
type header struct{ of Identity }

// at returns a header that names revision rev.
func (h header) at(rev int64) *pb.ResponseHeader {
	out := h.noRevision()
	out.Revision = rev
	return out
}

// now returns a header with the current revision.
func (h header) now() *pb.ResponseHeader { return h.at(h.of.Rev()) }

// noRevision returns the header that cluster operations answer with.
func (h header) noRevision() *pb.ResponseHeader {
	cluster, member, term := h.of.Header()
	return &pb.ResponseHeader{ClusterId: cluster, MemberId: member, RaftTerm: term}
}

// fill completes a header that evaluation has begun: core sets the revision
// where it matters, otherwise it is the current one.
func (h header) fill(p **pb.ResponseHeader) {
	if *p == nil {
		*p = &pb.ResponseHeader{}
	}
	head := *p
	head.ClusterId, head.MemberId, head.RaftTerm = h.of.Header()
	if head.Revision == 0 {
		head.Revision = h.of.Rev()
	}
}
