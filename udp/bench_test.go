package udp_test

import (
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/udp"
)

func pair(b *testing.B, m udp.Machine) (x, y udp.Conn) {
	b.Helper()
	var list [2]udp.Conn
	for i := range list {
		c, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		list[i] = c
	}
	return list[0], list[1]
}

// mirror sends everything back.
type mirror struct{}

func (mirror) HandleBatch(c udp.Conn, in []udp.Datagram) []udp.Datagram {
	c.WriteBatch(in)
	return nil
}

// BenchmarkEcho is a small datagram there and back, one at a time and 32 at once.
func BenchmarkEcho(b *testing.B) {
	for _, m := range machines {
		for _, inFlight := range []int{1, 32} {
			b.Run(m.name+map[int]string{1: "/one", 32: "/32"}[inFlight], func(b *testing.B) {
				x, y := pair(b, m.Machine)
				go udp.Serve(y, mirror{})
				d := []udp.Datagram{{Payload: make([]byte, 42), Peer: y.LocalAddr()}}
				in := make([]udp.Datagram, udp.BatchSize)
				b.ReportAllocs()
				sent := 0
				for got := 0; got < b.N; {
					for sent < b.N && sent-got < inFlight {
						x.WriteBatch(d)
						sent++
					}
					n, err := x.ReadBatch(in)
					if err != nil {
						b.Fatal(err)
					}
					got += n
				}
			})
		}
	}
}

// BenchmarkBulk sends 44 datagrams of 1472 bytes at a time one way; an
// acknowledgement for each such burst bounds what is under way to 16 of them.
func BenchmarkBulk(b *testing.B) {
	const burst, size, window = 44, 1472, 16
	for _, m := range machines {
		b.Run(m.name, func(b *testing.B) {
			x, y := pair(b, m.Machine)
			go udp.Serve(y, &acker{every: burst})
			out := make([]udp.Datagram, burst)
			for i := range out {
				out[i] = udp.Datagram{Payload: make([]byte, size), Peer: y.LocalAddr()}
			}
			in := make([]udp.Datagram, udp.BatchSize)
			b.SetBytes(burst * size)
			b.ReportAllocs()
			sent := 0
			for got := 0; got < b.N; {
				for sent < b.N && sent-got < window {
					x.WriteBatch(out)
					sent++
				}
				n, err := x.ReadBatch(in)
				if err != nil {
					b.Fatal(err)
				}
				got += n
			}
		})
	}
}

type acker struct{ every, got int }

func (a *acker) HandleBatch(c udp.Conn, in []udp.Datagram) []udp.Datagram {
	for i := range in {
		if a.got++; a.got%a.every == 0 {
			c.WriteBatch([]udp.Datagram{{Payload: in[i].Payload[:1], Peer: in[i].Peer}})
		}
	}
	return nil
}
