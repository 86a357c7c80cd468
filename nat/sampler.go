package nat

import "net/netip"

// samplerSize is the number of samples that a Sampler looks back on.
const samplerSize = 16

// A Sampler learns a socket's public address from hearsay: from the addresses
// at which others say they see it. It holds an opinion that a few liars or a
// changing network cannot move at once, and can say "the host is known, but the
// port differs from peer to peer", as it does behind a NAT with
// address-and-port-dependent mapping.
//
// It counts the last 16 samples. A sample backs an address, and its host with
// any port; both counts run on through at most four samples of something else.
// The best backed address is believed when all of 1 to 3 samples agree, all
// but one of 4 to 7, all but two of 8 to 11 and all but three of 12 to 16;
// failing that, by the same rule, the best backed host. Sources are not told
// apart. docs/spec/dht-rpc.md §6.7.
//
// The zero value has no samples. Owned by one goroutine; not to be copied.
type Sampler struct {
	ring  []*sample // alternately an address and its host with port 0
	top   int       // where in ring the next sample is written
	best  [2]*sample
	addr  netip.Addr
	port  uint16
	count int // samples in ring
}

type sample struct {
	addr netip.AddrPort
	hits int
}

// Add takes the address at which somebody saw the socket.
func (s *Sampler) Add(a netip.AddrPort) {
	pair := [2]*sample{
		s.bump(a, 2),
		s.bump(netip.AddrPortFrom(a.Addr(), 0), 1),
	}
	if s.count < samplerSize {
		s.count++
		s.ring = append(s.ring, pair[:]...)
		s.top += 2
	} else {
		if s.top == len(s.ring) {
			s.top = 0
		}
		for _, n := range pair {
			s.ring[s.top].hits--
			s.ring[s.top] = n
			s.top++
		}
	}
	for i, n := range pair {
		if s.best[i] == nil || s.best[i].hits < n.hits {
			s.best[i] = n
		}
	}
	switch {
	case s.best[0].hits >= s.threshold():
		s.addr, s.port = s.best[0].addr.Addr(), s.best[0].addr.Port()
	case s.best[1].hits >= s.threshold():
		s.addr, s.port = s.best[1].addr.Addr(), 0
	default:
		s.addr, s.port = netip.Addr{}, 0
	}
}

// bump finds the sample among the last four, or makes it, and backs it.
func (s *Sampler) bump(a netip.AddrPort, offset int) *sample {
	for i := range 4 {
		j := (s.top - offset - 2*i) & (2*samplerSize - 1)
		if j >= len(s.ring) {
			break
		}
		if s.ring[j].addr == a {
			s.ring[j].hits++
			return s.ring[j]
		}
	}
	return &sample{addr: a, hits: 1}
}

// threshold is the number of samples that must agree.
func (s *Sampler) threshold() int { return s.count - min(s.count/4, 3) }

// Addr returns the public address. The address is invalid if there is no
// opinion about the host; the port is 0 if there is none about the port.
func (s *Sampler) Addr() (host netip.Addr, port uint16) { return s.addr, s.port }

// AddrPort returns the public address and whether both its parts are known.
func (s *Sampler) AddrPort() (a netip.AddrPort, ok bool) {
	return netip.AddrPortFrom(s.addr, s.port), s.addr.IsValid() && s.port != 0
}

// Randomized reports whether the host is known and its port is not the same
// for all peers.
func (s *Sampler) Randomized() bool { return s.addr.IsValid() && s.port == 0 }

// Len returns the number of samples that count, at most 16.
func (s *Sampler) Len() int { return s.count }
