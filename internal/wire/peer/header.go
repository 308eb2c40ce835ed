package peer

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/version"
)

// The headers by which members know each other.
const (
	headerFrom       = "X-Server-From"
	headerVersion    = "X-Server-Version"
	headerMinCluster = "X-Min-Cluster-Version"
	headerCluster    = "X-Etcd-Cluster-ID"
	headerTo         = "X-Raft-To"
	headerPeerURLs   = "X-PeerURLs"
)

// The paths of the protocol.
const (
	pathPost     = "/raft"
	pathStream   = "/raft/stream/"
	pathSnapshot = "/raft/snapshot"
	pathProbing  = "/raft/probing"
)

// Outcomes of the checks between members; texts are on the wire.
var (
	ErrIncompatible = errors.New("incompatible version")
	ErrWrongCluster = errors.New("cluster ID mismatch")
	ErrRemoved      = errors.New("the member has been permanently removed from the cluster")
)

// introduce puts into a request who sends it.
func (o *Options) introduce(h http.Header) {
	h.Set(headerFrom, ids.Text(o.ID))
	h.Set(headerVersion, version.Etcd)
	h.Set(headerMinCluster, version.MinCluster)
	h.Set(headerCluster, ids.Text(o.ClusterID))
	h.Set(headerPeerURLs, strings.Join(o.PeerURLs, ","))
}

// check says whether the sender of a request or answer may be talked to.
func (o *Options) check(h http.Header) error {
	if err := compatible(headerOr(h, headerVersion), headerOr(h, headerMinCluster)); err != nil {
		return err
	}
	if h.Get(headerCluster) != ids.Text(o.ClusterID) {
		return ErrWrongCluster
	}
	return nil
}

// beforeHeaders is what a member is that does not tell its version.
const beforeHeaders = "2.0.0"

func headerOr(h http.Header, name string) string {
	if v := h.Get(name); v != "" {
		return v
	}
	return beforeHeaders
}

// compatible says whether a member of one version, which speaks no older
// cluster version than minCluster, and this one can be in one cluster.
func compatible(server, minCluster string) error {
	remote, err1 := parseVersion(server)
	remoteMin, err2 := parseVersion(minCluster)
	if err1 != nil || err2 != nil {
		return ErrIncompatible
	}
	own, _ := parseVersion(version.Etcd)
	ownMin, _ := parseVersion(version.MinCluster)
	if remote.less(ownMin) || own.less(remoteMin) {
		return ErrIncompatible
	}
	return nil
}

// release is a version as far as it matters between members.
type release struct{ major, minor int }

func (r release) less(o release) bool {
	return r.major < o.major || r.major == o.major && r.minor < o.minor
}

func parseVersion(text string) (r release, err error) {
	_, err = fmt.Sscanf(text, "%d.%d.", &r.major, &r.minor)
	return r, err
}
