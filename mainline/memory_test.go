//go:build !race

package mainline

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Full stores take no more than the comments of Config say: 1.8 KB an item, 600
// bytes a peer, each of a source and a network of its own, each peer of a hash of
// its own.
func TestFullStoresWeight(t *testing.T) {
	weight := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 1}) }
	n, _ := direct(t, nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	before := weight()
	for i := range DefaultMaxItems + 100 {
		item := Item{
			Value: StringValue(fmt.Sprintf("%0*d", MaxValue-len("1000:"), i)), Key: make([]byte, 32), Signature: make([]byte, 64),
			Salt: []byte(strings.Repeat("s", MaxSalt)), Seq: 1,
		}
		binary.LittleEndian.PutUint64(item.Key, uint64(i))
		n.keepItem(now, item.target(hashSHA1), &item, nil, from(i))
	}
	items := weight() - before
	for i := range DefaultMaxPeers + 100 {
		n.announced(now, hashOf(fmt.Sprint(i)).key, netip.AddrPortFrom(from(i), 1), false, stranger)
	}
	peers := weight() - before - items
	t.Logf("%d items: %d bytes each; %d peers: %d bytes each", DefaultMaxItems, items/DefaultMaxItems, DefaultMaxPeers, peers/DefaultMaxPeers)
	if n.items.kept.Len() != DefaultMaxItems || n.peers[0].sets.Len() != DefaultMaxPeers {
		t.Errorf("%d items, %d peers: not full", n.items.kept.Len(), n.peers[0].sets.Len())
	}
	if items > 1800*DefaultMaxItems || peers > 600*DefaultMaxPeers {
		t.Errorf("%d items take %d bytes each, %d peers %d", DefaultMaxItems, items/DefaultMaxItems, DefaultMaxPeers, peers/DefaultMaxPeers)
	}
	runtime.KeepAlive(n)
}
