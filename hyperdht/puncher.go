package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/nat"
)

// A puncher is one side of a hole punch: its sockets, what is known about the
// NATs on both sides, and the punches. Where the initiator hears a punch there
// may be a way through; the responder answers every punch, and learns the path
// from the stream's first packet. A punch is a byte that anybody can send, so
// the initiator goes on until the peer has proved itself, which ends the context.
//
// Its methods are procedures, called from the goroutine of one connection
// attempt at a time except where noted; sockets' readers call heard.
type puncher struct {
	node      *Node
	initiator bool
	// through is called for each way on which the initiator has heard a punch.
	// An expected one came from a host that the peer is known to be at.
	through func(s *punchSocket, peer netip.AddrPort, expected bool)
	// proven, if not nil, reports whether the peer has proved itself on a way, so
	// that no other is needed. It is set before the punches start.
	proven func() bool

	ctx    context.Context // ends with the puncher
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	main     *punchSocket
	all      []*punchSocket
	class    *nat.Classifier
	analysed chan struct{} // closed when the classifier needs no more samples
	remote   remoteView
	answered map[netip.AddrPort]time.Time // when the responder answered whom
	hosts    []netip.Addr                 // where relays see the peer
	sockets  []netip.AddrPort             // of the peer, as our relays have seen them
	heardOn  []punchedWay                 // ways that were given to through
	done     bool
	reopened chan struct{} // closed when other sockets were tried; nil: not begun
	started  bool
	fast     bool // has answered a fast open
	random   bool // counts as a running random punch
	stats    PunchReport
}

// A PunchReport counts what a punch did.
type PunchReport struct {
	Local, Remote nat.Class
	// Samples are the nodes that told us our address, Sent the punches sent and
	// Heard those that arrived, Sockets the sockets used.
	Samples, Sent, Heard, Sockets int
}

// A remoteView is what the other side said about itself.
type remoteView struct {
	class    nat.Class
	addrs    []remoteAddr
	punching bool
}

// A remoteAddr is verified if something proved that the peer receives at its
// host; only then it is worth more than a few punches.
type remoteAddr struct {
	addr     netip.AddrPort
	verified bool
}

// A punchedWay is where a punch was heard.
type punchedWay struct {
	socket   *punchSocket
	from     netip.AddrPort
	expected bool
}

// maxAnsweredPunches bounds whom a responder remembers to have answered,
// maxPunchedWays the ways that an initiator tries, of those that are expected and
// of those that are not.
const (
	maxAnsweredPunches = 64
	maxPunchedWays     = 8
)

// newPuncher opens the first socket and begins to learn its address.
func (n *Node) newPuncher(ctx context.Context, initiator bool, remote nat.Class, through func(*punchSocket, netip.AddrPort, bool)) (*puncher, error) {
	p := &puncher{node: n, initiator: initiator, through: through, answered: map[netip.AddrPort]time.Time{}}
	p.remote.class = remote
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	if err := p.open(); err != nil {
		p.cancel(err)
		return nil, err
	}
	context.AfterFunc(p.ctx, p.close)
	return p, nil
}

// open takes a new main socket and starts its analysis.
func (p *puncher) open() error {
	s, err := p.node.sockets.acquire(p.heard)
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		s.release()
		return context.Canceled
	}
	old := p.main
	p.main = s
	p.all = slices.DeleteFunc(p.all, func(x *punchSocket) bool { return x == old })
	p.all = append(p.all, s)
	p.stats.Sockets++
	// Even a node that finds itself open has to name an address to be punched at.
	p.class = nat.NewClassifier(true)
	p.analysed = make(chan struct{})
	class, analysed := p.class, p.analysed
	p.mu.Unlock()
	if old != nil {
		old.release()
	}
	p.node.wg.Go(func() {
		p.sample(s, class)
		p.mu.Lock()
		defer p.mu.Unlock()
		closeOnce(analysed)
	})
	return nil
}

// close ends the puncher and its sockets, but for those that a stream retains.
func (p *puncher) close() {
	p.cancel(context.Canceled)
	p.mu.Lock()
	p.done = true
	sockets := p.all
	p.all = nil
	random := p.random
	p.random = false
	p.mu.Unlock()
	for _, s := range sockets {
		s.release()
	}
	if random {
		p.node.randomPunches.end(time.Now())
	}
}

// socket is the current main socket.
func (p *puncher) socket() *punchSocket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.main
}

// heard takes a punch that arrived. Called by readers.
func (p *puncher) heard(s *punchSocket, from netip.AddrPort) {
	if !sendable(from) {
		return
	}
	now := time.Now()
	p.mu.Lock()
	p.stats.Heard++
	if p.done {
		p.mu.Unlock()
		return
	}
	if p.initiator {
		w := punchedWay{s, from, p.expects(from.Addr())}
		fresh := p.note(w)
		p.mu.Unlock()
		if fresh {
			p.through(s, from, w.expected)
		}
		return
	}
	// At most one answer to an address in 100 ms, so that nobody makes us
	// multiply what he sends.
	if last, ok := p.answered[from]; ok && now.Sub(last) < 100*time.Millisecond || !ok && len(p.answered) >= maxAnsweredPunches {
		p.mu.Unlock()
		return
	}
	p.answered[from] = now
	p.stats.Sent++
	p.mu.Unlock()
	s.punch(from, 0)
}

// expect notes a host that a relay sees the peer at.
func (p *puncher) expect(host netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.hosts, host) {
		p.hosts = append(p.hosts, host)
	}
}

// knowsHost is expects without the lock.
func (p *puncher) knowsHost(host netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expects(host)
}

// expects reports whether the peer is known to be at a host. The lock is held.
func (p *puncher) expects(host netip.Addr) bool {
	return slices.Contains(p.hosts, host) || slices.ContainsFunc(p.remote.addrs, func(a remoteAddr) bool { return a.addr.Addr() == host })
}

// note remembers a way and reports whether it is to be tried: it is new, and one
// of the first, or at an address that the peer has named. The lock is held.
func (p *puncher) note(w punchedWay) bool {
	if slices.Contains(p.heardOn, w) {
		return false
	}
	same := 0
	for _, old := range p.heardOn {
		if old.expected == w.expected {
			same++
		}
	}
	named := slices.ContainsFunc(p.remote.addrs, func(a remoteAddr) bool { return a.addr == w.from })
	if same >= maxPunchedWays && !named {
		return false
	}
	p.heardOn = append(p.heardOn, w)
	return true
}

// hasWon reports whether the initiator has heard a punch from where the peer is.
func (p *puncher) hasWon() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.heardOn, func(w punchedWay) bool { return w.expected })
}

// view is what is known of the other side.
func (p *puncher) view() remoteView {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remote
}

// update takes what the other side said about itself. seen is its socket as a
// relay sees it, invalid if that is not to be believed: addresses on other hosts
// are strangers', unless the host was verified. verified is a host of its that
// something has proved; being verified sticks to a host (spec §7.1).
//
// A responder, whom anybody may ask, believes no more than what it sees: of the
// addresses that are named those sockets count that a relay has seen. Another
// port of the same host may be another program's. (Only a peer whose ports are
// random is looked for on its whole host, once that is verified.)
func (p *puncher) update(m *punchPayload, seen netip.AddrPort, verified netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.remote.addrs
	p.remote = remoteView{class: m.firewall, punching: m.punching}
	addrs := m.addresses
	if m.firewall == nat.Open && len(addrs) == 0 && seen.IsValid() {
		// The reference names none when it has just found out that it is open.
		addrs = []netip.AddrPort{seen}
	}
	if !p.initiator && seen.IsValid() {
		if !slices.Contains(p.sockets, seen) && len(p.sockets) < maxPunchedWays {
			p.sockets = append(p.sockets, seen)
		}
		if m.firewall != nat.Random && m.firewall != nat.Unknown && !slices.Contains(addrs, seen) {
			addrs = append(slices.Clone(addrs), seen)
		}
	}
	for _, a := range addrs {
		if !p.initiator && a.Port() != 0 && !slices.Contains(p.sockets, a) {
			continue
		}
		if a.Port() == 0 && m.firewall != nat.Random || !p.node.mayPunch(netip.AddrPortFrom(a.Addr(), max(a.Port(), 1))) {
			continue
		}
		if slices.ContainsFunc(p.remote.addrs, func(x remoteAddr) bool { return x.addr == a }) {
			continue
		}
		ok := a.Addr() == verified || slices.ContainsFunc(was, func(x remoteAddr) bool {
			return x.verified && x.addr.Addr() == a.Addr()
		})
		if ok || a.Addr() == seen.Addr() {
			p.remote.addrs = append(p.remote.addrs, remoteAddr{a, ok})
		}
	}
	p.stats.Remote = m.firewall
}

// report is what the punch did so far.
func (p *puncher) report() PunchReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.stats
	r.Local, r.Remote = p.class.Class(), p.remote.class
	return r
}
