package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// Keys of the cluster bucket, and the value of a removed member.
const (
	keyVersion   = "clusterVersion" // text, "3.7.0"
	keyDowngrade = "downgrade"      // JSON of Downgrade
	valueRemoved = "removed"
)

// DefaultMaxLearners is how many learners a cluster has room for unless told
// otherwise.
const DefaultMaxLearners = 1

// Cluster is the membership at some applied index.
type Cluster struct {
	id          uint64
	maxLearners int
	members     map[uint64]Member
	removed     map[uint64]struct{} // ids that can never come back
	version     Version             // zero until the first leader has set it
	downgrade   Downgrade
}

// New returns a cluster without members.
func New(id uint64, maxLearners int) *Cluster {
	return &Cluster{
		id:          id,
		maxLearners: maxLearners,
		members:     map[uint64]Member{},
		removed:     map[uint64]struct{}{},
	}
}

// Load adds a record of one of the buckets members, members_removed and cluster
// found at start. Records of other buckets are not this package's.
func (c *Cluster) Load(b bucket.Name, key, value []byte) error {
	switch b {
	case bucket.Members:
		m, err := decodeMember(key, value)
		if err != nil {
			return err
		}
		c.members[m.ID] = m
	case bucket.MembersRemoved:
		id, err := ids.Parse(string(key))
		if err != nil {
			return fmt.Errorf("cluster: members_removed record: %w", err)
		}
		c.removed[id] = struct{}{}
	case bucket.Cluster:
		return c.loadFact(string(key), value)
	default:
		return fmt.Errorf("cluster: bucket %s does not describe the cluster", b)
	}
	return nil
}

func (c *Cluster) loadFact(key string, value []byte) (err error) {
	switch key {
	case keyVersion:
		c.version, err = ParseVersion(string(value))
	case keyDowngrade:
		c.downgrade, err = decodeDowngrade(value)
	}
	if err != nil {
		return fmt.Errorf("cluster: record %s: %w", key, err)
	}
	return nil
}

// Restore takes members, removed ids and version from a description that is
// not the buckets: the v2 store dump of an old raft snapshot. It returns the
// records to write.
func (c *Cluster) Restore(members []Member, removed []uint64, v Version) []bucket.Op {
	var ops []bucket.Op
	for _, m := range members {
		m.PeerURLs = sortedURLs(m.PeerURLs)
		ops = append(ops, c.put(m))
	}
	for _, id := range removed {
		c.removed[id] = struct{}{}
		ops = append(ops, putRemoved(id))
	}
	if !v.IsZero() {
		ops = append(ops, c.SetVersion(v)...)
	}
	return ops
}

// Clone returns a copy that later changes do not touch, for readers.
func (c *Cluster) Clone() *Cluster {
	copied := *c
	copied.members = maps.Clone(c.members)
	copied.removed = maps.Clone(c.removed)
	return &copied
}

// ID is the cluster's id.
func (c *Cluster) ID() uint64 { return c.id }

// SetID gives the cluster its id, which is stored in the WAL and not in the
// buckets.
func (c *Cluster) SetID(id uint64) { c.id = id }

// Members returns all members by id.
func (c *Cluster) Members() []Member {
	return slices.SortedFunc(maps.Values(c.members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

// Member returns one member.
func (c *Cluster) Member(id uint64) (Member, bool) {
	m, ok := c.members[id]
	return m, ok
}

// MemberNamed returns the member that published the name. Names need not be
// unique; the one with the lowest id is taken.
func (c *Cluster) MemberNamed(name string) (Member, bool) {
	for _, m := range c.Members() {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// IsRemoved reports whether the id belonged to a member that was removed.
func (c *Cluster) IsRemoved(id uint64) bool {
	_, ok := c.removed[id]
	return ok
}

// Removed returns the ids that were removed, in order.
func (c *Cluster) Removed() []uint64 { return slices.Sorted(maps.Keys(c.removed)) }

// PeerURLs returns the URLs of all members where peers listen, in order.
func (c *Cluster) PeerURLs() []string {
	return c.urls(func(m Member) []string { return m.PeerURLs })
}

// ClientURLs returns the URLs of all members where clients are served, in order.
func (c *Cluster) ClientURLs() []string {
	return c.urls(func(m Member) []string { return m.ClientURLs })
}

func (c *Cluster) urls(of func(Member) []string) []string {
	all := []string{}
	for _, m := range c.members {
		all = append(all, of(m)...)
	}
	slices.Sort(all)
	return all
}

// Voters returns the members that vote, by id.
func (c *Cluster) Voters() []Member {
	return slices.DeleteFunc(c.Members(), func(m Member) bool { return m.IsLearner })
}

// ConfState is the membership as raft sees it. etcd never leaves a joint
// configuration behind, so the members say it all.
func (c *Cluster) ConfState() raftpb.ConfState {
	var s raftpb.ConfState
	for _, m := range c.Members() {
		if m.IsLearner {
			s.Learners = append(s.Learners, m.ID)
		} else {
			s.Voters = append(s.Voters, m.ID)
		}
	}
	return s
}

// Version is the version that all members are known to speak, the zero value
// until the first leader has set it.
func (c *Cluster) Version() Version { return c.version }

// SetVersion applies a new cluster version.
func (c *Cluster) SetVersion(v Version) []bucket.Op {
	c.version = v
	return []bucket.Op{bucket.Put(bucket.Cluster, []byte(keyVersion), []byte(v.String()))}
}

// Downgrade is the downgrade under way, disabled if there is none.
func (c *Cluster) Downgrade() Downgrade { return c.downgrade }

// SetDowngrade applies the start or the end of a downgrade.
func (c *Cluster) SetDowngrade(d Downgrade) []bucket.Op {
	c.downgrade = d
	return []bucket.Op{bucket.Put(bucket.Cluster, []byte(keyDowngrade), d.encode())}
}

// SetAttributes applies what a member published about itself. It reports false
// for a member that is not there (any more): its last words change nothing.
func (c *Cluster) SetAttributes(id uint64, a Attributes) ([]bucket.Op, bool) {
	m, ok := c.members[id]
	if !ok {
		return nil, false
	}
	m.Name, m.ClientURLs = a.Name, slices.Clone(a.ClientURLs)
	return []bucket.Op{c.put(m)}, true
}

// put stores a member in place of its former self.
func (c *Cluster) put(m Member) bucket.Op {
	c.members[m.ID] = m
	return bucket.Put(bucket.Members, m.key(), m.encode())
}

func putRemoved(id uint64) bucket.Op {
	return bucket.Put(bucket.MembersRemoved, []byte(ids.Text(id)), []byte(valueRemoved))
}
