package udx

import (
	"testing"
	"time"
)

// A path is a model of a bottleneck for BBR alone: packets leave as window and
// pacing allow, wait in a queue, and are acknowledged a round trip later.
type bottleneck struct {
	bbr      *bbr
	sampler  rateSampler
	rate     float64 // packets per second
	rtt      time.Duration
	queue    int
	now      instant
	free     instant // when the bottleneck has sent what it holds
	pace     instant // when the next packet may leave
	flight   []modelPacket
	maxQueue time.Duration
	acked    int
	dropped  int
}

type modelPacket struct {
	sentAt, back instant
	st           rateState
	lost         bool
}

// run lets d pass.
func (m *bottleneck) run(d time.Duration) {
	const step = 100 * time.Microsecond
	for end := m.now.add(d); m.now < end; m.now = m.now.add(step) {
		ev := ackEvent{sampler: &m.sampler, size: 1500}
		for len(m.flight) > 0 && m.flight[0].back <= m.now {
			p := m.flight[0]
			m.flight = m.flight[1:]
			if p.lost {
				ev.lost++
				continue
			}
			ev.acked++
			m.acked++
			ev.rtt = m.now.sub(p.sentAt)
			ev.smoothed = ev.rtt
			m.sampler.acked(m.now, p.sentAt, &p.st, 1500)
		}
		if ev.acked > 0 {
			ev.sample = m.sampler.finish(m.now, m.rtt)
			ev.inflight = len(m.flight)
			m.bbr.onAck(m.now, ev)
		}
		for len(m.flight) < m.bbr.window() && m.pace <= m.now {
			m.bbr.onSent(m.now, len(m.flight), &m.sampler)
			p := modelPacket{sentAt: m.now, st: m.sampler.sent(m.now, len(m.flight))}
			m.free = max(m.free, m.now)
			if wait := m.free.sub(m.now); wait.Seconds()*m.rate > float64(m.queue) {
				p.lost = true
				m.dropped++
			} else {
				m.free = m.free.add(time.Duration(float64(time.Second) / m.rate))
				m.maxQueue = max(m.maxQueue, wait)
			}
			p.back = m.free.add(m.rtt)
			m.flight = append(m.flight, p)
			if r := m.bbr.rate(); r > 0 {
				m.pace = max(m.pace, m.now.add(-ms)).add(time.Duration(1500 / r * float64(time.Second)))
			}
		}
	}
}

func newBottleneck(rate float64, rtt time.Duration, queue int) *bottleneck {
	return &bottleneck{bbr: newBBR(), sampler: newRateSampler(), rate: rate, rtt: rtt, queue: queue, now: at(0)}
}

// TestBBRFindsThePath: the model's two numbers come out right, the pipe is filled
// and the queue is not.
func TestBBRFindsThePath(t *testing.T) {
	for _, c := range []struct {
		rate float64
		rtt  time.Duration
	}{{100, 100 * ms}, {5000, 40 * ms}, {2000, 200 * ms}, {50_000, 10 * ms}} {
		m := newBottleneck(c.rate, c.rtt, 1<<20)
		m.sampler.appLimited = 0
		m.run(40 * c.rtt)
		if !m.bbr.full || m.bbr.state != bbrProbeBW {
			t.Errorf("%v: %v after 40 round trips", c, m.bbr.state)
		}
		m.run(12*time.Second - m.now.sub(at(0))) // past the first PROBE_RTT
		if bw := m.bbr.bandwidth.Value() / 1500; bw < 0.95*c.rate || bw > 1.1*c.rate {
			t.Errorf("%v: bandwidth %.0f", c, bw)
		}
		if m.bbr.minRTT < c.rtt || m.bbr.minRTT > c.rtt+c.rtt/10+20*ms {
			t.Errorf("%v: min RTT %v", c, m.bbr.minRTT)
		}
		before := m.acked
		m.maxQueue = 0
		m.run(4 * time.Second)
		if got := float64(m.acked-before) / 4; got < 0.93*c.rate {
			t.Errorf("%v: %.0f packets a second", c, got)
		}
		if m.maxQueue > c.rtt+20*ms {
			t.Errorf("%v: queue of %v", c, m.maxQueue)
		}
	}
}

// TestBBRProbesRTT: every ten seconds the window shrinks to four packets for 200
// ms, and the rate is there again at once.
func TestBBRProbesRTT(t *testing.T) {
	m := newBottleneck(5000, 40*ms, 1<<20)
	m.sampler.appLimited = 0
	var entered, left instant
	least := 1 << 20
	for m.now < at(25*time.Second) && left == 0 {
		m.run(ms)
		switch {
		case m.bbr.state == bbrProbeRTT:
			if entered == 0 {
				entered = m.now
			}
			least = min(least, len(m.flight))
		case entered != 0:
			left = m.now
		}
	}
	if entered < at(10*time.Second) || left == 0 {
		t.Fatalf("entered at %v, left at %v", entered, left)
	}
	if took := left.sub(entered); took < bbrProbeRTTTime || took > bbrProbeRTTTime+200*ms {
		t.Errorf("took %v", took)
	}
	if least > bbrMinWindow {
		t.Errorf("%d packets in flight at the least", least)
	}
	if m.bbr.window() < 200 {
		t.Errorf("window %d afterwards", m.bbr.window())
	}
}

// TestBBRLeavesStartup: an overflowing queue ends STARTUP within the round.
func TestBBRLeavesStartup(t *testing.T) {
	m := newBottleneck(1000, 100*ms, 20)
	m.sampler.appLimited = 0
	m.run(15 * 100 * ms)
	if m.bbr.state == bbrStartup {
		t.Error("still in STARTUP")
	}
	if m.dropped > 200 {
		t.Errorf("dropped %d packets, twice the path's product", m.dropped)
	}
}

// TestBBRTimeoutInStartup: when the first flight's acknowledgements were all lost,
// the first round trip seen is very long. That is no queue.
func TestBBRTimeoutInStartup(t *testing.T) {
	b, s := newBBR(), newRateSampler()
	b.onTimeout(0)
	s.delivered = 4
	b.onAck(at(3*time.Second), ackEvent{sampler: &s, sample: rateSample{delivered: -1}, acked: 4, lost: 9, inflight: 1, rtt: 3 * time.Second, smoothed: 3 * time.Second, recovery: stateLoss, size: 1500})
	if b.full || b.state != bbrStartup {
		t.Errorf("%v, full %v, at %.0f bytes a second", b.state, b.full, b.pacing)
	}
}

// TestBBRTimeout: §3.10, "On RTO".
func TestBBRTimeout(t *testing.T) {
	m := newBottleneck(5000, 40*ms, 1<<20)
	m.sampler.appLimited = 0
	m.run(2 * time.Second)
	before := m.bbr.cwnd
	m.bbr.onTimeout(3)
	if m.bbr.window() != 4 {
		t.Errorf("window %d", m.bbr.window())
	}
	ev := ackEvent{sampler: &m.sampler, sample: rateSample{delivered: -1}, acked: 1, inflight: 2, rtt: 41 * ms, recovery: stateOpen, size: 1500}
	m.bbr.onAck(m.now, ev)
	if m.bbr.window() < before*9/10 {
		t.Errorf("window %d when repaired, it was %d", m.bbr.window(), before)
	}
}

// TestBBRNear: a short round trip bounds the window by the peer's socket buffer.
func TestBBRNear(t *testing.T) {
	b := newBBR()
	b.minRTT, b.cwnd = 100*time.Microsecond, 5000
	if b.window() != bbrNearWindow {
		t.Errorf("window %d", b.window())
	}
	b.cwnd = 5
	if b.window() != bbrNearFloor {
		t.Errorf("window %d", b.window())
	}
	s := newRateSampler()
	for i := range 6 { // rounds with losses
		s.delivered += 100
		now := at(time.Duration(i) * ms)
		b.onAck(now, ackEvent{sampler: &s, sample: rateSample{delivered: 100, priorDelivered: s.delivered - 100, interval: 100 * time.Microsecond}, acked: 100, lost: 5, rtt: 100 * time.Microsecond, size: 1500})
	}
	if b.near > 16 {
		t.Errorf("bound is %d after six rounds with losses", b.near)
	}
	b.minRTT, b.cwnd = 10*ms, 5000
	if b.window() != 5000 {
		t.Errorf("window %d on a longer path", b.window())
	}
}

// TestRateSampler: draft-cheng-iccrg-delivery-rate-estimation, the basic case.
func TestRateSampler(t *testing.T) {
	r := newRateSampler()
	r.appLimited = 0
	type sent struct {
		at instant
		st rateState
	}
	var flight []sent
	// Ten packets, one each millisecond, acknowledged 20 ms later each.
	for i := range 10 {
		now := at(time.Duration(i) * ms)
		flight = append(flight, sent{now, r.sent(now, i)})
	}
	var s rateSample
	for i, p := range flight {
		now := at(time.Duration(i)*ms + 20*ms)
		r.acked(now, p.at, &p.st, 1000+i)
		s = r.finish(now, ms)
	}
	if !s.valid() || s.appLimited || s.delivered != 10 || s.priorDelivered != 0 {
		t.Errorf("%+v", s)
	}
	// Ten packets within the 29 ms since the flight was empty.
	if bw := s.packetsPerSecond(); bw < 340 || bw > 350 {
		t.Errorf("%.0f packets a second", bw)
	}
	if s := r.finish(at(time.Second), ms); s.valid() {
		t.Errorf("a sample of nothing: %+v", s)
	}
	r.limited(0)
	p := r.sent(at(time.Second), 0)
	r.acked(at(1020*ms), at(time.Second), &p, 1)
	if s := r.finish(at(1020*ms), ms); !s.appLimited || r.appLimited != 0 {
		t.Errorf("%+v, still limited until %d", s, r.appLimited)
	}
	p = r.sent(at(2*time.Second), 0)
	r.acked(at(2*time.Second+1), at(2*time.Second), &p, 1)
	if s := r.finish(at(2*time.Second+1), ms); s.valid() {
		t.Errorf("a sample over less than the minimum round trip: %+v", s)
	}
}
