// Command benchmark loads an etcd-compatible cluster and reports how long its
// answers took.
package main

import (
	"os"

	"github.com/steledb/stele/internal/cli/bench"
)

func main() {
	os.Exit(bench.Main(os.Args[1:], os.Stdout, os.Stderr))
}
