// Package keys describes which keys a request means.
//
// The v3 API names keys by a pair (key, range_end) with three shapes: one key,
// a half-open interval, and everything from a key on. Span is that pair with
// its meaning attached, so that no other package interprets "\x00" itself.
package keys

import "bytes"

// Span is a set of adjacent keys as the v3 API writes it.
//
//	End empty      the single key Key
//	End "\x00"     every key >= Key
//	otherwise      every key in [Key, End); empty when End <= Key
type Span struct {
	Key, End []byte
}

// One is the span of a single key.
func One(key []byte) Span { return Span{Key: key} }

// All is the span of every key that can exist.
func All() Span { return Span{Key: []byte{0}, End: []byte{0}} }

// IsPoint reports whether the span means a single key.
func (s Span) IsPoint() bool { return len(s.End) == 0 }

// IsOpen reports whether the span has no upper end.
func (s Span) IsOpen() bool { return len(s.End) == 1 && s.End[0] == 0 }

// IsEmpty reports whether no key can be in the span: an interval that ends at
// or before its start.
func (s Span) IsEmpty() bool {
	return !s.IsPoint() && !s.IsOpen() && bytes.Compare(s.Key, s.End) >= 0
}

// Contains reports whether key belongs to the span.
func (s Span) Contains(key []byte) bool {
	if s.IsPoint() {
		return bytes.Equal(s.Key, key)
	}
	return bytes.Compare(s.Key, key) <= 0 && (s.IsOpen() || bytes.Compare(key, s.End) < 0)
}

// PrefixEnd returns the range_end that makes (prefix, PrefixEnd(prefix)) the
// span of all keys starting with prefix: the prefix with its last byte that is
// not 0xff raised by one, or "\x00" when there is none.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return []byte{0}
}
