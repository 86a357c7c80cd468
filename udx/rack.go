package udx

import (
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

// minReorderWindow is how much later than its successors a packet may come. The
// reference takes 0 until it sees reordering, on a clock of 1 ms, and resends a
// third of its packets on loopback for it (docs/spec/udx.md §8.1).
const minReorderWindow = time.Millisecond

// rack is RACK loss detection (RFC 8985): a packet is lost if one that was sent
// sufficiently later has been delivered. A value owned by a core.
type rack struct {
	rtt     time.Duration // of the newest delivered packet
	sentAt  instant       // of the packet sent last among the delivered
	sentSeq seq.Number    // its number

	// blind says that the peer had more blocks to report than a packet may
	// carry: what became of the numbers from horizon on is not known.
	blind   bool
	horizon seq.Number
}

// delivered notes that p, which was sent at its sentAt, has arrived.
func (r *rack) delivered(now instant, p *sentPacket, minRTT time.Duration) {
	rtt := now.sub(p.sentAt)
	if p.sends > 1 && rtt < minRTT {
		return // the acknowledgement of an earlier transmission
	}
	r.rtt = rtt
	if p.sentAt > r.sentAt || p.sentAt == r.sentAt && r.sentSeq.Less(p.seq) {
		r.sentAt, r.sentSeq = p.sentAt, p.seq
	}
}

// window is the reordering window.
func (r *rack) window(minRTT time.Duration) time.Duration {
	return max(minRTT/4, minReorderWindow)
}

// detect moves the packets of the flight that are lost by now to the lost ones,
// tells lost of each, and returns when to look again, if ever.
func (r *rack) detect(now instant, q *sendQueue, minRTT time.Duration, lost func(*sentPacket)) (again instant) {
	wait := r.rtt + r.window(minRTT)
	for n, left := q.flight.head, q.flight.n; left > 0; left-- {
		p := q.at(n)
		n = p.next
		if r.blind && !p.seq.Less(r.horizon) {
			continue
		}
		if p.sentAt > r.sentAt || p.sentAt == r.sentAt && !p.seq.Less(r.sentSeq) {
			return 0
		}
		deadline := p.sentAt.add(wait)
		if deadline > now {
			return deadline
		}
		q.lose(p)
		lost(p)
	}
	return 0
}
