//go:build !race

package lab

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// alive is the memory that is in use after a collection, in bytes.
func alive() int64 {
	runtime.GC()
	runtime.GC() // what the pools held goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A tap is a host that notes the UDX packets of its connections, so that others
// can be forged as their continuation.
type tap struct {
	*vnet.Host
	mu      sync.Mutex
	streams map[uint32]*tapped // by the receiver's id
}

type tapped struct {
	conn udp.Conn
	peer netip.AddrPort
	last [20]byte // header of the packet with the highest number
	next uint32   // number of the next packet
}

func (h *tap) Listen(addr netip.AddrPort) (udp.Conn, error) {
	c, err := h.Host.Listen(addr)
	return tapConn{c, h}, err
}

type tapConn struct {
	udp.Conn
	h *tap
}

func (c tapConn) WriteBatch(b []udp.Datagram) (int, error) {
	c.h.mu.Lock()
	for _, d := range b {
		p := d.Payload
		if len(p) < 20 || p[0] != 0xff || p[1] != 1 {
			continue
		}
		id, next := binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[12:])
		if p[2]&3 != 0 { // DATA or END takes a number
			next++
		}
		s := c.h.streams[id]
		if s == nil {
			s = &tapped{conn: c.Conn}
			c.h.streams[id] = s
		}
		if int32(next-s.next) >= 0 {
			s.next, s.peer = next, d.Peer
			copy(s.last[:], p)
		}
	}
	c.h.mu.Unlock()
	return c.Conn.WriteBatch(b)
}

// data sends a DATA packet whose number is so far ahead, and returns its size.
func (s *tapped) data(ahead int, payload []byte) int {
	p := append(append([]byte{}, s.last[:]...), payload...)
	p[2], p[3] = 1, 0
	binary.LittleEndian.PutUint32(p[12:], s.next+uint32(ahead))
	s.conn.WriteBatch([]udp.Datagram{{Payload: p, Peer: s.peer}})
	return len(p)
}

// victims makes so many connections to one listener, and returns the forger's
// hold on them.
func victims(w *world, count int) (list []*tapped) {
	server := w.join(w.Internet.Host(), hyperdht.Config{Firewalled: isFalse()})
	l := w.serve(server, hyperdht.ListenConfig{KeepAlive: -1, MaxConns: -1, MaxPeerConns: -1})
	h := &tap{Host: w.Internet.Host(), streams: make(map[uint32]*tapped)}
	client := w.Join(hyperdht.Config{Network: h, Firewalled: isFalse(), KeepAlive: -1})
	var dials sync.WaitGroup
	slots := make(chan struct{}, 16)
	for range count {
		slots <- struct{}{}
		dials.Go(func() {
			defer func() { <-slots }()
			if _, _, err := w.dial(client, l.PublicKey()); err != nil {
				w.t.Error(err)
			}
		})
	}
	dials.Wait()
	time.Sleep(10 * time.Second)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		list = append(list, s)
	}
	if len(list) != count || len(l.accepted) != count {
		w.t.Fatalf("%d streams are known, %d connections were accepted", len(list), len(l.accepted))
	}
	return list
}

// What peers send in packets of a byte behind a gap costs a server no more than
// it cost them, and for half a minute only.
func TestPacketsBehindGaps(t *testing.T) {
	const conns, packets = 1000, 460
	inBubble(t, dhtSize, func(w *world) {
		list := victims(w, conns)
		idle, sent := alive(), 0
		for n := range packets {
			for _, s := range list {
				sent += s.data(1+2*n, []byte{1}) + 28
			}
			if n%10 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		held := alive() - idle
		t.Logf("%d bytes for %d sent", held, sent)
		if held > 2*int64(sent) {
			t.Errorf("%d bytes are held for %d sent", held, sent)
		}
		if held < 1<<20 {
			t.Errorf("%d bytes are held: the packets do not arrive", held)
		}
		time.Sleep(time.Minute)
		if left := alive() - idle; left > int64(sent)/10 {
			t.Errorf("%d bytes are left", left)
		}
	})
}

// Messages that are as large as they may be and never end, on connections whose
// application reads, hold no more than 16 MB together.
func TestEndlessFrames(t *testing.T) {
	const conns, most = 40, 16 << 20
	inBubble(t, dhtSize, func(w *world) {
		list := victims(w, conns)
		idle, peak := alive(), int64(0)
		const size = 1<<20 + 17
		frame := make([]byte, 3+size-1)
		frame[0], frame[1], frame[2] = byte(size&0xff), byte(size>>8&0xff), byte(size>>16)
		n := 0
		for rest := frame; len(rest) > 0; n++ {
			part := rest[:min(1200, len(rest))]
			rest = rest[len(part):]
			for _, s := range list {
				s.data(n, part)
			}
			time.Sleep(time.Millisecond)
			if n%100 == 0 {
				time.Sleep(100 * time.Millisecond) // nothing is left in the network
				peak = max(peak, alive()-idle)
			}
		}
		for range 20 {
			time.Sleep(time.Second)
			peak = max(peak, alive()-idle)
		}
		t.Logf("%d bytes at most", peak)
		if peak > most {
			t.Errorf("%d bytes are held", peak)
		}
		if peak < 4<<20 {
			t.Errorf("%d bytes are held: the frames do not arrive", peak)
		}
		time.Sleep(5 * time.Minute)
		if left := alive() - idle; left > 2<<20 {
			t.Errorf("%d bytes are left", left)
		}
	})
}
