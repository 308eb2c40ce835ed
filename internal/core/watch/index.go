package watch

// index finds the watchers of a key: those of exactly this key through a map,
// those of ranges through an interval tree. A lookup costs what it finds, plus
// a logarithm for the tree; it does not depend on who else watches.
type index struct {
	points map[string]*bucket
	ranges intervalTree
}

// bucket holds the watchers of one and the same span, in no order.
type bucket struct {
	watchers []*watcher
}

func newIndex() index { return index{points: map[string]*bucket{}} }

func (x *index) add(w *watcher) {
	var b *bucket
	if w.span.IsPoint() {
		b = x.points[string(w.span.Key)]
		if b == nil {
			b = &bucket{}
			x.points[string(w.span.Key)] = b
		}
	} else {
		b = x.ranges.bucket(w.span)
	}
	w.bucket, w.slot = b, len(b.watchers)
	b.watchers = append(b.watchers, w)
}

func (x *index) remove(w *watcher) {
	b := w.bucket
	last := len(b.watchers) - 1
	b.watchers[w.slot] = b.watchers[last]
	b.watchers[w.slot].slot = w.slot
	b.watchers[last] = nil
	b.watchers = b.watchers[:last]
	w.bucket = nil
	switch {
	case last > 0:
	case w.span.IsPoint():
		delete(x.points, string(w.span.Key))
	default:
		x.ranges.remove(w.span)
	}
}

// each calls fn for each watcher whose span contains key. fn must not change
// the index.
func (x *index) each(key []byte, fn func(*watcher)) {
	if b := x.points[string(key)]; b != nil {
		b.each(fn)
	}
	x.ranges.stab(key, func(b *bucket) { b.each(fn) })
}

func (b *bucket) each(fn func(*watcher)) {
	for _, w := range b.watchers {
		fn(w)
	}
}
