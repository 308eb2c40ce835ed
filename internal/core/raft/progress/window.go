package progress

// Window bounds the appends that are on their way to one follower, in messages
// and in bytes. It is a queue of (last index, bytes), freed from the front by
// acknowledgements, kept in a ring that grows up to MaxMessages.
type Window struct {
	MaxMessages int
	MaxBytes    uint64 // 0: no limit in bytes

	ring  []flight
	start int
	count int
	bytes uint64
}

type flight struct {
	last  uint64 // index of the last entry in the message
	bytes uint64
}

// Len returns the number of messages on their way.
func (w *Window) Len() int { return w.count }

// Bytes returns the payload on its way.
func (w *Window) Bytes() uint64 { return w.bytes }

// IsFull reports whether no further message may be sent. The byte limit may be
// overrun by one message, or a large entry could never be sent.
func (w *Window) IsFull() bool {
	return w.count >= w.MaxMessages || w.MaxBytes != 0 && w.bytes >= w.MaxBytes
}

// Clear forgets all messages.
func (w *Window) Clear() { w.start, w.count, w.bytes = 0, 0, 0 }

// Add notes a message that ends at index last.
func (w *Window) Add(last, bytes uint64) {
	if w.IsFull() {
		panic("progress: message sent beyond the window")
	}
	if w.count == len(w.ring) {
		w.grow()
	}
	w.ring[(w.start+w.count)%len(w.ring)] = flight{last, bytes}
	w.count++
	w.bytes += bytes
}

func (w *Window) grow() {
	ring := make([]flight, min(max(4, 2*len(w.ring)), w.MaxMessages))
	for i := range w.count {
		ring[i] = w.ring[(w.start+i)%len(w.ring)]
	}
	w.ring, w.start = ring, 0
}

// FreeTo drops the messages that an acknowledgement of index covers.
func (w *Window) FreeTo(index uint64) {
	for w.count > 0 && w.ring[w.start].last <= index {
		w.bytes -= w.ring[w.start].bytes
		w.start = (w.start + 1) % len(w.ring)
		w.count--
	}
}
