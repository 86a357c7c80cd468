package mainline

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/keep"
)

// keepMany has a node keep so many peers, each of a hash of its own, and items,
// of addresses that follow from their number.
func keepMany(n *Node, count int, from func(i int) netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for i := range count {
		ip := from(i)
		n.announced(now, hashOf(fmt.Sprint(ip, i)).key, netip.AddrPortFrom(ip, uint16(1+i%65535)), false, stranger)
		item := Item{Value: StringValue(fmt.Sprint(ip, i))}
		n.keepItem(now, item.target(hashSHA1), &item, nil, ip)
	}
}

// What one public source, or one public network, may have here is bounded.
// Another's is not touched.
func TestQuotas(t *testing.T) {
	v4 := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{30, 0, 0, byte(i)}) }
	v6 := func(sites, hosts int) func(i int) netip.Addr {
		return func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x12, 7: byte(i % sites), 15: byte(i / sites % hosts)})
		}
	}
	one := func(f func(int) netip.Addr) func(int) netip.Addr { return func(int) netip.Addr { return f(1) } }
	for _, c := range []struct {
		name   string
		change func(*Config)
		from   func(i int) netip.Addr
		want   int // 6,000 if there is no quota
	}{
		{"one address", nil, one(v4), DefaultPerSource},
		{"one /24", nil, v4, DefaultPerNetwork},
		{"one /64", nil, v6(1, 200), DefaultPerSource},
		{"one /56", nil, v6(200, 1), DefaultPerNetwork},
		{"set", func(c *Config) { c.PerSource, c.PerNetwork = 7, 9 }, one(v4), 7},
		{"set for networks", func(c *Config) { c.PerSource, c.PerNetwork = 7, 9 }, v4, 9},
		{"no limit", func(c *Config) { c.PerSource, c.PerNetwork = -1, -1 }, one(v4), 6000},
		{"loopback", nil, one(func(int) netip.Addr { return netip.MustParseAddr("127.0.0.1") }), 6000},
		{"private", nil, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }, 6000},
	} {
		n, _ := direct(t, c.change)
		honest := netip.MustParseAddr("20.0.0.1")
		keepMany(n, 5, func(int) netip.Addr { return honest })
		keepMany(n, 6000, c.from)
		if st := n.Stats(); st.Peers != c.want+5 || st.Items != c.want+5 {
			t.Errorf("%s: %d peers and %d items, want 5 and %d of each", c.name, st.Peers, st.Items, c.want)
		}
		n.mu.Lock()
		for i := range 5 {
			item := Item{Value: StringValue(fmt.Sprint(honest, i))}
			if n.peers[0].size(time.Now(), hashOf(fmt.Sprint(honest, i)).key) != 1 || n.items.get(time.Now(), item.target(hashSHA1)) == nil {
				t.Errorf("%s: what another source stored is gone", c.name)
			}
		}
		n.mu.Unlock()
	}
}

// The wall clock is set, or the machine sleeps: nothing goes that is refreshed in
// time, and what is not goes as otherwise.
func TestStepsOfTheClock(t *testing.T) {
	for name, wall := range map[string]time.Duration{
		"48 hours ahead": 48 * time.Hour, "five days back": -5 * 24 * time.Hour, "eight hours asleep": 8 * time.Hour,
	} {
		play(t, nil, func(s *stage) {
			n := s.node
			peer := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("20.0.0.1"), port) }
			n.mu.Lock()
			n.announced(time.Now(), key{1}, peer(1), false, stranger)
			n.announced(time.Now(), key{1}, peer(2), false, stranger)
			n.mu.Unlock()
			for i := range 5 {
				time.Sleep(30 * time.Minute)
				n.mu.Lock()
				n.clock.Step(wall, 0)
				wall = 0 // once
				if size := n.peers[0].size(n.clock.Now(time.Now()), key{1}); size != 2 && i == 0 || size != 1 && i > 0 {
					t.Errorf("%s: %d peers after %d minutes", name, size, 30*(i+1))
				}
				n.announced(time.Now(), key{1}, peer(1), false, stranger) // the other is left alone
				n.mu.Unlock()
			}
			time.Sleep(45*time.Minute + expireEvery)
			if st := n.Stats(); st.Peers != 0 {
				t.Errorf("%s: %d peers that nobody refreshed", name, st.Peers)
			}
		})
	}
}

// A node starts with its clock wrong: what it kept is there, with the ages that
// it had.
func TestStartWithAWrongClock(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"right": 0, "48 hours ahead": 48 * time.Hour, "five days behind": -5 * 24 * time.Hour} {
		play(t, func(c *Config) {
			stamp := time.Now().Add(-wrong)
			entries := map[string]keep.Change{}
			for port, age := range []time.Duration{time.Minute, 30 * time.Minute, 44 * time.Minute, 46 * time.Minute} {
				k := hashOf("topic").key
				c := keep.Change{Kind: kindPeer, Key: append(k[:shortID:shortID], 20, 0, 0, 1, 0, byte(1+port)), Value: []byte{0}, Stamp: stamp.Add(-age)}
				entries[string(c.Key)] = c
			}
			entries["now"] = keep.Change{Kind: kindPeer, Key: append(make([]byte, shortID), 20, 0, 0, 1, 0, 9), Value: []byte{0}, Stamp: stamp}
			c.Store = &memStore{entries: entries}
		}, func(s *stage) {
			n := s.node
			peers := func() int {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.peers[0].size(n.clock.Now(time.Now()), hashOf("topic").key)
			}
			want := 3
			if wrong > 0 {
				want = 2 // a quarter of the age counts
			}
			if got := peers(); got != want {
				t.Errorf("%s: %d peers, want %d", name, got, want)
			}
			time.Sleep(45 * time.Minute)
			if got := peers(); got != 0 {
				t.Errorf("%s: %d peers 45 minutes later", name, got)
			}
		})
	}
}
