package dhtrpc

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// ticks lets so many ticks pass.
func (tc *testCore) ticks(n int) {
	for range n {
		tc.c.now = tc.c.nextAt
		tc.c.advance()
	}
}

// pinged counts and answers the pings sent since the last call.
func (tc *testCore) pinged(answer bool) (n int) {
	for _, d := range tc.out() {
		m, err := parseRequest(d.Payload)
		if err != nil || !m.internal || m.command != cmdPing {
			tc.t.Fatalf("sent %x, want pings only", d.Payload)
		}
		n++
		if answer {
			tc.in(d.Peer.String(), pong(d.Peer.String(), m.tid, true))
		}
	}
	return n
}

// Every 40 seconds the nodes that were heard from longest ago are checked, the
// fewer the more is under way or the more recent they are
// (docs/spec/dht-rpc.md §6.6); in between two in five seconds, four by a persistent
// node, if little is under way.
func TestPingRounds(t *testing.T) {
	for _, tc := range []struct {
		name       string
		ago        int32
		inflight   int
		persistent bool
		want       int
		least      int // in the seven ticks between
		most       int
	}{
		{"idle", 100, 0, false, 5, 9, 14},
		{"persistent", 100, 0, true, 5, 20, 28},
		{"busy", 100, 3, false, 3, 0, 0},
		{"recent", 5, 0, false, 2, 9, 14},
	} {
		c := newTestCore(t, Config{})
		c.c.ephemeral = !tc.persistent
		c.c.bootstrapped, c.c.refresh = true, 1000
		c.c.tick = 8*20 - 1
		for i := range 30 {
			c.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), tc.ago)
		}
		for range tc.inflight {
			c.ask(peer, request{command: 7}, outgoing{timeout: time.Hour}, 0, nil)
		}
		c.out()
		c.ticks(1)
		if n := c.pinged(true); n != tc.want {
			t.Errorf("%s: %d pings, want %d", tc.name, n, tc.want)
		}
		between := 0
		for range 7 {
			c.ticks(1)
			between += c.pinged(true)
		}
		if between < tc.least || between > tc.most {
			t.Errorf("%s: %d pings between the rounds, want %d to %d", tc.name, between, tc.least, tc.most)
		}
		if c.c.table.Len() != 30 {
			t.Errorf("%s: %d nodes left", tc.name, c.c.table.Len())
		}
	}
}

// Dead nodes leave the table within a few rounds.
func TestPingRoundsRemoveTheDead(t *testing.T) {
	tc := newTestCore(t, Config{})
	tc.c.bootstrapped = true
	for i := range 10 {
		tc.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), 100)
	}
	for range 10 * 8 {
		tc.ticks(1)
		tc.pinged(false)
	}
	if n := tc.c.table.Len(); n != 0 {
		t.Errorf("%d dead nodes left", n)
	}
}

// wanted counts and forgets the procedures that the core wants run.
func (tc *testCore) wanted(want task) (n int) {
	for _, x := range tc.c.wanted {
		if x == want {
			n++
		}
	}
	tc.c.wanted = nil
	return n
}

func TestRefreshes(t *testing.T) {
	tc := newTestCore(t, Config{})
	tc.ticks(200)
	if n := tc.wanted(taskRefresh); n != 0 {
		t.Errorf("%d refreshes before bootstrapping has ended", n)
	}

	// Five minutes after the last query; the first one somewhere in the second
	// half of that, so that a fleet does not refresh at once.
	tc = newTestCore(t, Config{})
	if f := tc.c.refresh; f <= refreshTicks/2 || f > refreshTicks {
		t.Errorf("first refresh after %d ticks", f)
	}
	tc.c.bootstrapped = true
	for i := range 40 {
		tc.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), 0)
	}
	tc.c.refresh = refreshTicks // as a query leaves it
	tc.ticks(refreshTicks - 1)
	if n := tc.wanted(taskRefresh); n != 0 {
		t.Errorf("%d refreshes too early", n)
	}
	tc.ticks(1)
	if n := tc.wanted(taskRefresh); n != 1 {
		t.Errorf("%d refreshes after five minutes, want 1", n)
	}
	if target := tc.c.refreshTarget(); tc.c.table.Get(target) == nil {
		t.Error("the refresh does not look for a node of the table")
	}

	// A small table is refreshed every 64 ticks, an empty one at every round.
	tc = newTestCore(t, Config{})
	tc.c.bootstrapped = true
	tc.c.tick = 8*60 + 1
	tc.addKnown(peer, 0)
	tc.c.refresh = 1000
	for range 64 {
		tc.ticks(1)
		tc.pinged(true)
	}
	if n := tc.wanted(taskRefresh); n != 1 {
		t.Errorf("%d refreshes of a small table in 64 ticks, want 1", n)
	}
	tc.c.table.Remove(IDOf(netip.MustParseAddrPort(peer)))
	tc.ticks(8)
	if n := tc.wanted(taskRefresh); n != 1 {
		t.Errorf("%d refreshes of an empty table in a round, want 1", n)
	}
	if tc.c.refreshTarget() != tc.c.table.Own() {
		t.Error("an empty table does not look for its own place")
	}
}

// A node that may become persistent tries to after 240 ticks, and again after
// 720 if its public host has changed. docs/spec/dht-rpc.md §6.6, §6.9.
func TestWhenPersistenceIsTried(t *testing.T) {
	for _, mode := range []EphemeralMode{Auto, Never, Always} {
		tc := newTestCore(t, Config{Ephemeral: mode})
		tc.c.bootstrapped = true
		tc.c.nat.Add(netip.MustParseAddrPort("127.0.0.1:5"))
		tc.ticks(stableTicks - 1)
		if tc.wanted(taskNetworkState) != 0 {
			t.Errorf("mode %d: tried too early", mode)
		}
		tc.ticks(1)
		if n := tc.wanted(taskNetworkState); n != 1 && mode != Always || n != 0 && mode == Always {
			t.Errorf("mode %d: tried %d times after 240 ticks", mode, n)
		}
		if mode == Always {
			continue
		}
		// The procedure notes the host it was tried for.
		tc.c.stable, tc.c.lastIP = moreStableTicks, netip.MustParseAddr("127.0.0.1")
		tc.ticks(moreStableTicks)
		if tc.wanted(taskNetworkState) != 0 {
			t.Error("tried again for the same host")
		}
		tc.c.lastIP = netip.MustParseAddr("127.0.0.2")
		tc.ticks(moreStableTicks)
		if tc.wanted(taskNetworkState) != 1 {
			t.Error("not tried again for another host")
		}
	}
}

// A gap of more than 15 s of wall clock between two ticks means that the
// machine slept. docs/spec/dht-rpc.md §6.6.
func TestSleep(t *testing.T) {
	for _, mode := range []EphemeralMode{Auto, Never} {
		tc := newTestCore(t, Config{Ephemeral: mode, Firewalled: new(bool)})
		tc.c.bootstrapped, tc.c.ephemeral = true, false
		tc.c.health = health{degraded: true, down: true}
		for i := range 30 {
			tc.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), 0)
		}
		tc.ticks(3)
		if tc.took(EventWakeup) != 0 {
			t.Fatal("woke up without having slept")
		}
		tc.out()
		tc.c.wanted = nil
		before := tc.c.tick
		tc.c.now = tc.c.now.Add(15*time.Second + time.Millisecond)
		tc.c.advance()
		events := tc.c.events
		tc.c.events = nil
		has := func(k EventKind) bool {
			return slices.ContainsFunc(events, func(e Event) bool { return e.Kind == k })
		}
		if !has(EventWakeup) {
			t.Fatalf("mode %d: no wake-up in %v", mode, events)
		}
		if has(EventEphemeral) != (mode == Auto) || tc.c.ephemeral != (mode == Auto) {
			t.Errorf("mode %d: ephemeral %v after the wake-up", mode, tc.c.ephemeral)
		}
		if tc.c.firewalled {
			t.Error("firewalled after the wake-up")
		}
		if tc.c.tick < before+moreStableTicks || tc.c.tick%pingTicks != 6 {
			t.Errorf("tick %d after %d", tc.c.tick, before)
		}
		if tc.c.health.down || tc.c.health.degraded || tc.c.stable > moreStableTicks || tc.c.stable < moreStableTicks-1 {
			t.Errorf("health %+v, stable %d", tc.c.health, tc.c.stable)
		}
		if tc.wanted(taskRefresh) != 1 {
			t.Error("no refresh after the wake-up")
		}
		tc.ticks(2)
		if n := tc.pinged(true); n == 0 {
			t.Error("no ping round two ticks after the wake-up")
		}
	}
}

// Losing the network and finding it again is told.
func TestHealthEvents(t *testing.T) {
	tc := newTestCore(t, Config{})
	tc.c.bootstrapped = true
	step := func(responses, timeouts int) {
		tc.c.stats.Requests.Responses += responses
		tc.c.stats.Requests.Timeouts += timeouts
		tc.ticks(1)
	}
	for range 4 {
		step(10, 0)
	}
	tc.took(0)
	step(0, 10)
	step(0, 10)
	if !tc.c.health.down || tc.took(EventNetworkUpdate) != 1 {
		t.Error("being offline is not told")
	}
	step(10, 0)
	if tc.c.health.down || tc.took(EventNetworkUpdate) != 1 {
		t.Error("being online again is not told")
	}
	for range 4 {
		step(2, 10)
	}
	if !tc.c.health.degraded || tc.took(EventNetworkUpdate) != 1 {
		t.Error("being degraded is not told")
	}
	tc.c.wakeup()
	if tc.c.health.degraded || tc.took(EventNetworkUpdate) != 1 {
		t.Error("that a wake-up forgets it is not told")
	}
	tc.c.wakeup()
	if tc.took(EventNetworkUpdate) != 0 {
		t.Error("a wake-up that changes nothing is told")
	}
}

// A delayed ping is answered after its delay. docs/spec/dht-rpc.md §4.
func TestDelayedPings(t *testing.T) {
	tc := newTestCore(t, Config{MaxPingDelay: time.Second, Limits: Limits{DelayedPings: 4, DelayedPingsPerHost: 2}})
	ask := func(from string, tid uint16, ms byte) {
		m := request{tid: tid, to: netip.MustParseAddrPort("127.0.0.1:41001"), internal: true, command: cmdDelayedPing, value: []byte{ms, 0, 0, 0}}
		if ms == 255 {
			m.value[1] = 255
		}
		tc.in(from, m.append(nil))
	}
	tids := func() (list []uint16) {
		for _, d := range tc.out() {
			m, err := parseReply(d.Payload)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, m.tid)
		}
		return list
	}
	ask(peer, 1, 200)
	ask(peer, 2, 100)
	ask(peer, 3, 255) // too long
	ask(peer, 4, 100)
	tc.advance(99 * time.Millisecond)
	tc.idle("before the first delay is over")
	tc.advance(time.Millisecond)
	if got := tids(); !slices.Equal(got, []uint16{2, 4}) {
		t.Errorf("answered %v after 100 ms, want 2 and 4", got)
	}
	tc.advance(time.Second)
	if got := tids(); !slices.Equal(got, []uint16{1}) {
		t.Errorf("answered %v later, want 1", got)
	}

	// Public addresses get two each, all together four.
	for i := range 3 {
		for j := range 3 {
			ask(fmt.Sprintf("93.184.%d.1:5000", i), uint16(10*i+j), 50)
		}
	}
	tc.advance(time.Second)
	if got := tids(); !slices.Equal(got, []uint16{0, 1, 10, 11}) {
		t.Errorf("answered %v, want two of each of two hosts", got)
	}
	if tc.c.stats.Refused.Limits != 5 || len(tc.c.delayed.host) != 0 {
		t.Errorf("%d refused, %d hosts remembered", tc.c.stats.Refused.Limits, len(tc.c.delayed.host))
	}
}
