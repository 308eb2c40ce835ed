package lease

import (
	"fmt"
	"slices"
)

// Attach hangs a key on a lease, taking it off any other. The caller has
// checked that the lease exists.
func (l *Lessor) Attach(id int64, key []byte) {
	le, ok := l.leases[id]
	if !ok {
		panic(fmt.Sprintf("lease: key %q attached to lease %d, which does not exist", key, id))
	}
	old, held := l.keys[string(key)]
	if held && old.lease == le {
		return
	}
	if held {
		l.unhook(old)
	}
	k := string(key)
	l.keys[k] = attachment{lease: le, slot: len(le.keys)}
	le.keys = append(le.keys, k)
}

// Detach takes a key off its lease, if it hangs on one.
func (l *Lessor) Detach(key []byte) {
	if a, ok := l.keys[string(key)]; ok {
		l.unhook(a)
		delete(l.keys, string(key))
	}
}

// unhook removes a key from its lease's list by moving the last one into its
// place. The entry in l.keys is the caller's to change.
func (l *Lessor) unhook(a attachment) {
	le, last := a.lease, len(a.lease.keys)-1
	if a.slot != last {
		moved := le.keys[last]
		le.keys[a.slot] = moved
		l.keys[moved] = a
	}
	le.keys[last] = ""
	le.keys = le.keys[:last]
}

// LeaseOf is the lease that a key hangs on, or None.
func (l *Lessor) LeaseOf(key []byte) int64 {
	if a, ok := l.keys[string(key)]; ok {
		return a.lease.id
	}
	return None
}

// Keys returns the keys that hang on a lease, in key order.
func (l *Lessor) Keys(id int64) [][]byte {
	le, ok := l.leases[id]
	if !ok {
		return nil
	}
	return sortedKeys(le)
}

func sortedKeys(le *lease) [][]byte {
	if len(le.keys) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(le.keys))
	keys := make([][]byte, len(sorted))
	for i, k := range sorted {
		keys[i] = []byte(k)
	}
	return keys
}
