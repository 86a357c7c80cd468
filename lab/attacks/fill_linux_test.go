package attacks

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
)

// A storer puts and gets immutable records at one node, from an address of its
// own.
type storer struct {
	*requester
	to     netip.AddrPort
	token  *[32]byte
	stored atomic.Int64 // replies to puts without an error that nobody waits for
}

func newStorer(t *testing.T, host string, to netip.AddrPort) *storer {
	t.Helper()
	s := &storer{to: to}
	s.requester = newRequester(t, host+":4000", func(m reply) {
		if m.code == 0 {
			s.stored.Add(1)
		}
	})
	m, ok := s.ask(request{to: to, command: immutableGet, target: &[32]byte{1}})
	if !ok || m.token == nil {
		t.Fatalf("%s got no token", host)
	}
	s.token = m.token
	return s
}

// put stores a record and reports whether the node took it.
func (s *storer) put(value []byte, target [32]byte) bool {
	m, ok := s.ask(request{to: s.to, command: immutablePut, token: s.token, target: &target, value: value})
	return ok && m.code == 0
}

// record is the n-th record of a source, and its target.
func record(source, n, size int) (value []byte, target [32]byte) {
	value = make([]byte, size)
	binary.LittleEndian.PutUint32(value, uint32(source))
	binary.LittleEndian.PutUint32(value[4:], uint32(n))
	return value, blake2b.Sum256(value)
}

// One public address that stores records without end fills its quota, and takes
// neither the memory of the node nor the place of others' records.
func TestFillingAStore(t *testing.T) {
	need(t)
	const (
		owners  = 10
		each    = 100
		records = 50_000
		size    = 900
		quota   = records / 10
		most    = 32 << 20
	)
	w := newNetwork(t, 8, nil)
	s := start(t, "persistent", "node", "--ephemeral=false", "--firewalled=false", "--port", "49737", "--bootstrap", w.boot[0], "--metrics", metricsAt)
	honest := make([]*storer, owners)
	for i := range honest {
		honest[i] = newStorer(t, netip.AddrFrom4([4]byte{7, 5, byte(i), 1}).String(), s.addr)
		for n := range each {
			value, target := record(i, n, size)
			if !honest[i].put(value, target) {
				t.Fatal("an honest record is not stored")
			}
		}
	}
	const entries = `warren_storage_entries{kind="immutable"}`
	held, ok := s.metric(entries)
	if !ok || held < owners*each {
		t.Fatalf("%v records are stored before the attack, want %d", held, owners*each)
	}
	before := s.resetPeak()

	attacker := newStorer(t, "8.5.0.1", s.addr)
	begun := time.Now()
	every(10_000, records/10_000*time.Second, nil, func(n int) {
		value, target := record(1000, n, size)
		r := request{tid: unasked | uint16(n), to: s.addr, command: immutablePut, token: attacker.token, target: &target, value: value}
		attacker.send(s.addr, r.bytes())
	})
	took := time.Since(begun)
	peak := s.settledPeak(5 * time.Second)
	total, _ := s.metric(entries)
	added := int(total) - owners*each
	result(t, added <= quota, "records from one public address", "a tenth kept", "%d of %d kept, %d accepted, in %v",
		added, records, attacker.stored.Load(), took.Round(100*time.Millisecond))
	result(t, peak-before <= most, "records from one public address: memory", "+32 MiB", "+%s", MB(peak-before))

	var lost atomic.Int64
	parallelBy(owners, owners, func(i int) {
		for n := range each {
			_, target := record(i, n, size)
			m, ok := honest[i].ask(request{to: s.addr, command: immutableGet, token: honest[i].token, target: &target})
			if !ok || len(m.value) != size {
				lost.Add(1)
			}
		}
	})
	result(t, lost.Load() == 0, "records from one public address: others' records", "0 lost", "%d of %d lost", lost.Load(), owners*each)
}
