package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// Initial is the cluster an operator described with --initial-cluster: the peer
// URLs, sorted, of each member name.
type Initial map[string][]string

// ParseInitial reads "name=url,name=url2,other=url3". A name may come more than
// once, for a member with several URLs.
func ParseInitial(text string) (Initial, error) {
	initial := Initial{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair == "" {
			continue
		}
		name, raw, _ := strings.Cut(pair, "=")
		u, err := checkURL(raw)
		if err != nil {
			return nil, err
		}
		initial[name] = append(initial[name], u)
	}
	for _, urls := range initial {
		slices.Sort(urls)
	}
	return initial, nil
}

// CheckURLs says whether a member can have these peer URLs, and returns them
// sorted as they are to be kept.
func CheckURLs(raw []string) ([]string, error) {
	if len(raw) == 0 {
		return nil, errors.New("no valid URLs given")
	}
	urls := make([]string, len(raw))
	for i, r := range raw {
		u, err := checkURL(r)
		if err != nil {
			return nil, err
		}
		urls[i] = u
	}
	slices.Sort(urls)
	return urls, nil
}

// checkURL takes the URL of a listener: a scheme we speak, host and port, and
// nothing behind them. The texts are part of the start-up messages.
func checkURL(raw string) (string, error) {
	raw = strings.TrimSpace(raw)
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	switch u.Scheme {
	case "unix", "unixs":
		return u.String(), nil
	case "http", "https":
	default:
		return "", fmt.Errorf("URL scheme must be http, https, unix, or unixs: %s", raw)
	}
	if !isHostPort(u.Host) {
		return "", fmt.Errorf("URL address does not have the form \"host:port\": %s", raw)
	}
	if u.Path != "" {
		return "", fmt.Errorf("URL must not contain a path: %s", raw)
	}
	return u.String(), nil
}

// isHostPort reports whether the text has a host, in brackets if it contains
// colons itself, and a port behind a colon. Both may be empty.
func isHostPort(hostPort string) bool {
	if rest, bracketed := strings.CutPrefix(hostPort, "["); bracketed {
		_, port, ok := strings.Cut(rest, "]:")
		return ok && !strings.ContainsAny(port, ":[]")
	}
	return strings.Count(hostPort, ":") == 1 && !strings.ContainsAny(hostPort, "[]")
}

// String writes the cluster back, in order.
func (i Initial) String() string {
	var pairs []string
	for name, urls := range i {
		for _, u := range urls {
			pairs = append(pairs, name+"="+u)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// Check says whether the description can be a cluster with this member in it.
func (i Initial) Check(self string) error {
	if i[self] == nil {
		return fmt.Errorf("couldn't find local name %q in the initial cluster configuration", self)
	}
	seen := map[string]bool{}
	for _, urls := range i {
		for _, u := range urls {
			if seen[u] {
				return fmt.Errorf("initial cluster %s has duplicate url", i)
			}
			seen[u] = true
		}
	}
	return nil
}

// CheckAdvertised says whether a member advertises the URLs that the cluster
// was told. resolved is what resolving both sides came to: nil if they are the
// same, else the reason why not.
func (i Initial) CheckAdvertised(self string, advertised []string, resolved error) error {
	if resolved == nil {
		return nil
	}
	advertised = sortedURLs(advertised)
	if missing := without(i[self], advertised); len(missing) > 0 {
		for n := range missing {
			missing[n] = self + "=" + missing[n]
		}
		return fmt.Errorf("--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s (%w)",
			strings.Join(missing, ","), strings.Join(advertised, ","), resolved)
	}
	own := Initial{self: advertised}
	if missing := without(advertised, i[self]); len(missing) > 0 {
		return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s",
			strings.Join(missing, ","), own)
	}
	return fmt.Errorf("failed to resolve %s to match --initial-cluster=%s (%w)", strings.Join(advertised, ","), own, resolved)
}

// without returns what is in a but not in b.
func without(a, b []string) []string {
	var rest []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// Members returns the members of the new cluster by id. Everyone who starts
// with equal flags computes the same.
func (i Initial) Members(token string) ([]Member, error) {
	byID := map[uint64]Member{}
	for _, name := range slices.Sorted(maps.Keys(i)) {
		m := Member{ID: ids.Member(i[name], token), Name: name, PeerURLs: i[name]}
		if twin, ok := byID[m.ID]; ok {
			return nil, fmt.Errorf("members %q and %q have the identical ID %s", twin.Name, name, ids.Text(m.ID))
		}
		if m.ID == ids.None {
			return nil, fmt.Errorf("member %q has the ID %s, which stands for no member", name, ids.Text(m.ID))
		}
		byID[m.ID] = m
	}
	members := make([]Member, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		members = append(members, byID[id])
	}
	return members, nil
}

// CheckLearners says whether the members have no more learners than allowed. A
// limit below zero is refused by its first use, as the start-up does.
func CheckLearners(members []Member, limit int) error {
	learners := 0
	for _, m := range members {
		if m.IsLearner {
			learners++
		}
	}
	if learners > limit {
		return ErrTooManyLearners
	}
	return nil
}

// ClusterID is the id of a new cluster of these members.
func ClusterID(members []Member) uint64 {
	all := make([]uint64, len(members))
	for i, m := range members {
		all[i] = m.ID
	}
	return ids.Cluster(all)
}

// Bootstrap returns the conf changes that are the first entries of a new
// cluster's log: one for each member, by id.
func Bootstrap(members []Member) []raftpb.ConfChange {
	changes := make([]raftpb.ConfChange, len(members))
	for i, m := range members {
		changes[i] = Add(m)
	}
	return changes
}

// Adopt gives the members of a description the ids that a running cluster has
// for them, matched by peer URLs. equal compares two lists of URLs, resolving
// names if need be; it returns the reason when they differ.
func (i Initial) Adopt(existing []Member, equal func(a, b []string) error) ([]Member, error) {
	if len(existing) != len(i) {
		return nil, errors.New("member count is unequal")
	}
	adopted := make([]Member, 0, len(existing))
	for _, e := range existing {
		name, err := i.match(e, equal)
		if err != nil {
			return nil, err
		}
		adopted = append(adopted, Member{ID: e.ID, Name: name, PeerURLs: i[name], IsLearner: e.IsLearner})
	}
	return adopted, nil
}

func (i Initial) match(e Member, equal func(a, b []string) error) (name string, last error) {
	for _, name := range slices.Sorted(maps.Keys(i)) {
		if last = equal(sortedURLs(e.PeerURLs), i[name]); last == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("PeerURLs: no match found for existing member (%s, %v), last resolver error (%w)",
		ids.Text(e.ID), e.PeerURLs, last)
}
