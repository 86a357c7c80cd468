package vnet

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/nat"
)

// Firewall says what a stateful firewall does.
type Firewall struct {
	// Filtering is whose datagrams come in to a socket that has sent some. To one
	// that has not, nobody's do.
	Filtering nat.Filtering
	// Timeout is how long after the last datagram in either direction; 0 is two
	// minutes.
	Timeout time.Duration
	// BlockUDP lets nothing pass in either direction.
	BlockUDP bool
}

// firewall is a Firewall at work. Guarded by the network's mutex.
type firewall struct {
	Firewall
	open map[netip.AddrPort]pinholes // by the inner socket
}

// maxStates bounds the tables of NATs and firewalls; what exceeds it is dropped.
const maxStates = 60000

func newFirewall(cfg Firewall) *firewall {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	f := &firewall{Firewall: cfg}
	f.reset()
	return f
}

func (f *firewall) reset() { f.open = make(map[netip.AddrPort]pinholes) }

func (f *firewall) out(p *packet, now time.Duration) bool {
	if f.BlockUDP {
		return false
	}
	holes := f.open[p.src]
	if holes == nil {
		if len(f.open) >= maxStates {
			return false
		}
		holes = make(pinholes)
		f.open[p.src] = holes
	}
	return holes.pierce(f.Filtering, p.dst, now, f.Timeout)
}

func (f *firewall) in(p *packet, now time.Duration) bool {
	holes := f.open[p.dst]
	return !f.BlockUDP && holes.admits(f.Filtering, p.src, now) && holes.pierce(f.Filtering, p.src, now, f.Timeout)
}

// pinholes are the remote ends from which datagrams may come in, cut down to what
// the filtering looks at, and until when.
type pinholes map[netip.AddrPort]time.Duration

// behaviourKey cuts a remote end down to what a mapping or filtering depends on.
func behaviourKey(behaviour uint8, remote netip.AddrPort) netip.AddrPort {
	switch behaviour {
	case 0:
		return netip.AddrPort{}
	case 1:
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// maxPinholes bounds those of one socket.
const maxPinholes = 16384

// pierce opens a hole for what remote sends, or keeps it open.
func (h pinholes) pierce(f nat.Filtering, remote netip.AddrPort, now, timeout time.Duration) bool {
	key := behaviourKey(uint8(f), remote)
	if _, ok := h[key]; !ok && len(h) >= maxPinholes {
		for k, until := range h {
			if until <= now {
				delete(h, k)
			}
		}
		if len(h) >= maxPinholes {
			return false
		}
	}
	h[key] = now + timeout
	return true
}

func (h pinholes) admits(f nat.Filtering, remote netip.AddrPort, now time.Duration) bool {
	return now < h[behaviourKey(uint8(f), remote)]
}
