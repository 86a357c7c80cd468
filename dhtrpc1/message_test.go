package dhtrpc1

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/internal/vectors"
)

// A vectorFields is a message of the vector file; absent fields are nil.
type vectorFields struct {
	Command         string
	ID              vectors.Hex
	Target          vectors.Hex
	ForwardRequest  vectors.Hex
	ForwardResponse vectors.Hex
	RoundtripToken  vectors.Hex
	Value           vectors.Hex
	Nodes           vectors.Hex
}

func (f vectorFields) request(tid uint16) request {
	return request{tid, f.Command, f.ID, f.Target, f.ForwardRequest, f.ForwardResponse, f.RoundtripToken, f.Value}
}

func (f vectorFields) response(tid uint16) response {
	return response{tid, f.ID, f.Nodes, f.Value, f.RoundtripToken}
}

type vectorMessage struct {
	Name   string
	Call   string
	Hex    vectors.Hex
	Kind   string
	TID    uint16
	Fields vectorFields
}

type vectorAddr struct {
	ID   vectors.Hex
	Host string
	Port uint16
}

func (a vectorAddr) addr(t testing.TB) netip.AddrPort {
	t.Helper()
	ip, err := netip.ParseAddr(a.Host)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(ip, a.Port)
}

// vectorFile is testdata/dht-rpc-v2.json (docs/spec/dht-rpc-v2.md §13).
type vectorFile struct {
	Messages []vectorMessage
	Compact  struct {
		Peer []struct {
			vectorAddr
			Hex vectors.Hex
		}
		Node []struct {
			vectorAddr
			Hex vectors.Hex
		}
		Decode []struct {
			Name   string
			Hex    vectors.Hex
			Result any
		}
	}
	Token struct {
		Host           string
		SecretCurrent  vectors.Hex `json:"secret_current"`
		TokenCurrent   vectors.Hex `json:"token_current"`
		SecretPrevious vectors.Hex `json:"secret_previous"`
		TokenPrevious  vectors.Hex `json:"token_previous"`
	}
	ServerExchanges struct {
		NodeID        vectors.Hex `json:"node_id"`
		RequesterPort uint16      `json:"requester_port"`
		Exchanges     []struct {
			Name        string
			RequestHex  vectors.Hex `json:"request_hex"`
			ResponseHex vectors.Hex `json:"response_hex"`
		}
	} `json:"server_exchanges"`
	ClientFrames struct {
		NodeID         vectors.Hex `json:"node_id"`
		ResponderID    vectors.Hex `json:"responder_id"`
		ResponderToken vectors.Hex `json:"responder_token"`
		Frames         []vectorMessage
	} `json:"client_frames"`
	HolepunchFlow struct {
		AID   vectors.Hex     `json:"A_id"`
		APort uint16          `json:"A_port"`
		RID   vectors.Hex     `json:"R_id"`
		RPort uint16          `json:"R_port"`
		BID   vectors.Hex     `json:"B_id"`
		BPort uint16          `json:"B_port"`
		Hops  []vectorMessage `json:"hops"`
	} `json:"holepunch_flow"`
	BadInput []struct {
		Name     string
		Hex      vectors.Hex
		Outcome  string      `json:"dht_rpc_2_3_0"`
		ReplyHex vectors.Hex `json:"reply_hex"`
	} `json:"bad_input"`
	NotV4 struct {
		V4Ping vectors.Hex `json:"v4_ping_hex"`
	} `json:"not_v4"`
}

func loadVectors(t testing.TB) vectorFile {
	var v vectorFile
	vectors.Load(t, "dht-rpc-v2.json", &v)
	return v
}

var unexported = cmp.AllowUnexported(request{}, response{})

func TestMessageVectors(t *testing.T) {
	v := loadVectors(t)
	all := append(v.Messages, v.ClientFrames.Frames...)
	all = append(all, v.HolepunchFlow.Hops...)
	if len(all) < 15 {
		t.Fatalf("%d messages in the file", len(all))
	}
	for _, m := range all {
		if isRequest(m.Hex) != (m.Kind == "request") {
			t.Errorf("%s%s: is not told as a %s", m.Name, m.Call, m.Kind)
			continue
		}
		var got, want any
		var err error
		var again []byte
		if m.Kind == "request" {
			var r request
			r, err = parseRequest(m.Hex)
			got, want, again = r, m.Fields.request(m.TID), r.Append(nil)
		} else {
			var r response
			r, err = parseResponse(m.Hex)
			got, want, again = r, m.Fields.response(m.TID), r.Append(nil)
		}
		if err != nil {
			t.Errorf("%s%s: %v", m.Name, m.Call, err)
			continue
		}
		if d := cmp.Diff(want, got, unexported); d != "" {
			t.Errorf("%s%s:\n%s", m.Name, m.Call, d)
		}
		if !bytes.Equal(again, m.Hex) {
			t.Errorf("%s%s: written as %x, want %x", m.Name, m.Call, again, m.Hex)
		}
	}
}

// Fields of a wrong size are taken as absent (docs/spec/dht-rpc-v2.md §15).
func TestWrongSizes(t *testing.T) {
	for _, size := range []int{0, 1, 20, 31, 33, 64, 65} {
		f := make([]byte, size)
		r, err := parseRequest((&request{command: "x", id: f, target: f, token: f}).Append(nil))
		if err != nil || r.id != nil || r.target != nil || (r.token != nil) != (size > 0 && size <= 64) {
			t.Errorf("request with fields of %d bytes: %+v, %v", size, r, err)
		}
		p, err := parseResponse((&response{id: f, token: f}).Append(nil))
		if err != nil || p.id != nil || (p.token != nil) != (size > 0 && size <= 64) {
			t.Errorf("response with fields of %d bytes: %+v, %v", size, p, err)
		}
	}
}

func TestCompactVectors(t *testing.T) {
	v := loadVectors(t)
	for _, p := range v.Compact.Peer {
		addr := p.addr(t)
		if got := appendPeer(nil, addr); !bytes.Equal(got, p.Hex) {
			t.Errorf("peer %v = %x, want %x", addr, got, p.Hex)
		}
		if got, err := parsePeer(p.Hex); got != addr || err != nil {
			t.Errorf("peer %x = %v, %v, want %v", p.Hex, got, err, addr)
		}
	}
	for _, n := range v.Compact.Node {
		c := Contact{ID: ID(n.ID), Addr: n.addr(t)}
		if got := appendNodes(nil, []Contact{c}); !bytes.Equal(got, n.Hex) {
			t.Errorf("node %v = %x, want %x", c, got, n.Hex)
		}
	}
	for _, d := range v.Compact.Decode {
		isPeer := strings.HasPrefix(d.Name, "peer")
		n, fails := 0, true
		if list, ok := d.Result.([]any); ok {
			n, fails = len(list), false
		}
		if isPeer {
			if got, err := parsePeer(d.Hex); err == nil {
				t.Errorf("%s: %v, want an error", d.Name, got)
			}
			continue
		}
		got, err := parseNodes(d.Hex)
		if len(got) != n || (err != nil) != fails {
			t.Errorf("%s: %v, %v, want %d nodes", d.Name, got, err, n)
		}
		if !fails && !bytes.Equal(appendNodes([]byte{}, got), d.Hex[:n*nodeSize]) {
			t.Errorf("%s: changed on the way", d.Name)
		}
	}
	if got, err := parseNodes(bytes.Repeat(v.Compact.Node[0].Hex, 1000)); len(got) != K || err != nil {
		t.Errorf("a list of 1000: %d, %v", len(got), err)
	}
}

func FuzzDatagram(f *testing.F) {
	v := loadVectors(f)
	for _, m := range append(v.Messages, v.ClientFrames.Frames...) {
		f.Add([]byte(m.Hex))
	}
	for _, b := range v.BadInput {
		f.Add([]byte(b.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if isRequest(b) {
			r, err := parseRequest(b)
			if err != nil {
				return
			}
			again, err := parseRequest(r.Append(nil))
			if err != nil || !cmp.Equal(r, again, unexported) {
				t.Fatalf("%v: %s", err, cmp.Diff(r, again, unexported))
			}
			return
		}
		r, err := parseResponse(b)
		if err != nil {
			return
		}
		again, err := parseResponse(r.Append(nil))
		if err != nil || !cmp.Equal(r, again, unexported) {
			t.Fatalf("%v: %s", err, cmp.Diff(r, again, unexported))
		}
	})
}

func FuzzCompact(f *testing.F) {
	v := loadVectors(f)
	for _, d := range v.Compact.Decode {
		f.Add([]byte(d.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := parseNodes(b); err == nil {
			if got := appendNodes([]byte{}, list); !bytes.Equal(got, b[:len(got)]) {
				t.Fatalf("%x became %x", b, got)
			}
		}
		if p, err := parsePeer(b); err == nil && !bytes.Equal(appendPeer(nil, p), b[:peerSize]) {
			t.Fatalf("%x became %v", b, p)
		}
	})
}
