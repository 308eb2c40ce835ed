package auth

import (
	"bytes"
	"slices"

	"github.com/steledb/stele/internal/base/keys"
)

// rights are the keys that a user may read and write: the permissions of all
// roles, merged.
type rights struct {
	read, write intervals
}

// intervals are sorted, and no two touch, so that whatever is covered at all is
// covered by a single one.
type intervals []interval

// interval is [begin, end); end nil means that there is none.
type interval struct{ begin, end []byte }

// newRights merges the permissions of some roles.
func newRights(roles []*Role) *rights {
	var read, write intervals
	for _, role := range roles {
		for _, p := range role.Permissions {
			i, ok := intervalOf(keys.Span{Key: p.Key, End: p.End})
			if !ok {
				continue
			}
			if p.Type == Read || p.Type == ReadWrite {
				read = append(read, i)
			}
			if p.Type == Write || p.Type == ReadWrite {
				write = append(write, i)
			}
		}
	}
	return &rights{read: merge(read), write: merge(write)}
}

// intervalOf writes a span as an interval; ok is false for a span of no keys.
func intervalOf(s keys.Span) (i interval, ok bool) {
	switch {
	case s.IsPoint():
		return interval{s.Key, append(bytes.Clone(s.Key), 0)}, true
	case s.IsOpen():
		return interval{s.Key, nil}, true
	}
	return interval{s.Key, s.End}, !s.IsEmpty()
}

// merge sorts intervals and joins those that overlap or touch.
func merge(all intervals) intervals {
	slices.SortFunc(all, func(a, b interval) int { return bytes.Compare(a.begin, b.begin) })
	var merged intervals
	for _, i := range all {
		if last := len(merged) - 1; last >= 0 && compareEnd(merged[last].end, i.begin) >= 0 {
			if i.end == nil || merged[last].end != nil && bytes.Compare(i.end, merged[last].end) > 0 {
				merged[last].end = i.end
			}
			continue
		}
		merged = append(merged, i)
	}
	return merged
}

// covers reports whether every key of the span lies in one interval. A span
// that is inverted or empty counts as covered where its first key is and
// nothing ends before its end, which is how etcd sees it.
func (all intervals) covers(s keys.Span) bool {
	// The only candidate is the last interval that begins at or before the span.
	at, found := slices.BinarySearchFunc(all, s.Key, func(i interval, key []byte) int { return bytes.Compare(i.begin, key) })
	if !found {
		at--
	}
	if at < 0 || compareEnd(all[at].end, s.Key) <= 0 {
		return false
	}
	switch {
	case s.IsPoint():
		return true
	case s.IsOpen():
		return all[at].end == nil
	}
	return compareEnd(all[at].end, s.End) >= 0
}

// compareEnd orders an interval's end against a key.
func compareEnd(end, key []byte) int {
	if end == nil {
		return 1
	}
	return bytes.Compare(end, key)
}
