package hyperdht

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/keep"
)

// step has a node's wall clock set, or its machine sleep: the monotonic clock
// does not see it.
func (n *Node) step(wall time.Duration) {
	n.rpc.Do(func() {
		n.records.storage.clock.Step(wall, 0)
		n.records.storage.expireAt(n.records.storage.clock.Step(0, 0))
	})
}

// The wall clocks of all storing nodes are set, or all of them sleep: what is
// announced and put in time is found all the while, and what is left alone
// expires as it does otherwise.
func TestStepsOfTheClock(t0 *testing.T) {
	for name, wall := range map[string]time.Duration{
		"48 hours ahead": 48 * time.Hour, "five days back": -5 * 24 * time.Hour, "eight hours asleep": 8 * time.Hour,
	} {
		t0.Run(name, func(t *testing.T) {
			inNet(t, 10, func(tn *recordsNet) {
				ctx, client := tn.Context(), tn.nodes[3]
				key := testKey(1)
				self := TargetOf(keyOf(key))
				refresh := func() {
					_, err := client.Announce(ctx, topic, key, AnnounceOptions{})
					tn.must("announce", err)
					_, err = client.Announce(ctx, self, key, AnnounceOptions{})
					tn.must("announce", err)
				}
				_, err := client.ImmutablePut(ctx, []byte("value"), PutOptions{})
				tn.must("put", err)
				_, err = client.Announce(ctx, Hash([]byte("left alone")), testKey(2), AnnounceOptions{})
				tn.must("announce", err)
				refresh()
				for range 9 {
					time.Sleep(announceEvery - time.Second)
					for _, n := range tn.nodes {
						n.step(wall)
					}
					wall = 0 // once
					if n := tn.count(client, topic); n != 1 {
						tn.Errorf("%d peers are found after the step", n)
					}
					if n := tn.count(client, self); n != 1 {
						tn.Errorf("%d routes are found after the step", n)
					}
					if _, err := client.ImmutableGet(ctx, Hash([]byte("value"))); err != nil {
						tn.Errorf("the record after the step: %v", err)
					}
					time.Sleep(time.Second)
					refresh()
				}
				if n := tn.count(client, Hash([]byte("left alone"))); n != 0 {
					tn.Error("an announcement of 45 minutes ago is still found")
				}
				time.Sleep(DefaultRecordAge)
				if _, err := client.ImmutableGet(ctx, Hash([]byte("value"))); err == nil {
					tn.Error("a record that was last asked for two days ago is still found")
				}
			})
		})
	}
}

// count is how many peers a look-up finds.
func (tn *recordsNet) count(n *Node, target Target) int {
	tn.Helper()
	found := map[PublicKey]bool{}
	for r, err := range n.Lookup(tn.Context(), target) {
		tn.must("lookup", err)
		found[r.PublicKey] = true
	}
	return len(found)
}

// A node starts with its clock wrong: what it stored is there, with the ages
// that it had, and new entries are no older or younger than others.
func TestStartWithAWrongClock(t0 *testing.T) {
	for name, wall := range map[string]time.Duration{
		"right": time.Minute, "48 hours ahead": 48 * time.Hour, "five days behind": -5 * 24 * time.Hour,
	} {
		f := &fakeStore{}
		add := func(i byte, stamp time.Time) {
			value := []byte{i}
			target := hash(value)
			f.Commit([]keep.Change{{Kind: kindImmutable, Key: target[:], Value: append([]byte{8, 8, 8, 8}, value...), Stamp: stamp}})
			f.Commit([]keep.Change{{Kind: kindPeer, Key: append(topic[:len(topic):len(topic)], target[:]...), Value: []byte{8, 8, 8, 8}, Stamp: stamp}})
		}
		add(1, testNow.Add(-47*time.Hour))
		add(2, testNow.Add(-14*time.Minute))
		add(3, testNow)
		s := newStorage(StoreLimits{}, nil, rand.New(rand.NewPCG(1, 2)))
		if _, err := s.load(testNow.Add(wall), f); err != nil {
			t0.Fatal(err)
		}
		t := &storageTest{T: t0, s: s, now: testNow.Add(wall), from: netip.MustParseAddrPort("8.8.4.4:1")}
		peers := func() string {
			out := ""
			for i := byte(1); i < 5; i++ {
				if _, _, ok := s.peers.Get(s.clock.Now(t.now), topic, PublicKey(hash([]byte{i}))); ok {
					out += fmt.Sprint(i)
				}
			}
			return out
		}
		if n := s.immutables.Len(); n != 3 || peers() != "23" {
			t.Errorf("%s: %d of 3 records, and peers %s", name, n, peers())
		}
		s.admit(s.clock.Now(t.now), refreshEntry{topic: topic, key: hash([]byte{4})}, t.from)
		t.now = t.now.Add(6 * time.Minute)
		if peers() != "34" {
			t.Errorf("%s: six minutes later peers %s", name, peers())
		}
		t.now = t.now.Add(14*time.Minute - 1)
		want := "4"
		if name == "five days behind" {
			want = "34" // the pause is not known
		}
		if peers() != want {
			t.Errorf("%s: 20 minutes later peers %s, want %s", name, peers(), want)
		}
		t.now = t.now.Add(time.Second)
		if peers() != "" {
			t.Errorf("%s: a second later peers %s", name, peers())
		}
		t.ask(cmdImmutablePut, Hash([]byte("x")), []byte("x"))
		t.now = t.now.Add(DefaultRecordAge)
		if s.expire(t.now); s.immutables.Len() != 0 {
			t.Errorf("%s: %d records are there after two days more", name, s.immutables.Len())
		}
	}
}

// A bump is a date. It is judged by the wall clock, wherever store time is.
func TestBumpsAreDates(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	t.ask(cmdLookup, topic, nil)
	t.s.clock.Step(-5*24*time.Hour, 0)
	t.s.clock.Start(t.now, t.now.Add(-30*24*time.Hour)) // after a month's pause
	ms := uint64(t.now.UnixMilli())
	t.want("announce", t.ask(cmdAnnounce, topic, t.announcementBy(testKey(1), topic, announcement{bump: ms})), verdictBare, nil)
	if _, bump := t.peers(topic); bump != ms {
		t.Errorf("the bump is %d, want %d", bump, ms)
	}
}
