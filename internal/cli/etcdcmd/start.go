package etcdcmd

import (
	"context"

	"github.com/steledb/stele/embed"
)

// StartMember starts a real member.
func StartMember(ctx context.Context, cfg *embed.Config) (Server, error) {
	server, err := embed.Start(ctx, cfg)
	if err != nil {
		return nil, err // not a nil *Server in a Server that is not nil
	}
	return server, nil
}
