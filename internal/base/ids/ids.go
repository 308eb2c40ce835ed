// Package ids derives and writes the 64-bit names of a cluster: members, the
// cluster itself, requests and leases.
//
// Member and cluster ids are hashes of what an operator configured, so that
// members which start with equal flags agree on all ids before they ever talk.
// Request and lease ids come from a Generator that needs no agreement because
// the member is part of each id. The rules are docs/formats/ids.md.
package ids

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// None is the id of no member, no lease and no request.
const None uint64 = 0

// Text writes an id as logs, bucket keys and paths show it: lower-case
// hexadecimal without leading zeros.
func Text(id uint64) string { return strconv.FormatUint(id, 16) }

// Parse reads what Text writes. It takes leading zeros and upper case too,
// because old directories and operators have both.
func Parse(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("ids: %q is not a hexadecimal id: %w", text, err)
	}
	return id, nil
}

// Member is the id of a member of a new cluster: everyone computes it from
// the initial cluster and its token.
func Member(peerURLs []string, clusterToken string) uint64 {
	return memberHash(peerURLs, clusterToken)
}

// AddedMember is the id of a member that is added to a running cluster. The
// time of the addition, in seconds, keeps a URL that comes back from getting
// the id of the member that was removed.
func AddedMember(peerURLs []string, now time.Time) uint64 {
	return memberHash(peerURLs, strconv.FormatInt(now.Unix(), 10))
}

// memberHash takes the first 8 bytes of SHA-1 over the sorted URLs, joined
// without separator, and the salt.
func memberHash(peerURLs []string, salt string) uint64 {
	sorted := slices.Sorted(slices.Values(peerURLs))
	sum := sha1.Sum([]byte(strings.Join(sorted, "") + salt))
	return binary.BigEndian.Uint64(sum[:])
}

// Cluster is the id of a new cluster with these members. It is computed once
// and kept: later membership changes do not alter it.
func Cluster(members []uint64) uint64 {
	sorted := slices.Sorted(slices.Values(members))
	b := make([]byte, 0, 8*len(sorted))
	for _, id := range sorted {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	sum := sha1.Sum(b)
	return binary.BigEndian.Uint64(sum[:])
}
