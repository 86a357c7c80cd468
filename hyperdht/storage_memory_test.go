//go:build !race

package hyperdht

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// fullStoresHeap is what docs/operations.md says that full stores take, in bytes.
const fullStoresHeap = 230 << 20

// All stores of a node, filled to their bounds with what costs most: each entry
// of an address and a network of its own, each announced peer of a topic of its
// own, relays and all; records as many as there may be, and as large as they may
// be in all; and again with fewer that are each as large as one may be.
func TestFullStoresWeight(t0 *testing.T) {
	if testing.Short() {
		t0.Skip("takes seconds")
	}
	for _, size := range []int{DefaultRecordBytes / DefaultStoreRecords, MaxStoredValue} {
		before := weight()
		t := newStorageTest(t0, StoreLimits{})
		relays := packAddrs([]netip.AddrPort{
			netip.MustParseAddrPort("20.0.0.1:1"), netip.MustParseAddrPort("20.0.0.2:1"), netip.MustParseAddrPort("20.0.0.3:1"),
		})
		now := t.s.clock.Now(t.now)
		for i := range DefaultStoreEntries {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20 + byte(i>>16), byte(i >> 8), byte(i), 1}), 1)
			t.from = from
			value := make([]byte, size)
			binary.LittleEndian.PutUint64(value, uint64(i))
			target := Hash(value)
			t.ask(cmdImmutablePut, target, value)
			// As mutablePut and announce do when they have checked the signature.
			m := mutableRecord{seq: 1, value: value[:max(0, size-67)]}
			record := m.append(make([]byte, 0, m.size()))
			t.s.mutables.PutSized(now, target, record, len(record), sourceOf(from))
			e := refreshEntry{topic: target, key: PublicKey(target), relays: storeRelays(relays)}
			t.s.admit(now, e, from)
			t.s.chain(now, target, e, from)
			t.s.bump(now, target, 1, from)
			e.self = true
			t.s.admit(now, refreshEntry{topic: hash(target[:]), key: PublicKey(target), relays: e.relays, self: true}, from)
		}
		heap := weight() - before
		t.Logf("records of %d bytes: %d MB; %d immutable with %d bytes, %d mutable with %d", size, heap>>20,
			t.s.immutables.Len(), t.s.immutables.Stats().Bytes, t.s.mutables.Len(), t.s.mutables.Stats().Bytes)
		for kind, n := range map[string]int{
			"peers": t.s.peers.Len(), "routes": t.s.routes.forwards.Len(), "bumps": t.s.bumps.Len(), "refreshes": t.s.refreshes.Len(),
		} {
			if n != DefaultStoreEntries {
				t.Errorf("%d %s, the store is not full", n, kind)
			}
		}
		for _, bytes := range []int{t.s.immutables.Stats().Bytes, t.s.mutables.Stats().Bytes} {
			if bytes > DefaultRecordBytes || bytes < DefaultRecordBytes-MaxStoredValue-100 {
				t.Errorf("%d bytes of records, the bound is %d", bytes, DefaultRecordBytes)
			}
		}
		if heap > fullStoresHeap {
			t.Errorf("full stores take %d MB, want %d at most", heap>>20, fullStoresHeap>>20)
		}
	}
}
