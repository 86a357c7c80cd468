package mainline

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/udp"
)

// A mute desk forgets what the node sends.
type muteDesk struct {
	*desk
	bytes atomic.Int64
}

func (d *muteDesk) Listen(netip.AddrPort) (udp.Conn, error) { return d, nil }
func (d *muteDesk) WriteBatch(list []udp.Datagram) (int, error) {
	for i := range list {
		d.bytes.Add(int64(len(list[i].Payload)))
	}
	return len(list), nil
}

// busyNode makes a node with a full table, and items under the returned targets.
func busyNode(t testing.TB) (*Node, *muteDesk, []key) {
	d := &muteDesk{desk: newDesk()}
	n, err := Listen(Config{Network: d, NoBootstrap: true, Rand: rand.NewPCG(3, 4)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range 200 {
		var k key
		randomize(k[:shortID], n.rnd)
		n.sockets[0].routes.answered(now, point{ID: k, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 1)}, time.Hour)
	}
	var targets []key
	for i := range 256 {
		item := &Item{Value: StringValue(fmt.Sprintf("%0100d", i))}
		target := toKey(hashSHA1(item.Value))
		n.items.put(now, target, item, nil, netip.MustParseAddr("127.0.0.1"))
		targets = append(targets, target)
	}
	return n, d, targets
}

// queries are batches of 64 queries as the load generator of W7 sends them.
func queries(method string, targets []key) [][]udp.Datagram {
	rnd := rand.New(rand.NewPCG(5, 6))
	var list [][]udp.Datagram
	for range 16 {
		var batch []udp.Datagram
		for i := range udp.BatchSize {
			q := request{method: method}
			randomize(q.target[:shortID], rnd)
			if targets != nil {
				q.target = targets[rnd.IntN(len(targets))]
			}
			b := appendQuery(nil, &q, []byte("AAAAAAAAAAAAAAAAAAAA"), shortID, true, uint16(i))
			batch = append(batch, udp.Datagram{Payload: b, Peer: netip.MustParseAddrPort("127.0.0.1:5000")})
		}
		list = append(list, batch)
	}
	return list
}

var served = []struct {
	method string
	stored bool
}{{methodPing, false}, {methodFindNode, false}, {methodGetPeers, false}, {methodGet, true}, {methodSample, false}}

func TestServingDoesNotAllocate(t *testing.T) {
	n, d, targets := busyNode(t)
	for _, c := range served {
		var in []key
		if c.stored {
			in = targets
		}
		batches := queries(c.method, in)
		i := 0
		serve := func() {
			n.sockets[0].HandleBatch(d, append([]udp.Datagram(nil), batches[i%len(batches)]...))
			i++
		}
		serve()
		if a := testing.AllocsPerRun(50, serve); a > udp.BatchSize/4 { // the copy of the batch, and pools that the race detector empties
			t.Errorf("%s: %v allocations for %d queries", c.method, a, udp.BatchSize)
		}
	}
}

// BenchmarkServe measures what a query costs without the kernel.
func BenchmarkServe(b *testing.B) {
	n, d, targets := busyNode(b)
	for _, c := range served {
		b.Run(c.method, func(b *testing.B) {
			var in []key
			if c.stored {
				in = targets
			}
			batches := queries(c.method, in)
			batch := make([]udp.Datagram, udp.BatchSize)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += udp.BatchSize {
				copy(batch, batches[i/udp.BatchSize%len(batches)])
				n.sockets[0].HandleBatch(d, batch)
			}
		})
	}
}

// loopbackNetwork makes a network on this machine.
func loopbackNetwork(t testing.TB, n int) []*Node {
	var nodes []*Node
	boot := []string{}
	for range n {
		node, err := Listen(Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Bootstrap: boot})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		if err := node.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if nodes = append(nodes, node); len(boot) == 0 {
			boot = []string{node.Addr().String()}
		}
	}
	return nodes
}

// BenchmarkNetwork is the second half of W7: 100 nodes in one process, puts and
// gets from random nodes, 16 at once.
func BenchmarkNetwork(b *testing.B) {
	nodes := loopbackNetwork(b, 100)
	value := func(i int) bencode.Raw {
		var x [8]byte
		binary.BigEndian.PutUint64(x[:], uint64(i))
		sum := sha1.Sum(x[:])
		return StringValue(fmt.Sprintf("%x%x%x", sum, sum, sum)[:100])
	}
	var next atomic.Int64
	atOnce := func(b *testing.B, f func(i int) error) {
		var all sync.WaitGroup
		var failed atomic.Int64
		i := atomic.Int64{}
		for range 16 {
			all.Go(func() {
				for k := i.Add(1); k <= int64(b.N); k = i.Add(1) {
					if f(int(k)) != nil {
						failed.Add(1)
					}
				}
			})
		}
		all.Wait()
		if failed.Load() > 0 {
			b.Errorf("%d of %d failed", failed.Load(), b.N)
		}
	}
	b.Run("put", func(b *testing.B) {
		atOnce(b, func(int) error {
			i := int(next.Add(1))
			_, err := nodes[i%len(nodes)].Put(b.Context(), Item{Value: value(i)})
			return err
		})
	})
	b.Run("get", func(b *testing.B) {
		atOnce(b, func(k int) error {
			i := 1 + k%int(next.Load())
			_, err := nodes[(i+1+k%(len(nodes)-1))%len(nodes)].Get(b.Context(), ImmutableTarget(value(i)), GetOptions{NoCache: true})
			return err
		})
	})
}
