package hyperdht

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
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
	heardOn  []punchedWay                 // ways that were given to through
	won      bool                         // one of them is the expected
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
		same := 0
		for _, old := range p.heardOn {
			if old.socket == s && old.from == from {
				p.mu.Unlock()
				return
			}
			if old.expected == w.expected {
				same++
			}
		}
		named := slices.ContainsFunc(p.remote.addrs, func(a remoteAddr) bool { return a.addr == from })
		if same >= maxPunchedWays && !named {
			p.mu.Unlock()
			return
		}
		p.heardOn = append(p.heardOn, w)
		p.won = p.won || w.expected
		p.mu.Unlock()
		p.through(s, from, w.expected)
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

// expects reports whether the peer is known to be at a host. The lock is held.
func (p *puncher) expects(host netip.Addr) bool {
	return slices.Contains(p.hosts, host) || slices.ContainsFunc(p.remote.addrs, func(a remoteAddr) bool { return a.addr.Addr() == host })
}

// hasWon reports whether the initiator has heard a punch from where the peer is.
func (p *puncher) hasWon() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.won
}

// sample asks four nodes at which address they see the socket (spec §7.2), and
// two more each time that sampleStagger passes without a result, eight in all.
func (p *puncher) sample(s *punchSocket, class *nat.Classifier) {
	nodes := p.node.rpc.Nodes()
	if len(nodes) >= 8 {
		nodes = append(nodes[5:len(nodes):len(nodes)], nodes[:5]...)
	}
	nodes = nodes[:min(maxSamples, len(nodes))]
	ended := make(chan struct{}, len(nodes))
	pending := 0
	ask := func(n int) {
		for _, at := range nodes[:min(n, len(nodes))] {
			pending++
			p.node.wg.Go(func() {
				r, err := p.node.rpc.Ping(p.ctx, at.Addr, dhtrpc.WithConn(s.Conn), dhtrpc.WithRetries(1), dhtrpc.WithBackoff(sampleTime/3, sampleTime))
				if err == nil {
					p.sampled(class, r.To, r.From)
				}
				ended <- struct{}{}
			})
		}
		nodes = nodes[min(n, len(nodes)):]
	}
	ask(4)
	more := time.NewTicker(sampleStagger)
	defer more.Stop()
	for pending > 0 {
		select {
		case <-ended:
			pending--
		case <-more.C:
			ask(2)
		}
		p.mu.Lock()
		enough := class.Len() >= 4 || class.Done()
		p.mu.Unlock()
		if enough {
			return
		}
	}
}

// sampled notes that from saw the main socket at to.
func (p *puncher) sampled(class *nat.Classifier, to, from netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	class.Add(to, from)
	p.stats.Samples = class.Len()
	if class == p.class && class.Done() {
		closeOnce(p.analysed)
	}
}

// observe is sampled for messages that arrive on conn in the course of the
// punch, if it is the main socket.
func (p *puncher) observe(conn interface{ LocalAddr() netip.AddrPort }, to, from netip.AddrPort) {
	p.mu.Lock()
	main, class := p.main, p.class
	p.mu.Unlock()
	if main != nil && (conn == main.Conn || conn == main) {
		p.sampled(class, to, from)
	}
}

func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// analyse waits until the socket's NAT is classified as well as it can be.
func (p *puncher) analyse() error {
	p.mu.Lock()
	ch := p.analysed
	p.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// local is our class and addresses as known now.
func (p *puncher) local() (nat.Class, []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.class.Class(), slices.Clone(p.class.Addrs())
}

// view is what is known of the other side.
func (p *puncher) view() remoteView {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remote
}

// freeze keeps our class and addresses as they were told to the other side.
func (p *puncher) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.class.Freeze()
}

// update takes what the other side said about itself. seen is its socket as a
// relay sees it: addresses on other hosts are nobody's but strangers', unless the
// host was verified. verified is a host of its that something has proved; being
// verified sticks to a host (spec §7.1).
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
	for _, a := range addrs {
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

// reopen tries other sockets while the class is unstable, once (spec §7.3), and
// reports whether it ended consistent. Who comes later waits for the outcome.
func (p *puncher) reopen() bool {
	p.mu.Lock()
	over, first := p.reopened, p.reopened == nil
	if first {
		over = make(chan struct{})
		p.reopened = over
	}
	p.mu.Unlock()
	if first {
		for range maxReopens {
			own, _ := p.local()
			if !unstable(own, p.view().class) || p.open() != nil || p.analyse() != nil {
				break
			}
		}
		close(over)
	} else {
		select {
		case <-over:
		case <-p.ctx.Done():
		}
	}
	own, _ := p.local()
	return own == nat.Consistent || own == nat.Open
}

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

// report is what the punch did so far.
func (p *puncher) report() PunchReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.stats
	r.Local, r.Remote = p.class.Class(), p.remote.class
	return r
}

// randomPunches throttles the punches that send thousands of datagrams, over
// both roles of a node (spec §2.4): one at a time, and a pause after each.
type randomPunches struct {
	mu       sync.Mutex
	interval time.Duration
	running  int
	last     time.Time // when the last one ended
}

func (r *randomPunches) allowed(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running == 0 && (r.last.IsZero() || now.Sub(r.last) >= r.interval)
}

func (r *randomPunches) begin(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running > 0 || !r.last.IsZero() && now.Sub(r.last) < r.interval {
		return false
	}
	r.running++
	return true
}

func (r *randomPunches) end(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	r.last = now
}

// rest makes the pause begin now.
func (r *randomPunches) rest(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = now
}
