package mvcc

import "fmt"

// Changes calls fn for the history of the main revisions [from, to), in order,
// until fn returns false. History before the compact revision is ErrCompacted;
// revisions that are not there yet are not an error, the scan just ends.
//
// Key and Record of a change are valid until the view is closed only; copy
// what must live longer. Prev is zero at the compact revision, where nobody
// can ask what was before.
func (v *View) Changes(from, to int64, fn func(Change) bool) error {
	if from < v.compactRev {
		return ErrCompacted
	}
	var failed error
	v.walk(from, to, func(key, value []byte) bool {
		if len(value) == 0 {
			return true
		}
		c, err := v.change(key, value)
		if err != nil {
			failed = fmt.Errorf("mvcc: changes from %d: %w", from, err)
			return false
		}
		return fn(c)
	})
	return failed
}

func (v *View) change(key, value []byte) (Change, error) {
	rev, tombstone, err := ParseKey(key)
	if err != nil {
		return Change{}, err
	}
	kv, err := parseRecord(value)
	if err != nil {
		return Change{}, fmt.Errorf("revision %s: %w", rev, err)
	}
	return Change{
		Key: kv.key, Mod: rev, Create: kv.create, Prev: v.prev(kv.key, rev.Main),
		Tombstone: tombstone, Record: value,
	}, nil
}

// prev is where the value that key had before revision main was written.
func (v *View) prev(key []byte, main int64) Rev {
	if main <= v.compactRev {
		return Rev{}
	}
	hit, ok := v.root.get(key, main-1)
	if !ok {
		return Rev{}
	}
	return hit.Mod
}
