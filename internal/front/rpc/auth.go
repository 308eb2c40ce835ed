package rpc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// authMember is what the Auth service needs of the member.
type authMember interface {
	Proposer
	Identity
	// Authenticate checks a name and password and returns a token.
	Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error)
	AuthStatus(ctx context.Context) (*pb.AuthStatusResponse, error)
	// HashPassword returns what may be stored and replicated of a password. It
	// is slow on purpose; the member bounds how many run at a time.
	HashPassword(ctx context.Context, password string) (string, error)
}

type authService struct {
	pb.UnimplementedAuthServer
	m    authMember
	head header
}

// headed is a response whose header is set by the edge.
type headed interface{ GetHeader() *pb.ResponseHeader }

// propose puts r through the log and returns its typed answer.
func propose[R headed](ctx context.Context, s *authService, r *pb.InternalRaftRequest) (R, error) {
	res, err := s.m.Propose(ctx, r)
	if err != nil {
		var none R
		return none, toStatus(err)
	}
	return res.Resp.(R), nil
}

func (s *authService) AuthEnable(ctx context.Context, r *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	resp, err := propose[*pb.AuthEnableResponse](ctx, s, &pb.InternalRaftRequest{AuthEnable: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) AuthDisable(ctx context.Context, r *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	resp, err := propose[*pb.AuthDisableResponse](ctx, s, &pb.InternalRaftRequest{AuthDisable: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	resp, err := s.m.AuthStatus(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	resp, err := s.m.Authenticate(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

// UserAdd hashes the password before it goes into the log. A hash given by the
// client is ignored, as etcd does.
func (s *authService) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	clean := &pb.AuthUserAddRequest{Name: r.Name, Options: r.Options}
	if !r.Options.GetNoPassword() {
		hash, err := s.m.HashPassword(ctx, r.Password)
		if err != nil {
			return nil, toStatus(err)
		}
		clean.HashedPassword = hash
	}
	resp, err := propose[*pb.AuthUserAddResponse](ctx, s, &pb.InternalRaftRequest{AuthUserAdd: clean})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	hash, err := s.m.HashPassword(ctx, r.Password)
	if err != nil {
		return nil, toStatus(err)
	}
	clean := &pb.AuthUserChangePasswordRequest{Name: r.Name, HashedPassword: hash}
	resp, err := propose[*pb.AuthUserChangePasswordResponse](ctx, s, &pb.InternalRaftRequest{AuthUserChangePassword: clean})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	resp, err := propose[*pb.AuthUserDeleteResponse](ctx, s, &pb.InternalRaftRequest{AuthUserDelete: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	resp, err := propose[*pb.AuthUserGetResponse](ctx, s, &pb.InternalRaftRequest{AuthUserGet: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) UserList(ctx context.Context, r *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	resp, err := propose[*pb.AuthUserListResponse](ctx, s, &pb.InternalRaftRequest{AuthUserList: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	resp, err := propose[*pb.AuthUserGrantRoleResponse](ctx, s, &pb.InternalRaftRequest{AuthUserGrantRole: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	resp, err := propose[*pb.AuthUserRevokeRoleResponse](ctx, s, &pb.InternalRaftRequest{AuthUserRevokeRole: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	resp, err := propose[*pb.AuthRoleAddResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleAdd: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	resp, err := propose[*pb.AuthRoleGetResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleGet: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) RoleList(ctx context.Context, r *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	resp, err := propose[*pb.AuthRoleListResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleList: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	resp, err := propose[*pb.AuthRoleDeleteResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleDelete: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	resp, err := propose[*pb.AuthRoleGrantPermissionResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleGrantPermission: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}

func (s *authService) RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	resp, err := propose[*pb.AuthRoleRevokePermissionResponse](ctx, s, &pb.InternalRaftRequest{AuthRoleRevokePermission: r})
	if err != nil {
		return nil, err
	}
	s.head.fill(&resp.Header)
	return resp, nil
}
