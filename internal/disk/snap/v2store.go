package snap

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The data of a snapshot is a dump of etcd's v2 store, a tree of nodes under
// /0 (cluster) and /1 (keys of v2 users, always empty here), with the history of
// the events that made it:
//
//	/0/members/<id>/raftAttributes   {"peerURLs":[..],"isLearner":true?}
//	/0/members/<id>/attributes       {"name":"..","clientURLs":[..]}
//	/0/removed_members/<id>
//	/0/version                       3.7.0
//
// 3.7 makes it from the membership in the database, as if a fresh store had been
// filled in one go; so does EncodeMembership. Field order, the fixed counters
// and the thousand history slots are what 3.6 and earlier parse.

// Member is one member of the cluster as the v2 store knows it.
type Member struct {
	ID         uint64
	PeerURLs   []string
	IsLearner  bool
	Name       string   // empty until the member has started once
	ClientURLs []string // nil until then
}

// Membership is what the v2 store dump of a snapshot tells.
type Membership struct {
	Members        []Member
	Removed        []uint64 // ids that may not come back
	ClusterVersion string   // "3.7.0"; empty if not decided yet
}

const (
	clusterDir   = "/0"
	keysDir      = "/1"
	membersDir   = clusterDir + "/members"
	removedDir   = clusterDir + "/removed_members"
	versionKey   = clusterDir + "/version"
	raftAttrs    = "raftAttributes"
	attrs        = "attributes"
	neverExpires = "0001-01-01T00:00:00Z"

	historySlots = 1000
)

type raftAttributes struct {
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner,omitempty"`
}

type attributes struct {
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// v2Node is a directory (Children not nil) or a leaf.
type v2Node struct {
	Path          string
	CreatedIndex  uint64
	ModifiedIndex uint64
	ExpireTime    string
	Value         string
	Children      map[string]*v2Node
}

type v2Event struct {
	Action string      `json:"action"`
	Node   v2EventNode `json:"node"`
}

type v2EventNode struct {
	Key           string `json:"key"`
	Value         string `json:"value"`
	ModifiedIndex uint64 `json:"modifiedIndex"`
	CreatedIndex  uint64 `json:"createdIndex"`
}

type v2Queue struct {
	Events                      []*v2Event
	Size, Front, Back, Capacity int
}

type v2History struct {
	Queue                 v2Queue
	StartIndex, LastIndex uint64
}

type v2Stats struct {
	GetsSuccess             int `json:"getsSuccess"`
	GetsFail                int `json:"getsFail"`
	SetsSuccess             int `json:"setsSuccess"`
	SetsFail                int `json:"setsFail"`
	DeleteSuccess           int `json:"deleteSuccess"`
	DeleteFail              int `json:"deleteFail"`
	UpdateSuccess           int `json:"updateSuccess"`
	UpdateFail              int `json:"updateFail"`
	CreateSuccess           int `json:"createSuccess"`
	CreateFail              int `json:"createFail"`
	CompareAndSwapSuccess   int `json:"compareAndSwapSuccess"`
	CompareAndSwapFail      int `json:"compareAndSwapFail"`
	CompareAndDeleteSuccess int `json:"compareAndDeleteSuccess"`
	CompareAndDeleteFail    int `json:"compareAndDeleteFail"`
	ExpireCount             int `json:"expireCount"`
	Watchers                int `json:"watchers"`
}

type v2Store struct {
	Root       *v2Node
	WatcherHub struct{ EventHistory v2History }

	CurrentIndex   uint64
	Stats          v2Stats
	CurrentVersion int
}

func newDir(p string, index uint64) *v2Node {
	return &v2Node{Path: p, CreatedIndex: index, ModifiedIndex: index, ExpireTime: neverExpires, Children: map[string]*v2Node{}}
}

func newV2Store() *v2Store {
	s := &v2Store{Root: newDir("/", 0), CurrentVersion: 2}
	for _, dir := range []string{clusterDir, keysDir} {
		s.Root.Children[path.Base(dir)] = newDir(dir, 0)
	}
	s.Stats.GetsFail = 1 // the look whether the store is empty
	return s
}

// put adds a leaf and the directories above it, as one event.
func (s *v2Store) put(action, key, value string) {
	s.CurrentIndex++
	node := s.Root
	for _, name := range strings.Split(path.Dir(key)[1:], "/") {
		child := node.Children[name]
		if child == nil {
			child = newDir(path.Join(node.Path, name), s.CurrentIndex)
			node.Children[name] = child
		}
		node = child
	}
	leaf := newDir(key, s.CurrentIndex)
	leaf.Value, leaf.Children = value, nil
	node.Children[path.Base(key)] = leaf

	history := &s.WatcherHub.EventHistory
	history.Queue.Events = append(history.Queue.Events, &v2Event{Action: action, Node: v2EventNode{
		Key: key, Value: value, ModifiedIndex: s.CurrentIndex, CreatedIndex: s.CurrentIndex,
	}})
	history.StartIndex, history.LastIndex = 1, s.CurrentIndex
	if action == "create" {
		s.Stats.CreateSuccess++
	} else {
		s.Stats.SetsSuccess++
	}
}

// finish lays the history out as the ring of slots it is in etcd. A cluster with
// more events than slots, hundreds of members, keeps the newest.
func (s *v2Store) finish() {
	history := &s.WatcherHub.EventHistory
	q := &history.Queue
	if drop := len(q.Events) - historySlots; drop > 0 {
		q.Events = q.Events[drop:]
		history.StartIndex += uint64(drop)
	}
	q.Size, q.Capacity = len(q.Events), historySlots
	q.Back = q.Size % historySlots
	q.Events = append(q.Events, make([]*v2Event, historySlots-q.Size)...)
}

// idText is an id as part of a v2 path.
func idText(id uint64) string { return strconv.FormatUint(id, 16) }

// EncodeMembership gives the v2 store dump for a snapshot's data. Equal
// memberships give equal bytes.
func EncodeMembership(m Membership) ([]byte, error) {
	s := newV2Store()
	members := slices.SortedFunc(slices.Values(m.Members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for _, member := range members {
		if err := s.putMember(member); err != nil {
			return nil, fmt.Errorf("snap: encode member %x: %w", member.ID, err)
		}
	}
	for _, id := range slices.Sorted(slices.Values(m.Removed)) {
		s.put("create", path.Join(removedDir, idText(id)), "")
	}
	if m.ClusterVersion != "" {
		s.put("set", versionKey, m.ClusterVersion)
	}
	s.finish()
	return json.Marshal(s)
}

func (s *v2Store) putMember(m Member) error {
	dir := path.Join(membersDir, idText(m.ID))
	value, err := json.Marshal(raftAttributes{PeerURLs: m.PeerURLs, IsLearner: m.IsLearner})
	if err != nil {
		return err
	}
	s.put("create", path.Join(dir, raftAttrs), string(value))
	if m.ClientURLs == nil && m.Name == "" {
		return nil
	}
	value, err = json.Marshal(attributes{Name: m.Name, ClientURLs: m.ClientURLs})
	if err != nil {
		return err
	}
	s.put("set", path.Join(dir, attrs), string(value))
	return nil
}

// ErrNoMembership says that a snapshot's data is no v2 store dump.
var ErrNoMembership = errors.New("snap: no membership in the snapshot's data")

// DecodeMembership reads the membership out of a v2 store dump of etcd 2 to 3.7.
// It looks at the tree only and takes what it finds: missing parts are empty,
// unknown nodes are passed over. Members and removed ids come sorted.
func DecodeMembership(dump []byte) (Membership, error) {
	var store struct{ Root *v2Node }
	if err := json.Unmarshal(dump, &store); err != nil {
		return Membership{}, fmt.Errorf("%w: %w", ErrNoMembership, err)
	}
	if store.Root == nil {
		return Membership{}, ErrNoMembership
	}
	m := Membership{}
	if version := store.Root.find(versionKey); version != nil {
		m.ClusterVersion = version.Value
	}
	removed := store.Root.find(removedDir).children()
	for _, name := range slices.Sorted(maps.Keys(removed)) {
		id, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return Membership{}, fmt.Errorf("%w: removed member %q", ErrNoMembership, name)
		}
		m.Removed = append(m.Removed, id)
	}
	for name, node := range store.Root.find(membersDir).children() {
		member, err := decodeMember(name, node)
		if err != nil {
			return Membership{}, fmt.Errorf("%w: member %q: %w", ErrNoMembership, name, err)
		}
		m.Members = append(m.Members, member)
	}
	slices.Sort(m.Removed)
	slices.SortFunc(m.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return m, nil
}

func decodeMember(name string, node *v2Node) (Member, error) {
	id, err := strconv.ParseUint(name, 16, 64)
	if err != nil {
		return Member{}, err
	}
	var raft raftAttributes
	if err := node.find(raftAttrs).decode(&raft); err != nil {
		return Member{}, err
	}
	var own attributes
	if err := node.find(attrs).decode(&own); err != nil {
		return Member{}, err
	}
	return Member{ID: id, PeerURLs: raft.PeerURLs, IsLearner: raft.IsLearner, Name: own.Name, ClientURLs: own.ClientURLs}, nil
}

// find follows a path down from n; nil if it leads nowhere.
func (n *v2Node) find(p string) *v2Node {
	for _, name := range strings.Split(strings.Trim(p, "/"), "/") {
		n = n.children()[name]
	}
	return n
}

func (n *v2Node) children() map[string]*v2Node {
	if n == nil {
		return nil
	}
	return n.Children
}

// decode reads the value of a leaf; a missing or empty one leaves into alone.
func (n *v2Node) decode(into any) error {
	if n == nil || n.Value == "" {
		return nil
	}
	return json.Unmarshal([]byte(n.Value), into)
}
