package udp

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func listenFast(t testing.TB, m Machine, addr string) *fastConn {
	t.Helper()
	c, err := m.Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	f, ok := c.(*fastConn)
	if !ok {
		t.Fatalf("Listen gave a %T", c)
	}
	return f
}

func segments(to netip.AddrPort, sizes ...int) []Datagram {
	var out []Datagram
	for i, n := range sizes {
		out = append(out, Datagram{Payload: bytes.Repeat([]byte{byte(i + 1)}, n), Peer: to})
	}
	return out
}

func TestTrain(t *testing.T) {
	p, q := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.1:2")
	many := slices.Repeat([]int{1000}, 100)
	for _, c := range []struct {
		name string
		list []Datagram
		want int
	}{
		{"one", segments(p, 100), 1},
		{"equal", segments(p, 100, 100, 100), 3},
		{"shorter last", segments(p, 100, 100, 50, 50), 3},
		{"longer", segments(p, 100, 100, 101), 2},
		{"empty first", segments(p, 0, 0), 1},
		{"empty later", segments(p, 100, 0), 1},
		{"other peer", append(segments(p, 100, 100), segments(q, 100)...), 2},
		{"other TTL", append(segments(p, 100), Datagram{Payload: make([]byte, 100), Peer: p, TTL: 3}), 1},
		{"all bytes", segments(p, many...), 65},
	} {
		if got := train(c.list); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// A train must travel as one message from end to end, or there is no gain.
func TestTrainsTravelWhole(t *testing.T) {
	a, b := listenFast(t, Machine{}, "127.0.0.1"), listenFast(t, Machine{}, "127.0.0.1")
	if !a.gso.Load() || b.rd.pool != &largeBuffers {
		t.Skip("this kernel has no UDP_SEGMENT or UDP_GRO")
	}
	a.WriteBatch(segments(b.local, slices.Repeat([]int{1200}, 44)...))
	batch := make([]Datagram, BatchSize)
	n, err := b.ReadBatch(batch)
	if n != 44 || err != nil || b.rd.n != 1 {
		t.Errorf("ReadBatch = %d, %v from %d messages, want 44 from 1", n, err, b.rd.n)
	}
}

func TestNoOffload(t *testing.T) {
	check := func(t *testing.T, m Machine) {
		c := listenFast(t, m, "127.0.0.1")
		gro := 0
		c.control(func(fd int) error {
			gro, _ = unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO)
			return nil
		})
		if c.gso.Load() || gro != 0 || c.rd.pool != &smallBuffers {
			t.Error("offload is on")
		}
	}
	t.Run("field", func(t *testing.T) { check(t, Machine{NoOffload: true}) })
	t.Run("environment", func(t *testing.T) {
		t.Setenv("WARREN_NO_OFFLOAD", "1")
		check(t, Machine{})
	})
}

// What EIO and other refusals of a train lead to, which no loopback device
// brings about.
func TestTrainRefused(t *testing.T) {
	a, b := listenFast(t, Machine{}, "127.0.0.1"), listenFast(t, Machine{}, "127.0.0.1")
	if !a.gso.Load() {
		t.Skip("this kernel has no UDP_SEGMENT")
	}
	// The kernel refuses to cut what it may not give a checksum (EINVAL).
	a.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	batch := make([]Datagram, BatchSize)
	for range 2 {
		a.WriteBatch(segments(b.local, 100, 100, 100, 7))
		for got := 0; got < 4; {
			n, err := b.ReadBatch(batch)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		if len(batch[0].Payload) == 0 {
			t.Error("empty")
		}
	}
	w := writers.Get().(*writer)
	w.c, w.todo = a, segments(b.local, 100, 100, 100, 7)
	w.plan()
	if w.n != 1 || w.count[0] != 4 {
		t.Fatalf("planned %d messages, the first of %d", w.n, w.count[0])
	}
	a.control(func(fd int) error {
		if !w.refused(uintptr(fd), unix.EIO) || len(w.todo) != 0 {
			t.Errorf("%d datagrams are left", len(w.todo))
		}
		return nil
	})
	if a.gso.Load() {
		t.Error("EIO left offload on")
	}
	w.todo = segments(b.local, 100, 100)
	if w.plan(); w.n != 2 {
		t.Errorf("planned %d messages without offload, want 2", w.n)
	}
	w.c, w.todo = nil, nil
}

// A socket that waits holds no buffer.
func TestWaitingHoldsNothing(t *testing.T) {
	for _, m := range []Machine{{}, {NoOffload: true}} {
		a, b := listenFast(t, m, "127.0.0.1"), listenFast(t, m, "127.0.0.1")
		a.WriteBatch(segments(b.local, 100))
		batch := make([]Datagram, BatchSize)
		if _, err := b.ReadBatch(batch); err != nil || b.rd.buf == nil {
			t.Fatalf("ReadBatch: %v, buffer %p", err, b.rd.buf)
		}
		b.control(func(fd int) error {
			if b.receive(uintptr(fd)) || b.rd.buf != nil {
				t.Errorf("there is nothing to read and the buffer is %p", b.rd.buf)
			}
			return nil
		})
	}
}

func TestNoAllocations(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		for _, m := range []Machine{{}, {NoOffload: true}} {
			a, b := listenFast(t, m, addr), listenFast(t, m, addr)
			for _, sizes := range [][]int{{50}, slices.Repeat([]int{1200}, 40), {50, 60, 70, 80}} {
				out, in := segments(b.local, sizes...), make([]Datagram, BatchSize)
				allocs := testing.AllocsPerRun(100, func() {
					a.WriteBatch(out)
					for got := 0; got < len(out); {
						n, err := b.ReadBatch(in)
						if err != nil {
							t.Fatal(err)
						}
						got += n
					}
				})
				if allocs > 0.5 && !raceEnabled { // a collection may empty the pools
					t.Errorf("%s %+v: %v allocations for %d datagrams", addr, m, allocs, len(out))
				}
			}
		}
	}
}
