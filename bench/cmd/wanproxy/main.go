// Command wanproxy is a UDP link with a rate, a delay, a drop-tail queue and random
// loss, in user space (no root, nothing global touched), for W10. One client,
// one server; each direction has its own link.
//
//	wanproxy -to 127.0.0.1:5000 -mbit 50 -rtt 40ms -loss 0.01 -queue 250000
package main

import (
	"flag"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/bench/internal/measure"
)

// A pkt waits for its time of arrival.
type pkt struct {
	b  []byte
	at time.Time
}

// A link is one direction.
type link struct {
	bps   float64
	delay time.Duration
	queue float64
	loss  float64
	free  time.Time // when the serialiser is free
	ch    chan pkt
	rng   *rand.Rand
	drops atomic.Int64
	lost  atomic.Int64
	n     atomic.Int64
}

// put takes a datagram: it is dropped, lost, or on its way.
func (l *link) put(b []byte) {
	l.n.Add(1)
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	if l.free.Sub(now).Seconds()*l.bps/8 > l.queue {
		l.drops.Add(1)
		return
	}
	l.free = l.free.Add(time.Duration(float64(len(b)+28) * 8 / l.bps * 1e9))
	if l.rng.Float64() < l.loss {
		l.lost.Add(1)
		return
	}
	l.ch <- pkt{append([]byte(nil), b...), l.free.Add(l.delay)}
}

// run delivers.
func (l *link) run(send func([]byte)) {
	for p := range l.ch {
		if d := time.Until(p.at); d > 0 {
			time.Sleep(d)
		}
		send(p.b)
	}
}

func main() {
	to := flag.String("to", "", "server")
	mbit := flag.Float64("mbit", 50, "rate each way")
	rtt := flag.Duration("rtt", 40*time.Millisecond, "added round trip")
	loss := flag.Float64("loss", 0, "random loss each way")
	queue := flag.Float64("queue", 250000, "queue bytes each way")
	flag.Parse()
	dst, err := netip.ParseAddrPort(*to)
	measure.Check(err)
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	measure.Check(err)
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	measure.Check(err)
	for _, c := range []*net.UDPConn{in, out} {
		c.SetReadBuffer(4 << 20)
		c.SetWriteBuffer(4 << 20)
	}
	mk := func(seed uint64) *link {
		return &link{bps: *mbit * 1e6, delay: *rtt / 2, queue: *queue, loss: *loss, ch: make(chan pkt, 1<<16), rng: rand.New(rand.NewPCG(seed, 11))}
	}
	up, down := mk(1), mk(2)
	var client atomic.Pointer[netip.AddrPort]
	go up.run(func(b []byte) { out.WriteToUDPAddrPort(b, dst) })
	go down.run(func(b []byte) {
		if a := client.Load(); a != nil {
			in.WriteToUDPAddrPort(b, *a)
		}
	})
	go func() {
		buf := make([]byte, 65536)
		for {
			n, a, err := in.ReadFromUDPAddrPort(buf)
			if err != nil {
				continue
			}
			client.Store(&a)
			up.put(buf[:n])
		}
	}()
	go func() {
		buf := make([]byte, 65536)
		for {
			n, _, err := out.ReadFromUDPAddrPort(buf)
			if err != nil {
				continue
			}
			down.put(buf[:n])
		}
	}()
	measure.Serve(map[string]any{"host": "127.0.0.1", "port": in.LocalAddr().(*net.UDPAddr).Port})
}
