// Package mvcc is the engine's heart: every key with the history of its
// values since the last compaction, addressed by revision.
//
// It owns the key index (a copy-on-write B-tree in memory), the write buffer
// (records that are applied and not on disk yet) and the arithmetic of
// revisions, compaction and hashes. It promises that
//
//   - a View is one moment of the store: what it answers never changes, however
//     long it is held, and acquiring, reading and closing it never waits;
//   - a Txn is all or nothing, and reads what it wrote;
//   - equal histories give equal record bytes and equal hashes.
//
// It leaves to others: the file (it reads records through Base and hands out
// what is to be written and deleted), requests and their options (core/kv),
// leases, watchers, and when to flush, compact or publish.
//
// Three callers meet here, and each method says whose it is:
//
//	applier   one goroutine: Begin, Publish, Compact, CompactIndex
//	flusher   one goroutine: Buffered, Rebase
//	everyone  View, NewCompaction, KeepHash, Rev, CompactRev, FlushedRev, BufferedBytes
//
// DESIGN.md beside this file draws the data flow and argues why views,
// flushes and compactions can interleave in any order.
package mvcc
