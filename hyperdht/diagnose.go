package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
)

// A Diagnosis is what the network between this machine and others does to UDP,
// as far as DHT nodes can show it. See [Node.Diagnose].
type Diagnosis struct {
	// Asked nodes were asked for a sign of life, Answered ones gave it. If none
	// did, nothing else is known: UDP is blocked, or nobody is there.
	Asked, Answered int
	// Firewalled and Public are what the node itself has found out about its
	// server socket: see [dhtrpc.Node].
	Firewalled bool
	Public     netip.AddrPort
	// Local are the addresses that peers in the same network are told.
	Local []netip.AddrPort

	Mapping   MappingFinding
	Filtering FilteringFinding
	Hairpin   HairpinFinding
	MTU       MTUFinding
}

// A View is what one node says about a socket: From sees it at To.
type View struct{ From, To netip.AddrPort }

// A MappingFinding says how a fresh socket appears to others (RFC 4787 §4).
type MappingFinding struct {
	// Known is set if enough nodes told.
	Known   bool
	Mapping nat.Mapping
	// Translated is set if the address that others see is none of this host's:
	// there is a NAT on the way. PortKept says that it keeps the port.
	Translated, PortKept bool
	// Class is what peers are told.
	Class nat.Class
	// Local is the socket's own address, Views what the nodes said.
	Local netip.AddrPort
	Views []View
	Took  time.Duration
}

// A FilteringFinding says whose datagrams reach a fresh socket (RFC 4787 §5).
// Where all nodes have the same host, the middle kind cannot be told.
type FilteringFinding struct {
	Known     bool
	Filtering nat.Filtering
	Took      time.Duration
}

// A HairpinFinding says whether two sockets of this host reach each other at
// their public addresses (RFC 4787 §6), as two hosts behind one NAT must if
// they do not know each other's local addresses.
type HairpinFinding struct {
	Known bool
	Works bool
	Took  time.Duration
}

// A MTUFinding is the largest IP packet, in bytes and with its headers, that
// reached a node, at most [MaxProbedMTU].
type MTUFinding struct {
	Known bool
	MTU   int
	Took  time.Duration
}

// MaxProbedMTU is the largest packet that a diagnosis tries: what Ethernet
// carries.
const MaxProbedMTU = 1500

// Tuning of ours. A diagnosis asks few nodes, and none of them often.
const (
	diagnoseNodes     = 8
	diagnoseStrangers = 3 // nodes that knock at a closed door
	diagnoseTimeout   = 700 * time.Millisecond
	hairpinRounds     = 5
	hairpinPause      = 100 * time.Millisecond
)

// Diagnose finds out, with the help of a few nodes of the routing table and
// through sockets of its own, what the network does: how addresses are mapped,
// whose datagrams come in, whether the NAT hairpins, how large a packet may be.
// On a node that is ready it takes a round trip or two where everything works,
// and less than ten seconds where nothing does. The error is the context's,
// [ErrClosed], or that of a socket.
//
// Nodes are asked only what any node may be asked: pings, pings with padding,
// and PING_NAT (docs/spec/dht-rpc.md §4.2).
func (n *Node) Diagnose(ctx context.Context) (Diagnosis, error) {
	x := &examination{node: n}
	defer x.close()
	d := Diagnosis{
		Firewalled: n.rpc.Firewalled(),
		Public:     n.rpc.PublicAddr(),
		Local:      n.localAddrs.tested(ctx, n),
	}
	var known []netip.AddrPort
	for _, c := range n.rpc.Nodes() {
		known = append(known, c.Addr)
	}
	asked := spread(known, diagnoseNodes)
	d.Asked = len(asked)
	if err := x.mapping(ctx, asked, &d.Mapping); err != nil {
		return d, err
	}
	d.Answered = len(d.Mapping.Views)
	if d.Answered == 0 {
		return d, ctx.Err()
	}
	d.Mapping.Class = classOf(d.Mapping.Views, d.Firewalled)
	var wg sync.WaitGroup
	var errs [3]error
	wg.Go(func() { errs[0] = x.filtering(ctx, d.Mapping.Views, &d.Filtering) })
	wg.Go(func() { errs[1] = x.hairpin(ctx, d.Mapping.Views[0].From, &d.Hairpin) })
	wg.Go(func() { errs[2] = x.mtu(ctx, d.Mapping.Views, &d.MTU) })
	wg.Wait()
	if i := slices.IndexFunc(errs[:], func(err error) bool { return err != nil }); i >= 0 {
		return d, errs[i]
	}
	return d, ctx.Err()
}

// spread picks at most limit nodes, of as many hosts as possible, in their
// order.
func spread(nodes []netip.AddrPort, limit int) []netip.AddrPort {
	var first, more []netip.AddrPort
	seen := map[netip.Addr]bool{}
	for _, a := range nodes {
		if seen[a.Addr()] {
			more = append(more, a)
		} else {
			seen[a.Addr()] = true
			first = append(first, a)
		}
	}
	all := append(first, more...)
	return all[:min(len(all), limit)]
}

// classOf is the class that peers are told of a socket with these views.
func classOf(views []View, firewalled bool) nat.Class {
	c := nat.NewClassifier(firewalled)
	for _, v := range views {
		c.Add(v.To, v.From)
	}
	return c.Class()
}

// mappingOf judges a socket's mapping by what nodes said; ok is false if they
// are too few. One in four may be wrong, as with [nat.Sampler]. That a mapping
// depends on the address only shows where nodes share a host.
func mappingOf(views []View) (m nat.Mapping, ok bool) {
	if len(views) < 2 {
		return 0, false
	}
	hits := map[netip.AddrPort]int{}
	byHost := map[netip.Addr][]netip.AddrPort{}
	most := 0
	for _, v := range views {
		hits[v.To]++
		most = max(most, hits[v.To])
		byHost[v.From.Addr()] = append(byHost[v.From.Addr()], v.To)
	}
	if most >= len(views)-len(views)/4 {
		return nat.EndpointIndependentMapping, true
	}
	m = nat.AddressAndPortDependentMapping
	for _, seen := range byHost {
		if len(seen) < 2 {
			continue
		}
		if slices.ContainsFunc(seen, func(a netip.AddrPort) bool { return a != seen[0] }) {
			return nat.AddressAndPortDependentMapping, true
		}
		m = nat.AddressDependentMapping
	}
	return m, true
}

// filteringOf judges by who was heard: a host that the socket had never sent
// to, and one that it had sent to at another port.
func filteringOf(stranger, otherPort bool) nat.Filtering {
	switch {
	case stranger:
		return nat.EndpointIndependentFiltering
	case otherPort:
		return nat.AddressDependentFiltering
	}
	return nat.AddressAndPortDependentFiltering
}

// Sizes of packets that links are known to carry: Ethernet, PPPoE, tunnels of
// several kinds, IPv6's minimum, UDX's base, IPv4's minimum to reassemble.
var usualMTUs = []int{1500, 1492, 1480, 1460, 1450, 1420, 1400, 1380, 1280, 1228, 576}

// sizesBetween are at most so many sizes above low and below high, evenly
// spread.
func sizesBetween(low, high, limit int) (sizes []int) {
	gap := high - low - 1
	n := min(gap, limit)
	for i := range n {
		sizes = append(sizes, low+(i+1)*(gap+1)/(n+1))
	}
	return sizes
}

// pingOptions are those of all the pings of a diagnosis.
func pingOptions(s *punchSocket, more ...dhtrpc.RequestOption) []dhtrpc.RequestOption {
	return append([]dhtrpc.RequestOption{dhtrpc.WithConn(s), dhtrpc.WithTimeout(diagnoseTimeout), dhtrpc.WithRetries(1)}, more...)
}
