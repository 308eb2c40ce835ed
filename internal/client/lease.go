package client

import (
	"context"
	"errors"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// reopenPause separates attempts to reopen a broken stream.
const reopenPause = 100 * time.Millisecond

// KeepAliveOnce renews a lease one time.
func (c *Client) KeepAliveOnce(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		resp, err := c.keepAliveOnce(ctx, id)
		if err == nil && resp.TTL <= 0 {
			return nil, rpctypes.ErrLeaseNotFound
		}
		if err == nil {
			return resp, nil
		}
		if isHalt(ctx, err) {
			return nil, callError(ctx, err)
		}
		if err := pause(ctx, reopenPause); err != nil {
			return nil, err
		}
	}
}

func (c *Client) keepAliveOnce(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	stream, err := c.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.CloseSend()
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.Recv() // tells the reason when Send saw the stream end
}

// KeepAlive renews a lease three times per TTL until ctx ends or the lease is
// gone, and reports every renewal to fn. It returns nil when the lease is
// gone, and reopens its stream when a member goes away.
func (c *Client) KeepAlive(ctx context.Context, id int64, fn func(*pb.LeaseKeepAliveResponse)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		err := c.keepAlive(ctx, id, fn)
		if err == nil {
			return nil
		}
		if isHalt(ctx, err) {
			return callError(ctx, err)
		}
		if err := pause(ctx, reopenPause); err != nil {
			return err
		}
	}
}

func (c *Client) keepAlive(ctx context.Context, id int64, fn func(*pb.LeaseKeepAliveResponse)) error {
	stream, err := c.LeaseKeepAlive(RequireLeader(ctx))
	if err != nil {
		return err
	}
	defer stream.CloseSend()
	for {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if resp.TTL <= 0 {
			return nil
		}
		fn(resp)
		if err := pause(ctx, time.Duration(resp.TTL)*time.Second/3); err != nil {
			return err
		}
	}
}
