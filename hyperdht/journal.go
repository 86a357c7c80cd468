package hyperdht

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/keep"
)

// A Store keeps what a node stores for others, and the nodes it knows, through
// restarts. Package store has one in a file.
type Store = keep.Store

// A StoreChange is one step in the life of a stored entry.
type StoreChange = keep.Change

// ErrDamagedStore means that a store holds what no node put there.
var ErrDamagedStore = errors.New("hyperdht: store is damaged")

// The kinds of entry in a store, with their keys and values. A source is the
// IPv4 address that asked for the entry (4 bytes); addresses are 6 bytes each.
const (
	kindPeer      = "hyperdht.peer"      // topic | public key -> source | relays
	kindRoute     = "hyperdht.route"     // target -> address | public key | relays
	kindBump      = "hyperdht.bump"      // topic -> source | bump (8, little endian)
	kindRefresh   = "hyperdht.refresh"   // block -> source | self (1) | topic | public key | relays
	kindMutable   = "hyperdht.mutable"   // target -> source | mutable record
	kindImmutable = "hyperdht.immutable" // target -> source | value
	kindReplay    = "hyperdht.replay"    // hash of a first message -> source
	kindNodes     = "hyperdht.nodes"     // nothing -> addresses

	kindPrefix = "hyperdht."
)

// maxJournal is how many changes wait for a commit at most before nothing more
// is admitted, and maxJournalBytes how many bytes they have. As much may be in
// the commit that is in progress.
const (
	maxJournal      = 16384
	maxJournalBytes = 8 << 20
)

// A journal notes the changes of a storage for its store. Nil notes nothing.
// Guarded by the dhtrpc node's lock.
type journal struct{ *keep.Journal }

// put notes a new or changed entry. It copies the key and keeps the value.
func (j *journal) put(now time.Time, kind string, key, value []byte) {
	if j != nil {
		j.Add(keep.Change{Op: keep.OpPut, Kind: kind, Key: slices.Clone(key), Value: value, Stamp: now})
	}
}

// renew notes that an entry was used. If too much waits already it is left out:
// reads go on while the store fails, and the entry is only forgotten earlier
// after a restart.
func (j *journal) renew(now time.Time, kind string, key []byte) {
	if j != nil && !j.Full() {
		j.Add(keep.Change{Op: keep.OpRenew, Kind: kind, Key: slices.Clone(key), Stamp: now})
	}
}

func (j *journal) remove(kind string, key ...[]byte) {
	if j != nil {
		j.Add(keep.Change{Op: keep.OpRemove, Kind: kind, Key: slices.Concat(key...)})
	}
}

func appendSource(b []byte, from netip.AddrPort) []byte {
	ip := from.Addr().As4()
	return append(b, ip[:]...)
}

func (s *storedRelays) appendFrom(b []byte, from netip.AddrPort) []byte {
	return append(appendSource(b, from), s.addrs()...)
}

func (w route) append(b []byte) []byte {
	b = append(append(b, w.relay[:]...), w.key[:]...)
	return append(b, w.relays.addrs()...)
}

func appendBump(b []byte, bump uint64, from netip.AddrPort) []byte {
	return binary.LittleEndian.AppendUint64(appendSource(b, from), bump)
}

func (e refreshEntry) appendFrom(b []byte, from netip.AddrPort) []byte {
	b = compact.AppendBool(appendSource(b, from), e.self)
	b = append(append(b, e.topic[:]...), e.key[:]...)
	return append(b, e.relays.addrs()...)
}

func appendRecord(b, record []byte, from netip.AddrPort) []byte {
	return append(appendSource(slices.Grow(b, 4+len(record)), from), record...)
}

// load fills an empty storage from a store, and returns the nodes that were
// known. Store time goes on from the newest stamp (keep.Clock), so neither a long
// pause nor a wrong clock removes all at once. What has reached its age is
// removed, from the store too.
func (s *storage) load(reading time.Time, store Store) (nodes []netip.AddrPort, err error) {
	var entries []keep.Change
	err = store.Load(func(c keep.Change) error {
		c.Key, c.Value = slices.Clone(c.Key), slices.Clone(c.Value)
		entries = append(entries, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(c keep.Change) bool {
		return !strings.HasPrefix(c.Kind, kindPrefix) // another protocol's
	})
	if len(entries) == 0 {
		return nil, nil
	}
	slices.SortFunc(entries, func(a, b keep.Change) int { return a.Stamp.Compare(b.Stamp) })
	now := s.clock.Start(reading, entries[len(entries)-1].Stamp)
	for i := range entries {
		c := &entries[i]
		if c.Kind == kindNodes {
			nodes = packedAddrs(c.Value).unpack()
			continue
		}
		if !s.restore(c) {
			return nil, fmt.Errorf("%w: %s %x", ErrDamagedStore, c.Kind, c.Key)
		}
		*c = keep.Change{}
	}
	s.expireAt(now)
	return nodes, nil
}

// restore puts an entry of the store back to where it was. It returns false if
// it is none of ours although it says so.
func (s *storage) restore(c *keep.Change) bool {
	r := compact.NewReader(c.Value)
	readSource := func() (a source) {
		if b := r.Fixed(len(a)); b != nil {
			a = source(b)
		}
		return a
	}
	readKey := func() (k [32]byte) {
		if b := r.Fixed32(); b != nil {
			k = *b
		}
		return k
	}
	var key Target
	switch {
	case c.Kind == kindPeer && len(c.Key) == 64:
		from := readSource()
		s.peers.Put(c.Stamp, Target(c.Key[:32]), PublicKey(c.Key[32:]), storeRelays(r.Raw()), from)
		return r.Err() == nil
	case len(c.Key) != len(key):
		return false
	}
	key = Target(c.Key)
	switch c.Kind {
	case kindReplay:
		s.firstMessages.Put(c.Stamp, key, struct{}{}, readSource())
	case kindRoute:
		var way route
		copy(way.relay[:], r.Fixed(len(way.relay)))
		way.key, way.relays = readKey(), storeRelays(r.Raw())
		s.routes.forwards.Put(c.Stamp, key, way, source(way.relay[:4]))
	case kindBump:
		from, bump := readSource(), r.Uint64()
		s.bumps.Put(c.Stamp, key, bump, from)
	case kindRefresh:
		from := readSource()
		e := refreshEntry{self: r.Bool(), topic: readKey(), key: readKey(), relays: storeRelays(r.Raw())}
		s.refreshes.Put(c.Stamp, key, e, from)
	case kindMutable:
		from, record := readSource(), r.Raw()
		if _, err := parseMutableRecord(record); err != nil {
			return false
		}
		s.mutables.PutSized(c.Stamp, key, record, len(record), from)
	case kindImmutable:
		from, value := readSource(), r.Raw()
		if hash(value) != key {
			return false
		}
		s.immutables.PutSized(c.Stamp, key, value, len(value), from)
	default:
		return false
	}
	return r.Err() == nil
}
