package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/udp"
)

// clientWait is how long a client that is open waits for the server's first
// packet (spec §2.4).
const clientWait = 10 * time.Second

// A dialPlan is which ways to the peer there are (spec §1, §5.5). Several are
// tried at once.
type dialPlan struct {
	direct netip.AddrPort // attach to this address at once; invalid: do not
	wait   bool           // the server attaches to us
	lan    netip.AddrPort // try this address on the local network; invalid: none
	punch  bool
}

// planDial chooses the ways. It is pure: answer is what the server said, open
// whether we are open to the world, locals our addresses on local networks (nil:
// not to be used).
func planDial(a *dialAnswer, open bool, locals []netip.AddrPort) (p dialPlan) {
	punchable := a.payload.holepunch != nil && len(a.payload.holepunch.relays) > 0
	viaRelay := a.relayed && a.server != a.relay
	switch {
	case !a.relayed:
		p.direct = a.relay
	case a.payload.firewall == nat.Open || viaRelay && !punchable:
		if mayReach(a.relay, a.server) {
			p.direct = a.server
		}
		for _, addr := range a.payload.addresses4 {
			if sendable(addr) && !isBogon(addr.Addr()) {
				p.direct = addr
				break
			}
		}
	case open:
		p.wait = true
	default:
		if viaRelay && locals != nil && sameHost(a) {
			theirs := slices.DeleteFunc(slices.Clone(a.payload.addresses4), func(x netip.AddrPort) bool {
				return !sendable(x) || isReserved(x.Addr())
			})
			if len(theirs) > 0 {
				p.lan = theirs[0]
				if m, ok := matchLAN(locals, theirs); ok {
					p.lan = m
				}
			}
		}
		p.punch = punchable
	}
	return p
}

// sameHost reports whether the relay sees both ends at the same public host.
func sameHost(a *dialAnswer) bool { return a.client.Addr() == a.server.Addr() }

// connect finds a path and proves it (spec §5.5).
func (d *dial) connect(a *dialAnswer) (*Conn, error) {
	n := d.node
	ctx, cancel := context.WithCancelCause(d.living)
	detach := context.AfterFunc(d.ctx, func() { cancel(context.Cause(d.ctx)) })
	var locals []netip.AddrPort
	if !d.cfg.NoLAN {
		locals = n.localAddrs.list(n)
	}
	if !n.listensAs(d.key) {
		// Two homes behind one carrier's NAT may use the same addresses. At ours
		// we would ask ourselves whether the peer is there.
		a.payload.addresses4 = slices.DeleteFunc(a.payload.addresses4, func(x netip.AddrPort) bool { return slices.Contains(locals, x) })
	}
	plan := planDial(a, d.open, locals)

	d.mu.Lock()
	early := d.early
	d.mu.Unlock()
	if early != nil {
		d.attach(early.conn, early.from, n.kindOf(early.conn, early.from))
	}
	ways := newWays(cancel, d.link.attached)
	relay := d.relay
	if r := a.payload.relayThrough; r != nil && !d.cfg.noRelay {
		relay = relayChoice{key: r.publicKey, token: r.token, initiator: false}
	} else {
		relay.initiator = true
	}
	if !relay.key.IsZero() {
		ways.Go(func() error { return d.tryRelay(ctx, relay) })
	}
	switch {
	case early != nil:
	case plan.direct.IsValid():
		n.stats.punchesOpen.Add(1)
		conn := n.rpc.Conn()
		if !a.relayed {
			conn = a.conn
		}
		kind := PathDirect
		if n.sockets.find(conn) != nil {
			kind = PathPunched
		}
		d.attach(conn, plan.direct, kind)
	case plan.wait:
		ways.Go(func() error { return d.waitForServer(ctx) })
	default:
		if plan.lan.IsValid() {
			d.lanTried, d.lanBegun = make(chan struct{}), time.Now()
			ways.Go(func() error {
				defer close(d.lanTried)
				return d.tryLAN(ctx, plan.lan)
			})
		}
		if plan.punch {
			ways.Go(func() error { return d.tryPunch(ctx, a) })
		}
		if !plan.lan.IsValid() && !plan.punch && relay.key.IsZero() {
			d.link.raw.Destroy(nil)
			cancel(context.Canceled)
			return nil, ErrCannotHolepunch
		}
	}
	ways.settle()
	c, err := d.link.establish(ctx, a.result, streamOptions{keepAlive: d.cfg.KeepAlive, insecureDatagrams: d.cfg.InsecureDatagrams})
	if err != nil && d.ctx.Err() == nil {
		if p, ok := d.link.current(); ok && ctx.Err() == nil {
			d.tried(p.Kind, p.Remote, err)
			err = ErrPathLost
		}
	}
	detach()
	if err == nil && c.Path().Kind == PathRelayed {
		n.wg.Go(func() { // the other ways may still lead to something better
			select {
			case <-ways.Over():
			case <-c.Done():
			}
			cancel(context.Canceled)
			ways.Wait()
		})
		return c, nil
	}
	cancel(context.Canceled)
	ways.Wait()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// attach offers a path to the link and notes it.
func (d *dial) attach(conn udp.Conn, to netip.AddrPort, kind PathKind) bool {
	if !d.link.attach(conn, to, kind) {
		return false
	}
	d.tried(kind, to, nil)
	return true
}

// tried notes a way for the report.
func (d *dial) tried(kind PathKind, addr netip.AddrPort, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.report.Paths {
		if p := &d.report.Paths[i]; p.Kind == kind && p.Addr == addr {
			p.Err = err
			return
		}
	}
	d.report.Paths = append(d.report.Paths, PathAttempt{kind, addr, err})
}

// waitForServer waits for the server, which knows our open address, to send the
// first packet.
func (d *dial) waitForServer(ctx context.Context) error {
	t := time.NewTimer(clientWait)
	defer t.Stop()
	select {
	case <-d.link.attached:
		return nil
	case <-ctx.Done():
		return nil
	case <-t.C:
		d.tried(PathDirect, netip.AddrPort{}, ErrHolepunchAborted)
		return ErrHolepunchAborted
	}
}

// A punch that got through waits for the local network, as the shorter way is
// the better one: as long again as that has been tried already, since a punch
// takes more round trips, and at most maxHeadStart.
const maxHeadStart = 15 * time.Millisecond

// tryLAN asks whether somebody answers at an address on the local network, and
// attaches to it. Whether it is the peer shows when it is heard there; until
// then another way may still win.
func (d *dial) tryLAN(ctx context.Context, addr netip.AddrPort) error {
	n := d.node
	if _, err := n.rpc.Ping(ctx, addr); err != nil {
		if ctx.Err() == nil {
			d.tried(PathLAN, addr, err)
		}
		return ErrHolepunchAborted
	}
	d.attach(n.rpc.ServerConn(), addr, PathLAN)
	return nil
}
