package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

// An arrival is a numbered datagram and when it came.
type arrival struct {
	i  int
	at time.Duration
}

// through sends count datagrams of size bytes, gap apart, up a link and returns
// what arrived.
func through(t *testing.T, seed uint64, l Link, count, size int, gap time.Duration) (out []arrival, s Stats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(seed)
		n.SetLink(Link{})
		a, b := n.Host(), n.Host()
		a.SetLinks(l, Link{})
		ca, err := a.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		cb, err := b.Listen(netip.AddrPortFrom(b.Addr(), 1))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var c clockHandler
		var end sync.WaitGroup
		end.Go(func() { udp.Serve(cb, &c) })
		for i := range count {
			p := make([]byte, size)
			p[0], p[1] = byte(i>>8), byte(i)
			ca.WriteBatch([]udp.Datagram{{Payload: p, Peer: cb.LocalAddr()}})
			time.Sleep(gap)
		}
		time.Sleep(time.Minute)
		n.Close()
		end.Wait()
		for i := range c.list {
			out = append(out, arrival{c.list[i], c.at[i].Sub(start)})
		}
		s = n.Stats()
	})
	return out, s
}

type clockHandler struct {
	list []int
	at   []time.Time
}

func (h *clockHandler) HandleBatch(_ udp.Conn, in []udp.Datagram) []udp.Datagram {
	for _, d := range in {
		h.list = append(h.list, int(d.Payload[0])<<8|int(d.Payload[1]))
		h.at = append(h.at, time.Now())
	}
	return nil
}

func inOrder(list []arrival) bool {
	return slices.IsSortedFunc(list, func(a, b arrival) int { return a.i - b.i })
}

func TestLoss(t *testing.T) {
	got, s := through(t, 1, Link{Loss: 0.2}, 5000, 10, time.Millisecond)
	if k := len(got); k < 3850 || k > 4150 || s.Lost != uint64(5000-k) {
		t.Errorf("%d of 5000 arrived at 20%% loss; %+v", k, s)
	}
	if all, _ := through(t, 1, Link{Loss: 1}, 100, 10, 0); len(all) != 0 {
		t.Errorf("%d arrived at 100%% loss", len(all))
	}
	if again, _ := through(t, 1, Link{Loss: 0.2}, 5000, 10, time.Millisecond); !slices.Equal(got, again) {
		t.Error("the same seed gave other luck")
	}
	if other, _ := through(t, 2, Link{Loss: 0.2}, 5000, 10, time.Millisecond); slices.Equal(got, other) {
		t.Error("another seed gave the same luck")
	}
}

func TestDuplicate(t *testing.T) {
	got, _ := through(t, 1, Link{Duplicate: 0.1, Latency: time.Millisecond}, 2000, 10, time.Millisecond)
	if k := len(got); k < 2120 || k > 2280 {
		t.Errorf("%d arrived of 2000, 10%% of them twice", k)
	}
	if !inOrder(got) {
		t.Error("the order changed")
	}
}

func TestJitterKeepsOrder(t *testing.T) {
	got, _ := through(t, 1, Link{Latency: 10 * time.Millisecond, Jitter: 20 * time.Millisecond}, 1000, 10, time.Millisecond)
	if len(got) != 1000 || !inOrder(got) {
		t.Errorf("%d arrived, in order: %v", len(got), inOrder(got))
	}
	least, most := time.Hour, time.Duration(0)
	for _, a := range got {
		d := a.at - time.Duration(a.i)*time.Millisecond
		least, most = min(least, d), max(most, d)
	}
	if least < 10*time.Millisecond || most > 30*time.Millisecond || most-least < 10*time.Millisecond {
		t.Errorf("it took between %v and %v", least, most)
	}
}

func TestReorder(t *testing.T) {
	l := Link{Latency: 10 * time.Millisecond, Reorder: 0.1, ReorderBy: 5 * time.Millisecond}
	got, _ := through(t, 1, l, 2000, 10, time.Millisecond)
	late := 0
	for _, a := range got {
		d := a.at - time.Duration(a.i)*time.Millisecond
		if d < 10*time.Millisecond || d > 15*time.Millisecond {
			t.Fatalf("datagram %d took %v", a.i, d)
		}
		if d > 10*time.Millisecond {
			late++
		}
	}
	if len(got) != 2000 || late < 140 || late > 260 || inOrder(got) {
		t.Errorf("%d arrived, %d late, in order: %v", len(got), late, inOrder(got))
	}
}

// 1000 bytes of IP packet each, 100,000 bytes a second, room for 10,000: of 100
// at once the first 10 or 11 pass, 10 ms apart.
func TestRateAndQueue(t *testing.T) {
	l := Link{Rate: 100_000, Queue: 10_000, Latency: time.Millisecond}
	got, s := through(t, 1, l, 100, 972, 0)
	if k := len(got); k != 10 || s.Overflow != 90 {
		t.Fatalf("%d arrived; %+v", k, s)
	}
	for i, a := range got {
		if want := time.Duration(i+1)*10*time.Millisecond + time.Millisecond; a.i != i || a.at != want {
			t.Errorf("datagram %d came after %v, want %d after %v", a.i, a.at, i, want)
		}
	}
	if got, _ := through(t, 1, l, 100, 972, 10*time.Millisecond); len(got) != 100 {
		t.Errorf("%d of 100 arrived at exactly the rate", len(got))
	}
	if got, _ := through(t, 1, Link{Rate: 1000, Queue: 10}, 1, 972, 0); len(got) != 1 {
		t.Error("one above the queue's size must pass an idle link")
	}
}

func TestMTU(t *testing.T) {
	for _, c := range []struct {
		mtu, size int
		passes    bool
	}{{0, 1472, true}, {0, 1473, false}, {1280, 1252, true}, {1280, 1253, false}, {9000, 8972, true}} {
		got, s := through(t, 1, Link{MTU: c.mtu}, 1, c.size, 0)
		if c.size > 1472 && c.passes {
			// The other link has the usual MTU.
			if len(got) != 0 || s.TooBig != 1 {
				t.Errorf("MTU %d then 1500, %d bytes: %+v", c.mtu, c.size, s)
			}
			continue
		}
		if (len(got) == 1) != c.passes || s.TooBig != uint64(1-len(got)) {
			t.Errorf("MTU %d, %d bytes: %d arrived; %+v", c.mtu, c.size, len(got), s)
		}
	}
}

// Routers and the hops of links take from the hop limit; who has none left sinks,
// after the NATs on the way have taken note.
func TestTTL(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		r := n.NAT(Cone)
		r.SetUplink(Link{Hops: 3})
		h, p := r.Host(), n.Host()
		p.SetLink(Link{Hops: 2})
		in, out := open(t, h, 5000), open(t, p, 1)
		// From the inside: the NAT, 3 hops, 2 hops.
		var want []string
		for ttl := uint8(1); ttl <= 9; ttl++ {
			in.WriteBatch([]udp.Datagram{{Payload: fmt.Append(nil, ttl), Peer: out.addr, TTL: ttl}})
			if ttl > 6 {
				want = append(want, fmt.Sprintf("%d from %v:5000", ttl, r.External()))
			}
		}
		settle()
		out.want("TTL", want...)

		in2 := open(t, h, 6000)
		in2.WriteBatch([]udp.Datagram{{Payload: []byte("low"), Peer: out.addr, TTL: 2}})
		settle()
		out.want("died between the NATs")
		out.say("answer", netip.AddrPortFrom(r.External(), 6000))
		in2.want("but opened the mapping", "answer from "+out.addr.String())

		in3 := open(t, h, 7000)
		in3.WriteBatch([]udp.Datagram{{Payload: []byte("lower"), Peer: out.addr, TTL: 1}})
		settle()
		out.say("answer", netip.AddrPortFrom(r.External(), 7000))
		in3.want("died before the NAT")
	})
}
