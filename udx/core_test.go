package udx

import (
	"bytes"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

// A pump is two cores and the link between them, all in the hands of the test.
type pump struct {
	testing.TB
	now  instant
	ends [2]pumpEnd
	buf  []byte
}

type pumpEnd struct {
	core
	link  [][]byte // datagrams under way to this end
	wrote []byte
	got   []byte
}

func newPump(t testing.TB, start [2]uint32) *pump {
	p := &pump{TB: t, now: instant(time.Second)}
	for i := range p.ends {
		e := &p.ends[i]
		e.core = newCore(uint32(i+1), seq.Number(start[i]), seq.Number(start[1-i]), DefaultMaxWindow, nil)
		e.core.init()
		e.core.connect(uint32(2-i), peerAddr)
	}
	return p
}

// send moves what end i has to say onto the link.
func (p *pump) send(i int) {
	e := &p.ends[i]
	b := newBatch()
	for more := true; more; {
		nxt, probe := e.snd.nxt, e.timers.tailDue
		more = e.output(p.now, b)
		if e.snd.nxt != nxt && !probe && e.snd.flight.n > e.peerWindow() {
			p.Fatalf("%d packets in flight, the peer's window is %d", e.snd.flight.n, e.peerWindow())
		}
		for _, d := range b.dgs {
			q, err := parsePacket(d.Payload)
			if err != nil {
				p.Fatalf("sent %x: %v", d.Payload, err)
			}
			if q.rwnd > 0 && q.rwnd < fullPacket || int(q.rwnd) > e.rcv.limit {
				p.Fatalf("advertised %d of %d", q.rwnd, e.rcv.limit)
			}
			p.ends[1-i].link = append(p.ends[1-i].link, bytes.Clone(d.Payload))
		}
		b.dgs, b.arena, b.borrowed = b.dgs[:0], b.arena[:0], false
	}
	b.free()
}

// deliver hands datagrams to end i as one batch.
func (p *pump) deliver(i int, dgs ...[]byte) {
	e := &p.ends[i]
	if e.done {
		last := false
		for _, d := range dgs {
			last = last || flags(d[offFlags])&(flagData|flagEnd|flagHeartbeat) != 0
		}
		if e.err == nil && last { // TIME-WAIT
			h := e.header(0)
			p.ends[1-i].link = append(p.ends[1-i].link, h.Append(nil))
		}
		return
	}
	for _, d := range dgs {
		q, err := parsePacket(d)
		if err != nil {
			p.Fatalf("%x: %v", d, err)
		}
		if !e.done {
			e.input(p.now, &q)
		}
	}
	if !e.done {
		e.settle(p.now)
	}
	p.send(i)
	p.check(i)
}

// check holds end i's memory against its bounds.
func (p *pump) check(i int) {
	e := &p.ends[i]
	if n := e.rcv.queue.size; n > e.rcv.limit+pushRoom+maxPayload+e.rcv.limit/4 {
		p.Fatalf("%d bytes wait for the reader", n)
	}
	if n := e.rcv.ooo.charge(); n > e.rcv.limit+e.rcv.limit/4 {
		p.Fatalf("%d bytes out of order", n)
	}
}

func (p *pump) write(i, n int) {
	e := &p.ends[i]
	if e.finished || e.done || e.snd.unsentBytes > maxUnsent {
		return
	}
	b := make([]byte, n)
	for k := range b {
		b[k] = byte((len(e.wrote) + k) * (i + 3) >> 2)
	}
	e.wrote = append(e.wrote, b...)
	e.snd.write(b, e.mss())
	p.send(i)
}

func (p *pump) finish(i int) {
	if e := &p.ends[i]; !e.finished && !e.done {
		e.finished = true
		e.snd.finish()
		p.send(i)
	}
}

func (p *pump) read(i, n int) {
	e := &p.ends[i]
	if n > len(p.buf) {
		p.buf = make([]byte, n)
	}
	b := p.buf[:n]
	k, update := e.rcv.read(b, func() instant { return p.now }, e.rttEst.smoothed)
	e.got = append(e.got, b[:k]...)
	if w := p.ends[1-i].wrote; len(e.got) > len(w) || !bytes.Equal(e.got[len(e.got)-k:], w[len(e.got)-k:len(e.got)]) {
		p.Fatal("bytes differ from what was written")
	}
	if update && !e.done {
		e.rcv.ackNow = true
		p.send(i)
	}
}

// advance lets time pass for both ends.
func (p *pump) advance(d time.Duration) {
	p.now = p.now.add(d)
	for i := range p.ends {
		if e := &p.ends[i]; !e.done && e.deadline().reached(p.now) {
			e.expire(p.now)
			p.send(i)
		}
	}
}

// finishUp lets both ends end over a perfect link of 5 ms.
func (p *pump) finishUp() {
	for range 100_000 {
		p.finish(0)
		p.finish(1)
		progress := false
		for i := range p.ends {
			e := &p.ends[i]
			for len(e.link) > 0 {
				n := min(len(e.link), 64)
				dgs := e.link[:n]
				e.link = e.link[n:]
				p.deliver(i, dgs...)
				progress = true
			}
			p.read(i, 1<<20)
		}
		a, b := &p.ends[0], &p.ends[1]
		if a.done && b.done && !progress {
			break
		}
		p.advance(5 * time.Millisecond)
	}
	for i := range p.ends {
		e := &p.ends[i]
		other := &p.ends[1-i]
		switch {
		case !e.done && !e.outstanding() && other.done && other.stats.Timeouts > 0:
			// The other end has given up, and an idle one never notices (§2.8).
		case !e.done:
			p.Fatalf("end %d never ends: una %d nxt %d end %d, flight %d, lost %d, peer's window %d, ended %v, deadline in %v",
				i, e.snd.una, e.snd.nxt, e.snd.end, e.snd.flight.n, e.snd.lost.n, e.peerRwnd, e.rcv.ended, e.deadline().sub(p.now))
		case e.err != nil && e.err != errTimedOut && e.err != errReset:
			p.Fatalf("end %d: %v", i, e.err)
		case e.err == nil && !bytes.Equal(e.got, p.ends[1-i].wrote):
			p.Fatalf("end %d has %d of %d bytes", i, len(e.got), len(p.ends[1-i].wrote))
		}
	}
}

// FuzzCores lets two cores talk while the fuzzer writes, reads, lets time pass
// and plays with the datagrams under way: bytes arrive in order, or there is an
// error on both sides, and no more is in flight than the window allows.
func FuzzCores(f *testing.F) {
	f.Add(uint32(0), uint32(0xffffffff), []byte("\x00\x20\x01\x30\x05\x00\x05\x01\x06\x03\x03\x10"))
	f.Add(uint32(7), uint32(9), bytes.Repeat([]byte("\x00\xff\x04\x00\x05\x00\x06\x09\x03\xff\x02\x80\x07\x00\x08\x01\x05\x01"), 20))
	f.Add(uint32(1), uint32(2), bytes.Repeat([]byte("\x00\xff\x05\x02\x05\x03\x03\x02"), 60))
	f.Fuzz(func(t *testing.T, s0, s1 uint32, script []byte) {
		if len(script) > 2000 {
			script = script[:2000]
		}
		p := newPump(t, [2]uint32{s0, s1})
		for ; len(script) >= 2; script = script[2:] {
			op, arg := script[0]>>1, int(script[1])
			i := int(script[0] & 1)
			e := &p.ends[i]
			at := 0
			if len(e.link) > 0 {
				at = arg % len(e.link)
			}
			switch op % 8 {
			case 0:
				p.write(i, 1+arg*arg)
			case 1:
				p.advance(time.Duration(arg*arg) * 10 * time.Microsecond)
			case 2: // a batch arrives
				n := min(1+arg%64, len(e.link))
				dgs := e.link[:n]
				e.link = e.link[n:]
				p.deliver(i, dgs...)
			case 3: // one is lost
				if len(e.link) > 0 {
					e.link = append(e.link[:at], e.link[at+1:]...)
				}
			case 4: // one overtakes the others
				if len(e.link) > 0 {
					d := e.link[at]
					e.link = append(e.link[:at], e.link[at+1:]...)
					p.deliver(i, d)
				}
			case 5: // one comes twice
				if len(e.link) > 0 {
					p.deliver(i, e.link[at])
				}
			case 6:
				p.read(i, 1+arg*arg)
			case 7:
				if arg == 0 {
					p.finish(i)
				} else if arg > 250 {
					e.link = nil // all are lost
				}
			}
			if len(e.link) > 4000 {
				e.link = e.link[:4000]
			}
		}
		p.finishUp()
	})
}

// FuzzInput feeds a core with packets that a stranger made up. It must neither
// panic nor keep more than its bounds allow, and what it says must be sound.
func FuzzInput(f *testing.F) {
	for _, s := range loadCaptures(f).Scenarios {
		for _, c := range s.Cases {
			for _, in := range c.Inputs {
				if len(in) < 100 {
					f.Add([]byte(in))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPump(t, [2]uint32{0, 0})
		p.write(0, 20_000)
		e := &p.ends[0]
		// The input is a row of packets, each with its length before it.
		for len(b) > 1 && !e.done {
			n := min(int(b[0]), len(b)-1)
			d := append([]byte{magicByte, version}, b[1:1+n]...)
			b = b[1+n:]
			q, err := parsePacket(d)
			if err != nil {
				continue
			}
			e.input(p.now, &q)
			if e.done {
				break
			}
			e.settle(p.now)
			p.send(0)
			p.check(0)
			p.advance(3 * time.Millisecond)
			if e.snd.una.Less(0) || e.snd.nxt.Less(e.snd.una) || e.snd.end.Less(e.snd.nxt) {
				t.Fatalf("una %d nxt %d end %d", e.snd.una, e.snd.nxt, e.snd.end)
			}
		}
		e.release()
	})
}

// TestCoresOverPerfectLink is the fuzzer's harness with nothing going wrong.
func TestCoresOverPerfectLink(t *testing.T) {
	p := newPump(t, [2]uint32{0xfffffff0, 5})
	for range 40 {
		p.write(0, 100_000)
		p.write(1, 3_000)
		for i := range p.ends {
			e := &p.ends[i]
			dgs := e.link
			e.link = nil
			p.deliver(i, dgs...)
			p.read(i, 1<<20)
		}
		p.advance(5 * time.Millisecond)
	}
	p.finishUp()
	for i := range p.ends {
		if e := &p.ends[i]; e.err != nil || e.stats.Retransmits > 0 {
			t.Errorf("end %d: error %v, %d retransmissions", i, e.err, e.stats.Retransmits)
		}
	}
}
