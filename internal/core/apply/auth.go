package apply

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/steledb/stele/internal/core/auth"
)

// gatePermission asks for the rights of the user who made the request, as they
// are now: they may have changed since it was proposed.
func gatePermission(m *Machine, r *pb.InternalRaftRequest) error {
	return m.Auth.View().CheckEntry(auth.Caller{User: r.Header.GetUsername(), Revision: r.Header.GetAuthRevision()}, r, m.Leases)
}

func (m *Machine) applyAuth(at Entry, r *pb.InternalRaftRequest) Result {
	res, err := m.Auth.Apply(r, auth.Entry{Index: at.Index, Now: at.Now, Answer: at.Answer})
	if err != nil {
		return Result{Err: err}
	}
	m.Keep(res.Ops...)
	setHeader(res.Resp.ProtoReflect(), m.header())
	return Result{Resp: res.Resp}
}

// setHeader sets the header field that every response has.
func setHeader(resp protoreflect.Message, h *pb.ResponseHeader) {
	if f := resp.Descriptor().Fields().ByName("header"); f != nil {
		resp.Set(f, protoreflect.ValueOfMessage(h.ProtoReflect()))
	}
}
