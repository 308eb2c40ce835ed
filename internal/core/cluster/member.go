package cluster

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/steledb/stele/internal/base/ids"
)

// Member is one member. Its JSON form is what the members bucket, conf changes
// and the /members endpoint of the peers hold: fields in this order, those
// that are optional left out when empty.
//
// Members are values: the slices of a Member taken from a Cluster are shared
// and never changed.
type Member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"` // sorted
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"` // empty until the member has started once
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// IsStarted reports whether the member has published itself.
func (m Member) IsStarted() bool { return m.Name != "" }

// Attributes are what a member publishes about itself.
type Attributes struct {
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// encode writes the member as the members bucket holds it.
func (m Member) encode() []byte { return mustJSON(m) }

func (m Member) key() []byte { return []byte(ids.Text(m.ID)) }

// decodeMember reads a record of the members bucket.
func decodeMember(key, value []byte) (Member, error) {
	id, err := ids.Parse(string(key))
	if err != nil {
		return Member{}, fmt.Errorf("cluster: members record: %w", err)
	}
	var m Member
	if err := json.Unmarshal(value, &m); err != nil {
		return Member{}, fmt.Errorf("cluster: members record %s: %w", key, err)
	}
	if m.ID != id {
		return Member{}, fmt.Errorf("cluster: members record %s holds member %s", key, ids.Text(m.ID))
	}
	return m, nil
}

// sortedURLs is a copy in order: members compare and print their URLs sorted.
func sortedURLs(urls []string) []string {
	if urls == nil {
		return nil
	}
	return slices.Sorted(slices.Values(urls))
}

// mustJSON encodes a value made of strings, numbers and booleans, which cannot
// fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cluster: encoding %+v: %v", v, err))
	}
	return b
}
