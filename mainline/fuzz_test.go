package mainline

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/kad"
)

// FuzzAnswer gives walks of all kinds an answer: whatever it is, they go on, and
// what they take from it is bounded.
func FuzzAnswer(f *testing.F) {
	v := load(f)
	for _, list := range [][]exchange{v.BittorrentDHTExchanges.Exchanges, v.AnacrolixExchanges.Exchanges} {
		for _, x := range list {
			f.Add([]byte(x.ResponseHex))
		}
	}
	item := Sign(seed, nil, 3, StringValue("x"))
	f.Add([]byte("d1:rd" + idOf('A') + itemReply(&item) + "e1:t2:aa1:y1:re"))
	f.Add([]byte("d1:rd" + idOf('A') + "6:valuesl18:aaaaaaaaaaaaaaaaaa12:bbbbbbbbbbbb3:ccci5eee1:t2:aa1:y1:re"))
	n, _ := direct(f, func(c *Config) { c.ID = testID })
	from := netip.MustParseAddrPort("127.0.0.1:9")
	target := MutableTarget(item.Key, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		g := getter{n: n, target: target.key, opts: GetOptions{Verify: verifyEd25519}}
		peers := 0
		visit := func(a *answer) bool {
			g.visit(a)
			for p := range peerValues(a) {
				if peers++; !usable(p) {
					t.Fatalf("peer %v", p)
				}
			}
			for _, c := range n.contacts(a.body, from) {
				if !usable(c.Addr) {
					t.Fatalf("node %v", c)
				}
			}
			return true
		}
		w := n.newWalk(request{method: methodGet, target: target.key}, n.oneEach())
		w.visit = visit
		p := w.parts[0]
		if p.search.Offer(point{ID: key{1}, Addr: from}, netip.AddrPort{}) != kad.Added {
			t.Fatal("not added")
		}
		p.search.Next()
		n.slots <- struct{}{}
		w.held = 1
		if !w.handle(event{kind: queryAnswer, from: from, data: b}) {
			t.Fatal("the walk ended")
		}
		if p.search.Inflight() != 0 || w.held != 0 || len(n.slots) != 0 {
			t.Fatal("the query goes on")
		}
		if peers > len(b)/peer4Size || p.search.Waiting() > 2*maxNodesTaken || len(p.holders) > 1 {
			t.Fatalf("%d peers, %d nodes, %d holders from %d bytes", peers, p.search.Waiting(), len(p.holders), len(b))
		}
		if g.best != nil && (g.best.Seq != item.Seq || !bytes.Equal(g.best.Value, item.Value)) {
			t.Fatalf("a forged item: %+v", g.best)
		}
	})
}

// FuzzMagnet: what reads as a pointer writes as one.
func FuzzMagnet(f *testing.F) {
	for _, c := range load(f).Bep46 {
		f.Add(c.Magnet, []byte(PointerValue(testID)))
	}
	f.Fuzz(func(t *testing.T, link string, value []byte) {
		if p, err := ParseMagnet(link); err == nil {
			again, err := ParseMagnet(p.String())
			if err != nil || !bytes.Equal(again.Key, p.Key) || !bytes.Equal(again.Salt, p.Salt) {
				t.Fatalf("%q: %v, %v, %v", link, p, again, err)
			}
		}
		if id, err := ParsePointerValue(bencode.Raw(value)); err == nil {
			if again, err := ParsePointerValue(PointerValue(id)); err != nil || again != id {
				t.Fatalf("%q: %v, %v, %v", value, id, again, err)
			}
		}
	})
}

// FuzzState: a state that reads can be written and reads again.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"id":"00112233445566778899aabbccddeeff00112233","nodes":[{"host":"::1","port":1}],"values":{"x":{"v":"00"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var st State
		if st.UnmarshalJSON(b) != nil {
			return
		}
		out, err := st.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again State
		if err := again.UnmarshalJSON(out); err != nil || again.ID != st.ID || len(again.Nodes) != len(st.Nodes) {
			t.Fatalf("%s: %v", out, err)
		}
	})
}
