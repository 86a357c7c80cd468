package natlab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/udp"
)

// A probe is a socket on a host of the laboratory.
type probe struct {
	t *testing.T
	udp.Conn
	heard chan heard
}

type heard struct {
	what string
	from netip.AddrPort
}

// patience is how long a datagram that must come may take, grace how long one
// that must not come is waited for after another one has come the same way.
const (
	patience = 10 * time.Second
	grace    = 20 * time.Millisecond
)

func listen(t *testing.T, h *Host, addr netip.Addr, port uint16) *probe {
	t.Helper()
	c, err := h.Listen(netip.AddrPortFrom(addr, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &probe{t, c, make(chan heard, 100)}
	go udp.Serve(c, p)
	return p
}

func (p *probe) HandleBatch(_ udp.Conn, in []udp.Datagram) []udp.Datagram {
	for _, d := range in {
		select {
		case p.heard <- heard{string(d.Payload), d.Peer}:
		default:
		}
	}
	return nil
}

func (p *probe) say(what string, to netip.AddrPort) { p.sayTTL(what, to, 0) }

func (p *probe) sayTTL(what string, to netip.AddrPort, ttl uint8) {
	p.WriteBatch([]udp.Datagram{{Payload: []byte(what), Peer: to, TTL: ttl}})
}

// hears waits for a datagram and returns whom it is from.
func (p *probe) hears(what string) netip.AddrPort {
	p.t.Helper()
	select {
	case h := <-p.heard:
		if h.what != what {
			p.t.Fatalf("%v heard %q from %v, want %q", p.LocalAddr(), h.what, h.from, what)
		}
		return h.from
	case <-time.After(patience):
		p.t.Fatalf("%v did not hear %q", p.LocalAddr(), what)
	}
	panic("unreachable")
}

// quiet waits for what must not come.
func (p *probe) quiet(why string) {
	p.t.Helper()
	select {
	case h := <-p.heard:
		p.t.Errorf("%s: %v heard %q from %v", why, p.LocalAddr(), h.what, h.from)
	case <-time.After(grace):
	}
}

// Each class does what its name says, by plain UDP probes: which port others see,
// and whose datagrams come in.
func TestClasses(t *testing.T) {
	const none = nat.Filtering(255)
	for _, c := range []struct {
		class      Class
		mapping    nat.Mapping
		filtering  nat.Filtering // none: even the unasked come in
		translated bool
		preserves  bool
	}{
		{Open, nat.EndpointIndependentMapping, none, false, true},
		{Firewalled, nat.EndpointIndependentMapping, nat.AddressAndPortDependentFiltering, false, true},
		{Consistent, nat.EndpointIndependentMapping, nat.AddressAndPortDependentFiltering, true, true},
		{Remapping, nat.EndpointIndependentMapping, nat.AddressAndPortDependentFiltering, true, false},
		{Random, nat.AddressAndPortDependentMapping, nat.AddressAndPortDependentFiltering, true, false},
		{FullCone, nat.EndpointIndependentMapping, nat.EndpointIndependentFiltering, true, true},
		{OneToOne, nat.EndpointIndependentMapping, none, true, true},
		{Hairpin, nat.EndpointIndependentMapping, nat.AddressAndPortDependentFiltering, true, true},
		{Isolated, nat.EndpointIndependentMapping, nat.AddressAndPortDependentFiltering, true, true},
		{CarrierGrade, nat.EndpointIndependentMapping, nat.AddressAndPortDependentFiltering, true, true},
	} {
		t.Run(c.class.String(), func(t *testing.T) {
			l := New(t)
			world := l.Public(2)
			b := l.Box(c.class)
			h := b.Host()
			in := listen(t, h, h.Addr(), 5000)
			p1, p2 := listen(t, world, world.addrs[0], 1001), listen(t, world, world.addrs[0], 1002)
			q1 := listen(t, world, world.addrs[1], 1001)

			public := b.External()
			if !c.translated {
				public = h.Addr()
			}
			q1.say("unasked", netip.AddrPortFrom(public, 5000))
			if c.filtering == none {
				in.hears("unasked")
			} else {
				in.quiet("unasked")
			}

			// Mapping.
			in.say("1", p1.LocalAddr())
			first := p1.hears("1")
			if first.Addr() != public || first.Port() == 5000 != c.preserves {
				t.Errorf("seen at %v, the public address is %v", first, public)
			}

			// Filtering: only p1 was asked.
			q1.say("other address", first)
			p2.say("other port", first)
			if c.filtering == none || c.filtering == nat.EndpointIndependentFiltering {
				in.hears("other address")
				in.hears("other port")
			}
			p1.say("answer", first)
			if from := in.hears("answer"); from != p1.LocalAddr() {
				t.Errorf("the answer came from %v", from)
			}
			in.quiet("not asked for")

			in.say("2", p2.LocalAddr())
			in.say("3", q1.LocalAddr())
			in.say("4", p1.LocalAddr())
			second, third, again := p2.hears("2"), q1.hears("3"), p1.hears("4")
			if again != first {
				t.Errorf("the same destination sees %v after %v", again, first)
			}
			if same := c.mapping == nat.EndpointIndependentMapping; (second == first) != same || (third == first) != same {
				t.Errorf("others see %v and %v after %v", second, third, first)
			}
			p2.say("answer", second)
			in.hears("answer")
			q1.say("answer", third)
			in.hears("answer")

			// A hop limit that does not suffice opens the box all the same.
			low := listen(t, h, h.Addr(), 6000)
			low.sayTTL("low", p1.LocalAddr(), 5)
			if c.preserves {
				p1.say("to low", netip.AddrPortFrom(public, 6000))
				low.hears("to low")
			}
			p1.quiet("a hop limit of 5")

			if c.translated && c.class != OneToOne && c.class != FullCone {
				b.Reset()
				p1.say("late", first)
				in.quiet("after Reset")
			}
		})
	}
}

func TestBlocked(t *testing.T) {
	l := New(t)
	world := l.Public(1)
	h := l.Host(Blocked)
	in, out := listen(t, h, h.Addr(), 5000), listen(t, world, world.Addr(), 1001)
	in.say("x", out.LocalAddr())
	out.quiet("UDP is blocked")
	// The way is there: ICMP passes where ping is to be had.
	if _, err := exec.LookPath("ping"); err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, err := h.Command(ctx, "ping", "-c1", "-W5", world.Addr().String()).CombinedOutput(); err != nil {
			t.Errorf("ping: %v\n%s", err, out)
		}
	}
}

// Hosts behind one box: in one LAN, in two that are routed, in two that are not,
// with and without hairpin.
func TestSameBox(t *testing.T) {
	for _, c := range []struct {
		class           Class
		routed, hairpin bool
	}{{Consistent, true, false}, {Random, true, false}, {Isolated, false, false}, {Hairpin, false, true}} {
		t.Run(c.class.String(), func(t *testing.T) {
			l := New(t)
			world := l.Public(1)
			b := l.Box(c.class)
			x, y, z := b.Host(), b.Host(), b.Host2()
			px, py, pz := listen(t, x, x.Addr(), 5000), listen(t, y, y.Addr(), 6000), listen(t, z, z.Addr(), 7000)
			out := listen(t, world, world.Addr(), 1001)

			px.say("LAN", py.LocalAddr())
			if from := py.hears("LAN"); from != px.LocalAddr() {
				t.Errorf("in the LAN %v is %v", px.LocalAddr(), from)
			}
			px.say("LANs", pz.LocalAddr())
			if !c.routed {
				pz.quiet("isolated")
			} else if from := pz.hears("LANs"); from != px.LocalAddr() {
				t.Errorf("in the other LAN %v is %v", px.LocalAddr(), from)
			}

			px.say("x", out.LocalAddr())
			pz.say("x", out.LocalAddr())
			a1, a2 := out.hears("x"), out.hears("x")
			if a1.Port() != 5000 {
				a1, a2 = a2, a1
			}
			px.say("hairpin", a2)
			if !c.hairpin {
				pz.quiet("no hairpin")
				return
			}
			if from := pz.hears("hairpin"); from != a1 {
				t.Errorf("through the hairpin %v is %v, want %v", px.LocalAddr(), from, a1)
			}
			pz.say("back", a1)
			if from := px.hears("back"); from != a2 {
				t.Errorf("through the hairpin %v is %v, want %v", pz.LocalAddr(), from, a2)
			}
		})
	}
}

func TestLoss(t *testing.T) {
	l := New(t)
	world, h := l.Public(1), l.Host(Open)
	in, out := listen(t, h, h.Addr(), 5000), listen(t, world, world.Addr(), 1001)
	l.SetLoss(100)
	in.say("x", out.LocalAddr())
	out.quiet("all is lost")
	l.SetLoss(50)
	for range 50 {
		in.say("y", out.LocalAddr())
	}
	l.SetLoss(0)
	in.say("end", out.LocalAddr())
	got := 0
	for h := range out.heard {
		if h.what == "end" {
			break
		}
		got++
	}
	if got < 5 || got > 45 { // beyond: once in 10^9 times
		t.Errorf("%d of 50 arrived at 50%% loss", got)
	}
}

func TestCommand(t *testing.T) {
	l := New(t)
	h := l.Host(Consistent)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := h.Command(ctx, "ip", "-o", "addr").Output()
	if err != nil || !strings.Contains(string(out), " "+h.Addr().String()+"/24 ") {
		t.Errorf("%v\n%s", err, out)
	}
	if list, err := h.Addrs(); err != nil || list[0] != h.Addr() {
		t.Errorf("Addrs: %v, %v", list, err)
	}
	cmd := h.Command(ctx, "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Errorf("the process did not die of the signal: %v", err)
	}
	if _, ok := <-h.Watch(ctx); ok {
		t.Error("Watch fired")
	}
}

// Nothing is left behind, not even by those who died.
func TestCleanUp(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := fmt.Sprintf("warren%d-1-core", dead.Process.Pid)
	exec.Command("ip", "netns", "add", left).Run() // New below says why it cannot
	var prefix string
	t.Run("laboratory", func(t *testing.T) {
		l := New(t)
		l.Host(CarrierGrade)
		prefix = l.prefix
	})
	if prefix == "" {
		t.Skip("there is no laboratory")
	}
	list, err := os.ReadDir("/run/netns")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), prefix) || e.Name() == left {
			t.Errorf("namespace %s is left", e.Name())
		}
	}
}
