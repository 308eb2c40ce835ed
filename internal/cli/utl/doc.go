// Package utl is the etcdutl command: it works on the files of a member that
// is not running, and on snapshot files, without a server.
//
//	snapshot status    what a snapshot holds, and its hash
//	snapshot restore   a new data directory from a snapshot
//	hashkv             the hash members compare, of a file
//	defrag             the backend file rewritten without holes
//	migrate            the storage version raised or lowered
//
// Commands that only look open the file read-only, so that a snapshot's digest
// keeps matching. Commands that write say what they do in log lines on
// standard error; results go to standard output.
package utl
