// Command etcdutl works on the files of an etcd member that is not running.
package main

import (
	"os"

	"github.com/steledb/stele/internal/cli/utl"
)

func main() {
	os.Exit(utl.Main(os.Args[1:], utl.System()))
}
