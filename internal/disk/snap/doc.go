// Package snap keeps the .snap files of a member: for each raft snapshot its
// index, term and conf state, and the membership as a dump of etcd's v2 store.
//
// It owns the files <term>-<index>.snap of one directory, written so that a
// crash leaves them whole or absent, and promises to find the newest one that
// is intact and wanted, setting damaged ones aside as .broken. The key-value
// state is not here: it is in the bbolt file beside.
//
// Stele itself starts without these files, as etcd 3.7 does. It writes them so
// that etcd 3.6 can open the directory, and reads them where the directory was
// written by 3.4 or 3.5, whose membership may be only there.
//
// Save the snapshot first, then its mark in the write-ahead log: a mark promises
// that the snapshot is there.
package snap
