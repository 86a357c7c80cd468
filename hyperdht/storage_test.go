package hyperdht

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

var testNow = time.UnixMilli(1_700_000_000_000)

// A storageTest drives a storage by hand. Its tokens are always good; what a
// bad one does is dhtrpc's.
type storageTest struct {
	*testing.T
	s    *storage
	now  time.Time
	self dhtrpc.ID
	from netip.AddrPort
	tok  [32]byte
}

func newStorageTest(t *testing.T, limits StoreLimits) *storageTest {
	return &storageTest{
		T: t, now: testNow,
		s:    newStorage(limits, nil, rand.New(rand.NewPCG(1, 2))),
		self: dhtrpc.ID{1, 2, 3},
		tok:  [32]byte{9},
		from: netip.MustParseAddrPort("10.0.0.7:1000"), // private: see maxForgeries
	}
}

// ask makes a request with a good token.
func (t *storageTest) ask(command uint64, target Target, value []byte) answer {
	id := dhtrpc.ID(target)
	return t.s.serve(t.now, &t.self, &dhtrpc.Request{
		Command: command, Target: &id, Token: &t.tok, Value: value, From: t.from,
	})
}

func (t *storageTest) want(why string, got answer, v verdict, value []byte) {
	t.Helper()
	if got.verdict != v {
		t.Errorf("%s: verdict %d, want %d", why, got.verdict, v)
	}
	if (got.value == nil) != (value == nil) || !bytes.Equal(got.value, value) {
		t.Errorf("%s: value\n%x, want\n%x", why, got.value, value)
	}
}

func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
}

func keyOf(k ed25519.PrivateKey) PublicKey { return PublicKey(k[32:]) }

// announcementBy is the signed value of an ANNOUNCE.
func (t *storageTest) announcementBy(key ed25519.PrivateKey, target Target, a announcement, relays ...string) []byte {
	return t.signed(&nsAnnounce, key, target, a, relays)
}

func (t *storageTest) unannouncementBy(key ed25519.PrivateKey, target Target) []byte {
	return t.signed(&nsUnannounce, key, target, announcement{}, nil)
}

func (t *storageTest) signed(ns *[32]byte, key ed25519.PrivateKey, target Target, a announcement, relays []string) []byte {
	var as []netip.AddrPort
	for _, r := range relays {
		as = append(as, netip.MustParseAddrPort(r))
	}
	a.peer = &peerRecord{keyOf(key), packAddrs(as)}
	m := a.signable(ns, &target, (*[32]byte)(&t.self), &t.tok)
	sig, err := sign(key, m[:])
	if err != nil {
		t.Fatal(err)
	}
	a.signature = &sig
	return a.append(nil)
}

func (t *storageTest) put(key ed25519.PrivateKey, seq uint64, value string) answer {
	r, err := SignMutable(key, seq, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return t.ask(cmdMutablePut, r.Target(), mutablePut{r.PublicKey, r.wire()}.append(nil))
}

// peers are the keys that a lookup returns.
func (t *storageTest) peers(topic Target) (keys map[PublicKey]packedAddrs, bump uint64) {
	t.Helper()
	a := t.ask(cmdLookup, topic, nil)
	keys = map[PublicKey]packedAddrs{}
	if a.value == nil {
		return keys, 0
	}
	l, err := parseLookupReply(a.value)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range l.records {
		keys[p.key] = bytes.Clone(p.relays)
	}
	if len(keys) != len(l.records) {
		t.Errorf("a peer twice in one reply: %v", l)
	}
	return keys, l.bump
}

var topic = Hash([]byte("topic"))

func TestAnnounceLookupUnannounce(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	a, b := testKey(1), testKey(2)
	t.want("nothing stored", t.ask(cmdLookup, topic, nil), verdictReply, nil)
	t.want("announce", t.ask(cmdAnnounce, topic, t.announcementBy(a, topic, announcement{bump: 5}, "10.0.0.1:1")), verdictBare, nil)
	t.want("announce", t.ask(cmdAnnounce, topic, t.announcementBy(b, topic, announcement{},
		"10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.4:4", "10.0.0.5:5")), verdictBare, nil)
	keys, bump := t.peers(topic)
	if len(keys) != 2 || bump != 5 {
		t.Errorf("%d peers, bump %d", len(keys), bump)
	}
	if r := keys[keyOf(b)]; r.len() != maxRelays {
		t.Errorf("%d relays kept", r.len())
	}
	t.want("unannounce needs its own namespace", t.ask(cmdUnannounce, topic, t.announcementBy(a, topic, announcement{})), verdictNone, nil)
	t.want("unannounce", t.ask(cmdUnannounce, topic, t.unannouncementBy(a, topic)), verdictBare, nil)
	t.want("unannounce what is not there", t.ask(cmdUnannounce, topic, t.unannouncementBy(a, topic)), verdictBare, nil)
	if keys, _ := t.peers(topic); len(keys) != 1 {
		t.Errorf("%d peers", len(keys))
	}
	if c := t.s.counts; c.Announce != 2 || c.Unannounce != 2 || c.BadSignature != 1 {
		t.Errorf("%+v", c)
	}
}

// docs/spec/hyperdht-records.md §5: a young record keeps its relays.
func TestAnnounceAgain(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	relay := func() packedAddrs { keys, _ := t.peers(topic); return keys[keyOf(key)] }
	announce := func(addr string) {
		t.want("announce", t.ask(cmdAnnounce, topic, t.announcementBy(key, topic, announcement{}, addr)), verdictBare, nil)
	}
	announce("10.0.0.1:1")
	first := relay()
	t.now = t.now.Add(13 * time.Minute)
	announce("10.0.0.2:2")
	if !bytes.Equal(relay(), first) {
		t.Error("a young record was replaced")
	}
	t.now = t.now.Add(time.Minute)
	announce("10.0.0.3:3")
	if bytes.Equal(relay(), first) {
		t.Error("an aged record was not replaced")
	}
	t.now = t.now.Add(20*time.Minute - 1)
	if relay() == nil {
		t.Error("went before its time")
	}
	t.now = t.now.Add(1)
	if relay() != nil {
		t.Error("outlived its time")
	}
}

func TestBump(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	ms := uint64(testNow.UnixMilli())
	for _, c := range []struct{ bump, want uint64 }{
		{5, 5}, {4, 5}, {5, 5}, {9, 9}, {ms + 60_001, 9}, {ms + 60_000, ms + 60_000}, {MaxSeq, ms + 60_000},
	} {
		t.want("announce", t.ask(cmdAnnounce, topic, t.announcementBy(testKey(1), topic, announcement{bump: c.bump})), verdictBare, nil)
		if _, bump := t.peers(topic); bump != c.want {
			t.Errorf("after %d the bump is %d, want %d", c.bump, bump, c.want)
		}
	}
	if t.s.counts.IgnoredBump != 4 {
		t.Errorf("%d ignored", t.s.counts.IgnoredBump)
	}
	// Altering it leaves the signature valid.
	v := t.announcementBy(testKey(2), topic, announcement{bump: ms + 1})
	v[len(v)-8]++
	t.want("a changed bump", t.ask(cmdAnnounce, topic, v), verdictBare, nil)
}

func TestSelfAnnounce(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	target := TargetOf(keyOf(key))
	record := peerRecord{key: keyOf(key)}.append(nil)
	t.want("nobody", t.ask(cmdFindPeer, target, nil), verdictReply, nil)
	t.want("announce", t.ask(cmdAnnounce, target, t.announcementBy(key, target, announcement{bump: 7})), verdictBare, nil)
	t.want("found", t.ask(cmdFindPeer, target, nil), verdictReply, record)
	if to, ok := t.s.routes.relay(t.now, target); !ok || to != t.from {
		t.Errorf("forwards to %v", to)
	}
	t.want("through lookup, without bump", t.ask(cmdLookup, target, nil), verdictReply,
		lookupReply{records: []peerRecord{{key: keyOf(key)}}}.append(nil))
	if t.s.peers.Len() != 0 {
		t.Error("stored as a member of a topic too")
	}
	// Its address changes: the new one replaces the old.
	t.from = netip.MustParseAddrPort("192.0.2.8:2000")
	t.want("announce", t.ask(cmdAnnounce, target, t.announcementBy(key, target, announcement{})), verdictBare, nil)
	if to, _ := t.s.routes.relay(t.now, target); to != t.from {
		t.Errorf("forwards to %v", to)
	}
	t.want("unannounce", t.ask(cmdUnannounce, target, t.unannouncementBy(key, target)), verdictBare, nil)
	t.want("gone", t.ask(cmdFindPeer, target, nil), verdictReply, nil)
}

func TestRouteIsKeptAliveByUse(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	target := TargetOf(keyOf(key))
	t.ask(cmdAnnounce, target, t.announcementBy(key, target, announcement{}))
	for range 10 {
		t.now = t.now.Add(19 * time.Minute)
		if _, ok := t.s.routes.relay(t.now, target); !ok {
			t.Fatal("a used route expired")
		}
	}
	t.now = t.now.Add(20 * time.Minute)
	if _, ok := t.s.routes.relay(t.now, target); ok {
		t.Error("an unused route did not expire")
	}
}

func TestLocalServerStays(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	target := TargetOf(keyOf(key))
	if !t.s.routes.listen(keyOf(key), "server") || t.s.routes.listen(keyOf(key), "other") {
		t.Fatal("listen")
	}
	t.want("a remote announce succeeds", t.ask(cmdAnnounce, target, t.announcementBy(key, target, announcement{}, "10.0.0.1:1")), verdictBare, nil)
	t.want("but is not what is served", t.ask(cmdFindPeer, target, nil), verdictReply, peerRecord{key: keyOf(key)}.append(nil))
	t.want("nor does an unannounce end it", t.ask(cmdUnannounce, target, t.unannouncementBy(key, target)), verdictBare, nil)
	if t.s.routes.server(target) != "server" {
		t.Error("the local server is gone")
	}
	t.s.routes.unlisten(keyOf(key))
	t.want("closed", t.ask(cmdFindPeer, target, nil), verdictReply, nil)
}

func TestRefreshChain(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	target := TargetOf(keyOf(key))
	blocks := [4][32]byte{3: hash([]byte("secret"))}
	for i := 2; i >= 0; i-- {
		blocks[i] = hash(blocks[i+1][:])
	}
	t.ask(cmdAnnounce, target, t.announcementBy(key, target, announcement{refresh: &blocks[0]}))
	refresh := func(b *[32]byte) answer { return t.ask(cmdAnnounce, topic, announcement{refresh: b}.append(nil)) }
	t.want("a block that is not next", refresh(&blocks[2]), verdictNone, nil)
	for i := 1; i < 4; i++ {
		t.from = netip.AddrPortFrom(t.from.Addr(), uint16(i))
		t.want("next block", refresh(&blocks[i]), verdictBare, nil)
		t.want("each works once", refresh(&blocks[i]), verdictNone, nil)
		if to, _ := t.s.routes.relay(t.now, target); to != t.from {
			t.Errorf("block %d: forwards to %v, not to the refresher", i, to)
		}
	}
	// Of a topic.
	t.ask(cmdAnnounce, topic, t.announcementBy(key, topic, announcement{refresh: &blocks[0]}, "10.0.0.1:1"))
	t.now = t.now.Add(15 * time.Minute)
	t.want("refresh", refresh(&blocks[1]), verdictBare, nil)
	t.now = t.now.Add(15 * time.Minute)
	if keys, _ := t.peers(topic); keys[keyOf(key)].len() != 1 {
		t.Error("the refresh did not renew the record")
	}
}

func TestLookupDrawsTwenty(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	for i := range byte(35) {
		t.ask(cmdAnnounce, topic, t.announcementBy(testKey(i), topic, announcement{}))
	}
	seen := map[PublicKey]bool{}
	for range 20 {
		keys, _ := t.peers(topic)
		if len(keys) != 20 {
			t.Fatalf("%d peers", len(keys))
		}
		for k := range keys {
			seen[k] = true
		}
	}
	if len(seen) != 35 {
		t.Errorf("%d of 35 seen", len(seen))
	}
}

func TestOneAddressPushesNobodyOut(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{PeersPerTopic: 100, Records: 100})
	for i := range byte(10) {
		t.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 1)
		t.ask(cmdAnnounce, topic, t.announcementBy(testKey(i), topic, announcement{}))
		t.put(testKey(i), 1, "honest")
		v := []byte{i}
		t.ask(cmdImmutablePut, Hash(v), v)
	}
	t.from = netip.MustParseAddrPort("198.51.100.1:1")
	for i := range 300 {
		key := ed25519.NewKeyFromSeed(fmt.Appendf(nil, "%032d", i))
		t.ask(cmdAnnounce, topic, t.announcementBy(key, topic, announcement{}))
		t.put(key, 1, "flood")
		v := []byte{byte(i), byte(i >> 8), 1}
		t.ask(cmdImmutablePut, Hash(v), v)
	}
	keys, _ := t.peers(topic)
	for i := range byte(10) {
		key := keyOf(testKey(i))
		if _, ok := keys[key]; !ok {
			t.Errorf("announcement %d is not in a lookup", i)
		}
		if a := t.ask(cmdMutableGet, TargetOf(key), []byte{0}); a.value == nil {
			t.Errorf("mutable record %d is gone", i)
		}
		if a := t.ask(cmdImmutableGet, Hash([]byte{i}), nil); a.value == nil {
			t.Errorf("immutable record %d is gone", i)
		}
	}
	if t.s.peers.Len() != 100 || t.s.mutables.Len() != 100 || t.s.immutables.Len() != 100 {
		t.Error("caps", t.s.peers.Len(), t.s.mutables.Len(), t.s.immutables.Len())
	}
}

func TestMutableSequence(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	target := TargetOf(keyOf(key))
	get := func(seq uint64) []byte { return t.ask(cmdMutableGet, target, appendMutableGet(nil, seq)).value }
	t.want("put", t.put(key, 5, "five"), verdictReply, nil)
	t.want("same again", t.put(key, 5, "five"), verdictReply, nil)
	for _, c := range []struct {
		seq   uint64
		value string
		code  dhtrpc.ErrorCode
	}{{5, "other", SeqReused}, {4, "four", SeqTooLow}, {0, "", SeqTooLow}} {
		if a := t.put(key, c.seq, c.value); a.verdict != verdictError || a.code != c.code || a.stored {
			t.Errorf("seq %d: %+v", c.seq, a)
		}
	}
	if get(5) == nil || get(0) == nil || get(6) != nil {
		t.Error("get by seq")
	}
	t.want("an empty value and the highest seq", t.put(key, MaxSeq, ""), verdictReply, nil)
	if m, err := parseMutableRecord(get(MaxSeq)); err != nil || m.seq != MaxSeq || len(m.value) != 0 {
		t.Errorf("%+v %v", m, err)
	}
	t.want("bytes after the seq are ignored", t.ask(cmdMutableGet, target, []byte{0, 1, 2}), verdictReply, get(0))
}

func TestRecordsAge(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	v := []byte("value")
	t.ask(cmdImmutablePut, Hash(v), v)
	t.put(testKey(1), 1, "v")
	for range 5 { // reading keeps alive
		t.now = t.now.Add(47 * time.Hour)
		t.want("immutable", t.ask(cmdImmutableGet, Hash(v), nil), verdictReply, v)
	}
	if a := t.ask(cmdMutableGet, TargetOf(keyOf(testKey(1))), []byte{0}); a.value != nil {
		t.Error("a record that nobody asked for did not expire")
	}
	t.now = t.now.Add(48 * time.Hour)
	t.want("immutable", t.ask(cmdImmutableGet, Hash(v), nil), verdictReply, nil)
}

func TestImmutableEmptyValue(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	t.want("absent", t.ask(cmdImmutableGet, Hash(nil), nil), verdictReply, nil)
	t.want("put", t.ask(cmdImmutablePut, Hash(nil), []byte{}), verdictReply, nil)
	t.want("present and empty", t.ask(cmdImmutableGet, Hash(nil), nil), verdictReply, []byte{})
}

// docs/spec/hyperdht-records.md §20.
func TestBadInputIsNotAnswered(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	good := map[uint64][]byte{
		cmdAnnounce:     t.announcementBy(key, topic, announcement{}, "10.0.0.1:1"),
		cmdUnannounce:   t.unannouncementBy(key, topic),
		cmdMutablePut:   nil,
		cmdImmutablePut: []byte("value"),
		cmdMutableGet:   {0},
	}
	r, _ := SignMutable(key, 1, []byte("value"))
	good[cmdMutablePut] = mutablePut{r.PublicKey, r.wire()}.append(nil)
	targets := map[uint64]Target{
		cmdAnnounce: topic, cmdUnannounce: topic, cmdMutablePut: r.Target(), cmdImmutablePut: Hash([]byte("value")), cmdMutableGet: topic,
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for command := uint64(cmdFindPeer); command <= cmdImmutableGet; command++ {
		value := good[command]
		target := dhtrpc.ID(targets[command])
		full := dhtrpc.Request{Command: command, Target: &target, Token: &t.tok, Value: value, From: t.from}
		lack := func(what string, change func(*dhtrpc.Request)) {
			r := full
			change(&r)
			if a := t.s.serve(t.now, &t.self, &r); a.verdict != verdictNone {
				t.Errorf("command %d without %s: verdict %d", command, what, a.verdict)
			}
		}
		lack("target", func(r *dhtrpc.Request) { r.Target = nil })
		if value == nil {
			continue
		}
		lack("value", func(r *dhtrpc.Request) { r.Value = nil })
		if command == cmdMutableGet {
			lack("bytes in its value", func(r *dhtrpc.Request) { r.Value = []byte{} })
			continue
		}
		lack("token", func(r *dhtrpc.Request) { r.Token = nil })
		for range 10000 { // malformed payloads
			bad := bytes.Clone(value)
			switch rnd.IntN(3) {
			case 0:
				bad = bad[:rnd.IntN(len(bad))]
			case 1:
				bad = make([]byte, rnd.IntN(200))
				for i := range bad {
					bad[i] = byte(rnd.Uint32())
				}
			default:
				// Bits of the flags that are not assigned may change.
				i := rnd.IntN(len(bad))
				flip := byte(1) << rnd.IntN(8)
				if command != cmdImmutablePut && command != cmdMutablePut && i == 0 {
					flip &= announceHasPeer | announceHasSignature | announceHasRefresh
				}
				if flip == 0 {
					continue
				}
				bad[i] ^= flip
			}
			lack("sense", func(r *dhtrpc.Request) { r.Value = bad })
		}
	}
	if n := t.s.peers.Len() + t.s.mutables.Len() + t.s.immutables.Len() + t.s.routes.forwards.Len(); n != 0 {
		t.Errorf("%d entries stored", n)
	}
	c := t.s.counts
	if c.Malformed == 0 || c.BadSignature == 0 || c.BadTarget == 0 {
		t.Errorf("%+v", c)
	}
}

func TestForgedAndReplayed(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	key := testKey(1)
	v := t.announcementBy(key, topic, announcement{})
	t.tok[0]++ // replayed under another token
	t.want("other token", t.ask(cmdAnnounce, topic, v), verdictNone, nil)
	t.tok[0]--
	t.self[0]++ // at another node
	t.want("other node", t.ask(cmdAnnounce, topic, v), verdictNone, nil)
	t.self[0]--
	t.want("other topic", t.ask(cmdAnnounce, Hash([]byte("other")), v), verdictNone, nil)
	t.want("as it was", t.ask(cmdAnnounce, topic, v), verdictBare, nil)

	mine, _ := SignMutable(key, 1, []byte("value"))
	forged := mine.wire()
	forged.seq = 9
	t.want("another seq", t.ask(cmdMutablePut, mine.Target(), mutablePut{mine.PublicKey, forged}.append(nil)), verdictNone, nil)
	t.want("under another key", t.ask(cmdMutablePut, TargetOf(keyOf(testKey(2))),
		mutablePut{keyOf(testKey(2)), mine.wire()}.append(nil)), verdictNone, nil)
	t.want("under another target", t.ask(cmdMutablePut, topic, mutablePut{mine.PublicKey, mine.wire()}.append(nil)), verdictNone, nil)
	big := make([]byte, MaxStoredValue+1)
	t.want("too large", t.ask(cmdImmutablePut, Hash(big), big), verdictNone, nil)
	t.want("too large", t.put(key, 1, string(big)), verdictNone, nil)
	if t.s.counts.TooLarge != 2 {
		t.Errorf("%+v", t.s.counts)
	}
}

// A flood of forgeries from one public address costs 64 checks in ten seconds,
// and nobody but that address.
func TestForgeriesAreNotCheckedForEver(t0 *testing.T) {
	t := newStorageTest(t0, StoreLimits{})
	v := t.announcementBy(testKey(1), topic, announcement{})
	bad := bytes.Clone(v)
	bad[len(bad)-1] ^= 1
	flood := func() {
		for range 1000 {
			t.want("forged", t.ask(cmdAnnounce, topic, bad), verdictNone, nil)
		}
	}
	t.from = netip.MustParseAddrPort("8.8.8.8:1")
	flood()
	if c := t.s.counts; c.BadSignature != maxForgeries || c.Suspected != 1000-maxForgeries {
		t.Errorf("%d checked, %d not", c.BadSignature, c.Suspected)
	}
	t.want("a good one of the same address", t.ask(cmdAnnounce, topic, v), verdictNone, nil)
	t.from = netip.MustParseAddrPort("8.8.4.4:1")
	t.want("a good one of another", t.ask(cmdAnnounce, topic, v), verdictBare, nil)
	t.now = t.now.Add(suspectAge)
	t.from = netip.MustParseAddrPort("8.8.8.8:1")
	t.want("forgiven", t.ask(cmdAnnounce, topic, v), verdictBare, nil)

	t.from = netip.MustParseAddrPort("127.0.0.1:1")
	before := t.s.counts.Suspected
	flood()
	if t.s.counts.Suspected != before {
		t.Error("a loopback address is exempt")
	}
}

// TestVectorExchanges replays the datagrams that a bare client exchanged with a
// running node of the reference.
func TestVectorExchanges(t0 *testing.T) {
	v := loadRecordVectors(t0).Exchanges
	t := newStorageTest(t0, StoreLimits{})
	t.self = dhtrpc.ID(v.Node.ID)
	t.now = time.Now() // bumps are judged by it
	for _, x := range v.List {
		if x.Command < cmdFindPeer || x.Command > cmdImmutableGet || x.ReplyFields != nil && x.ReplyFields.Error == uint64(dhtrpc.InvalidToken) {
			continue // another's
		}
		r := dhtrpc.Request{Command: x.Command, Value: x.Value, From: netip.MustParseAddrPort("127.0.0.1:53185")}
		if x.Target != nil {
			r.Target = (*dhtrpc.ID)(x.Target)
		}
		if x.Token != nil {
			r.Token = (*[32]byte)(x.Token)
		}
		f, self := x.ReplyFields, &t.self
		if f != nil && f.ID == nil {
			self = nil // that node was ephemeral
		}
		a := t.s.serve(t.now, self, &r)
		switch {
		case f == nil:
			t.want(x.Name, a, verdictNone, nil)
		case f.Error == uint64(dhtrpc.UnknownCommand):
			t.want(x.Name, a, verdictUnknown, nil)
		case f.Error != 0:
			t.want(x.Name, a, verdictError, nil)
			if uint64(a.code) != f.Error {
				t.Errorf("%s: error %d, want %d", x.Name, a.code, f.Error)
			}
		case f.Token == nil:
			t.want(x.Name, a, verdictBare, f.Value)
		default:
			t.want(x.Name, a, verdictReply, f.Value)
		}
	}
}

// FuzzServe: whatever is asked, nothing panics, no reply is larger than a
// datagram, and nothing is stored under a target that is not its own.
func FuzzServe(f *testing.F) {
	v := loadRecordVectors(f).Exchanges
	for _, x := range v.List {
		if x.Target != nil && x.Command <= cmdImmutableGet {
			f.Add(uint8(x.Command), []byte(x.Target), []byte(x.Value), x.Token != nil)
		}
	}
	f.Fuzz(func(t *testing.T, command uint8, target, value []byte, token bool) {
		s := newStorage(StoreLimits{Entries: 4, Records: 4}, nil, rand.New(rand.NewPCG(1, 2)))
		self := dhtrpc.ID(v.Node.ID)
		var id dhtrpc.ID
		copy(id[:], target)
		r := dhtrpc.Request{Command: uint64(command), Target: &id, Value: value, From: netip.MustParseAddrPort("127.0.0.1:5")}
		if token {
			r.Token = (*[32]byte)(v.List[0].ReplyFields.Token)
		}
		for range 2 {
			if a := s.serve(testNow, &self, &r); len(a.value) > dhtrpc.MaxMessage {
				t.Fatalf("%d bytes", len(a.value))
			}
		}
		for target, record := range s.mutables.All() {
			if _, err := parseMutableRecord(record); err != nil || target != Target(id) {
				t.Fatalf("%x: %x", target, record)
			}
		}
		for target, value := range s.immutables.All() {
			if hash(value) != target {
				t.Fatalf("%x: %x", target, value)
			}
		}
	})
}
