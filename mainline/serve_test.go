package mainline

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha1"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/bencode"
)

var (
	stranger = netip.MustParseAddrPort("127.0.0.1:7000")
	seed     = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
)

// must gives the node a query and returns the response.
func (d *desk) must(t *testing.T, n *Node, from netip.AddrPort, query []byte) *message {
	t.Helper()
	m := d.message(t, n, from, query)
	if m.kind != 'r' {
		t.Fatalf("%q was answered with %+v", query, m)
	}
	return m
}

func (d *desk) message(t *testing.T, n *Node, from netip.AddrPort, query []byte) *message {
	t.Helper()
	m := new(message)
	if b := d.give(n, from, query); b != nil {
		if err := m.parse(b); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (d *desk) token(t *testing.T, n *Node, from netip.AddrPort) string {
	t.Helper()
	return string(d.must(t, n, from, newQuery(t, "get_peers", map[string]any{"info_hash": strings.Repeat("C", 20)})).body.token)
}

// fill puts nodes into a socket's table.
func fill(n *Node, s *socket, count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range count {
		var k key
		randomize(k[:n.idLen], n.rnd)
		ip := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		if s.is6 {
			ip = netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
		}
		s.routes.answered(time.Now(), point{ID: k, Addr: netip.AddrPortFrom(ip, 6881)}, time.Hour)
	}
}

func TestFindNodeReturnsNearest(t *testing.T) {
	n, d := direct(t, nil)
	fill(n, n.sockets[0], 300)
	target := hashOf("x")
	m := d.must(t, n, stranger, newQuery(t, "find_node", map[string]any{"target": string(target.Bytes())}))
	var got []point
	for b := m.body.nodes; ; {
		c, rest, ok := nextNode(b, shortID, peer4Size)
		if !ok {
			break
		}
		got, b = append(got, c), rest
	}
	all := n.Nodes()
	slices.SortFunc(all, func(a, b Contact) int {
		x, y := a.ID.Distance(target), b.ID.Distance(target)
		return bytes.Compare(x.key[:], y.key[:])
	})
	if len(got) != K {
		t.Fatalf("%d nodes", len(got))
	}
	for i, c := range got {
		if n.id(c.ID) != all[i].ID || c.Addr != all[i].Addr {
			t.Errorf("node %d is %v, want %v", i, c, all[i])
		}
	}
	// A querier is not told of itself.
	m = d.must(t, n, all[0].Addr, newQuery(t, "find_node", map[string]any{"target": string(target.Bytes()), "id": string(all[0].ID.Bytes())}))
	if c, _, _ := nextNode(m.body.nodes, shortID, peer4Size); n.id(c.ID) != all[1].ID {
		t.Errorf("the nearest but the querier is %v, want %v", c, all[1])
	}
}

func TestWant(t *testing.T) {
	n, d := direct(t, func(c *Config) {
		c.Network = twoDesks{c.Network.(*desk), &desk{local: netip.MustParseAddrPort("[::1]:6881"), closed: make(chan struct{})}}
		c.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6881"), netip.MustParseAddrPort("[::1]:6881")}
	})
	fill(n, n.sockets[0], 20)
	fill(n, n.sockets[1], 20)
	if n.sockets[0].id == n.sockets[1].id {
		t.Error("both families have the same id (BEP 45)")
	}
	for _, c := range []struct {
		want      []any
		four, six bool
	}{{nil, true, false}, {[]any{"n4"}, true, false}, {[]any{"n6"}, false, true}, {[]any{"n4", "n6"}, true, true}, {[]any{"xx"}, true, false}} {
		for _, method := range []string{"find_node", "get_peers", "get", "sample_infohashes"} {
			args := map[string]any{"target": strings.Repeat("C", 20), "info_hash": strings.Repeat("C", 20)}
			if c.want != nil {
				args["want"] = c.want
			}
			m := d.must(t, n, stranger, newQuery(t, method, args))
			if got4, got6 := len(m.body.nodes) == 26*K, len(m.body.nodes6) == 38*K; got4 != c.four || got6 != c.six {
				t.Errorf("%s, want %v: %d bytes of nodes, %d of nodes6", method, c.want, len(m.body.nodes), len(m.body.nodes6))
			}
		}
	}
}

func TestTokensAgeAndBind(t *testing.T) {
	play(t, nil, func(s *stage) {
		a, b := s.actor(), s.actor()
		token := a.token()
		announce := func(x *actor) byte {
			return x.parsed(newQuery(t, "announce_peer", map[string]any{
				"info_hash": strings.Repeat("C", 20), "port": 1, "token": string(token),
			})).kind
		}
		if announce(a) != 'r' {
			t.Error("a fresh token is refused")
		}
		if announce(b) != 'e' {
			t.Error("a token serves another address")
		}
		time.Sleep(10 * time.Minute)
		if announce(a) != 'r' {
			t.Error("a token of ten minutes is refused")
		}
		time.Sleep(11 * time.Minute)
		if announce(a) != 'e' {
			t.Error("a token of 21 minutes is accepted")
		}
	})
}

func TestValuesAreCut(t *testing.T) {
	n, d := direct(t, nil)
	fill(n, n.sockets[0], 100)
	hash := key{1}
	n.mu.Lock()
	for i := range 500 {
		n.announced(time.Now(), hash, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1), i%2 == 0, stranger)
	}
	n.mu.Unlock()
	values := func(args map[string]any) (list []string, length int) {
		args["info_hash"] = string(hash[:shortID])
		b := d.give(n, stranger, newQuery(t, "get_peers", args))
		var m message
		if err := m.parse(b); err != nil {
			t.Fatal(err)
		}
		for p := range peerValues(&answer{from: point{Addr: stranger}, body: &m.body}) {
			list = append(list, p.String())
		}
		return list, len(b)
	}
	one, size := values(map[string]any{})
	if len(one) != maxValues4 || size > maxReply {
		t.Errorf("%d values in %d bytes", len(one), size)
	}
	if two, _ := values(map[string]any{}); slices.Equal(one, two) {
		t.Error("the sample is always the same")
	}
	leeches, _ := values(map[string]any{"noseed": 1})
	for _, p := range leeches {
		ip := netip.MustParseAddrPort(p).Addr().As4()
		if ip[3]%2 == 0 {
			t.Errorf("noseed returned the seed %s", p)
		}
	}
	if got, size := values(map[string]any{"scrape": 1}); len(got) == 0 || size > maxReply {
		t.Errorf("with filters: %d values in %d bytes", len(got), size)
	}
	if got, size := values(map[string]any{"scrape": 1, "want": []any{"n4", "n6"}}); size > maxReply {
		t.Errorf("with filters and both lists: %d values in %d bytes", len(got), size)
	}
	m := d.must(t, n, stranger, newQuery(t, "get_peers", map[string]any{"info_hash": string(hash[:shortID]), "scrape": 1}))
	seeds, peers := (*Filter)(m.body.bloomSeeds), (*Filter)(m.body.bloomPeers)
	if e := seeds.Estimate(); e < 225 || e > 275 {
		t.Errorf("250 seeds are estimated as %v", e)
	}
	if e := peers.Estimate(); e < 225 || e > 275 {
		t.Errorf("250 peers are estimated as %v", e)
	}
}

// TestNoSeedFallsBack: with fewer downloaders than there is room for, seeds fill
// the rest.
func TestNoSeedFallsBack(t *testing.T) {
	n, d := direct(t, nil)
	n.mu.Lock()
	for i := range 10 {
		n.announced(time.Now(), key{1}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1), i > 0, stranger)
	}
	n.mu.Unlock()
	m := d.must(t, n, stranger, newQuery(t, "get_peers", map[string]any{"info_hash": "\x01" + strings.Repeat("\x00", 19), "noseed": 1}))
	var got []netip.AddrPort
	for p := range peerValues(&answer{from: point{Addr: stranger}, body: &m.body}) {
		got = append(got, p)
	}
	if len(got) != 10 || got[0] != netip.MustParseAddrPort("10.0.0.0:1") {
		t.Errorf("values: %v", got)
	}
}

func TestSamples(t *testing.T) {
	play(t, nil, func(s *stage) {
		n := s.node
		a := s.actor()
		ask := func() *body {
			m := a.parsed(newQuery(t, "sample_infohashes", map[string]any{"target": strings.Repeat("C", 20)}))
			if m.kind != 'r' || !m.body.any(hasSamples) || !m.body.any(hasNum) || !m.body.any(hasInterval) {
				t.Fatalf("%+v", m)
			}
			return &m.body
		}
		if b := ask(); len(b.samples) != 0 || b.num != 0 {
			t.Errorf("an empty store: %d bytes, num %d", len(b.samples), b.num)
		}
		add := func(from, to int) {
			n.mu.Lock()
			defer n.mu.Unlock()
			for i := from; i < to; i++ {
				n.announced(time.Now(), key(hashOf(fmt.Sprint(i)).key), netip.MustParseAddrPort("20.0.0.1:1"), false, stranger)
			}
		}
		add(0, 10)
		if b := ask(); len(b.samples) != 10*shortID || b.num != 10 || b.interval != 0 {
			t.Errorf("ten: %d bytes, num %d, interval %d", len(b.samples), b.num, b.interval)
		}
		add(10, 100)
		first := bytes.Clone(ask().samples)
		if len(first) != maxSamples*shortID {
			t.Errorf("a hundred: %d bytes", len(first))
		}
		time.Sleep(10 * time.Minute)
		if b := ask(); !bytes.Equal(b.samples, first) || b.interval != 1200 && b.interval != 1199 {
			t.Errorf("within the interval the sample changed, or interval = %d", b.interval)
		}
		time.Sleep(21 * time.Minute)
		add(0, 100)
		if b := ask(); bytes.Equal(b.samples, first) {
			t.Error("after the interval the sample is the same")
		}
	})
}

func TestPutChecks(t *testing.T) {
	n, d := direct(t, nil)
	token := d.token(t, n, stranger)
	put := func(i Item, more map[string]any) Code {
		t.Helper()
		args := map[string]any{"token": token, "v": i.Value}
		if i.Key != nil {
			args["k"], args["sig"], args["seq"] = i.Key, i.Signature, i.Seq
			if len(i.Salt) > 0 {
				args["salt"] = i.Salt
			}
		}
		for k, v := range more {
			args[k] = v
		}
		m := d.message(t, n, stranger, newQuery(t, "put", args))
		if m.kind == 'r' {
			return 0
		}
		return m.code
	}
	get := func(target ID, more map[string]any) *body {
		args := map[string]any{"target": string(target.Bytes())}
		for k, v := range more {
			args[k] = v
		}
		return &d.must(t, n, stranger, newQuery(t, "get", args)).body
	}
	one := Sign(seed, nil, 1, StringValue("one"))
	oneOther := Sign(seed, nil, 1, StringValue("another"))
	two := Sign(seed, nil, 2, StringValue("two"))
	forged := two
	forged.Seq = 3
	for i, c := range []struct {
		why  string
		item Item
		more map[string]any
		want Code
	}{
		{"cas of nothing", two, map[string]any{"cas": 9}, 0},
		{"lower seq", one, nil, 302},
		{"the same again", two, nil, 0},
		{"the same seq with another value", Sign(seed, nil, 2, StringValue("x")), nil, 302},
		{"a signature for another seq", forged, nil, 206},
		{"cas that does not hold", Sign(seed, nil, 3, StringValue("x")), map[string]any{"cas": 1}, 301},
		{"cas that holds", Sign(seed, nil, 3, StringValue("x")), map[string]any{"cas": 2}, 0},
		{"salt is another target", Sign(seed, []byte("salt"), 1, StringValue("one")), nil, 0},
		{"1000 bytes", Item{Value: StringValue(strings.Repeat("v", 996))}, nil, 0},
		{"1001 bytes", Item{Value: StringValue(strings.Repeat("v", 997))}, nil, 205},
		{"bad token", one, map[string]any{"token": "xx"}, 203},
		{"token before size", Item{Value: StringValue(strings.Repeat("v", 997))}, map[string]any{"token": strings.Repeat("x", 20)}, 203},
		{"salt of 64", Sign(seed, bytes.Repeat([]byte("s"), 64), 1, StringValue("one")), nil, 0},
		{"salt of 65", Sign(seed, bytes.Repeat([]byte("s"), 65), 1, StringValue("one")), nil, 207},
		{"salt without key", Item{Value: StringValue("x")}, map[string]any{"salt": "s"}, 203},
		{"seq without key", Item{Value: StringValue("x")}, map[string]any{"seq": 0}, 0},
		{"the highest seq", Sign(seed, []byte("high"), 1<<63-1, StringValue("x")), nil, 0},
	} {
		if got := put(c.item, c.more); got != c.want {
			t.Errorf("%d, %s: %d, want %d", i, c.why, got, c.want)
		}
	}
	_ = oneOther
	b := get(MutableTarget(one.Key, nil), nil)
	if b.seq != 3 || string(b.value) != "1:x" || !verifyEd25519(b.sig, SignedMessage(nil, b.seq, b.value), b.key) {
		t.Errorf("get: %+v", b)
	}
	if b := get(MutableTarget(one.Key, nil), map[string]any{"seq": 3}); b.any(hasValue|hasKey|hasSig) || b.seq != 3 || !b.any(hasToken) {
		t.Errorf("get with the stored seq: %+v", b)
	}
	if b := get(MutableTarget(one.Key, nil), map[string]any{"seq": 2}); !b.any(hasValue) {
		t.Errorf("get with a lower seq: %+v", b)
	}
	if b := get(MutableTarget(one.Key, []byte("salt")), nil); string(b.value) != "3:one" || b.any(hasSalt) {
		t.Errorf("get with salt: %+v", b)
	}
	if b := get(hashOf("nothing"), nil); b.any(hasValue|hasSeq) || !b.any(hasToken) || !b.any(hasNodes) {
		t.Errorf("get of nothing: %+v", b)
	}
}

// TestRawValue: a value goes out byte for byte as it came in.
func TestRawValue(t *testing.T) {
	n, d := direct(t, nil)
	token := d.token(t, n, stranger)
	for _, v := range []string{"d2:zzli1ee1:\xff1:ae", "le", "i-9223372036854775808e", "0:"} {
		if m := d.message(t, n, stranger, newQuery(t, "put", map[string]any{"token": token, "v": bencode.Raw(v)})); m.kind != 'r' {
			t.Errorf("%q: %+v", v, m)
			continue
		}
		sum := sha1.Sum([]byte(v))
		if got := d.must(t, n, stranger, newQuery(t, "get", map[string]any{"target": sum[:]})); string(got.body.value) != v {
			t.Errorf("%q came back as %q", v, got.body.value)
		}
	}
}

// TestReplyFactor holds what the package comment promises: how much longer than
// the query that provokes it a reply may be.
func TestReplyFactor(t *testing.T) {
	n, d := direct(t, func(c *Config) {
		c.Network = twoDesks{c.Network.(*desk), &desk{local: netip.MustParseAddrPort("[::1]:6881"), closed: make(chan struct{})}}
		c.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6881"), netip.MustParseAddrPort("[::1]:6881")}
	})
	for _, s := range n.sockets {
		fill(n, s, 300)
	}
	hash := key{1}
	big := Sign(seed, nil, 1<<62, StringValue(strings.Repeat("v", 996)))
	n.mu.Lock()
	for i := range 1000 {
		var other key
		randomize(other[:shortID], n.rnd)
		peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		n.announced(time.Now(), hash, peer, false, stranger)
		n.announced(time.Now(), other, peer, false, stranger)
	}
	n.keepItem(time.Now(), big.target(hashSHA1), &big, nil, stranger.Addr())
	n.mu.Unlock()
	h, target := string(hash[:shortID]), string(MutableTarget(big.Key, nil).Bytes())
	token := d.token(t, n, stranger)
	for _, c := range []struct {
		method string
		args   map[string]any
		factor float64
	}{
		{"ping", map[string]any{}, 1.3},
		{"find_node", map[string]any{"target": h}, 3.5},
		{"find_node", map[string]any{"target": h, "want": []any{"n4", "n6"}}, 6},
		{"get_peers", map[string]any{"info_hash": h}, 8},
		{"get_peers", map[string]any{"info_hash": h, "scrape": 1, "want": []any{"n4", "n6"}}, 9},
		{"get", map[string]any{"target": target}, 15.5},
		{"get", map[string]any{"target": target, "want": []any{"n4", "n6"}}, 15},
		{"sample_infohashes", map[string]any{"target": h}, 10},
		{"sample_infohashes", map[string]any{"target": h, "want": []any{"n4", "n6"}}, 9},
		{"announce_peer", map[string]any{"info_hash": h, "port": 1, "token": token}, 1},
		{"put", map[string]any{"token": token, "v": "x"}, 1},
		{"unknown", map[string]any{}, 1.3},
	} {
		limit, longLimit := maxReply, maxReply
		if c.method == "get" {
			limit, longLimit = maxValueReply, maxValueReply+maxTransaction
		}
		long := d.give(n, stranger, krpc(t, map[string]any{"a": withID(c.args), "q": c.method, "t": strings.Repeat("t", maxTransaction), "y": "q"}))
		if long == nil || len(long) > longLimit {
			t.Errorf("%s %v with a long transaction id: %d bytes", c.method, c.args, len(long))
		}
		query := krpc(t, map[string]any{"a": withID(c.args), "q": c.method, "t": "", "y": "q"})
		reply := d.give(n, stranger, query)
		factor := float64(len(reply)) / float64(len(query))
		t.Logf("%s: %d bytes for %d: %.1f", c.method, len(reply), len(query), factor)
		if reply == nil || factor > c.factor {
			t.Errorf("%s %v: %d bytes for %d: %.2f, more than %.1f", c.method, c.args, len(reply), len(query), factor, c.factor)
		}
		if len(reply) > limit {
			t.Errorf("%s: %d bytes", c.method, len(reply))
		}
	}
}

func withID(args map[string]any) map[string]any {
	args["id"] = strings.Repeat("A", 20)
	return args
}

func TestQueryRate(t *testing.T) {
	play(t, nil, func(s *stage) {
		a, b := s.actor(), s.actor()
		ping := newQuery(t, "ping", map[string]any{})
		answered := func(x *actor, count int) (n int) {
			for range count {
				x.send(ping)
			}
			for x.receive() != nil {
				n++
			}
			return n
		}
		if got := answered(a, 1000); got < 4*DefaultQueryRate || got > 5*DefaultQueryRate {
			t.Errorf("of 1000 queries at once %d were answered", got)
		}
		if got := answered(b, 10); got != 10 {
			t.Errorf("another source: %d of 10 were answered", got)
		}
		time.Sleep(10 * time.Second)
		if got := answered(a, 100); got != 100 {
			t.Errorf("later: %d of 100 were answered", got)
		}
		if st := s.node.Stats(); st.Dropped.Limited == 0 {
			t.Error("nothing was counted")
		}
	})
}

func TestReadOnlyNodeIsSilent(t *testing.T) {
	play(t, func(c *Config) { c.ReadOnly = true }, func(s *stage) {
		a := s.actor()
		if d := a.ask(newQuery(t, "ping", map[string]any{})); d != nil {
			t.Errorf("answered with %q", d)
		}
		go s.node.Ping(s.Context(), a.addr)
		var m message
		if err := m.parse(a.receive()); err != nil || !m.ro {
			t.Errorf("its query: %+v, %v", m, err)
		}
	})
}

func TestStoresAreBounded(t *testing.T) {
	n, _ := direct(t, func(c *Config) { c.MaxPeers, c.MaxItems = 100, 50 })
	now := time.Now()
	n.mu.Lock()
	for i := range 1000 {
		ip := netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 1})
		n.announced(now, hashOf(fmt.Sprint(i)).key, netip.AddrPortFrom(ip, 1), false, stranger)
		item := Item{Value: StringValue(fmt.Sprint(i))}
		n.keepItem(now, item.target(hashSHA1), &item, nil, ip)
	}
	n.mu.Unlock()
	if st := n.Stats(); st.Peers != 100 || st.Items != 50 || st.Evicted != 1850 {
		t.Errorf("%+v", st)
	}
}

// TestOneSourcePushesOutItself: who announces or puts without end loses its own.
func TestOneSourcePushesOutItself(t *testing.T) {
	n, _ := direct(t, func(c *Config) { c.MaxPeers, c.MaxItems = 100, 100 })
	now := time.Now()
	victim, flood := netip.MustParseAddr("20.0.0.1"), netip.MustParseAddr("30.0.0.1")
	item := Item{Value: StringValue("victim")}
	n.mu.Lock()
	n.announced(now, key{1}, netip.AddrPortFrom(victim, 1), false, stranger)
	n.keepItem(now, item.target(hashSHA1), &item, nil, victim)
	for i := range 1000 {
		n.announced(now, hashOf(fmt.Sprint(i)).key, netip.AddrPortFrom(flood, uint16(i+1)), false, stranger)
		x := Item{Value: StringValue(fmt.Sprint(i))}
		n.keepItem(now, x.target(hashSHA1), &x, nil, flood)
	}
	if n.peers[0].size(now, key{1}) != 1 || n.items.get(now, item.target(hashSHA1)) == nil {
		t.Error("one source pushed out another's")
	}
	n.mu.Unlock()
}

func TestAges(t *testing.T) {
	play(t, nil, func(s *stage) {
		n := s.node
		item := Item{Value: StringValue("x")}
		n.mu.Lock()
		n.announced(time.Now(), key{1}, netip.MustParseAddrPort("20.0.0.1:1"), false, stranger)
		n.keepItem(time.Now(), item.target(hashSHA1), &item, nil, stranger.Addr())
		n.mu.Unlock()
		for _, c := range []struct {
			after        time.Duration
			peers, items int
		}{{44 * time.Minute, 1, 1}, {3 * time.Minute, 0, 1}, {75 * time.Minute, 0, 0}} {
			time.Sleep(c.after)
			if st := n.Stats(); st.Peers != c.peers || st.Items != c.items {
				t.Errorf("%d peers, %d items; want %d, %d", st.Peers, st.Items, c.peers, c.items)
			}
		}
	})
}
