package udx

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

const ms = time.Millisecond

// at is an instant so long after the clock's start.
func at(d time.Duration) instant { return instant(time.Second + d) }

// RFC 6298, section 2; docs/spec/udx.md §3.2.
func TestRTT(t *testing.T) {
	var r rttEstimator
	if r.timeout() != initialRTO {
		t.Errorf("RTO without a sample: %v", r.timeout())
	}
	r.sample(100 * ms)
	if r.smoothed != 100*ms || r.variance != 50*ms {
		t.Errorf("first sample: %v ± %v", r.smoothed, r.variance)
	}
	if r.timeout() != 300*ms {
		t.Errorf("RTO %v", r.timeout())
	}
	r.sample(180 * ms)
	if r.smoothed != 110*ms || r.variance != 57500*time.Microsecond {
		t.Errorf("second sample: %v ± %v", r.smoothed, r.variance)
	}
	if want := 110*ms + 4*57500*time.Microsecond; r.timeout() != want {
		t.Errorf("RTO %v, want %v", r.timeout(), want)
	}
	for range 100 {
		r.sample(time.Microsecond)
	}
	if r.timeout() != minRTO {
		t.Errorf("RTO %v on a LAN", r.timeout())
	}
	r.sample(time.Hour) // one wild sample counts for five variances at most
	if r.smoothed > 10*time.Microsecond {
		t.Errorf("%v after a wild sample", r.smoothed)
	}
	r = rttEstimator{}
	r.sample(time.Hour)
	if r.smoothed != maxRTT || r.timeout() != maxRTO {
		t.Errorf("%v, RTO %v", r.smoothed, r.timeout())
	}
	r = rttEstimator{}
	r.sample(0)
	if r.smoothed == 0 {
		t.Error("a sample of 0 counts as none")
	}
}

func TestPacer(t *testing.T) {
	var p pacer
	now := at(0)
	p.setRate(now, 0)
	for range 1000 {
		if !p.ready() {
			t.Fatal("paced without a rate")
		}
		p.sent(1500)
	}

	// 1 MB/s, in packets of 1000 bytes, asked every 100 µs for a second: as much
	// as the rate allows, in quanta of about a millisecond.
	p.setRate(now, 1e6)
	count, releases, last := 0, 0, instant(0)
	for i := range 10_000 {
		now = at(time.Duration(i) * 100 * time.Microsecond)
		p.advance(now)
		for p.ready() {
			p.sent(1000)
			count++
			if now != last {
				releases++
				last = now
			}
		}
		if next := p.next(); next <= now || next > now.add(3*ms) {
			t.Fatalf("wait until %v at %v", next, now)
		}
	}
	if count < 980 || count > 1010 {
		t.Errorf("%d packets in a second", count)
	}
	if releases > 1010 {
		t.Errorf("%d releases", releases)
	}

	// A timer that comes late loses nothing, up to a point.
	drain := func(wait time.Duration) (count int) {
		now = now.add(wait)
		for p.advance(now); p.ready(); count++ {
			p.sent(1000)
		}
		return count
	}
	drain(2 * ms)
	if n := drain(20 * ms); n < 18 || n > 21 {
		t.Errorf("%d packets after 20 ms", n)
	}
	if n := drain(time.Hour); n > 30 {
		t.Errorf("%d packets after an hour of waiting", n)
	}
	// An idle time, with nothing to send, buys no more than a burst.
	p = pacer{}
	p.setRate(now, 1e6)
	p.advance(now)
	if n := drain(time.Hour); n > 3 {
		t.Errorf("%d packets after an hour", n)
	}
}

func TestMTUSteps(t *testing.T) {
	for _, path := range []int{1200, 1216, 1280, 1300, 1400, 1452, 1492, 1500} {
		m := newMTUSearch()
		if m.next() != 0 {
			t.Errorf("probes before anything was acknowledged")
		}
		m.started = true
		probes := 0
		for m.next() != 0 {
			size := m.size // a full packet of the size that is known
			pad := m.pad(size)
			if pad <= 0 || pad > mtuMaxPad {
				t.Fatalf("path %d: pad %d from %d to %d", path, pad, size, m.next())
			}
			if m.pad(size-200) > mtuMaxPad || m.pad(2000) != 0 {
				t.Fatalf("path %d: impossible padding", path)
			}
			m.sent(size + pad)
			if m.next() != 0 {
				t.Fatalf("path %d: two probes at once", path)
			}
			if size+pad <= path {
				m.acked()
			} else {
				m.lost()
			}
			if probes++; probes > 30 {
				t.Fatalf("path %d: endless search", path)
			}
		}
		if m.size > path || m.size < path-mtuMinStep {
			t.Errorf("path %d: found %d", path, m.size)
		}
		if path == 1500 && (probes > 2 || m.size != 1500) {
			t.Errorf("an ordinary path took %d probes to %d", probes, m.size)
		}
	}
	m := newMTUSearch()
	m.lost() // none was in flight
	if m.fails != 0 {
		t.Error("a loss without a probe counts")
	}
}

// RFC 8985.
func TestRACK(t *testing.T) {
	q := newSendQueue(0xfffffffe)
	q.write(make([]byte, 600), 100)
	for i := range 6 {
		q.sent(at(time.Duration(i)*ms), q.at(q.una+seq.Number(i)))
	}
	var r rack
	var lost []seq.Number
	detect := func(now instant) instant {
		lost = nil
		return r.detect(now, &q, 20*ms, func(p *sentPacket) { lost = append(lost, p.seq) })
	}
	deliver := func(now instant, n seq.Number) {
		p := q.at(n)
		q.acked(p)
		r.delivered(now, p, 20*ms)
	}
	if again := detect(at(time.Hour)); again != 0 || len(lost) > 0 {
		t.Errorf("lost %v before any acknowledgement, again at %v", lost, again)
	}
	deliver(at(22*ms), 0) // the third, of 20 ms
	if again := detect(at(22 * ms)); len(lost) > 0 || again != at(25*ms) {
		t.Errorf("at once: lost %v, again at %v", lost, again)
	}
	if again := detect(at(25 * ms)); !slices.Equal(lost, []seq.Number{0xfffffffe}) || again != at(26*ms) {
		t.Errorf("after a quarter of a round trip: lost %v, again at %v", lost, again)
	}
	if again := detect(at(26 * ms)); !slices.Equal(lost, []seq.Number{0xffffffff}) || again != 0 {
		t.Errorf("the second: lost %v, again at %v", lost, again)
	}

	// The first is sent again; an acknowledgement too early for the copy is the
	// original's, and says nothing of what was sent before the copy.
	q.sent(at(26*ms), q.at(0xfffffffe))
	deliver(at(30*ms), 0xfffffffe)
	if r.sentAt != at(2*ms) {
		t.Errorf("newest delivered packet was sent at %v", r.sentAt)
	}
	// A copy that took a round trip is one: all that was sent before it and is
	// not there yet is lost.
	q.sent(at(31*ms), q.at(0xffffffff))
	deliver(at(51*ms), 0xffffffff)
	if detect(at(60 * ms)); !slices.Equal(lost, []seq.Number{1, 2, 3}) {
		t.Errorf("lost %v", lost)
	}
}

func TestSendQueue(t *testing.T) {
	q := newSendQueue(5)
	if !q.empty() || q.unsent() != 0 {
		t.Fatal("not empty at first")
	}
	q.write([]byte("abc"), 4)
	q.write([]byte("defgh"), 4)
	var got []string
	for n := q.nxt; n != q.end; n++ {
		got = append(got, string(q.at(n).bytes()[headerSize:]))
	}
	if !slices.Equal(got, []string{"abcd", "efgh"}) || q.unsentBytes != 8 {
		t.Errorf("cut into %q, %d unsent", got, q.unsentBytes)
	}
	q.sent(at(0), q.at(5))
	q.write([]byte("ij"), 4)
	q.recut(3)
	q.finish()
	got = nil
	for n := q.nxt; n != q.end; n++ {
		got = append(got, string(q.at(n).bytes()[headerSize:]))
	}
	if !slices.Equal(got, []string{"efg", "hij"}) || q.at(q.end-1).flags != flagData|flagEnd {
		t.Errorf("cut anew into %q", got)
	}
	if q.unsentBytes != 6 || q.flightBytes != 4 {
		t.Errorf("%d unsent, %d in flight", q.unsentBytes, q.flightBytes)
	}
	q.sent(at(0), q.at(6))
	q.sent(at(0), q.at(7))
	q.finish() // on a packet of its own now
	if q.unsent() != 1 || q.at(8).flags != flagEnd {
		t.Errorf("%d unsent", q.unsent())
	}
	q.lose(q.at(6))
	if q.lost.n != 1 || q.flight.n != 2 || q.flightBytes != 7 {
		t.Errorf("lost %d, in flight %d (%d bytes)", q.lost.n, q.flight.n, q.flightBytes)
	}
	for _, n := range []seq.Number{6, 5, 7} {
		if !q.acked(q.at(n)) || q.acked(q.at(n)) {
			t.Errorf("%d was not delivered once", n)
		}
	}
	if q.sacked != 3 || q.flight.n != 0 || q.lost.n != 0 || q.flightBytes != 0 {
		t.Errorf("%+v", q)
	}
	q.advance(8)
	q.sent(at(0), q.at(8))
	q.acked(q.at(8))
	q.advance(9)
	if !q.empty() || q.slab != nil || q.box != nil || q.sacked != 0 {
		t.Errorf("holds memory when empty: %+v", q)
	}
}

// TestSendQueueOrder: lists keep the order of transmission, whatever is taken out.
func TestSendQueueOrder(t *testing.T) {
	q := newSendQueue(math.MaxUint32 - 3)
	q.write(make([]byte, 100), 10)
	for n := q.una; n != q.end; n++ {
		q.sent(at(0), q.at(n))
	}
	u := q.una
	q.lose(q.at(u + 4))
	q.acked(q.at(u + 9))
	q.lose(q.at(u))
	q.sent(at(ms), q.at(u+4))
	q.sent(at(ms), q.at(u+6)) // a probe
	var got []int
	for n, left := q.flight.head, q.flight.n; left > 0; left-- {
		got = append(got, n.Sub(u))
		n = q.at(n).next
	}
	if !slices.Equal(got, []int{1, 2, 3, 5, 7, 8, 4, 6}) {
		t.Errorf("flight %v", got)
	}
	if q.lost.n != 1 || q.lost.head != u {
		t.Errorf("lost %+v", q.lost)
	}
}

func TestByteQueue(t *testing.T) {
	var q byteQueue
	var in, out []byte
	next := byte(0)
	buf := make([]byte, 200_000)
	for i := range 200 {
		w := buf[:(i*7919)%9000]
		for k := range w {
			w[k] = next
			next++
		}
		q.write(w)
		in = append(in, w...)
		r := buf[:(i*104729)%8000]
		n := q.read(r)
		out = append(out, r[:n]...)
		if q.size != len(in)-len(out) {
			t.Fatalf("size %d, want %d", q.size, len(in)-len(out))
		}
	}
	for q.size > 0 {
		n := q.read(buf)
		out = append(out, buf[:n]...)
	}
	if !slices.Equal(in, out) {
		t.Error("bytes differ")
	}
	if len(q.slabs) != 0 {
		t.Errorf("%d slabs held when empty", len(q.slabs))
	}
	q.write(in)
	q.clear()
	if q.size != 0 || q.read(buf) != 0 {
		t.Error("not clear")
	}
}

// TestReceiveWindowGrowth: the window doubles for a reader that keeps up with a
// path that fills it, up to the maximum, and not otherwise.
func TestReceiveWindowGrowth(t *testing.T) {
	for _, c := range []struct {
		name    string
		perSec  int // bytes that the path brings
		rtt     time.Duration
		grows   bool
		seconds int
	}{
		{"fast and far", 10 << 20, 100 * ms, true, 10},
		{"slow", 100 << 10, 100 * ms, false, 60},
		{"round trip unknown", 1 << 20, 0, true, 60},
	} {
		core := newCore(1, 0, 0, DefaultMaxWindow, nil)
		r := &core.rcv
		now := at(0)
		buf := make([]byte, 64<<10)
		n := seq.Number(0)
		payload := make([]byte, 1400)
		for range c.seconds * c.perSec / len(payload) {
			r.receive(now, &packet{header: header{flags: flagData, seq: n}, payload: payload})
			n++
			r.read(buf, func() instant { return now }, c.rtt)
			now = now.add(time.Second / time.Duration(c.perSec/len(payload)))
		}
		if grew := r.limit > earlyWindow; grew != c.grows {
			t.Errorf("%s: the window is %d", c.name, r.limit)
		}
		if c.grows && r.limit != DefaultMaxWindow {
			t.Errorf("%s: the window stopped at %d", c.name, r.limit)
		}
	}
}

func TestReassemblyBounds(t *testing.T) {
	var r reassembly
	big := make([]byte, 1400)
	limit := 100 * windowCharge
	kept := 0
	for n := seq.Number(1); n < 1000; n += 2 {
		if r.add(0, n, flagData, big, limit) {
			kept++
		}
	}
	if kept != 100 || r.charge() != limit {
		t.Errorf("kept %d, charge %d", kept, r.charge())
	}
	if r.add(0, 1, flagData, big, 2*limit) {
		t.Error("took a duplicate")
	}
	if r.add(0, maxAhead, flagData, nil, 2*limit) {
		t.Error("took what is too far ahead")
	}
	if r.add(0, 2, flagData, make([]byte, maxPayload+1), 2*limit) {
		t.Error("took what is too large")
	}
	for n := seq.Number(0); n < 300; n++ {
		e := r.head(n)
		if (e != nil) != (n%2 == 1 && n < 200) {
			t.Errorf("head(%d): %v", n, e)
		}
		if e != nil {
			r.pop()
		}
	}
	if r.early != nil || r.have != nil || r.slab != nil || r.held != 0 {
		t.Error("holds memory when empty")
	}
	r.add(0, 5, flagData, big, limit)
	r.clear()
	if r.charge() != 0 || r.head(5) != nil {
		t.Error("not clear")
	}
}

// TestSchedule: streams come due in the order of their deadlines, those that
// moved or were removed included.
func TestSchedule(t *testing.T) {
	var q schedule
	q.init(newClock())
	defer q.close()
	now := at(0)
	deadlines := map[*Stream]instant{}
	for i := range 200 {
		s := new(Stream)
		d := at(time.Duration((i*7919)%1000) * ms)
		q.arm(now, s, d)
		if i%3 == 0 { // earlier counts, later does not
			d -= instant(time.Duration(i) * ms)
			q.arm(now, s, d)
			q.arm(now, s, d.add(time.Hour))
		}
		deadlines[s] = d
		if i%7 == 0 {
			q.remove(s)
			q.remove(s)
			delete(deadlines, s)
		}
	}
	last := instant(math.MinInt64)
	for now = at(-time.Second); len(deadlines) > 0; now = now.add(10 * ms) {
		for s := q.due(now); s != nil; s = q.due(now) {
			d := deadlines[s]
			if d > now || d < last || d == 0 {
				t.Fatalf("due at %v, deadline %v, the last was %v", now, d, last)
			}
			last = d
			delete(deadlines, s)
		}
		if now > at(time.Hour) {
			t.Fatalf("%d are never due", len(deadlines))
		}
	}
	if len(q.heap) != 0 {
		t.Errorf("%d left", len(q.heap))
	}
}

func TestTimeWaitsAreBounded(t *testing.T) {
	var w timeWaits
	now := at(0)
	for i := range 3 * maxTimeWaits {
		w.add(now.add(time.Duration(i)), &timeWait{id: uint32(i)})
	}
	if len(w.byID) != maxTimeWaits || w.get(0) != nil || w.get(3*maxTimeWaits-1) == nil {
		t.Errorf("holds %d", len(w.byID))
	}
	w.add(now.add(time.Hour), &timeWait{id: 7})
	w.add(now.add(time.Hour), &timeWait{id: 7}) // again: the older one does not take it along
	if next := w.expire(now.add(timeWaitTime + time.Minute)); next != now.add(time.Hour+timeWaitTime) || w.get(7) == nil {
		t.Errorf("next %v", next)
	}
	if next := w.expire(now.add(2 * time.Hour)); next != 0 || w.get(7) != nil || w.queue != nil {
		t.Errorf("not empty: %v", next)
	}
}
