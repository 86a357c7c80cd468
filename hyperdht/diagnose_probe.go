package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

// An examination is a diagnosis under way: the node, and the sockets that its
// experiments have opened. Each experiment is a procedure.
type examination struct {
	node *Node

	mu      sync.Mutex
	sockets []*punchSocket
	first   *punchSocket // the one whose mapping is known
}

// socket opens a socket that is closed with the examination; punches that
// arrive at it are told to heard.
func (x *examination) socket(heard func()) (*punchSocket, error) {
	s, err := x.node.sockets.acquire(func(*punchSocket, netip.AddrPort) {
		if heard != nil {
			heard()
		}
	})
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sockets = append(x.sockets, s)
	return s, nil
}

func (x *examination) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.sockets {
		s.release()
	}
}

// look asks a node where it sees a socket.
func (x *examination) look(ctx context.Context, s *punchSocket, at netip.AddrPort) (View, bool) {
	r, err := x.node.rpc.Ping(ctx, at, pingOptions(s, dhtrpc.WithRetries(3))...)
	return View{at, r.To}, err == nil
}

// anyOf reports whether one of the nodes passes; it does not wait for the
// others then.
func anyOf(ctx context.Context, nodes []netip.AddrPort, passes func(context.Context, netip.AddrPort) bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make(chan bool, len(nodes))
	for _, a := range nodes {
		wg.Go(func() { results <- passes(ctx, a) })
	}
	for range nodes {
		if <-results {
			return true
		}
	}
	return false
}

// mapping lets nodes tell how they see one fresh socket.
func (x *examination) mapping(ctx context.Context, nodes []netip.AddrPort, f *MappingFinding) (err error) {
	start := time.Now()
	if x.first, err = x.socket(nil); err != nil {
		return err
	}
	views := make([]View, len(nodes))
	var wg sync.WaitGroup
	for i, a := range nodes {
		wg.Go(func() {
			if v, ok := x.look(ctx, x.first, a); ok {
				views[i] = v
			}
		})
	}
	wg.Wait()
	f.Views = slices.DeleteFunc(views, func(v View) bool { return !v.To.IsValid() })
	f.Local = x.first.LocalAddr()
	f.Mapping, f.Known = mappingOf(f.Views)
	if len(f.Views) > 0 {
		f.Translated = !x.own(f.Views[0].To.Addr())
		f.PortKept = !slices.ContainsFunc(f.Views, func(v View) bool { return v.To.Port() != f.Local.Port() })
	}
	f.Took = time.Since(start)
	return nil
}

// own reports whether an address is one of this host's.
func (x *examination) own(a netip.Addr) bool {
	addrs, _ := x.node.cfg.Network.Addrs()
	return a.IsLoopback() || slices.ContainsFunc(addrs, func(b netip.Addr) bool { return a == b.Unmap() })
}

// filtering opens a socket that only one node knows of, and lets others send to
// it: first hosts that it has never sent to, then, after it has, from a port
// that it has not sent to. They are asked through another socket (PING_NAT).
func (x *examination) filtering(ctx context.Context, views []View, f *FilteringFinding) error {
	start := time.Now()
	var nodes []netip.AddrPort
	for _, v := range views[1:] {
		nodes = append(nodes, v.From)
	}
	anchor := views[0].From
	far := slices.DeleteFunc(slices.Clone(nodes), func(a netip.AddrPort) bool { return a.Addr() == anchor.Addr() })
	if len(far) > 0 {
		nodes = far
	}
	if len(nodes) == 0 {
		return nil
	}
	door, err := x.socket(nil)
	if err != nil {
		return err
	}
	bell, err := x.socket(nil)
	if err != nil {
		return err
	}
	seen, ok := x.look(ctx, door, anchor)
	if !ok {
		return nil
	}
	knock := func(ctx context.Context, a netip.AddrPort) bool {
		_, err := x.node.rpc.PingNAT(ctx, a, seen.To.Port(), pingOptions(bell)...)
		return err == nil
	}
	nodes = nodes[:min(len(nodes), diagnoseStrangers)]
	stranger := anyOf(ctx, nodes, knock)
	otherPort := false
	if !stranger && len(far) > 0 {
		for _, a := range nodes {
			door.punch(netip.AddrPortFrom(a.Addr(), discardPort), 0)
		}
		otherPort = anyOf(ctx, nodes, knock)
	}
	f.Known, f.Filtering, f.Took = true, filteringOf(stranger, otherPort), time.Since(start)
	return nil
}

// discardPort throws away what it is sent (RFC 863); nobody listens there.
const discardPort = 9

// hairpin lets two sockets send to each other's public addresses, as a punch
// does.
func (x *examination) hairpin(ctx context.Context, anchor netip.AddrPort, f *HairpinFinding) error {
	start := time.Now()
	heard := make(chan struct{}, 1)
	ring := func() {
		select {
		case heard <- struct{}{}:
		default:
		}
	}
	var pair [2]*punchSocket
	var seen [2]View
	for i := range pair {
		var err error
		if pair[i], err = x.socket(ring); err != nil {
			return err
		}
		var ok bool
		if seen[i], ok = x.look(ctx, pair[i], anchor); !ok {
			return nil
		}
	}
	tick := time.NewTicker(hairpinPause)
	defer tick.Stop()
	for range hairpinRounds {
		pair[0].punch(seen[1].To, 0)
		pair[1].punch(seen[0].To, 0)
		select {
		case <-heard:
			*f = HairpinFinding{Known: true, Works: true, Took: time.Since(start)}
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	*f = HairpinFinding{Known: true, Took: time.Since(start)}
	return nil
}

// mtu pads pings, which the sockets forbid to fragment, to find the largest
// that is answered. The answers are small: it is the way there that is measured.
func (x *examination) mtu(ctx context.Context, views []View, f *MTUFinding) error {
	start := time.Now()
	var nodes []netip.AddrPort
	for _, v := range views[:min(len(views), 2)] {
		nodes = append(nodes, v.From)
	}
	low, high := 0, MaxProbedMTU+1
	for sizes := usualMTUs; len(sizes) > 0; sizes = sizesBetween(low, high, 16) {
		passed := make([]bool, len(sizes))
		var wg sync.WaitGroup
		for i, size := range sizes {
			wg.Go(func() {
				passed[i] = anyOf(ctx, nodes, func(ctx context.Context, a netip.AddrPort) bool {
					_, err := x.node.rpc.Ping(ctx, a, pingOptions(x.first, dhtrpc.WithSize(size-mtuOverhead))...)
					return err == nil
				})
			})
		}
		wg.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		low, high = narrow(low, high, sizes, passed)
		if low == 0 {
			return nil // not even the smallest: the nodes have gone
		}
	}
	*f = MTUFinding{Known: true, MTU: low, Took: time.Since(start)}
	return nil
}

// mtuOverhead is what a packet holds beside the padding of a ping: the headers
// of IPv4 and UDP (20 + 8), those of the request (11) and the padding's length
// (3, above 252 bytes).
const mtuOverhead = 20 + 8 + 11 + 3

// narrow moves the largest size known to pass, and the smallest above it known
// not to.
func narrow(low, high int, sizes []int, passed []bool) (int, int) {
	for i, size := range sizes {
		if passed[i] {
			low = max(low, size)
		}
	}
	for i, size := range sizes {
		if !passed[i] && size > low {
			high = min(high, size)
		}
	}
	return low, high
}
