package dhtrpc

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
)

// The tests of this file attack the queries of a node through what others
// answer.

// Nodes that name impossible addresses, ourselves, or hundreds of addresses do
// not make a query ask them. docs/spec/dht-rpc.md §12.
func TestQueriesAgainstLiars(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 3)
		client := tn.add(Config{Ephemeral: Always})
		liar := tn.net.Host()
		conn, err := liar.Listen(netip.AddrPortFrom(liar.Addr(), 7000))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var raw []byte
		for _, a := range []string{"0.0.0.0:1", "0.1.2.3:5", "1.2.3.4:0", "224.0.0.1:5", "255.255.255.255:5", client.ServerConn().LocalAddr().String()} {
			raw = compact.AppendAddr(raw, netip.MustParseAddrPort(a))
		}
		self := netip.AddrPortFrom(client.LocalAddr().Addr(), client.ClientConn().LocalAddr().Port())
		raw = compact.AppendAddr(raw, self)
		for i := range 220 {
			raw = compact.AppendAddr(raw, netip.AddrPortFrom(netip.AddrFrom4([4]byte{70, byte(i), 1, 1}), 5000))
		}
		go udp.Serve(conn, lyingNode{compact.AddrsOf(raw)})
		before := client.Stats()
		q := client.FindNode(ID{1}, QueryOptions{Nodes: []netip.AddrPort{netip.AddrPortFrom(liar.Addr(), 7000)}, Retries: -1})
		if err := q.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := client.Stats()
		if n := after.FindNode.Tx - before.FindNode.Tx; n > 4+K {
			t.Errorf("asked %d nodes", n)
		}
		if n := after.FindNode.Tx - before.FindNode.Tx; n < 4+10 {
			t.Errorf("asked only %d nodes: the lies did not arrive", n)
		}
		if n := after.FindNode.Served - before.FindNode.Served; n != 0 {
			t.Errorf("asked itself %d times", n)
		}
	})
}

// lyingNode answers every request with the same closer nodes.
type lyingNode struct{ closer compact.Addrs }

func (l lyingNode) HandleBatch(c udp.Conn, batch []udp.Datagram) []udp.Datagram {
	for _, d := range batch {
		if m, err := parseRequest(d.Payload); err == nil {
			c.WriteBatch([]udp.Datagram{{Peer: d.Peer, Payload: (&reply{tid: m.tid, to: d.Peer, closer: l.closer}).append(nil)}})
		}
	}
	return nil
}

// A host that answers under thousands of ports, each naming others that are
// nearer to the target, does not make a query ask them all, nor hold what they
// all said if there is no limit.
func TestEndlessReferrals(t *testing.T) {
	for _, limits := range []Limits{{}, {PerQuery: -1}} {
		endlessReferrals(t, limits)
	}
}

func endlessReferrals(t *testing.T, limits Limits) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		client := tn.add(Config{Ephemeral: Always, Limits: limits})
		evil := tn.net.Host()
		target := ID{1}
		var ports []netip.AddrPort // farthest from the target first
		for i := range 3000 {
			ports = append(ports, netip.AddrPortFrom(evil.Addr(), uint16(20000+i)))
		}
		slices.SortFunc(ports, func(a, b netip.AddrPort) int { return kad.Compare(target, IDOf(b), IDOf(a)) })
		for i, at := range ports {
			var named []byte
			for _, a := range ports[i+1 : min(i+21, len(ports))] {
				named = compact.AppendAddr(named, a)
			}
			c, err := evil.Listen(at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go udp.Serve(c, referrer{at, compact.AddrsOf(named)})
		}
		q := client.Query(Message{Command: 1, Target: &target}, QueryOptions{Nodes: ports[:1]})
		most, replies := 0, 0
		for _, err := range q.Replies(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			replies++
			client.Do(func() { most = max(most, len(q.replies)) })
		}
		got := q.Closest()
		if limits.PerQuery == 0 {
			if replies > 5*K || replies < K || len(got) != K || len(q.ClosestReplies()) != K {
				t.Errorf("%d replies, %d closest nodes", replies, len(got))
			}
			return
		}
		if most > 2*K || replies < 500 {
			t.Errorf("%d replies held, of %d", most, replies)
		}
		if len(got) != K || got[0].Addr != ports[len(ports)-1] || len(q.ClosestReplies()) != K {
			t.Errorf("%d closest nodes, the first is %v", len(got), got[0].Addr)
		}
	})
}

// referrer answers with its id, a large value and others to ask.
type referrer struct {
	self   netip.AddrPort
	closer compact.Addrs
}

func (l referrer) HandleBatch(c udp.Conn, batch []udp.Datagram) []udp.Datagram {
	id := IDOf(l.self)
	for _, d := range batch {
		if m, err := parseRequest(d.Payload); err == nil {
			c.WriteBatch([]udp.Datagram{{Peer: d.Peer, Payload: (&reply{tid: m.tid, to: d.Peer, id: &id, closer: l.closer, value: make([]byte, 1000)}).append(nil)}})
		}
	}
	return nil
}
