package attacks

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/warren-dht/warren/compact"
)

// A forger sends datagrams from any address.
type forger struct {
	t *testing.T
	c *ipv4.PacketConn
	u *net.UDPConn
}

func newForger(t *testing.T) *forger {
	t.Helper()
	u, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	u.SetReadBuffer(8 << 20)
	t.Cleanup(func() { u.Close() })
	return &forger{t, ipv4.NewPacketConn(u), u}
}

// send sends a datagram from a source address, at the forger's port.
func (f *forger) send(from netip.Addr, to netip.AddrPort, b []byte) {
	cm := &ipv4.ControlMessage{Src: net.IP(from.AsSlice())}
	if _, err := f.c.WriteTo(b, cm, net.UDPAddrFromAddrPort(to)); err != nil && !isFull(err) {
		f.t.Errorf("%v to %v: %v", from, to, err)
	}
}

// isFull says whether a send failed because a buffer is full: the datagram is
// lost, as on any network.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)
}

// A socket is bound to one address. It counts what arrives.
type socket struct {
	t            *testing.T
	u            *net.UDPConn
	at           netip.AddrPort
	heard        func([]byte, netip.AddrPort) // called by the reader; may be nil
	bytesIn, out atomic.Int64                 // UDP payload
	packetsIn    atomic.Int64
	ended        chan struct{}
}

// bind opens a socket until the end of the test.
func bind(t *testing.T, at string, heard func([]byte, netip.AddrPort)) *socket {
	t.Helper()
	addr := netip.MustParseAddrPort(at)
	u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	u.SetReadBuffer(8 << 20)
	s := &socket{t: t, u: u, at: u.LocalAddr().(*net.UDPAddr).AddrPort(), heard: heard, ended: make(chan struct{})}
	go s.read()
	t.Cleanup(func() {
		u.Close()
		<-s.ended
	})
	return s
}

func (s *socket) read() {
	defer close(s.ended)
	b := make([]byte, 4096)
	for {
		n, from, err := s.u.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		s.bytesIn.Add(int64(n))
		s.packetsIn.Add(1)
		if s.heard != nil {
			s.heard(b[:n], from)
		}
	}
}

func (s *socket) send(to netip.AddrPort, b []byte) {
	s.out.Add(int64(len(b)))
	s.u.WriteToUDPAddrPort(b, to)
}

// factor is how many times what left the socket has arrived there.
func (s *socket) factor() float64 { return float64(s.bytesIn.Load()) / max(1, float64(s.out.Load())) }

// every calls f with 0, 1, 2... at a rate, for a time or until stop is closed. It
// returns how often.
func every(perSecond int, d time.Duration, stop <-chan struct{}, f func(i int)) int {
	begun := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(float64(i) / float64(perSecond) * float64(time.Second))
		if due >= d {
			return i
		}
		for time.Since(begun) < due {
			time.Sleep(200 * time.Microsecond)
		}
		select {
		case <-stop:
			return i
		default:
		}
		f(i)
	}
}

// A request is a DHT request (docs/spec/dht-rpc.md §1.3).
type request struct {
	tid           uint16
	to            netip.AddrPort
	token, target *[32]byte
	command       uint64
	value         []byte
}

func (r request) bytes() []byte {
	flags := byte(0)
	for i, on := range []bool{false, r.token != nil, false, r.target != nil, r.value != nil} {
		if on {
			flags |= 1 << i
		}
	}
	b := compact.AppendAddr([]byte{3, flags, byte(r.tid), byte(r.tid >> 8)}, r.to)
	if r.token != nil {
		b = append(b, r.token[:]...)
	}
	b = compact.AppendUint(b, r.command)
	if r.target != nil {
		b = append(b, r.target[:]...)
	}
	if r.value != nil {
		b = compact.AppendBuffer(b, r.value)
	}
	return b
}

// A reply is a DHT reply (docs/spec/dht-rpc.md §1.4).
type reply struct {
	tid   uint16
	token *[32]byte
	code  uint64
	value []byte
}

func parseReply(b []byte) (m reply, ok bool) {
	r := compact.NewReader(b)
	if r.Uint8() != 0x13 {
		return m, false
	}
	flags := r.Uint()
	m.tid = r.Uint16()
	r.Addr()
	if flags&1 != 0 {
		r.Fixed32()
	}
	if flags&2 != 0 {
		if token := r.Fixed32(); token != nil {
			m.token = new([32]byte)
			*m.token = *token
		}
	}
	if flags&4 != 0 {
		r.Addrs()
	}
	if flags&8 != 0 {
		m.code = r.Uint()
	}
	if flags&16 != 0 {
		m.value = append([]byte{}, r.Buffer()...)
	}
	return m, r.Err() == nil
}

// Commands of HyperDHT (docs/spec/hyperdht-records.md §2).
const (
	peerHandshake = 0
	peerHolepunch = 1
	findPeer      = 2
	lookup        = 3
	immutablePut  = 8
	immutableGet  = 9
)

// unasked is set in the transaction ids of requests that nobody waits for.
const unasked = 1 << 15

// A requester sends DHT requests and waits for the replies. One goroutine may ask
// at a time.
type requester struct {
	*socket
	mu    sync.Mutex
	waits map[uint16]chan reply
	next  uint16
}

// newRequester opens a requester at an address. Other, if not nil, is called for
// replies that nobody waits for.
func newRequester(t *testing.T, at string, other func(reply)) *requester {
	t.Helper()
	r := &requester{waits: map[uint16]chan reply{}}
	r.socket = bind(t, at, func(b []byte, _ netip.AddrPort) {
		m, ok := parseReply(b)
		if !ok {
			return
		}
		r.mu.Lock()
		c := r.waits[m.tid]
		r.mu.Unlock()
		switch {
		case c != nil:
			select {
			case c <- m:
			default:
			}
		case other != nil && m.tid&unasked != 0:
			other(m)
		}
	})
	return r
}

// ask sends a request up to five times and waits for the reply.
func (r *requester) ask(m request) (answer reply, ok bool) {
	c := make(chan reply, 1)
	r.mu.Lock()
	r.next = (r.next + 1) &^ unasked
	m.tid = r.next
	r.waits[m.tid] = c
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waits, m.tid)
		r.mu.Unlock()
	}()
	for range 5 {
		r.send(m.to, m.bytes())
		select {
		case answer := <-c:
			return answer, true
		case <-time.After(500 * time.Millisecond):
		}
	}
	return answer, false
}
