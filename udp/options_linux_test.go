package udp

import (
	"context"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOptions(t *testing.T) {
	for _, m := range []Machine{{}, {Plain: true}} {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			c, err := m.Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			var s *socket
			switch c := c.(type) {
			case *fastConn:
				s = &c.socket
			case *plainConn:
				s = &c.socket
			}
			get := func(level, opt int) (v int) {
				s.control(func(fd int) (err error) { v, err = unix.GetsockoptInt(fd, level, opt); return err })
				return v
			}
			if addr == "::1" {
				if v := get(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER); v != unix.IPV6_PMTUDISC_PROBE {
					t.Errorf("%v: IPV6_MTU_DISCOVER = %d", m, v)
				}
				if v := get(unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS); v != 64 {
					t.Errorf("%v: IPV6_UNICAST_HOPS = %d", m, v)
				}
				if get(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) != 1 {
					t.Errorf("%v: the IPv6 socket takes IPv4", m)
				}
			} else {
				if v := get(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER); v != unix.IP_PMTUDISC_PROBE {
					t.Errorf("%v: IP_MTU_DISCOVER = %d", m, v)
				}
				if v := get(unix.IPPROTO_IP, unix.IP_TTL); v != 64 {
					t.Errorf("%v: IP_TTL = %d", m, v)
				}
			}
			if os.Geteuid() == 0 { // others may be held down by net.core.rmem_max
				for _, opt := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
					if v := get(unix.SOL_SOCKET, opt); v < 4<<20 {
						t.Errorf("%v: a socket buffer is %d bytes", m, v)
					}
				}
			}
		}
	}
}

// The hop limit of each datagram as it arrives.
func TestTTLOnTheWire(t *testing.T) {
	for _, m := range []Machine{{}, {NoOffload: true}, {Plain: true}} {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			c, err := m.Listen(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b := listenFast(t, Machine{NoOffload: true}, addr)
			to := b.local
			ttls := []uint8{0, 5, 5, 0, 255, 1, 0, 64}
			var batch []Datagram
			for _, ttl := range ttls {
				batch = append(batch, Datagram{Payload: []byte{ttl}, Peer: to, TTL: ttl})
			}
			b.control(func(fd int) error {
				unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
			})
			c.WriteBatch(batch)
			for _, d := range batch {
				c.WriteBatch([]Datagram{d})
			}
			for i := range 2 * len(ttls) {
				p, oob := make([]byte, 8), make([]byte, 64)
				n, k, _, _, err := b.c.ReadMsgUDPAddrPort(p, oob)
				if err != nil || n != 1 {
					t.Fatal(n, err)
				}
				msgs, err := unix.ParseSocketControlMessage(oob[:k])
				if err != nil || len(msgs) != 1 {
					t.Fatal(msgs, err)
				}
				want := ttls[i%len(ttls)]
				if want == 0 {
					want = 64
				}
				if got := msgs[0].Data[0]; got != want || p[0] != ttls[i%len(ttls)] {
					t.Errorf("%v %s: datagram %d (asked for %d) has TTL %d, want %d", m, addr, i, p[0], got, want)
				}
			}
		}
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(list)
	}
	use := func() {
		for _, m := range []Machine{{}, {NoOffload: true}, {Plain: true}} {
			c, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			if d, err := m.Listen(c.LocalAddr()); err == nil {
				d.Close()
				t.Error("a port was bound twice")
			}
			c.WriteBatch(segments(c.LocalAddr(), 10))
			done := make(chan struct{})
			go func() { Serve(c); close(done) }()
			c.Close()
			<-done
			ctx, cancel := context.WithCancel(t.Context())
			w := m.Watch(ctx)
			cancel()
			<-w
		}
	}
	use()
	before := count()
	for range 20 {
		use()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
