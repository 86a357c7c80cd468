package mainline

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/internal/token"
)

// TestMessageVectors reads every message that the BEP shows and that real nodes
// sent, and compares what message.parse finds with the recorder's reading.
func TestMessageVectors(t *testing.T) {
	v := load(t)
	count := 0
	for _, list := range [][]captured{
		v.Bep5Examples, v.BittorrentDHTClientQueries.Queries, v.LibtorrentClientQueries.Queries, v.AnacrolixClientQueries.Queries,
	} {
		for _, c := range list {
			count++
			want := notation(t, c.Message).(map[string]any)
			if got, err := bencode.Decode(c.Hex); err != nil || !cmp.Equal(want, got) {
				t.Errorf("%s%s: %v, %s", c.Name, c.Call, err, cmp.Diff(want, got))
			}
			var m message
			if err := m.parse(c.Hex); err != nil {
				t.Errorf("%s%s: %v", c.Name, c.Call, err)
				continue
			}
			compareMessage(t, c.Name+c.Call, &m, want)
		}
	}
	if count < 50 {
		t.Errorf("only %d messages", count)
	}
}

// compareMessage checks every field of m that the generic reading has.
func compareMessage(t *testing.T, name string, m *message, want map[string]any) {
	t.Helper()
	got := map[string]any{"y": string(m.kind), "t": string(m.t)}
	put := func(to map[string]any, key string, b []byte) {
		if b != nil {
			to[key] = string(b)
		}
	}
	put(got, "q", m.method)
	put(got, "v", m.client)
	put(got, "ip", m.ip)
	if m.ro {
		got["ro"] = int64(1)
	}
	a := &m.body
	in := map[string]any{}
	for key, b := range map[string][]byte{
		"id": a.id, "target": a.target, "info_hash": a.infoHash, "token": a.token, "k": a.key, "sig": a.sig,
		"salt": a.salt, "nodes": a.nodes, "nodes6": a.nodes6, "BFpe": a.bloomPeers, "BFsd": a.bloomSeeds, "samples": a.samples,
	} {
		put(in, key, b)
	}
	for key, x := range map[string]struct {
		f fields
		n int64
	}{
		"port": {hasPort, a.port}, "seq": {hasSeq, a.seq}, "cas": {hasCAS, a.cas}, "num": {hasNum, a.num}, "interval": {hasInterval, a.interval},
	} {
		if a.any(x.f) {
			in[key] = x.n
		}
	}
	for key, raw := range map[string]bencode.Raw{"v": a.value, "values": a.values} {
		if raw != nil {
			in[key], _ = bencode.Decode(raw)
		}
	}
	switch m.kind {
	case 'q':
		theirs := want["a"].(map[string]any)
		for key, set := range map[string]bool{"implied_port": a.implied, "seed": a.seed, "noseed": a.noSeed, "scrape": a.scrape} {
			if n, there := theirs[key]; there || set {
				if (n == int64(1)) != set {
					t.Errorf("%s: %s = %v, want %v", name, key, set, n)
				}
				in[key] = n
			}
		}
		if w, there := theirs["want"]; there {
			var list []any
			if a.want4 {
				list = append(list, "n4")
			}
			if a.want6 {
				list = append(list, "n6")
			}
			if !cmp.Equal(w, any(list)) {
				t.Errorf("%s: want = %v, want %v", name, list, w)
			}
			in["want"] = w
		}
		delete(theirs, "bs") // libtorrent's own
		got["a"] = in
	case 'r':
		got["r"] = in
	case 'e':
		got["e"] = []any{int64(m.code), string(m.text)}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: (-want +got)\n%s", name, d)
	}
}

// TestClientQueries writes every query that bittorrent-dht sends in our way: the
// same but for v, and for the port and the seq that other nodes demand.
func TestClientQueries(t *testing.T) {
	for _, c := range load(t).BittorrentDHTClientQueries.Queries {
		var m message
		if err := m.parse(c.Hex); err != nil {
			t.Fatal(err)
		}
		a := &m.body
		want := notation(t, c.Message).(map[string]any)
		want["v"] = client
		args := want["a"].(map[string]any)
		q := request{method: string(m.method), token: a.token, implied: a.implied, port: uint16(a.port)}
		switch q.method {
		case methodGetPeers, methodAnnounce:
			q.target = toKey(a.infoHash)
		default:
			q.target = toKey(a.target)
		}
		switch q.method {
		case methodAnnounce:
			args["seed"], args["port"] = int64(0), a.port
		case methodPut:
			q.item = &Item{Value: a.value, Key: a.key, Signature: a.sig, Salt: a.salt, Seq: a.seq}
			if a.any(hasCAS) {
				q.cas = &a.cas
			}
			args["seq"] = a.seq
		}
		tid := binary.BigEndian.Uint16(m.t)
		b := appendQuery(nil, &q, a.id, shortID, false, tid)
		if err := bencode.Check(b); err != nil {
			t.Errorf("%s: %q: %v", c.Call, b, err)
		}
		if got, err := bencode.Decode(b); err != nil || !cmp.Equal(want, got) {
			t.Errorf("%s: %v\n%s", c.Call, err, cmp.Diff(want, got))
		}
	}
}

func TestReadOnlyPing(t *testing.T) {
	v := load(t).Bep43
	var m message
	if err := m.parse(v.QueryHex); err != nil || !m.ro || string(m.method) != methodPing {
		t.Fatalf("%+v, %v", m, err)
	}
	want := bytes.Replace(v.QueryHex, []byte("1:y1:q"), []byte("1:v4:"+client+"1:y1:q"), 1)
	if got := appendQuery(nil, &request{method: methodPing}, m.body.id, shortID, true, 'a'<<8|'a'); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCompactVectors(t *testing.T) {
	v := load(t).Compact
	for _, p := range append(v.Peers4, v.Peers6...) {
		want := netip.AddrPortFrom(p.Host, p.Port)
		if got, ok := parseAddr(p.Hex); !ok || got != want {
			t.Errorf("parseAddr(%x) = %v, %v", p.Hex, got, ok)
		}
		if got := appendAddr(nil, want); !bytes.Equal(got, p.Hex) {
			t.Errorf("appendAddr(%v) = %x", want, got)
		}
	}
	for _, p := range append(v.Nodes4, v.Nodes6...) {
		id, err := ParseID(p.ID)
		if err != nil {
			t.Fatal(err)
		}
		c, rest, ok := nextNode(p.Hex, shortID, len(p.Hex)-shortID)
		if want := (point{ID: id.key, Addr: netip.AddrPortFrom(p.Host, p.Port)}); !ok || c != want || len(rest) != 0 {
			t.Errorf("nextNode(%x) = %v, %x, %v", p.Hex, c, rest, ok)
		}
	}
	if _, _, ok := nextNode(make([]byte, 25), shortID, peer4Size); ok {
		t.Error("25 bytes are taken for a node")
	}
}

// TestBloomFilter checks BEP 33's vector, and filters that libtorrent sent.
func TestBloomFilter(t *testing.T) {
	for _, v := range load(t).Bep33.Filters {
		var f Filter
		if ip, err := netip.ParseAddr(v.Insert); err == nil {
			f.Insert(ip)
		} else { // the BEP's: 192.0.2.0 to 192.0.2.255 and 2001:db8:: to 2001:db8::3e7
			for i := range 256 {
				f.Insert(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
			}
			for i := range 0x3e8 {
				f.Insert(netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 14: byte(i >> 8), 15: byte(i)}))
			}
		}
		if !bytes.Equal(f[:], v.FilterHex) {
			t.Errorf("%s: %x, want %x", v.Name, f, v.FilterHex)
		}
		if v.ZeroBits != 0 && (f.zeros() != v.ZeroBits || math.Abs(f.Estimate()-v.Estimate) > 0.01) {
			t.Errorf("%s: %d zero bits, estimate %v; want %d, %v", v.Name, f.zeros(), f.Estimate(), v.ZeroBits, v.Estimate)
		}
	}
	var a, b, both Filter
	a.Insert(netip.MustParseAddr("10.0.0.1"))
	b.Insert(netip.MustParseAddr("10.0.0.2"))
	both.Union(&a)
	both.Union(&b)
	if e := both.Estimate(); math.Round(e) != 2 {
		t.Errorf("the union of two estimates %v", e)
	}
	if e := new(Filter).Estimate(); e != 0 {
		t.Errorf("nothing estimates %v", e)
	}
	full := Filter(bytes.Repeat([]byte{0xff}, 256))
	if e := full.Estimate(); math.IsInf(e, 0) || math.IsNaN(e) || e < 6000 {
		t.Errorf("a full filter estimates %v", e)
	}
}

func TestSecureIDs(t *testing.T) {
	v := load(t).Bep42
	if got := crc32.Checksum([]byte("123456789"), castagnoli); got != 0xe3069283 {
		t.Errorf("CRC-32C: %x", got)
	}
	for _, c := range v.IPv4 {
		id, err := ParseID(c.NodeID)
		if err != nil {
			t.Fatal(err)
		}
		if IsSecure(id, c.IP) != c.Valid {
			t.Errorf("IsSecure(%v, %v) = %v", id, c.IP, !c.Valid)
		}
		if got := binary.BigEndian.AppendUint32(nil, secureHead(c.IP, c.Rand)); !bytes.Equal(got, c.CRC) {
			t.Errorf("%v: CRC %x, want %x", c.IP, got, c.CRC)
		}
	}
	for _, c := range v.MoreIPv4 {
		id, _ := ParseID(c.NodeID)
		if IsSecure(id, c.IP) != c.Valid {
			t.Errorf("%s: IsSecure(%v, %v) = %v", c.Why, id, c.IP, !c.Valid)
		}
	}
	for _, ip := range v.Exempt {
		if !IsSecure(testID, ip) {
			t.Errorf("%v is not exempt", ip)
		}
	}
	for _, c := range v.IPv6 {
		if got := binary.BigEndian.AppendUint32(nil, secureHead(c.IP, c.Rand)); !bytes.Equal(got, c.CRC) {
			t.Errorf("%v: CRC %x, want %x", c.IP, got, c.CRC)
		}
		id := ID{n: shortID}
		copy(id.key[:], c.Prefix)
		id.key[shortID-1] = c.Rand
		if !IsSecure(id, c.IP) {
			t.Errorf("IsSecure(%v, %v) = false", id, c.IP)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		ip := netip.AddrFrom4([4]byte{byte(1 + rnd.IntN(9)), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())})
		if id := SecureID(ip, rnd); !IsSecure(id, ip) {
			t.Fatalf("SecureID(%v) = %v", ip, id)
		}
	}
	for _, s := range []string{"::1", "fe80::1", "fd00::1", "127.0.0.1"} {
		if !IsSecure(testID, netip.MustParseAddr(s)) {
			t.Errorf("%s is not exempt", s)
		}
	}
	if IsSecure(testID, netip.MustParseAddr("192.0.2.1")) {
		t.Error("any id is secure")
	}
}

func TestItemVectors(t *testing.T) {
	v := load(t).Bep44
	for _, c := range v.BepVectors {
		if c.PublicKey == nil {
			if got := ImmutableTarget(bencode.Raw(c.Value)); got.String() != c.Target {
				t.Errorf("%s: target %v", c.Name, got)
			}
			continue
		}
		if got := MutableTarget(c.PublicKey, c.Salt); got.String() != c.Target {
			t.Errorf("%s: target %v", c.Name, got)
		}
		m := SignedMessage(c.Salt, c.Seq, bencode.Raw(c.Value))
		if string(m) != c.SignedBuffer || !verifyEd25519(c.Signature, m, c.PublicKey) {
			t.Errorf("%s: %q does not verify", c.Name, m)
		}
		m[len(m)-1] ^= 1
		if verifyEd25519(c.Signature, m, c.PublicKey) {
			t.Errorf("%s: a changed message verifies", c.Name)
		}
	}
	for _, c := range v.SeedVectors {
		i := Sign(ed25519.NewKeyFromSeed(c.Seed), c.Salt, c.Seq, bencode.Raw(c.Value))
		if !bytes.Equal(i.Signature, c.Signature) || !bytes.Equal(i.Key, c.PublicKey) {
			t.Errorf("%s: signature %x, key %x", c.Name, i.Signature, i.Key)
		}
		if got := SignedMessage(c.Salt, c.Seq, bencode.Raw(c.Value)); !bytes.Equal(got, c.SignedBuffer) {
			t.Errorf("%s: signed %q", c.Name, got)
		}
		if got := i.target(hashSHA1); got != key(mustID(t, c.Target).key) {
			t.Errorf("%s: target %x", c.Name, got)
		}
		if err := i.check(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

func mustID(t testing.TB, s string) ID {
	t.Helper()
	id, err := ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPointerVectors(t *testing.T) {
	for _, c := range load(t).Bep46 {
		p := Pointer{Key: c.PublicKey, Salt: c.Salt}
		if p.String() != c.Magnet || p.Target().String() != c.Target {
			t.Errorf("%s: %v, target %v", c.Magnet, p, p.Target())
		}
		got, err := ParseMagnet(c.Magnet)
		if err != nil || !bytes.Equal(got.Key, c.PublicKey) || !bytes.Equal(got.Salt, c.Salt) {
			t.Errorf("ParseMagnet(%s) = %v, %v", c.Magnet, got, err)
		}
	}
	for _, s := range []string{
		"", "http://example.com", "magnet:?xt=urn:btih:00", "magnet:?xs=urn:btpk:00", "magnet:?xs=urn:btpk:zz",
		"magnet:?xs=urn:btpk:8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e&s=6",
	} {
		if p, err := ParseMagnet(s); err == nil {
			t.Errorf("ParseMagnet(%q) = %v", s, p)
		}
	}
	value := PointerValue(testID)
	if bencode.Check(value) != nil || len(value) != 29 {
		t.Errorf("value %q", value)
	}
	if id, err := ParsePointerValue(value); err != nil || id != testID {
		t.Errorf("ParsePointerValue = %v, %v", id, err)
	}
	for _, s := range []string{"", "de", "d2:ih3:abce", "i1e", "d2:ih20:"} {
		if id, err := ParsePointerValue(bencode.Raw(s)); err == nil {
			t.Errorf("ParsePointerValue(%q) = %v", s, id)
		}
	}
}

// FuzzMessage: a datagram is read or dropped, and what the node answers is
// canonical, echoes t, and is no larger than promised.
func FuzzMessage(f *testing.F) {
	v := load(f)
	for _, list := range [][]captured{
		v.Bep5Examples, v.BittorrentDHTClientQueries.Queries, v.LibtorrentClientQueries.Queries, v.AnacrolixClientQueries.Queries,
	} {
		for _, c := range list {
			f.Add([]byte(c.Hex))
		}
	}
	for _, list := range [][]exchange{v.BittorrentDHTExchanges.Exchanges, v.AnacrolixExchanges.Exchanges} {
		for _, x := range list {
			f.Add([]byte(x.QueryHex))
			f.Add([]byte(x.ResponseHex))
		}
	}
	for _, x := range v.BadInput {
		f.Add([]byte(x.Hex))
	}
	n, d := direct(f, func(c *Config) { c.ID = testID })
	from := netip.MustParseAddrPort("127.0.0.1:4000")
	var secret [token.MaxSize]byte // with which the vectors' tokens are valid
	copy(secret[:], v.Tokens.BittorrentDHT.CurrentSecret)
	n.mu.Lock()
	n.sockets[0].tokens.Set(time.Now().Add(time.Hour), secret, secret)
	n.mu.Unlock()
	f.Fuzz(func(t *testing.T, b []byte) {
		reply := d.give(n, from, b)
		if reply == nil {
			return
		}
		var in, out message
		if err := in.parse(b); err != nil || in.kind != 'q' {
			t.Fatalf("%q was answered with %q", b, reply)
		}
		if err := out.parse(reply); err != nil || bencode.Check(reply) != nil || out.kind == 'q' {
			t.Fatalf("%q was answered with %q", b, reply)
		}
		if !bytes.Equal(in.t, out.t) || len(reply) > maxValueReply {
			t.Fatalf("%q was answered with %d bytes: %q", b, len(reply), reply)
		}
	})
}
