// Command golden replays recorded command lines of etcdctl and etcdutl against
// our own binaries and compares what they print and how they exit.
//
//	go run ./test/golden --bin bin --exec 'SERVER COMMAND' scenario.jsonl...
//
// A scenario is one JSON object per line, run in order on one fresh server:
// the command, its input, and the output and exit code to expect, with
// placeholders for what cannot be foreseen (see match.go). SERVER COMMAND
// starts the server in the foreground; {name}, {dir}, {client} and {peer} are
// filled in, and what the scenario's first line asks for is appended.
//
// The recorded ids follow from the recorded addresses, so the server must
// listen there. test/golden.sh runs everything in a network namespace of its
// own where it can, so that nothing else is in the way.
//
// Each mismatch is printed; the last line is "N passed, M failed". Lines whose
// recorded behaviour we do not copy are listed in known.go, with the reason,
// and counted apart.
package main
