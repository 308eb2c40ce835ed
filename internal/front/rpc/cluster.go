package rpc

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/core/cluster"
)

// clusterMember is what the Cluster service needs of the member. The lists it
// returns are in ascending order of id.
type clusterMember interface {
	Identity
	Linearizer
	Members() []*pb.Member
	AddMember(ctx context.Context, peerURLs []string, learner bool) (*pb.Member, []*pb.Member, error)
	RemoveMember(ctx context.Context, id uint64) ([]*pb.Member, error)
	UpdateMember(ctx context.Context, id uint64, peerURLs []string) ([]*pb.Member, error)
	PromoteMember(ctx context.Context, id uint64) ([]*pb.Member, error)
}

type clusterService struct {
	pb.UnimplementedClusterServer
	m    clusterMember
	head header
}

func (s *clusterService) MemberAdd(ctx context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	added, all, err := s.m.AddMember(ctx, r.PeerURLs, r.IsLearner)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.MemberAddResponse{Header: s.head.noRevision(), Member: added, Members: all}, nil
}

func (s *clusterService) MemberRemove(ctx context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	all, err := s.m.RemoveMember(ctx, r.ID)
	if errors.Is(err, cluster.ErrNotEnoughStarted) {
		return nil, status.Error(codes.Unknown, err.Error()) // of a removal etcd says it with this code
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.MemberRemoveResponse{Header: s.head.noRevision(), Members: all}, nil
}

func (s *clusterService) MemberUpdate(ctx context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	all, err := s.m.UpdateMember(ctx, r.ID, r.PeerURLs)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.MemberUpdateResponse{Header: s.head.noRevision(), Members: all}, nil
}

func (s *clusterService) MemberPromote(ctx context.Context, r *pb.MemberPromoteRequest) (*pb.MemberPromoteResponse, error) {
	all, err := s.m.PromoteMember(ctx, r.ID)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.MemberPromoteResponse{Header: s.head.noRevision(), Members: all}, nil
}

func (s *clusterService) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	if r.Linearizable {
		if err := s.m.LinearizableRead(ctx); err != nil {
			return nil, toStatus(err)
		}
	}
	return &pb.MemberListResponse{Header: s.head.noRevision(), Members: s.m.Members()}, nil
}
