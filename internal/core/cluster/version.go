package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/coreos/go-semver/semver"

	"github.com/steledb/stele/internal/base/bucket"
)

// Version is a version of the cluster or of its files: features come with minor
// releases, so it has no patch. The zero value means that none is known.
type Version struct{ Major, Minor int64 }

// MinVersion is what a cluster speaks when its members cannot all be asked.
var MinVersion = Version{3, 0}

// ParseVersion reads a full version such as "3.7.1" and forgets the patch.
func ParseVersion(text string) (Version, error) {
	v, err := semver.NewVersion(text)
	if err != nil {
		return Version{}, fmt.Errorf("cluster: version %q: %w", text, err)
	}
	return Version{v.Major, v.Minor}, nil
}

// String writes the version as it is stored and proposed: "3.7.0".
func (v Version) String() string { return fmt.Sprintf("%d.%d.0", v.Major, v.Minor) }

// Short writes the version as downgrade answers do: "3.7".
func (v Version) Short() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// IsZero reports whether no version is known.
func (v Version) IsZero() bool { return v == Version{} }

// Compare orders versions.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor))
}

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool { return v.Compare(o) < 0 }

// previous is the one version a cluster can be downgraded to.
func (v Version) previous() Version { return Version{v.Major, v.Minor - 1} }

// canBecome reports whether a cluster may change from v to o: any step up
// within a major version, one step down.
func (v Version) canBecome(o Version) bool {
	return v.Major == o.Major && (v.Less(o) || v.previous() == o)
}

// ErrOldServer refuses to open data of a cluster that has gone past this server.
var ErrOldServer = errors.New("invalid downgrade; server version is lower than determined cluster version")

// CheckServer says whether a server of version server may take part in a
// cluster that speaks this version.
func (c *Cluster) CheckServer(server Version) error {
	if server.Less(c.version) {
		return fmt.Errorf("%w: server %s, cluster %s", ErrOldServer, server, c.version)
	}
	return nil
}

// DecideVersion says which version the leader should propose next, if any.
// servers holds the version of each member that could be asked.
func (c *Cluster) DecideVersion(servers map[uint64]Version) (Version, bool) {
	lowest, known := c.lowest(servers)
	switch {
	case c.version.IsZero() && known:
		return lowest, true
	case c.version.IsZero():
		return MinVersion, true
	case !known:
		return Version{}, false
	case c.downgrade.Enabled:
		return c.decideDowngrade()
	}
	return lowest, c.version.Less(lowest) && c.version.canBecome(lowest)
}

// decideDowngrade lowers the version at once: members bring their files to the
// target before older servers take their place.
func (c *Cluster) decideDowngrade() (Version, bool) {
	target, err := ParseVersion(c.downgrade.Target)
	if err != nil || target != c.version.previous() {
		return Version{}, false
	}
	return target, true
}

// IsDowngraded reports whether a downgrade has reached its end: every member
// runs the target version, so that the leader should propose to cancel it.
func (c *Cluster) IsDowngraded(servers map[uint64]Version) bool {
	target, err := ParseVersion(c.downgrade.Target)
	if !c.downgrade.Enabled || err != nil || len(servers) < len(c.members) {
		return false
	}
	for _, v := range servers {
		if v != target {
			return false
		}
	}
	return true
}

// lowest is the lowest version of all members; known is false when one of them
// could not be asked.
func (c *Cluster) lowest(servers map[uint64]Version) (lowest Version, known bool) {
	for id := range c.members {
		if servers[id].IsZero() {
			return Version{}, false
		}
	}
	if len(servers) == 0 {
		return Version{}, false
	}
	return slices.MinFunc(slices.Collect(maps.Values(servers)), Version.Compare), true
}

// Downgrade is a downgrade of the cluster that is under way. Its JSON is the
// downgrade record of the cluster bucket.
type Downgrade struct {
	Target  string `json:"target-version"` // "3.6.0"; empty when not enabled
	Enabled bool   `json:"enabled"`
}

func (d Downgrade) encode() []byte { return mustJSON(d) }

func decodeDowngrade(value []byte) (d Downgrade, err error) {
	err = json.Unmarshal(value, &d)
	return d, err
}

// ParseTarget reads the version of a downgrade request: "3.6", "3.6.0" or any
// patch of it.
func ParseTarget(text string) (Version, error) {
	v, err := semver.NewVersion(text)
	if err != nil {
		v, err = semver.NewVersion(text + ".0")
	}
	if err != nil {
		return Version{}, ErrWrongVersionFormat
	}
	return Version{v.Major, v.Minor}, nil
}

// CheckDowngrade says whether a downgrade to the target may start now.
func (c *Cluster) CheckDowngrade(target Version) error {
	switch {
	case c.version.IsZero():
		return ErrNoClusterVersion
	case target != c.version.previous():
		return ErrInvalidTarget
	case c.downgrade.Enabled:
		return ErrDowngradeInProgress
	}
	return nil
}

// firstStored is the first version whose files name their version.
var firstStored = Version{3, 6}

// ErrNoTerm says that the files cannot be brought to another version yet: no
// term was stored with the consistent index so far. Try again later.
var ErrNoTerm = errors.New("missing term information")

// StorageVersion is the version of a backend file: what its storageVersion
// record says, or what follows from its absence. The zero value means that it
// cannot be told.
func StorageVersion(record string, term uint64) (Version, error) {
	switch {
	case record != "":
		return ParseVersion(record)
	case term != 0:
		return firstStored.previous(), nil
	}
	return Version{}, nil
}

// CheckStorage says whether a server of version server understands a backend
// file of version stored.
func CheckStorage(stored, server Version) error {
	if server.Less(stored) {
		return fmt.Errorf("cluster: storage version %s is not supported by server version %s", stored, server)
	}
	return nil
}

// MigrateStorage returns the changes that bring a backend file from the stored
// version to that of the cluster, none if they are equal. The versions this
// server knows differ in nothing but the record itself.
func MigrateStorage(stored, cluster Version, term uint64) ([]bucket.Op, error) {
	key := []byte(bucket.StorageVersion)
	switch {
	case cluster.IsZero() || stored == cluster || cluster.Less(firstStored.previous()):
		return nil, nil
	case term == 0:
		return nil, ErrNoTerm
	case cluster.Less(firstStored):
		return []bucket.Op{bucket.Drop(bucket.Meta, key)}, nil
	}
	return []bucket.Op{bucket.Put(bucket.Meta, key, []byte(cluster.String()))}, nil
}
