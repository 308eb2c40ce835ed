// Package bucket names the buckets and meta keys of the backend file
// (member/snap/db) and the single change that can be made to one.
//
// Cores decide what a bucket holds and return changes as values; the flusher
// writes them, in the order given, in the transaction that also moves the
// consistent index. The layout is docs/formats/backend.md.
package bucket

// Name is a top-level bucket.
type Name string

// The buckets. All of them exist from the first start.
const (
	Key            Name = "key"
	Meta           Name = "meta"
	Lease          Name = "lease"
	Alarm          Name = "alarm"
	Cluster        Name = "cluster"
	Members        Name = "members"
	MembersRemoved Name = "members_removed"
	Auth           Name = "auth"
	AuthUsers      Name = "authUsers"
	AuthRoles      Name = "authRoles"
)

// AllNames lists every bucket.
func AllNames() []Name {
	return []Name{Key, Meta, Lease, Alarm, Auth, AuthUsers, AuthRoles, Cluster, Members, MembersRemoved}
}

// Keys of the Meta bucket.
const (
	ConsistentIndex     = "consistent_index"    // uint64 big endian, raft index of the last applied entry
	Term                = "term"                // uint64 big endian, raft term of that entry
	ConfState           = "confState"           // JSON
	ScheduledCompactRev = "scheduledCompactRev" // 17-byte revision, set before a compaction deletes anything
	FinishedCompactRev  = "finishedCompactRev"  // 17-byte revision, set with the compaction's last deletes
	StorageVersion      = "storageVersion"      // "3.7.0"
)

// Op is one change of one bucket: a put, or a delete if Delete is set.
type Op struct {
	Bucket Name
	Key    []byte
	Value  []byte
	Delete bool
}

// Put returns the change that stores value under key.
func Put(b Name, key, value []byte) Op { return Op{Bucket: b, Key: key, Value: value} }

// Drop returns the change that removes key.
func Drop(b Name, key []byte) Op { return Op{Bucket: b, Key: key, Delete: true} }
