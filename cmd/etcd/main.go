// Command etcd runs one member of a cluster.
package main

import "github.com/steledb/stele/internal/cli/etcdcmd"

func main() { etcdcmd.Main(etcdcmd.StartMember) }
