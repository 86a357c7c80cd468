package hyperdht

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/nat"
)

// These are the punches that a puncher sends (spec §7.4), by the plan of
// punch_plan.go.

// openTowards sends one punch that opens our NAT towards an address, if peers
// may make us send there.
func (p *puncher) openTowards(a netip.AddrPort, ttl uint8) {
	if !p.node.mayPunch(a) {
		return
	}
	p.mu.Lock()
	s := p.main
	p.stats.Sent++
	p.mu.Unlock()
	s.punch(a, ttl)
}

// canStart reports whether the random punch that the two classes need, if they
// need one, may start now on this node.
func (p *puncher) canStart() bool {
	own, _ := p.local()
	if !needsRandom(own, p.view().class) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random || p.node.randomPunches.allowed(time.Now())
}

func needsRandom(own, remote nat.Class) bool { return own == nat.Random || remote == nat.Random }

// start punches in the background, once, until there is a way through or the
// attempt is over; then it ends the puncher. It reports whether there is a
// strategy for the two sides.
func (p *puncher) start() bool {
	own, _ := p.local()
	remote := p.view()
	plan := planPunch(own, remote.class)
	i := slices.IndexFunc(remote.addrs, func(a remoteAddr) bool { return a.verified })
	p.mu.Lock()
	if p.started {
		p.mu.Unlock()
		return true
	}
	if p.done || len(remote.addrs) == 0 || plan == cannotPunch || plan != punchSteady && i < 0 {
		p.mu.Unlock()
		return false
	}
	if plan != punchSteady {
		if !p.node.randomPunches.begin(time.Now()) {
			p.mu.Unlock()
			return false
		}
		p.random = true
	}
	p.started = true
	p.stats.Local = own
	p.mu.Unlock()
	p.node.wg.Go(func() {
		switch plan {
		case punchSteady:
			p.node.stats.punchesConsistent.Add(1)
			p.steady()
		case punchRandom:
			p.node.stats.punchesRandom.Add(1)
			p.probePorts(remote.addrs[i].addr.Addr())
		case punchManyWay:
			p.node.stats.punchesRandom.Add(1)
			p.birthday(remote.addrs[i].addr)
		}
		p.cancel(ErrHolepunchAborted)
	})
	return true
}

// pause waits and reports whether the punch goes on.
func (p *puncher) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
		return false
	}
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	return !done && (p.proven == nil || !p.proven())
}

// answerFast punches to a client that has opened its NAT towards us already. A
// single punch may get lost.
func (p *puncher) answerFast(a netip.AddrPort) {
	p.openTowards(a, 0)
	p.mu.Lock()
	again := p.fast
	p.fast = true
	p.mu.Unlock()
	if again {
		return
	}
	p.node.wg.Go(func() {
		for _, d := range fastPauses {
			if !p.pause(d) {
				return
			}
			p.openTowards(a, 0)
		}
	})
}

// steady punches to the known addresses, often at first; to unverified ones only
// twice. The responder lets the initiator, who learns of the punching later, go
// first, and meanwhile opens its NAT to him: one that hears the unasked may not
// keep the port that we were seen at (spec §16.1).
func (p *puncher) steady() {
	if !p.initiator {
		for _, a := range p.view().addrs {
			if a.verified {
				p.openTowards(a.addr, lowTTL)
			}
		}
		if !p.pause(responderWait) {
			return
		}
	}
	for i, d := range steadyPauses {
		for _, a := range p.view().addrs {
			if a.verified || i%4 == 3 {
				p.openTowards(a.addr, 0)
			}
		}
		if !p.pause(d) {
			return
		}
	}
}

// probePorts punches to random ports of a host.
func (p *puncher) probePorts(host netip.Addr) {
	for range randomProbes {
		p.openTowards(netip.AddrPortFrom(host, uint16(1000+rand.IntN(65536-1000))), 0)
		if !p.pause(randomPace) {
			return
		}
	}
}

// birthday opens our NAT towards one address from many sockets, each of which it
// maps to another port, and keeps it open until a probe of the peer gets
// through. No punch of ours is to arrive: it would come unasked, and where that
// makes the peer's NAT suspicious (spec §16.1) no probe to its source could
// follow.
func (p *puncher) birthday(to netip.AddrPort) {
	start := time.Now()
	most := birthdaySockets
	if p.initiator {
		most = clientSockets
	}
	p.openTowards(to, lowTTL)
	for {
		p.mu.Lock()
		n := len(p.all)
		p.mu.Unlock()
		if n >= most {
			break
		}
		s, err := p.node.sockets.acquire(p.heard)
		if err != nil {
			break // as many as there can be
		}
		p.mu.Lock()
		if p.done {
			p.mu.Unlock()
			s.release()
			return
		}
		p.all = append(p.all, s)
		p.stats.Sockets++
		p.stats.Sent++
		p.mu.Unlock()
		s.punch(to, lowTTL)
	}
	p.mu.Lock()
	sockets := slices.Clone(p.all)
	p.mu.Unlock()
	for i := 0; time.Since(start) < birthdayTime; i++ {
		if !p.pause(birthdayPace) {
			return
		}
		p.mu.Lock()
		p.stats.Sent++
		p.mu.Unlock()
		sockets[i%len(sockets)].punch(to, lowTTL)
	}
}
