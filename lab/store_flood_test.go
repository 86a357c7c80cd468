package lab

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// Commands of docs/spec/hyperdht-records.md §2.
const (
	floodPut = 8
	floodGet = 9
)

// One public address stores 50,000 large records at a node: the quota holds, so
// most of them push out one another. Another source's records are untouched, and
// the node keeps no more bytes than its bound. Addresses of its network that join
// in push out no more.
func TestFloodOfRecords(t *testing.T) {
	inBubble(t, dhtSize, func(w *world) {
		target := w.Nodes[5]
		at := target.RPC().PublicAddr()
		honest := w.flooder(netip.AddrFrom4([4]byte{8, 8, 4, 4}))
		const own, size = 200, 900 // of a record: a put is one datagram
		if n := honest.store(at, 0, own, size); n != own {
			t.Fatalf("%d of %d honest records were stored", n, own)
		}
		evil := w.flooder(netip.AddrFrom4([4]byte{8, 9, 9, 9}))
		const flood = 50_000
		if n := evil.store(at, 1<<20, flood, size); n != flood {
			t.Fatalf("%d of %d records were acknowledged", n, flood)
		}
		s := target.Stats().Storage
		if want := hyperdht.DefaultPerSource + own; s.Immutables.Entries != want || s.Immutables.Bytes != want*size {
			t.Errorf("%d records with %d bytes are stored, want %d with %d", s.Immutables.Entries, s.Immutables.Bytes, want, want*size)
		}
		if want := uint64(flood - hyperdht.DefaultPerSource); s.Immutables.OverQuota != want || s.Immutables.Evicted != 0 {
			t.Errorf("%d were above the quota, want %d; %d evicted", s.Immutables.OverQuota, want, s.Immutables.Evicted)
		}
		for i := range byte(5) {
			w.flooder(netip.AddrFrom4([4]byte{8, 9, 9, 20 + i})).store(at, (2+int(i))<<20, 5000, size)
		}
		s = target.Stats().Storage
		if want := hyperdht.DefaultPerNetwork + own; s.Immutables.Entries != want {
			t.Errorf("%d records of six addresses of one network, want %d", s.Immutables.Entries-own, hyperdht.DefaultPerNetwork)
		}
		if s.Immutables.Bytes > hyperdht.DefaultRecordBytes {
			t.Errorf("%d bytes, above the bound", s.Immutables.Bytes)
		}
		if n := honest.found(at, 0, own, size); n != own {
			t.Errorf("%d of %d honest records are left", n, own)
		}
	})
}

// A flooder stores records at a node.
type flooder struct {
	t     *testing.T
	rpc   *dhtrpc.Node
	mu    sync.Mutex
	token *[32]byte
}

func (w *world) flooder(ip netip.Addr) *flooder {
	w.t.Helper()
	n, err := dhtrpc.Listen(dhtrpc.Config{Network: w.Internet.Segment.Host(ip), Bootstrap: w.Bootstrap, Ephemeral: dhtrpc.Always, Firewalled: isFalse()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.Close() })
	if err := n.Ready(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return &flooder{t: w.t, rpc: n}
}

func floodRecord(i, size int) (value []byte, target hyperdht.Target) {
	value = make([]byte, size)
	binary.LittleEndian.PutUint64(value, uint64(i))
	return value, hyperdht.Hash(value)
}

// each makes a request for each record, some at a time, and counts those for
// which the function returns true.
func (f *flooder) each(first, count int, ask func(i int) bool) (n int) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := first
	for range 100 {
		workers.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= first+count {
					return
				}
				if ask(i) {
					mu.Lock()
					n++
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return n
}

// store puts records and returns how many were acknowledged.
func (f *flooder) store(at netip.AddrPort, first, count, size int) int {
	return f.each(first, count, func(i int) bool {
		value, target := floodRecord(i, size)
		r, ok := f.ask(at, dhtrpc.Message{Command: floodPut, Target: (*dhtrpc.ID)(&target), Value: value})
		return ok && r.Error == dhtrpc.OK
	})
}

// found reads records and returns how many the node has.
func (f *flooder) found(at netip.AddrPort, first, count, size int) int {
	return f.each(first, count, func(i int) bool {
		_, target := floodRecord(i, size)
		r, ok := f.ask(at, dhtrpc.Message{Command: floodGet, Target: (*dhtrpc.ID)(&target)})
		return ok && len(r.Value) == size
	})
}

// ask makes a request with a token, which it gets if need be.
func (f *flooder) ask(at netip.AddrPort, m dhtrpc.Message) (dhtrpc.Reply, bool) {
	for range 20 {
		f.mu.Lock()
		m.Token = f.token
		f.mu.Unlock()
		ask := m
		if m.Token == nil {
			ask = dhtrpc.Message{Command: floodGet, Target: m.Target}
		}
		r, err := f.rpc.Request(f.t.Context(), at, ask)
		switch {
		case err != nil:
			time.Sleep(100 * time.Millisecond)
		case m.Token != nil && r.Error != dhtrpc.InvalidToken:
			return r, true
		case r.Token != nil:
			f.mu.Lock()
			f.token = r.Token
			f.mu.Unlock()
		}
	}
	return dhtrpc.Reply{}, false
}
