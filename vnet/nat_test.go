package vnet

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/udp"
)

// RFC 4787 §4.1 and §5: which destinations see one mapping, and whose datagrams
// come in.
func TestBehaviours(t *testing.T) {
	for m := nat.EndpointIndependentMapping; m <= nat.AddressAndPortDependentMapping; m++ {
		for f := nat.EndpointIndependentFiltering; f <= nat.AddressAndPortDependentFiltering; f++ {
			t.Run(fmt.Sprintf("%v, %v", m, f), func(t *testing.T) {
				bubble(t, func(t *testing.T, n *Network) {
					r := n.NAT(NAT{Mapping: m, Filtering: f})
					in := open(t, r.Host(), 5000)
					p, q := n.Host(), n.Host()
					p1, p2, q1 := open(t, p, 1), open(t, p, 2), open(t, q, 1)

					in.say("x", p1.addr)
					first := p1.from()
					if first.Addr() != r.External() || first.Port() != 5000 {
						t.Errorf("the mapping is %v, the external address %v", first, r.External())
					}
					p2.say("from the other port", first)
					q1.say("from the other address", first)
					p1.say("answer", first)
					var want []string
					if f <= nat.AddressDependentFiltering {
						want = append(want, "from the other port from "+p2.addr.String())
					}
					if f <= nat.EndpointIndependentFiltering {
						want = append(want, "from the other address from "+q1.addr.String())
					}
					in.want("filtering", append(want, "answer from "+p1.addr.String())...)

					in.say("y", p1.addr, p2.addr, q1.addr)
					if got := p1.from(); got != first {
						t.Errorf("the same destination sees %v after %v", got, first)
					}
					if got := p2.from(); got == first != (m <= nat.AddressDependentMapping) {
						t.Errorf("the other port sees %v after %v", got, first)
					}
					if got := q1.from(); got == first != (m == nat.EndpointIndependentMapping) {
						t.Errorf("the other address sees %v after %v", got, first)
					}
				})
			})
		}
	}
}

func TestMappingTimeout(t *testing.T) {
	for _, inbound := range []bool{false, true} {
		bubble(t, func(t *testing.T, n *Network) {
			r := n.NAT(NAT{Timeout: time.Minute, InboundRefresh: inbound, Ports: SequentialPorts})
			in, out := open(t, r.Host(), 5000), open(t, n.Host(), 1)
			in.say("x", out.addr)
			first := out.from()
			time.Sleep(40 * time.Second)
			in.say("outbound refreshes", out.addr)
			time.Sleep(40 * time.Second)
			out.say("a", first)
			in.want("41 s after the last outbound one", "a from "+out.addr.String())
			time.Sleep(40 * time.Second)
			out.say("b", first)
			if inbound {
				in.want("refreshed by an inbound one", "b from "+out.addr.String())
			} else {
				in.want("82 s after the last outbound one")
				if k := r.Mappings(); k != 0 {
					t.Errorf("%d mappings", k)
				}
			}
			time.Sleep(2 * time.Minute)
			in.say("y", out.addr)
			if got := out.from(); got == first {
				t.Errorf("%v was mapped again after its end", got)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		out := open(t, n.Host(), 1)
		ports := func(p Ports) (list []uint16) {
			r := n.NAT(NAT{Ports: p})
			for range 3 {
				open(t, r.Host(), 5000).say("x", out.addr)
				list = append(list, out.from().Port())
			}
			return list
		}
		if got := fmt.Sprint(ports(PreservePorts)); got != "[5000 5001 5002]" {
			t.Errorf("preserved: %s", got)
		}
		if got := fmt.Sprint(ports(SequentialPorts)); got != "[1025 1026 1027]" {
			t.Errorf("sequential: %s", got)
		}
		if got := ports(RandomPorts); got[1] == got[0]+1 || got[2] == got[1]+1 || got[0] == 5000 {
			t.Errorf("random: %v", got)
		}
	})
}

// Every port can be given away, each once, and then no more; what expires comes
// back.
func TestPortsRunOut(t *testing.T) {
	cfg := NAT{Mapping: nat.AddressAndPortDependentMapping, Ports: RandomPorts, Timeout: time.Minute}
	tr := newTranslation(cfg.withDefaults(), addr("1.1.1.1"), newTestRand())
	src := netip.MustParseAddrPort("10.0.0.1:1")
	seen := make(map[uint16]bool)
	dst := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 0, byte(i >> 14), 1}), uint16(i&(1<<14-1)))
	}
	for i := range maxStates {
		p := &packet{src: src, dst: dst(i)}
		if !tr.out(p, 0) || seen[p.src.Port()] || p.src.Port() < minPort {
			t.Fatalf("mapping %d is %v", i, p.src)
		}
		seen[p.src.Port()] = true
	}
	if tr.out(&packet{src: src, dst: dst(maxStates)}, 0) {
		t.Error("there was a port for one too many")
	}
	if !tr.out(&packet{src: src, dst: dst(maxStates)}, time.Minute+1) || len(tr.byPort) != 1 || len(tr.byFlow) != 1 {
		t.Errorf("%d mappings, %d flows after the timeout", len(tr.byPort), len(tr.byFlow))
	}
}

func TestHairpin(t *testing.T) {
	for _, on := range []bool{false, true} {
		bubble(t, func(t *testing.T, n *Network) {
			r := n.NAT(NAT{Filtering: nat.AddressAndPortDependentFiltering, Hairpin: on})
			a, b, out := open(t, r.Host(), 5000), open(t, r.Host(), 6000), open(t, n.Host(), 1)
			a.say("x", out.addr)
			atA := out.from()
			b.say("x", out.addr)
			atB := out.from()
			a.say("hello", atB) // filtered, and opens a's own filter
			b.want("not asked for")
			b.say("hello", atA)
			if on {
				a.want("hairpin", "hello from "+atB.String())
			} else {
				a.want("no hairpin")
			}
			b.say("direct", a.addr)
			a.want("in the same network", "direct from "+b.addr.String())
		})
	}
}

// A home router behind a provider's NAT.
func TestNested(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		cgn := n.NAT(CarrierGrade)
		home, other := cgn.NAT(Cone), cgn.NAT(Cone)
		if !netip.MustParsePrefix("100.64.0.0/10").Contains(home.External()) {
			t.Errorf("the home router's address is %v", home.External())
		}
		in, neighbour, out := open(t, home.Host(), 5000), open(t, other.Host(), 5000), open(t, n.Host(), 1)
		if in.addr != neighbour.addr {
			t.Errorf("private networks differ: %v, %v", in.addr, neighbour.addr)
		}
		in.say("x", out.addr)
		at := out.from()
		if at.Addr() != cgn.External() {
			t.Errorf("seen at %v, the provider is at %v", at, cgn.External())
		}
		out.say("answer", at)
		in.want("through both", "answer from "+out.addr.String())

		neighbour.say("x", out.addr)
		atNeighbour := out.from()
		in.say("open", atNeighbour)
		neighbour.say("hairpin", at)
		in.want("hairpin at the provider", "hairpin from "+atNeighbour.String())
	})
}

func TestNATOperations(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		r := n.NAT(NAT{Ports: SequentialPorts})
		h := r.Host()
		in, out := open(t, h, 5000), open(t, n.Host(), 1)
		in.say("x", out.addr)
		first := out.from()

		r.Reset()
		out.say("lost", first)
		in.want("all mappings dropped")
		in.say("x", out.addr)
		second := out.from()
		if second.Addr() != first.Addr() || second.Port() == first.Port() {
			t.Errorf("after Reset %v became %v", first, second)
		}

		r.SetExternal()
		out.say("lost", second)
		in.want("the address is gone")
		in.say("x", out.addr)
		third := out.from()
		if third.Addr() == first.Addr() || third.Addr() != r.External() {
			t.Errorf("after SetExternal %v became %v, External is %v", second, third, r.External())
		}
		out.say("answer", third)
		in.want("the new address", "answer from "+out.addr.String())

		server := open(t, h, 80)
		r.Forward(8080, netip.AddrPortFrom(h.Addr(), 80))
		out.say("knock", netip.AddrPortFrom(r.External(), 8080))
		server.want("forwarded", "knock from "+out.addr.String())
		server.say("who is it", out.addr)
		out.want("from the forwarded port", fmt.Sprintf("who is it from %v:8080", r.External()))
	})
}

// docs/spec/hyperdht-connect.md §16.1: "If a punch that arrives too early is
// accepted by (or rejected from) the NAT box itself, ... the inside host's later
// packet to the same remote is given a different source port".
func TestFragile(t *testing.T) {
	for _, fragile := range []bool{false, true} {
		bubble(t, func(t *testing.T, n *Network) {
			cfg := Cone
			cfg.Fragile = fragile
			r := n.NAT(cfg)
			in, out, early := open(t, r.Host(), 5000), open(t, n.Host(), 1), open(t, n.Host(), 1)
			in.say("x", out.addr)
			at := out.from()
			early.say("too early", at)
			in.want("not asked for")
			in.say("x", early.addr)
			if got := early.from(); got == at == fragile {
				t.Errorf("fragile %v: the early one sees %v, others %v", fragile, got, at)
			}
			in.say("x", out.addr)
			if got := out.from(); got != at {
				t.Errorf("others see %v after %v", got, at)
			}
			n2 := early.last
			early.say("answer", n2)
			in.want("at its own mapping", "answer from "+early.addr.String())
		})
	}
}

func TestFirewall(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		fw := n.Firewall(Firewall{Filtering: nat.AddressAndPortDependentFiltering, Timeout: time.Minute})
		in, out := open(t, fw.Host(), 5000), open(t, n.Host(), 1)
		out.say("knock", in.addr)
		in.want("not asked for")
		in.say("x", out.addr)
		out.want("no translation", "x from "+in.addr.String())
		out.say("answer", in.addr)
		in.want("asked for", "answer from "+out.addr.String())
		fw.Reset()
		out.say("answer", in.addr)
		in.want("forgotten")
		in.say("x", out.addr)
		time.Sleep(61 * time.Second)
		out.say("answer", in.addr)
		in.want("too late")

		plain := n.Router()
		h := open(t, plain.Host(), 5000)
		out.say("knock", h.addr)
		h.want("a plain router", "knock from "+out.addr.String())

		hostile := n.Firewall(Firewall{BlockUDP: true})
		b := open(t, hostile.Host(), 5000)
		out.from()
		b.say("x", out.addr)
		out.want("UDP blocked on the way out")
		out.say("x", b.addr)
		b.want("UDP blocked on the way in")
		if s := n.Stats(); s.Filtered != 5 {
			t.Errorf("%+v", s)
		}
	})
}

func TestHostFilter(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		r := n.NAT(Cone)
		h := r.Host()
		a, b, out := open(t, h, 1), open(t, r.Host(), 1), open(t, n.Host(), 1)
		h.SetFilter(Filter{In: NotPrivate})
		a.say("x", b.addr, out.addr)
		b.want("outbound", "x from "+a.addr.String())
		b.say("answer", a.addr)
		a.want("swallowed")
		out.say("answer", out.from())
		a.want("public", "answer from "+out.addr.String())

		h.SetFilter(Filter{Out: NotPrivate})
		a.say("x", b.addr)
		b.want("swallowed on the way out")
		b.say("answer", a.addr)
		a.want("inbound", "answer from "+b.addr.String())
		a.say("to itself", a.addr)
		a.want("not filtered", "to itself from "+a.addr.String())
	})
}

// A NAT routes IPv6 and filters it by the hosts' own addresses.
func TestNATRoutesIPv6(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		r := n.NAT(Cone)
		h, o := r.Host(addr("192.168.1.2"), addr("2001:db8:1::2")), n.Host(addr("2001:db8:2::1"))
		listen := func(h *Host) *sock {
			c, err := h.Listen(netip.AddrPortFrom(netip.IPv6Unspecified(), 7))
			if err != nil {
				t.Fatal(err)
			}
			s := &sock{t: t, Conn: c}
			go udp.Serve(c, s)
			return s
		}
		in, out := listen(h), listen(o)
		at, to := netip.MustParseAddrPort("[2001:db8:1::2]:7"), netip.MustParseAddrPort("[2001:db8:2::1]:7")
		out.say("knock", at)
		in.want("not asked for")
		in.say("x", to)
		out.want("its own address", "x from "+at.String())
		out.say("answer", at)
		in.want("asked for", "answer from "+to.String())
	})
}
