// Command etcd runs one member of a cluster.
package main

import (
	"context"

	"github.com/steledb/stele/embed"
	"github.com/steledb/stele/internal/cli/etcdcmd"
)

func main() {
	etcdcmd.Main(func(ctx context.Context, cfg *embed.Config) (etcdcmd.Server, error) {
		return embed.Start(ctx, cfg)
	})
}
