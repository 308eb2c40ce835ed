package lease

// timerKind is a reason to look at a lease again.
type timerKind int

const (
	timerExpiry timerKind = iota
	timerCheckpoint
	timerKinds
)

const noSlot = -1

// timer is one lease's entry in a timerHeap.
type timer struct {
	at   moment
	slot int32 // index in the heap, noSlot when not in it
}

// timerHeap orders leases by one of their timers, the earliest in front. Leases
// know their slot, so one that is revoked leaves at once instead of waiting for
// a deadline that may be years away.
type timerHeap struct {
	kind  timerKind
	items []*lease
}

// first is the lease whose timer comes next, nil when there is none.
func (h *timerHeap) first() *lease {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

// set puts the lease's timer to a moment, adding it if needed.
func (h *timerHeap) set(le *lease, at moment) {
	t := &le.timers[h.kind]
	if t.slot == noSlot {
		t.slot = int32(len(h.items))
		h.items = append(h.items, le)
	}
	t.at = at
	h.up(int(t.slot))
	h.down(int(t.slot))
}

func (h *timerHeap) remove(le *lease) {
	slot := int(le.timers[h.kind].slot)
	if slot == noSlot {
		return
	}
	last := len(h.items) - 1
	h.swap(slot, last)
	h.items[last] = nil
	h.items = h.items[:last]
	le.timers[h.kind].slot = noSlot
	if slot < last {
		h.up(slot)
		h.down(slot)
	}
}

// clear stops all timers.
func (h *timerHeap) clear() {
	for _, le := range h.items {
		le.timers[h.kind].slot = noSlot
	}
	h.items = nil
}

func (h *timerHeap) less(i, j int) bool {
	return h.items[i].timers[h.kind].at < h.items[j].timers[h.kind].at
}

func (h *timerHeap) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].timers[h.kind].slot = int32(i)
	h.items[j].timers[h.kind].slot = int32(j)
}

func (h *timerHeap) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *timerHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			return
		}
		if right := child + 1; right < len(h.items) && h.less(right, child) {
			child = right
		}
		if !h.less(child, i) {
			return
		}
		h.swap(i, child)
		i = child
	}
}
