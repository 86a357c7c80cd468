package hyperdht

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// The sockets for punching are bounded, however many carry connections.
func TestSocketPool(t *testing.T) {
	net := vnet.New(1)
	defer net.Close()
	p := &socketPool{network: net.Host(), host: netip.IPv4Unspecified(), max: -1, open: map[udp.Conn]*punchSocket{}}
	defer p.close()
	acquire := func() *punchSocket {
		t.Helper()
		s, err := p.acquire(nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var all []*punchSocket
	for range maxPunchSockets {
		all = append(all, acquire())
	}
	if _, err := p.acquire(nil); !errors.Is(err, errTooManySockets) {
		t.Fatalf("one socket too many: %v", err)
	}
	carrying := all[0]
	for range 2 { // by two streams
		if !carrying.retain() {
			t.Fatal("an open socket cannot be retained")
		}
	}
	carrying.release() // its puncher ends
	all[1].release()
	acquire()
	last := acquire()
	if _, err := p.acquire(nil); !errors.Is(err, errTooManySockets) {
		t.Fatalf("one socket too many: %v", err)
	}
	carrying.drop()
	last.release()
	acquire()
	carrying.drop() // lingers, and counts again
	if _, err := p.acquire(nil); !errors.Is(err, errTooManySockets) {
		t.Fatalf("one socket too many: %v", err)
	}
	p.closeAll()
	if p.idle != 0 || carrying.retain() {
		t.Errorf("%d sockets are left", p.idle)
	}
}
