package backend

import "bytes"

// tree is an immutable ordered map: put and drop return a new root and share
// all but the path to the change, so that a snapshot is a pointer.
//
// It is a treap: ordered by key, and a heap by a priority that is a hash of the
// key. So its shape depends on its contents only, and the depth is logarithmic
// as long as nobody chooses keys by their hashes.
type tree struct {
	left, right *tree
	key, value  []byte
	priority    uint32
}

func (t *tree) get(key []byte) []byte {
	for t != nil {
		switch c := bytes.Compare(key, t.key); {
		case c < 0:
			t = t.left
		case c > 0:
			t = t.right
		default:
			return t.value
		}
	}
	return nil
}

func (t *tree) put(key, value []byte) *tree {
	less, rest := t.split(key, false)
	_, greater := rest.split(key, true)
	return merge(merge(less, &tree{key: key, value: value, priority: priorityOf(key)}), greater)
}

func (t *tree) drop(key []byte) *tree {
	less, rest := t.split(key, false)
	_, greater := rest.split(key, true)
	return merge(less, greater)
}

// split divides t into the keys below key, or up to it if inclusive, and the rest.
func (t *tree) split(key []byte, inclusive bool) (low, high *tree) {
	if t == nil {
		return nil, nil
	}
	n := *t
	if c := bytes.Compare(t.key, key); c < 0 || c == 0 && inclusive {
		n.right, high = t.right.split(key, inclusive)
		return &n, high
	}
	low, n.left = t.left.split(key, inclusive)
	return low, &n
}

// merge joins two trees, all keys of low being below those of high.
func merge(low, high *tree) *tree {
	if low == nil {
		return high
	}
	if high == nil {
		return low
	}
	if low.priority >= high.priority {
		n := *low
		n.right = merge(low.right, high)
		return &n
	}
	n := *high
	n.left = merge(low, high.left)
	return &n
}

// ascend calls fn for the keys from on until it returns false, and returns
// false then.
func (t *tree) ascend(from []byte, fn func(k, v []byte) bool) bool {
	if t == nil {
		return true
	}
	if bytes.Compare(t.key, from) < 0 {
		return t.right.ascend(from, fn)
	}
	return t.left.ascend(from, fn) && fn(t.key, t.value) && t.right.ascend(from, fn)
}

// priorityOf is FNV-1a with a finish that spreads the last bytes, in which the
// keys of records differ.
func priorityOf(key []byte) uint32 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return uint32(h >> 32)
}
