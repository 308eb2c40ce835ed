// Package ctl is the etcdctl command: it turns arguments into requests, sends
// them through internal/client and prints the answers the way etcdctl prints
// them, byte for byte where scripts may look.
//
// A command is a function of the app: it checks its arguments, dials, calls,
// and hands a result to the printer. A result says in one place how an answer
// looks in each output format (see result); a form it does not have is refused
// with "... not supported as output format", after the request was made, as
// etcdctl does.
//
// Errors carry the exit code (see exitError); Main is the only place that ends
// the command. Signals keep their default meaning except where a command has
// something to undo (lock, elect).
package ctl
