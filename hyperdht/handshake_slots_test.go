package hyperdht

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// slotsTest hands out slots at a time of its own.
type slotsTest struct {
	handshakeSlots
	*testing.T
	now time.Time
}

func newSlotsTest(t *testing.T, max, perSource int) *slotsTest {
	s := &slotsTest{T: t, now: time.Unix(1000, 0)}
	s.init(max, perSource)
	return s
}

// relay and client are addresses in a network of their own each.
func relay(i int) netip.Addr  { return netip.AddrFrom4([4]byte{8, byte(i >> 8), byte(i), 1}) }
func client(i int) netip.Addr { return netip.AddrFrom4([4]byte{9, byte(i >> 8), byte(i), 1}) }

// take asks for a slot, a little later than the one before; the work of one that
// is displaced ends at once.
func (s *slotsTest) take(o slotOwner) (h, displaced *serverHandshake, ok bool) {
	s.now = s.now.Add(time.Millisecond)
	h = new(serverHandshake)
	displaced, ok = s.handshakeSlots.take(s.now, h, o)
	if displaced != nil {
		s.free(displaced)
	}
	return h, displaced, ok
}

func through(r, c int) slotOwner { return ownerOf(relay(r), client(c), true) }
func directly(c int) slotOwner   { return ownerOf(client(c), client(c), false) }

// Nobody shuts out others: no client those that come through the same relay, no
// network of clients, and no relay.
func TestHandshakeSlotsAreShared(t *testing.T) {
	s := newSlotsTest(t, 16, 4)
	oldest, _, _ := s.take(through(1, 100))
	for range 3 {
		s.take(through(1, 100))
	}
	if _, _, ok := s.take(through(1, 100)); ok {
		t.Error("a client has more than a relay's slots")
	}
	neighbour := ownerOf(relay(1), client(100).Next(), true)
	if _, _, ok := s.take(neighbour); ok {
		t.Error("a network has more than a relay's slots")
	}
	if _, d, ok := s.take(through(1, 101)); !ok || d != oldest {
		t.Error("a client shuts out another that comes through the same relay")
	}
	for r := 2; r < 5; r++ {
		for range 4 {
			s.take(through(r, 102))
		}
	}
	if _, d, ok := s.take(through(5, 103)); !ok || d == nil || s.len() != 16 {
		t.Error("four sources shut out a fifth")
	}
	if _, d, ok := s.take(directly(104)); !ok || d == nil || s.len() != 16 {
		t.Error("relays shut out those who come directly")
	}
}

// A newcomer takes the oldest slot of those that hold as much, unless that is too
// young or its client has taken its next step.
func TestNewcomerDisplacesTheOldest(t *testing.T) {
	for name, owner := range map[string]func(c int) slotOwner{
		"through a relay": func(c int) slotOwner { return through(1, c) },
		"directly":        directly,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlotsTest(t, 4, 4)
			var all []*serverHandshake
			for c := range 4 {
				h, _, _ := s.take(owner(c))
				all = append(all, h)
			}
			if _, _, ok := s.take(owner(4)); ok {
				t.Error("a slot was taken from one that had no time for a step")
			}
			s.now = s.now.Add(2 * handshakeGrace)
			s.stepped(all[0])
			s.answered(s.now, all[1])
			if _, d, ok := s.take(owner(5)); !ok || d != all[2] {
				t.Error("not the oldest without a step had to give way")
			}
			if _, d, ok := s.take(owner(6)); !ok || d != all[3] {
				t.Error("not the next one had to give way")
			}
			if _, _, ok := s.take(owner(7)); ok {
				t.Error("one that was answered just now had to give way")
			}
			s.now = s.now.Add(2 * handshakeGrace)
			if _, d, ok := s.take(owner(8)); !ok || d != all[1] {
				t.Error("one that was answered, and no more, keeps its slot")
			}
			for c := 9; c < 100; c++ {
				s.now = s.now.Add(2 * handshakeGrace)
				if _, d, _ := s.take(owner(c)); d == all[0] {
					t.Fatal("one with a step had to give way to one without")
				}
			}
		})
	}
}

// Steps do not make greed right: of a client that holds more than others the slot
// goes, too.
func TestStepsDoNotShutOut(t *testing.T) {
	s := newSlotsTest(t, 8, 4)
	for range 4 {
		h, _, _ := s.take(through(1, 1))
		s.stepped(h)
	}
	for c := 2; c < 4; c++ {
		if _, d, ok := s.take(through(1, c)); !ok || d == nil {
			t.Errorf("client %d finds no slot", c)
		}
	}
}

// Forged addresses that come directly have one half of the slots at most, when
// those who come through relays want the other, and the other way round.
func TestSlotsHaveTwoHalves(t *testing.T) {
	s := newSlotsTest(t, 64, 64)
	for c := range 1000 {
		s.take(directly(c))
	}
	if s.direct != 64 {
		t.Errorf("%d of 64 free slots are used", s.direct)
	}
	for c := range 32 {
		if _, _, ok := s.take(through(c%3, c)); !ok {
			t.Fatalf("a flood of direct ones shuts out number %d through a relay", c)
		}
	}
	for c := range 1000 {
		s.take(directly(1000 + c))
		if len(s.used) != 64 || s.direct != 32 {
			t.Fatalf("%d of %d slots are of direct ones", s.direct, len(s.used))
		}
	}
}

// Displaced handshakes count as long as they work, and nothing lets their number
// grow.
func TestDisplacedHandshakesCount(t *testing.T) {
	s := newSlotsTest(t, 8, 8)
	var leaving []*serverHandshake
	for c := range 1000 {
		s.now = s.now.Add(2 * handshakeGrace)
		if d, _ := s.handshakeSlots.take(s.now, new(serverHandshake), through(1, c)); d != nil {
			leaving = append(leaving, d)
		}
	}
	if s.len() != 10 || len(leaving) != 2 {
		t.Fatalf("%d handshakes are at work, %d of them displaced", s.len(), len(leaving))
	}
	for _, h := range leaving {
		s.free(h)
	}
	if _, ok := s.handshakeSlots.take(s.now, new(serverHandshake), through(1, 2000)); !ok || s.len() != 9 {
		t.Errorf("%d handshakes are at work", s.len())
	}
}

// Whatever happens, the counts are right and the bounds hold.
func TestHandshakeSlotsAddUp(t *testing.T) {
	luck := rand.New(rand.NewPCG(1, 2))
	s := newSlotsTest(t, 32, 12)
	var all []*serverHandshake
	for range 20_000 {
		switch i := luck.IntN(10); {
		case i < 6:
			o := through(luck.IntN(5), luck.IntN(50))
			if luck.IntN(2) == 0 {
				o = directly(luck.IntN(50))
			}
			h := new(serverHandshake)
			if _, ok := s.handshakeSlots.take(s.now, h, o); ok {
				all = append(all, h)
			}
		case len(all) == 0:
		case i < 8:
			at := luck.IntN(len(all))
			s.free(all[at])
			all[at] = all[len(all)-1]
			all = all[:len(all)-1]
		case i < 9:
			s.stepped(all[luck.IntN(len(all))])
		default:
			s.answered(s.now, all[luck.IntN(len(all))])
		}
		s.now = s.now.Add(time.Duration(luck.IntN(20)) * time.Millisecond)
		sources, clients, direct := 0, 0, 0
		for _, held := range s.bySource {
			sources += held.n
			if held.n > 12 {
				t.Fatalf("a source has %d", held.n)
			}
		}
		for _, held := range s.byClient {
			clients += held.n
		}
		for _, sl := range s.used {
			if sl.owner.direct {
				direct++
			}
		}
		if n := len(s.used); n > 32 || len(s.all) != n || len(s.leaving) > 8 || sources != n || clients != n || direct != s.direct {
			t.Fatalf("%d used, %d leaving, %d by source, %d by client, %d and %d direct", n, len(s.leaving), sources, clients, direct, s.direct)
		}
	}
	for _, h := range all {
		s.free(h)
	}
	if s.len() != 0 || len(s.bySource) != 0 || len(s.byClient) != 0 || s.direct != 0 {
		t.Errorf("%d are left", s.len())
	}
}

func BenchmarkHandshakeSlotsRefuse(b *testing.B) {
	var s handshakeSlots
	s.init(DefaultMaxHandshakes, DefaultMaxSourceHandshakes)
	now := time.Unix(1000, 0)
	for c := range DefaultMaxHandshakes {
		s.take(now, new(serverHandshake), directly(c))
	}
	h := new(serverHandshake)
	for i := 0; b.Loop(); i++ {
		s.take(now, h, directly(1000+i%10000))
	}
}
