package dhtrpc

import (
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/udp"
)

// delayedPings are the pings that are to be answered later. The reference
// keeps any number of them (docs/spec/dht-rpc.md §4). Owned by the core.
type delayedPings struct {
	list []delayedPing // the latest first
	host map[netip.Addr]int
}

type delayedPing struct {
	at   time.Time
	conn udp.Conn
	from netip.AddrPort
	tid  uint16
}

// add takes a ping to be answered at a time; false if there are too many.
func (d *delayedPings) add(at time.Time, conn udp.Conn, from netip.AddrPort, tid uint16, l Limits) bool {
	if len(d.list) >= l.DelayedPings {
		return false
	}
	if !exempt(from.Addr()) {
		if d.host[from.Addr()] >= l.DelayedPingsPerHost {
			return false
		}
		if d.host == nil {
			d.host = map[netip.Addr]int{}
		}
		d.host[from.Addr()]++
	}
	i, _ := slices.BinarySearchFunc(d.list, at, func(p delayedPing, at time.Time) int { return at.Compare(p.at) })
	d.list = slices.Insert(d.list, i, delayedPing{at, conn, from, tid})
	return true
}

// release answers what is due.
func (d *delayedPings) release(c *core) {
	for n := len(d.list) - 1; n >= 0 && !d.list[n].at.After(c.now); n-- {
		p := d.list[n]
		d.list[n] = delayedPing{}
		d.list = d.list[:n]
		if k := d.host[p.from.Addr()]; k > 1 {
			d.host[p.from.Addr()] = k - 1
		} else {
			delete(d.host, p.from.Addr())
		}
		c.asked = 0
		c.respond(p.conn, p.from, &reply{tid: p.tid}, nil, false, false)
	}
}

func (d *delayedPings) deadline() (time.Time, bool) {
	if len(d.list) == 0 {
		return time.Time{}, false
	}
	return d.list[len(d.list)-1].at, true
}

// clear forgets all.
func (d *delayedPings) clear() { *d = delayedPings{} }
