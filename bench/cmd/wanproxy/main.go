// Command wanproxy is a bad UDP link in user space for W10: one client, one
// server, each direction with a rate, a delay, a queue and random loss.
//
//	wanproxy -to 127.0.0.1:5000 -mbit 50 -rtt 40ms -loss 0.01 -queue 250000
package main

import (
	"flag"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/bench/internal/wan"
)

// headers of IPv4 and UDP.
const headers = 28

func main() {
	to := flag.String("to", "", "server")
	mbit := flag.Float64("mbit", 50, "rate each way")
	rtt := flag.Duration("rtt", 40*time.Millisecond, "added round trip")
	loss := flag.Float64("loss", 0, "random loss each way")
	queue := flag.Float64("queue", 250000, "queue bytes each way")
	flag.Parse()
	server, err := netip.ParseAddrPort(*to)
	measure.Check(err)
	front, back := listen(), listen()
	link := wan.Config{Rate: *mbit * 1e6, Delay: *rtt / 2, Queue: *queue, Loss: *loss, Extra: headers}
	up, down := wan.New(link, 1), wan.New(link, 2)
	var client atomic.Pointer[netip.AddrPort]
	go up.Run(func(b []byte) { back.WriteToUDPAddrPort(b, server) })
	go down.Run(func(b []byte) {
		if a := client.Load(); a != nil {
			front.WriteToUDPAddrPort(b, *a)
		}
	})
	go read(front, func(b []byte, from netip.AddrPort) {
		client.Store(&from)
		up.Put(b)
	})
	go read(back, func(b []byte, _ netip.AddrPort) { down.Put(b) })
	measure.Serve(map[string]any{"host": "127.0.0.1", "port": front.LocalAddr().(*net.UDPAddr).Port})
}

func listen() *net.UDPConn {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	measure.Check(err)
	measure.Check(c.SetReadBuffer(4 << 20))
	measure.Check(c.SetWriteBuffer(4 << 20))
	return c
}

func read(c *net.UDPConn, take func(b []byte, from netip.AddrPort)) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err == nil { // else ICMP told of an earlier datagram
			take(b[:n], from)
		}
	}
}
