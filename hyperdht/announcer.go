package hyperdht

import (
	"context"
	"crypto"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/kad"
)

const (
	// wantedRelays is how many nodes hold a listener's announcement.
	wantedRelays = 3
	// relayPing is how often they are pinged: it keeps the NAT's mapping for
	// them open, and shows when it changes.
	relayPing = 3 * time.Second
	// announceEvery is how often the announcement is made anew.
	announceEvery = 5 * time.Minute
	// maxRoundPause is the longest pause between rounds that reach nobody.
	maxRoundPause = 30 * time.Second
	// closeTries is how many of the closest nodes are tried, three at a time,
	// until three have accepted the announcement.
	closeTries = 12
)

// An announcer keeps a listener's key announced. Every five minutes it looks
// for the three nodes closest to the hash of the key, and announces it there;
// they are the listener's relays, who forward handshakes to the address that
// the announcement came from. In between it pings them. A relay that no longer
// answers makes for a new round at once; one that sees us at another address
// than before, because the NAT between has changed its mind, is announced to
// anew, since it would forward into the void.
// docs/spec/hyperdht-records.md §11.
//
// Its loop is a procedure. Safe for concurrent use.
type announcer struct {
	node   *Node
	key    PublicKey
	signer crypto.Signer
	target Target
	wake   chan struct{} // room for one; somebody wants a round
	tried  chan struct{} // closed when the first round has ended

	rounds, empty, heals atomic.Uint64

	mu        sync.Mutex     // guards everything below
	current   []relayNode    // that accepted the last announcement
	former    [2][]relayNode // of the two rounds before it
	asked     []relayNode    // by the round under way, or cut short; they may hold the announcement already
	announced bool           // a round has been accepted
	closest   []netip.AddrPort
	stopLoop  context.CancelFunc // nil while it does not run
	ended     chan struct{}      // closed when the loop has ended
}

// A relayNode is a node that holds our announcement.
type relayNode struct {
	dhtrpc.Contact
	self netip.AddrPort // our address as it sees it
}

// AnnouncerStats says how the announcing of a listener goes.
type AnnouncerStats struct {
	Relays int    // nodes that hold the announcement now
	Rounds uint64 // announcements made
	Empty  uint64 // of which nobody accepted
	Heals  uint64 // times a relay saw us at a new address and was told
}

// AnnouncerStats says how the announcing of the listener goes; all zero if it
// is not announced.
func (l *Listener) AnnouncerStats() AnnouncerStats {
	if l.announcer == nil {
		return AnnouncerStats{}
	}
	return l.announcer.stats()
}

func newAnnouncer(n *Node, k KeyPair) *announcer {
	return &announcer{node: n, key: k.Public, signer: SignerOf(k), target: TargetOf(k.Public), wake: make(chan struct{}, 1), tried: make(chan struct{})}
}

// first waits until the first round has ended. That nobody accepted the
// announcement is no failure.
func (a *announcer) first(ctx context.Context) error {
	select {
	case <-a.tried:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// resume lets the loop run, if it does not.
func (a *announcer) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopLoop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stopLoop, a.ended = cancel, make(chan struct{})
	go a.loop(ctx, a.ended)
}

// stop ends the loop and tells the relays to forget us, until the context ends.
// One that has ended already tells nobody. It can be resumed.
func (a *announcer) stop(ctx context.Context) {
	a.mu.Lock()
	stop, ended := a.stopLoop, a.ended
	a.stopLoop = nil
	a.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
	a.mu.Lock()
	relays := slices.Clone(a.current)
	for _, r := range a.asked { // whose answer the end of the loop has cut off
		if !hasRelay(relays, r.Addr) {
			relays = append(relays, r)
		}
	}
	a.current, a.asked = nil, nil
	a.mu.Unlock()
	if ctx.Err() == nil {
		a.unannounce(ctx, relays)
	}
}

// refresh asks for a round now.
func (a *announcer) refresh() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Relays are the addresses at which peers can begin: our own first, if
// everybody can reach it, then the relays, three in all.
func (a *announcer) Relays() []netip.AddrPort {
	var out []netip.AddrPort
	if open, ok := a.node.rpc.RemoteAddr(); ok {
		out = append(out, open)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.current {
		if len(out) < maxRelays {
			out = append(out, r.Addr)
		}
	}
	return out
}

// relayInfos are the relays with our address as each sees it.
func (a *announcer) relayInfos() []relayInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]relayInfo, 0, len(a.current))
	for _, r := range a.current {
		out = append(out, relayInfo{relay: r.Addr, peer: r.self})
	}
	return out
}

// isRelay reports whether an address is that of a relay of the last three
// rounds, or of the one under way. Before the first it may be any: those of an
// earlier run.
func (a *announcer) isRelay(addr netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.announced || hasRelay(a.asked, addr) || hasRelay(a.current, addr) ||
		hasRelay(a.former[0], addr) || hasRelay(a.former[1], addr)
}

func hasRelay(relays []relayNode, addr netip.AddrPort) bool {
	return slices.ContainsFunc(relays, func(r relayNode) bool { return r.Addr == addr })
}

// stats counts.
func (a *announcer) stats() AnnouncerStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return AnnouncerStats{Relays: len(a.current), Rounds: a.rounds.Load(), Empty: a.empty.Load(), Heals: a.heals.Load()}
}

// loop is the announcer's procedure. It begins with a round if there are no
// relays, as after a suspension.
func (a *announcer) loop(ctx context.Context, ended chan struct{}) {
	defer close(ended)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for e := range a.node.rpc.Events(ctx) {
			switch e.Kind {
			case dhtrpc.EventNetworkChange, dhtrpc.EventResume, dhtrpc.EventWakeup:
				a.refresh()
			}
		}
	})
	pause := relayPing
	for ctx.Err() == nil {
		if a.stats().Relays == 0 && !a.round(ctx) {
			a.sleep(ctx, pause)
			pause = min(2*pause, maxRoundPause)
			continue
		}
		pause = relayPing
		a.attend(ctx)
		if ctx.Err() == nil {
			a.round(ctx)
		}
	}
}

// attend pings the relays until it is time for a round: one of them is gone,
// five minutes have passed, or somebody wants it.
func (a *announcer) attend(ctx context.Context) {
	for began := time.Now(); time.Since(began) < announceEvery; {
		if woken := a.sleep(ctx, relayPing); woken || ctx.Err() != nil {
			return
		}
		if !a.pingRelays(ctx) {
			return
		}
	}
}

// sleep waits and reports whether it was woken for a round before its time.
func (a *announcer) sleep(ctx context.Context, d time.Duration) (woken bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-a.wake:
		return true
	case <-ctx.Done():
		return false
	}
}

// pingRelays pings all relays, announces anew to those that see us at another
// address than before, and reports whether all answered.
func (a *announcer) pingRelays(ctx context.Context) bool {
	a.mu.Lock()
	relays := slices.Clone(a.current)
	a.mu.Unlock()
	alive := make([]bool, len(relays))
	var wg sync.WaitGroup
	for i, r := range relays {
		wg.Go(func() {
			pong, err := a.node.rpc.Ping(ctx, r.Addr)
			if err != nil {
				return
			}
			alive[i] = pong.To == r.self || a.heal(ctx, r)
		})
	}
	wg.Wait()
	return !slices.Contains(alive, false)
}

// heal announces to a relay that sees us at another address than it did when we
// announced there.
func (a *announcer) heal(ctx context.Context, r relayNode) bool {
	a.heals.Add(1)
	reply, err := a.ask(ctx, r.Contact)
	if err != nil {
		return false
	}
	fresh, ok := a.announceTo(ctx, r.Contact, reply.Token)
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.current {
		if a.current[i].Addr == r.Addr {
			a.current[i] = fresh
		}
	}
	return true
}

// round looks for the nodes closest to the target and announces to the three
// closest that accept it. It reports whether any did; if none did, the relays
// stay as they are.
func (a *announcer) round(ctx context.Context) bool {
	if a.rounds.Add(1) == 1 {
		defer close(a.tried)
	}
	a.mu.Lock()
	start := a.closest
	a.asked = nil
	a.mu.Unlock()
	ask := dhtrpc.Message{Command: cmdFindPeer, Target: (*dhtrpc.ID)(&a.target)}
	closest, _ := a.node.walk(ctx, ask, func(o *dhtrpc.QueryOptions) { o.Nodes = start }, nil)
	relays := a.announceAmong(ctx, closest)
	if ctx.Err() != nil {
		return false // stop tells those that were asked
	}
	a.mu.Lock()
	if len(closest) > 0 {
		a.closest = a.closest[:0:0]
		for _, r := range closest {
			a.closest = append(a.closest, r.From)
		}
	}
	if len(relays) == 0 {
		a.asked = nil
		a.mu.Unlock()
		a.empty.Add(1)
		return false
	}
	last := a.current
	a.former[1], a.former[0], a.current = a.former[0], last, relays
	a.asked, a.announced = nil, true
	a.mu.Unlock()
	dropped := slices.DeleteFunc(slices.Clone(last), func(r relayNode) bool { return hasRelay(relays, r.Addr) })
	a.unannounce(ctx, dropped)
	return true
}

// announceAmong announces to the closest nodes, three at a time, until three
// have accepted. Those of networks that have one already come last: all three
// must not be one host's.
func (a *announcer) announceAmong(ctx context.Context, closest []dhtrpc.Reply) (relays []relayNode) {
	closest = diverse(closest)
	for i := 0; i < min(len(closest), closeTries) && len(relays) < wantedRelays && ctx.Err() == nil; {
		batch := closest[i:min(i+wantedRelays-len(relays), len(closest))]
		i += len(batch)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, reply := range batch {
			wg.Go(func() {
				node, _ := reply.Contact()
				if r, ok := a.announceTo(ctx, node, reply.Token); ok {
					mu.Lock()
					defer mu.Unlock()
					relays = append(relays, r)
				}
			})
		}
		wg.Wait()
	}
	return relays
}

// diverse puts the first reply of each public network before the others.
func diverse(replies []dhtrpc.Reply) []dhtrpc.Reply {
	var first, others []dhtrpc.Reply
	seen := map[netip.Prefix]bool{}
	for _, r := range replies {
		subnet, limited := kad.Subnet(r.From.Addr())
		if limited && seen[subnet] {
			others = append(others, r)
			continue
		}
		seen[subnet] = true
		first = append(first, r)
	}
	return append(first, others...)
}

// announceTo announces to one node. The record names no relays: that node is
// the one that forwards.
func (a *announcer) announceTo(ctx context.Context, node dhtrpc.Contact, token *[32]byte) (r relayNode, ok bool) {
	a.mu.Lock()
	if !hasRelay(a.asked, node.Addr) {
		a.asked = append(a.asked, relayNode{Contact: node})
	}
	a.mu.Unlock()
	reply, err := a.node.commitTo(ctx, node, token,
		announceCommit(cmdAnnounce, a.target, announcement{peer: &peerRecord{key: a.key}}, a.signer))
	if err != nil || reply.From != node.Addr {
		return r, false
	}
	return relayNode{node, reply.To}, true
}

// unannounce tells nodes to forget us, as far as they remember.
func (a *announcer) unannounce(ctx context.Context, relays []relayNode) {
	var wg sync.WaitGroup
	for _, r := range relays {
		wg.Go(func() {
			reply, err := a.ask(ctx, r.Contact)
			if err != nil || reply.Value == nil {
				return
			}
			a.node.commitTo(ctx, r.Contact, reply.Token,
				announceCommit(cmdUnannounce, a.target, announcement{peer: &peerRecord{key: a.key}}, a.signer))
		})
	}
	wg.Wait()
}

// ask asks one node whether it knows us, for the sake of a token.
func (a *announcer) ask(ctx context.Context, node dhtrpc.Contact) (dhtrpc.Reply, error) {
	m := dhtrpc.Message{Command: cmdFindPeer, Target: (*dhtrpc.ID)(&a.target)}
	r, err := a.node.rpc.Request(ctx, node.Addr, m, dhtrpc.WithID(node.ID))
	if err == nil {
		err = r.Err()
	}
	return r, err
}
