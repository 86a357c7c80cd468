package interop

import (
	"bytes"
	"net/netip"
	"sync"
	"time"

	"github.com/warren-dht/warren/udp"
)

// Lossy returns the network with a bad link under every socket, in both
// directions: the way to put one under a whole Go node, whose peers learn the
// socket's real address and so go round a [Proxy].
func Lossy(network udp.Network, link Link) udp.Network {
	return &lossyNetwork{Network: network, link: link}
}

type lossyNetwork struct {
	udp.Network
	mu   sync.Mutex
	link Link
}

func (n *lossyNetwork) Listen(addr netip.AddrPort) (udp.Conn, error) {
	conn, err := n.Network.Listen(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	in, out := n.link, n.link
	out.Seed++
	n.link.Seed += 2 // each socket has luck of its own
	return &lossyConn{Conn: conn, in: newChance(in), out: newChance(out), late: newDelayer()}, nil
}

// lossyConn delays on the way out only. On the way in a reordered datagram
// waits for the next batch, and if there is none it is lost.
type lossyConn struct {
	udp.Conn
	in, out *chance
	late    *delayer
	once    sync.Once
	held    []udp.Datagram // reordered on the way in; owned by the reader
}

func (c *lossyConn) WriteBatch(batch []udp.Datagram) (int, error) {
	for i := range batch {
		for _, after := range c.out.fate() {
			if after == 0 {
				if _, err := c.Conn.WriteBatch(batch[i : i+1]); err != nil {
					return i, err
				}
				continue
			}
			d := batch[i]
			d.Payload = bytes.Clone(d.Payload)
			c.late.add(time.Now().Add(after), func() { c.Conn.WriteBatch([]udp.Datagram{d}) })
		}
	}
	return len(batch), nil
}

func (c *lossyConn) ReadBatch(batch []udp.Datagram) (int, error) {
	direct := c.in.link.Delay
	for {
		// Half of the room is left for copies and for those held back.
		n, err := c.Conn.ReadBatch(batch[:max(1, len(batch)/2)])
		if err != nil {
			return 0, err
		}
		arrived := make([]udp.Datagram, 0, 2*n)
		var late []udp.Datagram
		for _, d := range batch[:n] {
			for i, after := range c.in.fate() {
				if i > 0 || after > direct+c.in.link.Jitter {
					d.Payload = bytes.Clone(d.Payload)
				}
				if after > direct+c.in.link.Jitter {
					late = append(late, d)
				} else {
					arrived = append(arrived, d)
				}
			}
		}
		n = copy(batch, append(arrived, c.held...))
		c.held = late
		if n > 0 {
			return n, nil
		}
	}
}

func (c *lossyConn) Close() error {
	c.once.Do(c.late.close)
	return c.Conn.Close()
}
