// Package wal is the write-ahead log: the raft entries, hard states and snapshot
// marks that a member must find again after a crash, in etcd's file format.
//
// It owns the files of one directory: segments named by sequence and first
// index, the preallocated next segment, and the .broken copies that repair
// leaves. It promises that
//
//   - everything saved before a Sync that returned nil is read back by Open, in
//     order, until Purge removes the segment;
//   - a crash at any moment costs at most what was not synced, never more and
//     never something else: a torn tail is cut off, any other damage is an error
//     that names file and offset;
//   - a segment that is still needed is locked, so that no purge takes it.
//
// It leaves to its user: which mark to restart from (Marks lists them), when to
// sync (NeedsSync tells whether it must be now), the .snap files, and what to do
// about an error. After a failed write or sync the log refuses all further work,
// because nobody knows what the disk holds then.
//
// The bytes are drawn in docs/formats/wal.md; DESIGN.md here tells how the parts
// work together.
package wal
