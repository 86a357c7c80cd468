package mainline

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/internal/token"
	"github.com/warren-dht/warren/internal/vectors"
)

const silence = Code(-1)

// replay puts recorded queries to a node of ours, one after the other, and
// compares its answers with those of the recorded node. Where the two shall
// differ, want says what ours has to be: an error's code, 0 for a response whose
// contents are not compared, or silence.
func replay(t *testing.T, n *Node, d *desk, from netip.AddrPort, list []exchange, want map[string]Code) {
	tokens := make(map[string]bool) // that the recorded node issued
	for _, x := range list {
		query := x.QueryHex
		var theirs, ours message
		if theirs.parse(query) == nil && tokens[string(theirs.body.token)] {
			n.mu.Lock()
			own := n.sockets[0].tokens.Issue(time.Now(), from.Addr())
			n.mu.Unlock()
			query = bytes.Replace(query, bencode.AppendString(nil, theirs.body.token), bencode.AppendString(nil, own[:tokenSize]), 1)
		}
		reply := d.give(n, from, query)
		if err := theirs.parse(x.ResponseHex); err != nil {
			theirs = message{}
		}
		if theirs.body.any(hasToken) {
			tokens[string(theirs.body.token)] = true
		}
		if reply != nil {
			if err := bencode.Check(reply); err != nil {
				t.Fatalf("%s: our answer %q: %v", x.Name, reply, err)
			}
			if err := ours.parse(reply); err != nil {
				t.Fatalf("%s: our answer %q: %v", x.Name, reply, err)
			}
			if got, _ := parseAddr(ours.ip); got != from {
				t.Errorf("%s: ip = %v, want %v", x.Name, got, from)
			}
		}
		code, different := want[x.Name]
		if !different {
			switch theirs.kind {
			case 'e':
				code = theirs.code
			case 'r':
				code = 0
			default:
				code = silence
			}
		}
		switch {
		case code == silence && reply != nil:
			t.Errorf("%s: answered with %q", x.Name, reply)
		case code == silence:
		case reply == nil:
			t.Errorf("%s: no answer", x.Name)
		case code != 0:
			if ours.kind != 'e' || ours.code != code {
				t.Errorf("%s: answered with %q, want error %d", x.Name, reply, code)
			}
		case ours.kind != 'r':
			t.Errorf("%s: answered with %q, want a response", x.Name, reply)
		case !different:
			if diff := cmp.Diff(essence(&theirs.body), essence(&ours.body)); diff != "" {
				t.Errorf("%s: (-theirs +ours)\n%s", x.Name, diff)
			}
		}
	}
}

// essence is what two responses have to have in common: everything but nodes,
// tokens, what BEP 51 leaves open, and the order of peers.
func essence(b *body) map[string]any {
	e := map[string]any{
		"id": string(b.id), "v": string(b.value), "k": string(b.key), "sig": string(b.sig), "seq": b.seq,
		"token": b.any(hasToken), "BFpe": string(b.bloomPeers), "BFsd": string(b.bloomSeeds), "num": b.num,
		"samples": string(b.samples),
	}
	var peers []string
	for p := range peerValues(&answer{from: point{Addr: netip.MustParseAddrPort("127.0.0.1:1")}, body: b}) {
		peers = append(peers, p.String())
	}
	slices.Sort(peers)
	e["values"] = peers
	return e
}

// testID is the id of the recorded nodes of bittorrent-dht and anacrolix/dht.
var testID, _ = ParseID("00112233445566778899aabbccddeeff00112233")

func TestBittorrentDHTExchanges(t *testing.T) {
	v := load(t)
	n, d := direct(t, func(c *Config) { c.ID = testID })
	var previous, current [token.MaxSize]byte
	copy(previous[:], v.Tokens.BittorrentDHT.PreviousSecret)
	copy(current[:], v.Tokens.BittorrentDHT.CurrentSecret)
	n.mu.Lock()
	n.sockets[0].tokens.Set(time.Now(), previous, current)
	n.mu.Unlock()
	replay(t, n, d, netip.MustParseAddrPort("127.0.0.1:57167"), v.BittorrentDHTExchanges.Exchanges, map[string]Code{
		"announce_peer, port 0 without implied_port: silently dropped":                    203,
		"announce_peer without token: silently dropped":                                   203,
		"get_peers with scrape: ignored":                                                  0, // BEP 33
		"get without target: silently dropped":                                            203,
		"put immutable, string of 1000 bytes (1005 encoded): accepted":                    205,
		"put mutable seq 1 again, same value: refused with 302":                           0, // renews
		"put mutable, wrong signature: silently dropped":                                  206,
		"get mutable with seq equal to the stored one: seq is ignored, the value is sent": 0,   // BEP 44
		"sample_infohashes (unknown method): no reply":                                    0,   // BEP 51
		"put mutable at a node built without `verify`":                                    302, // we do verify, and hold seq 2
	})
}

func TestLibtorrentExchanges(t *testing.T) {
	v := load(t)
	for _, c := range []struct {
		raw  json.RawMessage
		host string
	}{{v.LibtorrentExchanges.IPv4, "127.0.0.1"}, {v.LibtorrentExchanges.IPv6, "::1"}} {
		var rec struct {
			QuerierPort uint16 `json:"querier_port"`
			Exchanges   []exchange
		}
		if err := json.Unmarshal(c.raw, &rec); err != nil {
			t.Fatal(err)
		}
		var first message
		if err := first.parse(rec.Exchanges[0].ResponseHex); err != nil {
			t.Fatal(err)
		}
		host := netip.MustParseAddr(c.host)
		n, d := direct(t, func(c *Config) {
			c.ID, _ = MakeID(first.body.id)
			c.Network.(*desk).local = netip.AddrPortFrom(host, 6881)
		})
		replay(t, n, d, netip.AddrPortFrom(host, rec.QuerierPort), rec.Exchanges, map[string]Code{
			"announce_peer, token of another info_hash: refused":      0, // ours is bound to the address only
			"announce_peer, implied_port without a port key: refused": 0, // as bittorrent-dht announces
			"get_peers, two stored (values and nodes)":                0, // the two announces above were accepted
			"get_peers, noseed":                            0,
			"get_peers, scrape: filters instead of values": 0,
			"sample_infohashes":                            0,
			"unknown method without target: error 203":     204,
			"trailing bytes: no reply":                     0,
			"no t: answered with an empty t":               silence,
		})
	}
}

func TestAnacrolixExchanges(t *testing.T) {
	v := load(t)
	n, d := direct(t, func(c *Config) { c.ID = testID })
	replay(t, n, d, netip.MustParseAddrPort("127.0.0.1:40000"), v.AnacrolixExchanges.Exchanges, map[string]Code{
		"ping without a":                     203,
		"find_node without target: answered": 203,
		"find_node without a":                203,
		"announce_peer, wrong token: silent": 203,
		"sample_infohashes: unknown":         0,
		"put immutable without seq: refused": 0,
		"put mutable seq 1 with cas 7: accepted (stored cas is 0, so cas is not compared)": 301,
		"id of 19 bytes: silent":  203,
		"announce_peer without a": 203,
	})
}

// TestTokens checks that our tokens are bittorrent-dht's.
func TestTokens(t *testing.T) {
	v := load(t).Tokens.BittorrentDHT
	for _, c := range []struct{ secret, token vectors.Hex }{{v.CurrentSecret, v.TokenCurrent}, {v.PreviousSecret, v.TokenPrevious}} {
		var secret [token.MaxSize]byte
		copy(secret[:], c.secret)
		if got := tokenHash(&secret, v.Host); !bytes.Equal(got[:tokenSize], c.token) {
			t.Errorf("token %x, want %x", got[:tokenSize], c.token)
		}
	}
}

// TestBadInput gives the node every datagram that was given to the others, some
// of which crashed them, and expects what docs/spec/mainline.md §25 says.
func TestBadInput(t *testing.T) {
	v := load(t)
	if len(v.BadInput) < 80 {
		t.Fatalf("%d vectors", len(v.BadInput))
	}
	want := map[string]Code{
		"unsorted keys": 0, "duplicate key": 0, "trailing bytes": 0, "t empty": 0, "t 8 bytes": 0, "key __proto__": 0,
		"unknown method": 204, "unknown method with target": 0,
		"a missing": 203, "a is a string": 203, "a is a list": 203, "a without id": 203, "id of 19 bytes": 203,
		"id is an integer": 203, "q is an integer": 203,
		"find_node target of 5 bytes": 203, "find_node target integer": 203, "find_node target list": 203,
		"get_peers info_hash of 5 bytes": 203, "get_peers info_hash integer 5": 203,
		"get_peers info_hash integer 0": 203, "get_peers info_hash integer 50": 203,
		"announce_peer token integer": 203, "announce_peer token empty": 203, "announce_peer token short": 203,
		"announce_peer token missing": 203, "announce_peer port 0": 203, "announce_peer port 65536": 203,
		"announce_peer port negative": 203, "announce_peer port string": 203, "announce_peer port missing": 203,
		"announce_peer info_hash of 5 bytes": 203, "announce_peer info_hash integer 5": 203,
		"announce_peer info_hash integer 50": 203,
		"get without target":                 203, "get target of 5 bytes": 203, "get target integer 5": 203,
		"put without v": 203, "put v empty string": 0, "put v integer": 0, "put v integer 0": 0, "put v dict": 0,
		"put v list of 1200 bytes": 205, "put v dict unsorted": 203, "put token integer": 203, "put without id": 203,
		"put k without sig": 203, "put sig without k": 203, "put k of 31 bytes": 203, "put k integer": 203,
		"put mutable without seq": 203, "put mutable salt 65": 207, "put mutable salt integer": 203,
		"put mutable seq string": 203, "put mutable seq negative": 203, "put mutable seq 2^63": 203,
	}
	n, d := direct(t, func(c *Config) { c.ID = testID })
	var secret [token.MaxSize]byte
	copy(secret[:], v.Tokens.BittorrentDHT.CurrentSecret)
	n.mu.Lock()
	n.sockets[0].tokens.Set(time.Now(), secret, secret)
	n.mu.Unlock()
	from := netip.MustParseAddrPort("127.0.0.1:50000")
	ping := []byte("d1:ad2:id20:BBBBBBBBBBBBBBBBBBBBe1:q4:ping2:roi1e1:t2:zz1:y1:qe")
	for _, x := range v.BadInput {
		code, answered := want[x.Name]
		delete(want, x.Name)
		reply := d.give(n, from, x.Hex)
		var m message
		switch {
		case !answered && reply != nil:
			t.Errorf("%s: answered with %q", x.Name, reply)
		case answered && reply == nil:
			t.Errorf("%s: no answer", x.Name)
		case answered:
			if err := m.parse(reply); err != nil || bencode.Check(reply) != nil {
				t.Errorf("%s: answered with %q", x.Name, reply)
			} else if code == 0 && m.kind != 'r' || code != 0 && (m.kind != 'e' || m.code != code) {
				t.Errorf("%s: answered with %q, want %d", x.Name, reply, code)
			}
		}
		if d.give(n, from, ping) == nil {
			t.Fatalf("%s: the node answers no more", x.Name)
		}
	}
	for name := range want {
		t.Errorf("no such vector: %s", name)
	}
	if nodes := n.Nodes(); len(nodes) != 0 {
		t.Errorf("%v entered the table without having answered", nodes)
	}
}
