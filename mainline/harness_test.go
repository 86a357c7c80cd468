package mainline

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// A stage is one node and hand-driven peers around it, in virtual time.
type stage struct {
	*testing.T
	inet *vnet.Network
	node *Node
	host *vnet.Host
}

// play runs f on a stage whose node has the id of the vectors.
func play(t *testing.T, change func(*Config), f func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		inet := vnet.New(1)
		defer inet.Close()
		h := inet.Host()
		id, _ := ParseID("00112233445566778899aabbccddeeff00112233")
		cfg := Config{
			Network:     h,
			Addrs:       []netip.AddrPort{netip.AddrPortFrom(h.Addr(), 6881)},
			ID:          id,
			NoBootstrap: true,
			Rand:        rand.NewPCG(1, 2),
		}
		if change != nil {
			change(&cfg)
		}
		n, err := Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f(&stage{t, inet, n, h})
	})
}

// An actor is a hand-driven peer.
type actor struct {
	s    *stage
	conn udp.Conn
	addr netip.AddrPort
	got  chan udp.Datagram
}

// actor makes a peer on a host of its own.
func (s *stage) actor() *actor {
	h := s.inet.Host()
	conn, err := h.Listen(netip.AddrPortFrom(h.Addr(), 7000))
	if err != nil {
		s.Fatal(err)
	}
	a := &actor{s: s, conn: conn, addr: conn.LocalAddr(), got: make(chan udp.Datagram, 1000)}
	go func() {
		batch := make([]udp.Datagram, 8)
		for {
			n, err := conn.ReadBatch(batch)
			if err != nil {
				return
			}
			for _, d := range batch[:n] {
				a.got <- udp.Datagram{Payload: bytes.Clone(d.Payload), Peer: d.Peer}
			}
		}
	}()
	return a
}

// send sends a datagram to the node.
func (a *actor) send(b []byte) {
	a.conn.WriteBatch([]udp.Datagram{{Payload: b, Peer: a.s.node.Addr()}})
}

// receive returns the next datagram that comes within half a second, nil if
// none does.
func (a *actor) receive() []byte {
	select {
	case d := <-a.got:
		return d.Payload
	case <-time.After(500 * time.Millisecond):
		return nil
	}
}

// ask sends a query and returns the answer to it, passing over queries of the
// node's own, which it does not answer.
func (a *actor) ask(b []byte) []byte {
	a.send(b)
	for {
		d := a.receive()
		if d == nil || !bytes.HasSuffix(d, []byte("1:y1:qe")) {
			return d
		}
	}
}

// parsed asks and reads the answer; m.kind is 0 without one.
func (a *actor) parsed(b []byte) *message {
	m := new(message)
	if d := a.ask(b); d != nil {
		if err := bencode.Check(d); err != nil {
			a.s.Errorf("the answer %q: %v", d, err)
		}
		if err := m.parse(d); err != nil {
			a.s.Fatalf("the answer %q: %v", d, err)
		}
	}
	return m
}

// token asks for a token.
func (a *actor) token() []byte {
	m := a.parsed([]byte("d1:ad2:id20:AAAAAAAAAAAAAAAAAAAA9:info_hash20:CCCCCCCCCCCCCCCCCCCCe1:q9:get_peers2:roi1e1:t2:tk1:y1:qe"))
	if len(m.body.token) != tokenSize {
		a.s.Fatalf("token %q", m.body.token)
	}
	return m.body.token
}

// answer waits for a query of the node's with a method, and answers it with
// results, as they stand between the braces of r.
func (a *actor) answer(method string, results func(m *message) string) {
	a.s.Helper()
	var m message
	for {
		d := a.receive()
		if d == nil {
			a.s.Fatalf("no %s came", method)
		}
		if err := m.parse(d); err != nil {
			a.s.Fatal(err)
		}
		if m.kind == 'q' && string(m.method) == method {
			break
		}
	}
	b := append([]byte("d1:rd"+results(&m)+"e1:t"), bencode.AppendString(nil, m.t)...)
	a.send(append(b, "1:y1:re"...))
}

// krpc writes a message from Go values.
func krpc(t testing.TB, m map[string]any) []byte {
	t.Helper()
	b, err := bencode.Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newQuery writes a query from id AAAA….
func newQuery(t testing.TB, method string, args map[string]any) []byte {
	if _, ok := args["id"]; !ok {
		args["id"] = strings.Repeat("A", 20)
	}
	return krpc(t, map[string]any{"a": args, "q": method, "ro": 1, "t": "aa", "y": "q"})
}

// notation turns a vector's message ("s:text", "x:hex", numbers) into what
// bencode.Decode returns.
func notation(t testing.TB, raw json.RawMessage) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var conv func(any) any
	conv = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				t.Fatal(err)
			}
			return n
		case string:
			if s, ok := strings.CutPrefix(v, "s:"); ok {
				return s
			}
			b, err := hex.DecodeString(strings.TrimPrefix(v, "x:"))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		case []any:
			for i := range v {
				v[i] = conv(v[i])
			}
			return v
		case map[string]any:
			for k := range v {
				v[k] = conv(v[k])
			}
			return v
		case nil:
			return nil
		}
		t.Fatalf("%T in a vector", v)
		return nil
	}
	return conv(v)
}

// An exchange is a query that was put to a real node, and its answer.
type exchange struct {
	Name        string
	QueryHex    vectors.Hex `json:"query_hex"`
	ResponseHex vectors.Hex `json:"response_hex"`
}

// A captured is a message that a real node sent.
type captured struct {
	Call    string
	Name    string
	Hex     vectors.Hex
	Message json.RawMessage
}

// recorded is testdata/mainline.json.
type recorded struct {
	Bep5Examples []captured `json:"bep5_examples"`
	Compact      struct {
		Nodes4, Nodes6, Peers4, Peers6 []struct {
			ID   string
			Host netip.Addr
			Port uint16
			Hex  vectors.Hex
		}
		OddInputs []struct {
			Name         string
			ReplyR       json.RawMessage  `json:"reply_r"`
			NodeQueried  *bool            `json:"node_queried"`
			PeersEmitted []netip.AddrPort `json:"peers_emitted"`
		} `json:"odd_inputs"`
	}
	Tokens struct {
		BittorrentDHT struct {
			Host           netip.Addr
			CurrentSecret  vectors.Hex `json:"current_secret"`
			PreviousSecret vectors.Hex `json:"previous_secret"`
			TokenCurrent   vectors.Hex `json:"token_current"`
			TokenPrevious  vectors.Hex `json:"token_previous"`
		} `json:"bittorrent_dht"`
	}
	BittorrentDHTClientQueries struct{ Queries []captured }         `json:"bittorrent_dht_client_queries"`
	LibtorrentClientQueries    struct{ Queries []captured }         `json:"libtorrent_client_queries"`
	AnacrolixClientQueries     struct{ Queries []captured }         `json:"anacrolix_client_queries"`
	BittorrentDHTExchanges     struct{ Exchanges []exchange }       `json:"bittorrent_dht_exchanges"`
	LibtorrentExchanges        struct{ IPv4, IPv6 json.RawMessage } `json:"libtorrent_exchanges"`
	AnacrolixExchanges         struct{ Exchanges []exchange }       `json:"anacrolix_exchanges"`
	Bep33                      struct {
		Filters []struct {
			Name, Insert string
			FilterHex    vectors.Hex `json:"filter_hex"`
			ZeroBits     int         `json:"zero_bits"`
			Estimate     float64
		}
	}
	Bep42 struct {
		IPv4 []struct {
			IP     netip.Addr
			Rand   byte
			NodeID string `json:"node_id"`
			CRC    vectors.Hex
			Valid  bool
		}
		MoreIPv4 []struct {
			IP     netip.Addr
			NodeID string `json:"node_id"`
			Why    string
			Valid  bool
		} `json:"more_ipv4"`
		Exempt []netip.Addr
		IPv6   []struct {
			IP     netip.Addr
			Rand   byte
			CRC    vectors.Hex
			Prefix vectors.Hex `json:"prefix_3_bytes"`
		}
	}
	Bep43 struct {
		QueryHex vectors.Hex `json:"query_hex"`
	}
	Bep44 struct {
		BepVectors []struct {
			Name, Target string
			Value        vectors.Hex `json:"value_bencoded_hex"`
			SignedBuffer string      `json:"signed_buffer"`
			PublicKey    vectors.Hex `json:"public_key"`
			Seq          int64
			Salt         vectors.Hex `json:"salt_hex"`
			Signature    vectors.Hex
		} `json:"bep_vectors"`
		SeedVectors []struct {
			Name, Target string
			Seed         vectors.Hex
			PublicKey    vectors.Hex `json:"public_key"`
			Seq          int64
			Salt         vectors.Hex `json:"salt_hex"`
			Value        vectors.Hex `json:"value_bencoded_hex"`
			SignedBuffer vectors.Hex `json:"signed_buffer_hex"`
			Signature    vectors.Hex
		} `json:"seed_vectors"`
	}
	Bep46 []struct {
		PublicKey vectors.Hex `json:"public_key"`
		Salt      vectors.Hex `json:"salt_hex"`
		Magnet    string
		Target    string
	}
	BadInput []struct {
		Name string
		Hex  vectors.Hex
	} `json:"bad_input"`
}

func load(t testing.TB) *recorded {
	v := new(recorded)
	vectors.Load(t, "mainline.json", v)
	return v
}

func hashOf(s string) ID { return FromHash(sha1.Sum([]byte(s))) }
