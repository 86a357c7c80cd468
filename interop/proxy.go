package interop

import (
	"bytes"
	"container/heap"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// A Proxy carries UDP between clients and one target over a bad link. To the
// target each client looks like an address of its own, as behind a NAT, so
// answers find their way back.
type Proxy struct {
	addr   netip.AddrPort
	target netip.AddrPort
	front  *net.UDPConn
	there  *chance // client to target
	back   *chance
	late   *delayer
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	clients map[netip.AddrPort]*net.UDPConn
}

// NewProxy starts a proxy on 127.0.0.1 and stops it when the test ends. Both
// directions have the link's properties.
func NewProxy(t testing.TB, target netip.AddrPort, link Link) *Proxy {
	t.Helper()
	front, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	roomy(front)
	back := link
	back.Seed++
	p := &Proxy{
		addr:    front.LocalAddr().(*net.UDPAddr).AddrPort(),
		target:  target,
		front:   front,
		there:   newChance(link),
		back:    newChance(back),
		late:    newDelayer(),
		clients: make(map[netip.AddrPort]*net.UDPConn),
	}
	p.wg.Go(p.serve)
	t.Cleanup(p.close)
	return p
}

// Addr is where clients send.
func (p *Proxy) Addr() netip.AddrPort { return p.addr }

// Stats counts both directions, to the target first.
func (p *Proxy) Stats() (there, back LinkStats) { return p.there.counted(), p.back.counted() }

// serve is the reader of the clients' side.
func (p *Proxy) serve() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := p.front.ReadFromUDPAddrPort(b)
		if err != nil {
			if p.over() {
				return
			}
			continue // an ICMP error about an earlier datagram
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		up := p.upstream(from)
		if up == nil {
			return
		}
		p.carry(p.there, b[:n], func(d []byte) { up.Write(d) })
	}
}

// upstream returns the socket that stands for a client, nil after close.
func (p *Proxy) upstream(client netip.AddrPort) *net.UDPConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if up, ok := p.clients[client]; ok || p.closed {
		return up
	}
	up, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.target))
	if err != nil {
		return nil
	}
	roomy(up)
	p.clients[client] = up
	p.wg.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, err := up.Read(b)
			if err != nil {
				if p.over() {
					return
				}
				continue
			}
			p.carry(p.back, b[:n], func(d []byte) { p.front.WriteToUDPAddrPort(d, client) })
		}
	})
	return up
}

func (p *Proxy) carry(c *chance, d []byte, send func([]byte)) {
	for _, after := range c.fate() {
		if after == 0 {
			send(d)
			continue
		}
		kept := bytes.Clone(d)
		p.late.add(time.Now().Add(after), func() { send(kept) })
	}
}

func (p *Proxy) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	for _, up := range p.clients {
		up.Close()
	}
	p.mu.Unlock()
	p.front.Close()
	p.late.close()
	p.wg.Wait()
}

// roomy asks for buffers that hold a burst; the kernel may grant less.
func roomy(c *net.UDPConn) {
	c.SetReadBuffer(4 << 20)
	c.SetWriteBuffer(4 << 20)
}

// A delayer runs functions at their times, in order of time and, at the same
// time, in order of arrival. It is one goroutine, so that datagrams of equal
// delay keep their order.
type delayer struct {
	mu     sync.Mutex
	jobs   jobs
	last   uint64
	wake   chan struct{}
	ending chan struct{}
	ended  chan struct{}
}

func newDelayer() *delayer {
	d := &delayer{wake: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{})}
	go d.loop()
	return d
}

func (d *delayer) add(at time.Time, run func()) {
	d.mu.Lock()
	d.last++
	heap.Push(&d.jobs, job{at, d.last, run})
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *delayer) loop() {
	defer close(d.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		for {
			d.mu.Lock()
			if len(d.jobs) == 0 {
				d.mu.Unlock()
				break
			}
			if left := time.Until(d.jobs[0].at); left > 0 {
				wait = left
				d.mu.Unlock()
				break
			}
			j := heap.Pop(&d.jobs).(job)
			d.mu.Unlock()
			j.run()
		}
		timer.Reset(wait)
		select {
		case <-d.wake:
		case <-timer.C:
		case <-d.ending:
			return
		}
	}
}

// close drops what has not run yet and returns when nothing runs any more.
func (d *delayer) close() {
	close(d.ending)
	<-d.ended
}

type job struct {
	at  time.Time
	seq uint64
	run func()
}

// jobs is a heap by time.
type jobs []job

func (h jobs) Len() int { return len(h) }
func (h jobs) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h jobs) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *jobs) Push(x any)   { *h = append(*h, x.(job)) }
func (h *jobs) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = job{}
	*h = (*h)[:last]
	return j
}
