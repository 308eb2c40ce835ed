package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/steledb/stele/internal/base/bucket"
	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// changeContext is the JSON in a conf change: the member as it shall be, and
// whether adding it means promoting it.
//
//	add, add --learner   {"id":N,"peerURLs":[..],"isLearner":true}
//	promote              {"id":N,"peerURLs":null,"isPromote":true}
//	update               {"id":N,"peerURLs":[..]}
//	bootstrap            {"id":N,"peerURLs":[..],"name":".."}
//	remove               no context
type changeContext struct {
	Member
	IsPromote bool `json:"isPromote,omitempty"`
}

// Add returns the change that adds a member. The caller sets the ID of this
// and the other changes to that of its request.
func Add(m Member) raftpb.ConfChange {
	kind := raftpb.ConfChangeAddNode
	if m.IsLearner {
		kind = raftpb.ConfChangeAddLearnerNode
	}
	m.PeerURLs = sortedURLs(m.PeerURLs)
	return change(kind, changeContext{Member: m})
}

// Promote returns the change that lets a learner vote.
func Promote(id uint64) raftpb.ConfChange {
	return change(raftpb.ConfChangeAddNode, changeContext{Member: Member{ID: id}, IsPromote: true})
}

// Update returns the change of a member's peer URLs.
func Update(id uint64, peerURLs []string) raftpb.ConfChange {
	return change(raftpb.ConfChangeUpdateNode, changeContext{Member: Member{ID: id, PeerURLs: sortedURLs(peerURLs)}})
}

// Remove returns the change that removes a member for good.
func Remove(id uint64) raftpb.ConfChange {
	return raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode, NodeID: id}
}

func change(kind raftpb.ConfChangeType, context changeContext) raftpb.ConfChange {
	return raftpb.ConfChange{Type: kind, NodeID: context.ID, Context: mustJSON(context)}
}

// ChangeKind tells what an applied change did.
type ChangeKind int

// The kinds of applied change.
const (
	Added ChangeKind = iota + 1
	Promoted
	Updated
	Removed
)

func (k ChangeKind) String() string {
	return [...]string{"none", "added", "promoted", "updated", "removed"}[k]
}

// Change is what an applied conf change did. Member is the member afterwards,
// or as it last was when it was removed.
type Change struct {
	Kind   ChangeKind
	Member Member
}

// Apply carries out a committed conf change if it is valid. After an error
// nothing has changed, and raft must be given the change with NodeID 0: the
// entry is committed and stands for nothing.
func (c *Cluster) Apply(cc raftpb.ConfChange) (Change, []bucket.Op, error) {
	context, err := decodeContext(cc)
	if err != nil {
		return Change{}, nil, err
	}
	if err := c.check(cc, context); err != nil {
		return Change{}, nil, err
	}
	switch cc.Type {
	case raftpb.ConfChangeRemoveNode:
		return c.remove(cc.NodeID)
	case raftpb.ConfChangeUpdateNode:
		m := c.members[cc.NodeID]
		m.PeerURLs = context.PeerURLs
		return Change{Updated, m}, []bucket.Op{c.put(m)}, nil
	}
	if context.IsPromote {
		m := c.members[cc.NodeID]
		m.IsLearner = false
		return Change{Promoted, m}, []bucket.Op{c.put(m)}, nil
	}
	return Change{Added, context.Member}, []bucket.Op{c.put(context.Member)}, nil
}

// Check says whether a conf change would be valid now.
func (c *Cluster) Check(cc raftpb.ConfChange) error {
	context, err := decodeContext(cc)
	if err != nil {
		return err
	}
	return c.check(cc, context)
}

// check holds a change against the membership. The order decides which error a
// client sees and is that of etcd.
func (c *Cluster) check(cc raftpb.ConfChange, context changeContext) error {
	if c.IsRemoved(cc.NodeID) {
		return ErrRemoved
	}
	m, exists := c.members[cc.NodeID]
	switch cc.Type {
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode:
		if context.IsPromote {
			return checkPromote(m, exists)
		}
		return c.checkAdd(context.Member, exists)
	case raftpb.ConfChangeRemoveNode:
		if !exists {
			return ErrNotFound
		}
	case raftpb.ConfChangeUpdateNode:
		if !exists {
			return ErrNotFound
		}
		return c.checkURLs(context.Member)
	}
	return nil
}

func checkPromote(m Member, exists bool) error {
	if !exists {
		return ErrNotFound
	}
	if !m.IsLearner {
		return ErrNotLearner
	}
	return nil
}

// errNoID refuses a member whose id raft uses for nobody.
var errNoID = errors.New("cluster: a member cannot have the id 0")

func (c *Cluster) checkAdd(m Member, exists bool) error {
	if m.ID == ids.None {
		return errNoID
	}
	if exists {
		return ErrExists
	}
	if err := c.checkURLs(m); err != nil {
		return err
	}
	if m.IsLearner && c.learners() >= c.maxLearners {
		return ErrTooManyLearners
	}
	return nil
}

// checkURLs refuses URLs that another member has.
func (c *Cluster) checkURLs(m Member) error {
	for _, other := range c.members {
		if other.ID == m.ID {
			continue
		}
		for _, url := range m.PeerURLs {
			if slices.Contains(other.PeerURLs, url) {
				return ErrPeerURLExists
			}
		}
	}
	return nil
}

func (c *Cluster) learners() int { return len(c.members) - len(c.Voters()) }

func (c *Cluster) remove(id uint64) (Change, []bucket.Op, error) {
	m := c.members[id]
	delete(c.members, id)
	c.removed[id] = struct{}{}
	return Change{Removed, m}, []bucket.Op{bucket.Drop(bucket.Members, m.key()), putRemoved(id)}, nil
}

// decodeContext reads the member out of a change. What it cannot read, every
// member cannot read, so the change stands for nothing everywhere.
func decodeContext(cc raftpb.ConfChange) (changeContext, error) {
	var context changeContext
	switch cc.Type {
	case raftpb.ConfChangeRemoveNode:
		return context, nil
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeUpdateNode:
	default:
		return context, fmt.Errorf("cluster: unknown conf change type %d", cc.Type)
	}
	if err := json.Unmarshal(cc.Context, &context); err != nil {
		return context, fmt.Errorf("cluster: conf change of member %s: %w", ids.Text(cc.NodeID), err)
	}
	if context.ID != cc.NodeID {
		return context, fmt.Errorf("cluster: conf change of member %s describes member %s", ids.Text(cc.NodeID), ids.Text(context.ID))
	}
	return context, nil
}
