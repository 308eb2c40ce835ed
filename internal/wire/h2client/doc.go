// Package h2client is a gRPC client for those who count microseconds: load
// generators. It puts many calls on one HTTP/2 connection without a goroutine,
// a timer or an allocation of its own per call.
//
// # How it is lean
//
//   - A connection has two goroutines. The reader hands messages and ends to
//     callbacks; a callback may start the next call right there. The writer
//     sends whatever gathered meanwhile in one write.
//   - Frames are appended to one buffer under one lock. The reader wakes the
//     writer when it has handled all the bytes that came together, so that
//     answers which arrive in one read cause requests that leave in one write.
//   - A header block that refers only to fields both sides already know is a
//     few constant bytes; it is kept and copied.
//
// # What it promises
//
// Every stream that Start accepted ends exactly once, in OnEnd or by a Cancel
// that returned true. Errors are gRPC status errors. Both flow-control windows
// are respected in both directions, and so is the server's limit on streams:
// calls above it wait in order. Memory is bounded by what the user asks for
// (requests it starts, MaxReplyBytes per reply) and never by what a peer claims.
//
// # What it leaves to others
//
// Retries, balancing, deadlines, compression, reconnection.
package h2client
