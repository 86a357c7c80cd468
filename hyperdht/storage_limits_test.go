package hyperdht

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/keep"
)

// fill stores an entry of each kind under a number, from an address.
func (t *storageTest) fill(i int, from netip.AddrPort) {
	t.Helper()
	value := binary.LittleEndian.AppendUint64(nil, uint64(i))
	target := Hash(value)
	t.from = from
	t.ask(cmdImmutablePut, target, value)
	m := mutableRecord{seq: 1, value: value}
	record := m.append(nil)
	now := t.s.clock.Now(t.now)
	// As mutablePut and announce do when they have checked the signature.
	t.s.mutables.PutSized(now, target, record, len(record), sourceOf(from))
	e := refreshEntry{topic: target, key: PublicKey(target)}
	t.s.admit(now, e, from)
	t.s.chain(now, target, e, from)
	e.self = true
	t.s.bump(now, target, 1, from)
	t.s.admit(now, refreshEntry{topic: hash(target[:]), key: PublicKey(target), self: true}, from)
}

// stores are the stores by kind, and the numbers of the entries that fill put
// into each.
func (t *storageTest) stores() map[string]func(i int) bool {
	has := func(m *keep.Map[Target, []byte, source]) func(int) bool {
		return func(i int) bool {
			_, _, ok := m.Get(t.s.clock.Now(t.now), Hash(binary.LittleEndian.AppendUint64(nil, uint64(i))))
			return ok
		}
	}
	target := func(i int) Target { return Hash(binary.LittleEndian.AppendUint64(nil, uint64(i))) }
	return map[string]func(int) bool{
		"immutable": has(t.s.immutables),
		"mutable":   has(t.s.mutables),
		"peer": func(i int) bool {
			_, _, ok := t.s.peers.Get(t.s.clock.Now(t.now), target(i), PublicKey(target(i)))
			return ok
		},
		"bump": func(i int) bool {
			_, _, ok := t.s.bumps.Get(t.s.clock.Now(t.now), target(i))
			return ok
		},
		"refresh": func(i int) bool {
			_, _, ok := t.s.refreshes.Get(t.s.clock.Now(t.now), target(i))
			return ok
		},
		"route": func(i int) bool {
			k := target(i)
			_, ok := t.s.routes.record(t.s.clock.Now(t.now), hash(k[:]))
			return ok
		},
	}
}

// 50,000 entries of each kind from one public address: the quota holds, its
// newest are there, and others lose nothing. A loopback address has no quota.
func TestQuotaOfASource(t0 *testing.T) {
	for _, c := range []struct {
		limits StoreLimits
		from   string
		flood  int
		want   int
	}{
		{StoreLimits{}, "8.8.8.8:1", 50_000, DefaultPerSource},
		{StoreLimits{PerSource: 100}, "8.8.8.8:1", 1000, 100},
		{StoreLimits{PerSource: -1}, "8.8.8.8:1", 20_000, DefaultPerNetwork},
		{StoreLimits{PerSource: -1, PerNetwork: -1}, "8.8.8.8:1", 20_000, 20_000},
		{StoreLimits{}, "127.0.0.1:1", 20_000, 20_000},
		{StoreLimits{}, "100.64.0.1:1", 20_000, 20_000},
	} {
		t := newStorageTest(t0, c.limits)
		const honest = 50
		for i := range honest {
			t.fill(i, netip.MustParseAddrPort("8.8.4.4:1"))
		}
		for i := range c.flood {
			t.fill(honest+i, netip.MustParseAddrPort(c.from))
		}
		for kind, has := range t.stores() {
			for i := range honest {
				if !has(i) {
					t.Errorf("%+v, %s: %s %d of another address is gone", c.limits, c.from, kind, i)
				}
			}
			left := 0
			for i := range c.flood {
				if has(honest + i) {
					left++
				} else if i >= c.flood-c.want {
					t.Fatalf("%+v, %s: %s %d is gone, which is not one of its oldest", c.limits, c.from, kind, i)
				}
			}
			if left != c.want {
				t.Errorf("%+v, %s: %d entries of kind %s, want %d", c.limits, c.from, left, kind, c.want)
			}
		}
	}
}

// All addresses of a /24 together have a quota, too.
func TestQuotaOfANetwork(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	for i := range 3 * DefaultPerNetwork {
		t.fill(i, netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, 8, byte(i)}), 1))
	}
	for kind, s := range map[string]keep.Stats{
		"peers": t.s.peers.Stats(), "routes": t.s.routes.forwards.Stats(), "bumps": t.s.bumps.Stats(),
		"refreshes": t.s.refreshes.Stats(), "mutables": t.s.mutables.Stats(), "immutables": t.s.immutables.Stats(),
	} {
		if s.Entries != DefaultPerNetwork || s.Sources != 256 {
			t.Errorf("%s: %d entries of %d sources", kind, s.Entries, s.Sources)
		}
	}
}

// 64 addresses of four networks fill the store with the largest records: an
// honest address keeps its 2,000 although it holds more than an even share of
// each of the 65 addresses.
func TestManyAddressesOfFewNetworks(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	put := func(i, size int) Target {
		value := make([]byte, size)
		binary.LittleEndian.PutUint64(value, uint64(i))
		target := Hash(value)
		t.ask(cmdImmutablePut, target, value)
		return target
	}
	t.from = netip.MustParseAddrPort("8.8.4.4:1")
	var honest []Target
	for i := range 2000 {
		honest = append(honest, put(i, 1900))
	}
	for i := range 64 * 1024 {
		t.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, byte(i % 4), byte(i % 64)}), 1)
		put(1<<20+i, MaxStoredValue)
	}
	left := 0
	for _, target := range honest {
		if t.ask(cmdImmutableGet, target, nil).value != nil {
			left++
		}
	}
	if left != len(honest) {
		t.Errorf("%d of %d honest records are left", left, len(honest))
	}
	if s := t.s.immutables.Stats(); s.Bytes > DefaultRecordBytes || s.Bytes < DefaultRecordBytes-MaxStoredValue {
		t.Errorf("%d bytes in %d records, the bound is %d", s.Bytes, s.Entries, DefaultRecordBytes)
	}
}

func TestStoreLimitsSettle(t *testing.T) {
	l := StoreLimits{}.settled()
	want := StoreLimits{
		Entries: DefaultStoreEntries, Records: DefaultStoreRecords, RecordBytes: DefaultRecordBytes, PeersPerTopic: DefaultPeersPerTopic,
		PerSource: DefaultPerSource, PerNetwork: DefaultPerNetwork, PeerAge: DefaultPeerAge, RecordAge: DefaultRecordAge,
	}
	if l != want {
		t.Errorf("zero is %+v, want %+v", l, want)
	}
	peers, records := StoreLimits{-1, -1, -1, -1, -1, -1, -1, -1}.settled().stores()
	if none := (keep.Limits{Entries: math.MaxInt32}); peers != none || records != none {
		t.Errorf("negative is %+v and %+v, want no limits", peers, records)
	}
	// Without an age nothing expires, and reading renews nothing.
	s := newStorageTest(t, StoreLimits{PeerAge: -1, RecordAge: -1})
	s.fill(1, netip.MustParseAddrPort("8.8.8.8:1"))
	s.now = s.now.AddDate(10, 0, 0)
	s.s.expire(s.now)
	for kind, has := range s.stores() {
		if !has(1) {
			t.Errorf("%s: gone after ten years without an age", kind)
		}
	}
}

// A journal whose changes have many bytes is full before it has many changes,
// and requests to store are dropped until it is committed.
func TestJournalOfManyBytes(t *testing.T) {
	inNet(t, 4, func(tn *recordsNet) {
		gate := make(chan struct{}, 1000)
		store := &fakeStore{gate: gate}
		node := tn.add(nil, store, dhtrpc.Never)
		node.rpc.Do(func() {
			for node.records.journal.Len() < 100 { // nobody waits for these, so they stay
				node.records.journal.put(testNow, "hyperdht.test", []byte{byte(node.records.journal.Len())}, make([]byte, maxJournalBytes/100))
			}
			if !node.records.journal.Full() {
				tn.Errorf("%d bytes in the journal, and it is not full", maxJournalBytes)
			}
		})
		if err := tn.putAt(tn.nodes[1], node, "value"); err == nil {
			tn.Error("a node whose journal is full took a record")
		}
		node.rpc.Do(func() {
			if node.records.busy == 0 {
				tn.Error("the drop is not counted")
			}
		})
		for range cap(gate) {
			gate <- struct{}{}
		}
		node.records.signal()
		tn.must("put", tn.putAt(tn.nodes[1], node, "value"))
	})
}
