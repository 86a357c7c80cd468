package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/nat"
)

// examine makes the diagnosis when the first check asks for it.
func (p *patient) examine(ctx context.Context) (hyperdht.Diagnosis, error) {
	if p.examined {
		return p.diagnosis, nil
	}
	var err error
	p.diagnosis, err = p.node.Diagnose(ctx)
	p.examined = err == nil
	return p.diagnosis, err
}

// part is a check that tells of one part of the diagnosis.
func (p *patient) part(ctx context.Context, tell func(hyperdht.Diagnosis) finding) (finding, error) {
	d, err := p.examine(ctx)
	if err != nil {
		return finding{}, err
	}
	return tell(d), nil
}

func (p *patient) mapping(ctx context.Context) (finding, error)   { return p.part(ctx, judgeMapping) }
func (p *patient) filtering(ctx context.Context) (finding, error) { return p.part(ctx, judgeFiltering) }
func (p *patient) hairpin(ctx context.Context) (finding, error)   { return p.part(ctx, judgeHairpin) }
func (p *patient) mtu(ctx context.Context) (finding, error)       { return p.part(ctx, judgeMTU) }
func (p *patient) lan(ctx context.Context) (finding, error)       { return p.part(ctx, judgeLocal) }
func (p *patient) address(ctx context.Context) (finding, error)   { return p.part(ctx, judgeAddress) }

const tooFew = "not known: too few nodes tell"

// whyNobodyAnswers judges the silence of all bootstrap nodes.
func whyNobodyAnswers(resolved int, own []netip.Addr) string {
	up := false
	for _, a := range own {
		up = up || a.Unmap().Is4() && !a.IsLoopback()
	}
	switch {
	case !up:
		return "no bootstrap node answers, and this machine has no IPv4 address but loopback: is the network up? (or is --bootstrap wrong?)"
	case resolved == 0:
		return "no bootstrap node's name can be resolved: is the network up, does DNS work? (IP@HOST:PORT in --bootstrap needs none)"
	}
	return "no bootstrap node answers: UDP is blocked on the way (ask for UDP to be let out to any port), or --bootstrap is wrong"
}

func judgeMapping(d hyperdht.Diagnosis) finding {
	m := d.Mapping
	if len(m.Views) == 0 {
		return finding{detail: tooFew}
	}
	facts := struct {
		Mapping    string    `json:"mapping,omitempty"`
		Class      string    `json:"class"`
		Translated bool      `json:"translated"`
		PortKept   bool      `json:"portKept"`
		Public     *addrJSON `json:"public,omitempty"`
		Nodes      int       `json:"nodes"`
	}{Class: m.Class.String(), Translated: m.Translated, PortKept: m.PortKept, Nodes: len(m.Views)}
	seen := m.Views[0].To
	if m.Known {
		facts.Mapping = strings.TrimSuffix(m.Mapping.String(), " mapping")
	}
	if m.Known && m.Mapping == nat.EndpointIndependentMapping {
		facts.Public = optionalAddr(seen)
	}
	f := finding{took: m.Took, facts: facts}
	switch {
	case !m.Known:
		f.detail = tooFew
	case m.Mapping != nat.EndpointIndependentMapping:
		f.detail = fmt.Sprintf("%v: each peer sees another port of %v (a \"symmetric\" NAT)", m.Mapping, seen.Addr())
		f.advice = "hole punching works towards peers whose NAT is kinder; for the others name a relay (--relay-through), or forward a UDP port to this machine and use --port with --firewalled=false"
	case !m.Translated:
		f.detail = fmt.Sprintf("none: others see our own address %v", seen.Addr())
	default:
		kept := "another port"
		if m.PortKept {
			kept = "the same port"
		}
		f.detail = fmt.Sprintf("%v: everybody sees a socket at one address, %v with %s, as hole punching wants it", m.Mapping, seen.Addr(), kept)
	}
	return f
}

func judgeFiltering(d hyperdht.Diagnosis) finding {
	if !d.Filtering.Known {
		return finding{detail: tooFew}
	}
	f := finding{took: d.Filtering.Took, facts: struct {
		Filtering string `json:"filtering"`
	}{strings.TrimSuffix(d.Filtering.Filtering.String(), " filtering")}}
	switch d.Filtering.Filtering {
	case nat.EndpointIndependentFiltering:
		f.detail = "everybody (endpoint-independent filtering)"
	case nat.AddressDependentFiltering:
		f.detail = "only hosts that we have sent to (address-dependent filtering); punching opens the way"
	default:
		f.detail = "only addresses and ports that we have sent to (address-and-port-dependent filtering); punching opens the way"
	}
	return f
}

func judgeHairpin(d hyperdht.Diagnosis) finding {
	h := d.Hairpin
	if !h.Known {
		return finding{detail: tooFew}
	}
	f := finding{took: h.Took, facts: struct {
		Hairpin bool `json:"hairpin"`
	}{h.Works}}
	switch {
	case !d.Mapping.Translated && h.Works:
		f.detail = "not needed: our public address is our own"
	case h.Works:
		f.detail = "works: two machines behind this NAT reach each other at their public addresses"
	case d.Mapping.Translated && onlyLoopback(d.Local):
		f.detail = "does not work, and no local address is offered"
		f.advice = "peers behind the same NAT cannot reach this machine but through a relay: bind an address of the local network (--host)"
	default:
		f.detail = "does not work: peers behind the same NAT use local addresses instead"
	}
	return f
}

// Packets that a connection needs (bytes, IP headers included): UDX begins with
// 1,200 bytes of its own, and IPv6 has taught links to carry 1,280.
const (
	neededMTU = 1228
	commonMTU = 1280
)

func judgeMTU(d hyperdht.Diagnosis) finding {
	if !d.MTU.Known {
		return finding{detail: tooFew}
	}
	n := d.MTU.MTU
	f := finding{took: d.MTU.Took, facts: struct {
		MTU int `json:"mtu"`
	}{n}}
	switch {
	case n >= hyperdht.MaxProbedMTU:
		f.detail = fmt.Sprintf("%d bytes or more", n)
	case n >= commonMTU:
		f.detail = fmt.Sprintf("%d bytes: a tunnel, VPN or PPPoE on the way, which does no harm", n)
	case n >= neededMTU:
		f.detail = fmt.Sprintf("%d bytes, which is little but enough", n)
	default:
		f.detail = fmt.Sprintf("%d bytes, and connections need %d", n, neededMTU)
		f.advice = fmt.Sprintf("raise the MTU of the tunnel or link on the way to %d", commonMTU)
	}
	return f
}

func judgeLocal(d hyperdht.Diagnosis) finding {
	var facts []addrJSON
	var text []string
	for _, a := range d.Local {
		facts = append(facts, addr(a))
		text = append(text, a.String())
	}
	f := finding{facts: struct {
		Addresses []addrJSON `json:"addresses"`
	}{facts}}
	switch {
	case len(d.Local) == 0:
		f.detail = "none is offered"
		f.advice = "this machine cannot reach itself at its own addresses: does a local firewall swallow UDP?"
	case onlyLoopback(d.Local):
		f.detail = "only loopback is offered: " + strings.Join(text, ", ")
	default:
		f.detail = "peers in the same network are offered " + strings.Join(text, ", ")
	}
	return f
}

func onlyLoopback(list []netip.AddrPort) bool {
	for _, a := range list {
		if !a.Addr().IsLoopback() {
			return false
		}
	}
	return true
}

// carriers is what RFC 6598 gives to carrier-grade NATs.
var carriers = netip.MustParsePrefix("100.64.0.0/10")

// judgeAddress sums up how the world reaches this machine.
func judgeAddress(d hyperdht.Diagnosis) finding {
	host := d.Public.Addr()
	random := d.Mapping.Class == nat.Random || d.Mapping.Known && d.Mapping.Mapping != nat.EndpointIndependentMapping
	if !host.IsValid() && d.Answered > 0 {
		host = d.Mapping.Views[0].To.Addr()
	}
	var f finding
	reach := ""
	switch {
	case !host.IsValid():
		return finding{detail: tooFew}
	case !d.Firewalled:
		reach, f.detail = "open", fmt.Sprintf("%v, open to everybody: no peer needs to punch", d.Public)
	case random:
		reach, f.detail = "relayed", fmt.Sprintf("%v with another port for each peer: peers with a kinder NAT punch through, the others need a relay", host)
	default:
		reach, f.detail = "punched", fmt.Sprintf("%v, which strangers cannot reach: peers punch through", host)
	}
	for _, a := range d.Local {
		if d.Firewalled && carriers.Contains(a.Addr()) {
			f.detail += fmt.Sprintf("; %v is an address of a carrier's NAT, in which no port can be forwarded", a.Addr())
		}
	}
	facts := struct {
		Firewalled bool   `json:"firewalled"`
		Host       string `json:"host"`
		Port       uint16 `json:"port,omitempty"`
		Reach      string `json:"reach"` // open, punched or relayed
	}{Firewalled: d.Firewalled, Host: host.String(), Reach: reach}
	if !d.Firewalled {
		facts.Port = d.Public.Port()
	}
	f.facts = facts
	return f
}
