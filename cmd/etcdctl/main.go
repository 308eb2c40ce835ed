// Command etcdctl talks to an etcd-compatible cluster from the command line.
package main

import (
	"os"

	"github.com/steledb/stele/internal/cli/ctl"
)

func main() {
	os.Exit(ctl.Main(os.Args[1:], ctl.System()))
}
