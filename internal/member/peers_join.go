package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/core/cluster"
)

// errNoClusterInfo says that no member of the cluster to join could be asked.
var errNoClusterInfo = errors.New("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs")

// firstMembers are the members that a new member begins with: the founders, or
// those of the cluster that it joins.
func (b *boot) firstMembers() ([]cluster.Member, error) {
	if !b.opt.JoinExisting {
		members, err := b.founders()
		if err == nil {
			b.clusterID = cluster.ClusterID(members)
		}
		return members, err
	}
	if err := b.opt.Initial.Check(b.opt.Name); err != nil {
		return nil, err
	}
	existing, id, err := b.askCluster()
	if err != nil {
		return nil, err
	}
	members, err := b.opt.Initial.Adopt(existing, sameURLs)
	if err != nil {
		return nil, fmt.Errorf("error validating peerURLs %v: %w", existing, err)
	}
	b.clusterID, b.remotes = id, existing
	return members, nil
}

// sameURLs compares two lists of URLs without regard to order.
func sameURLs(a, b []string) error {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	if !slices.Equal(a, b) {
		return fmt.Errorf("unmatched member: %s != %s", strings.Join(a, ","), strings.Join(b, ","))
	}
	return nil
}

// askTimeout bounds one question to another member at start.
const askTimeout = 5 * time.Second

// askCluster asks the other members in turn who belongs to the cluster.
func (b *boot) askCluster() ([]cluster.Member, uint64, error) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: b.opt.PeerTLS, DisableKeepAlives: true}, Timeout: askTimeout}
	for _, u := range b.otherURLs() {
		members, id, err := fetchMembers(client, u)
		if err != nil {
			b.log.Warn("failed to get cluster response", "address", u+"/members", "error", err)
			continue
		}
		if len(members) > 0 {
			return members, id, nil
		}
	}
	return nil, 0, errNoClusterInfo
}

// otherURLs are where the flags say that others listen, in order.
func (b *boot) otherURLs() []string {
	var urls []string
	for name, list := range b.opt.Initial {
		if name != b.opt.Name {
			urls = append(urls, list...)
		}
	}
	slices.Sort(urls)
	return urls
}

// answerBytesMax bounds what is read of another member's answer.
const answerBytesMax = 4 << 20

func fetchMembers(client *http.Client, base string) ([]cluster.Member, uint64, error) {
	target, err := url.JoinPath(base, "members")
	if err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, target, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	id, err := ids.Parse(resp.Header.Get("X-Etcd-Cluster-ID"))
	if err != nil {
		return nil, 0, fmt.Errorf("cluster id in the answer: %w", err)
	}
	var members []cluster.Member
	err = json.Unmarshal(body, &members)
	return members, id, err
}
