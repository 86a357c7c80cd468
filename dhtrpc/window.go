package dhtrpc

import "time"

// slotTime is the length of a slot of the window.
const slotTime = 750 * time.Millisecond

// A window bounds the requests under way. It counts transmissions in slots of
// 750 ms and looks back four slots; an answer gives one back. The reference
// refills it by the clock; here whoever sees an answer refills it too, so that
// a network that answers fast is asked fast (docs/spec/dht-rpc.md §5.4). And an
// answer that comes in a later slot than its request gives that one back, which
// in the reference stands against us until three seconds are over.
// Owned by the core.
type window struct {
	max   int
	slots [4]int
	slot  int
	total int
	since time.Time // when the present slot began
}

// advance moves to the slot of now.
func (w *window) advance(now time.Time) {
	n := int(now.Sub(w.since) / slotTime)
	if n <= 0 {
		return
	}
	w.since = w.since.Add(time.Duration(n) * slotTime)
	for range min(n, len(w.slots)) {
		w.next()
	}
}

// next forgets the oldest slot and begins it anew.
func (w *window) next() {
	w.slot = (w.slot + 1) % len(w.slots)
	w.total -= w.slots[w.slot]
	w.slots[w.slot] = 0
}

// sent counts a transmission.
func (w *window) sent() {
	w.slots[w.slot]++
	w.total++
}

// received counts the end of a request, one of the latest.
func (w *window) received() {
	for i := range w.slots {
		if slot := &w.slots[(w.slot-i)&(len(w.slots)-1)]; *slot > 0 {
			*slot--
			w.total--
			return
		}
	}
}

// full reports whether transmissions must wait.
func (w *window) full() bool {
	return w.total >= 2*w.max || w.slots[w.slot] >= w.max
}

// turn is when the next slot begins.
func (w *window) turn() time.Time { return w.since.Add(slotTime) }

// clear forgets everything.
func (w *window) clear() { w.slots, w.total = [4]int{}, 0 }
