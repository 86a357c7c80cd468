package dhtrpc

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/token"
	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/kad"
)

// The vectors recorded from the reference, docs/spec/dht-rpc.md §13. Its lists
// of integers and plain addresses are tested in package compact, those of the
// NAT sampler in package nat.

type vecAddr struct {
	Host string
	Port uint16
	ID   *vectors.Hex
}

func (a vecAddr) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(a.Host), a.Port)
}

type vecMessage struct {
	Type     string
	TID      uint16
	To       vecAddr
	ID       vectors.Hex
	Token    vectors.Hex
	Internal bool
	Command  uint64
	Target   vectors.Hex
	Closer   []vecAddr `json:"closer_nodes"`
	Error    uint64
	Value    vectors.Hex
}

type vecDatagram struct {
	Name      string
	From      vecAddr
	Hex       vectors.Hex
	Decoded   vecMessage
	Canonical bool
}

type vecSend struct {
	To  vecAddr
	Hex vectors.Hex
}

type vecServer struct {
	Name, State, Table, Handler string
	From                        vecAddr
	Datagram                    vectors.Hex
	Expect                      struct {
		Event *struct {
			Command              uint64
			TID                  uint16
			Target, Value, Token vectors.Hex
			From, To             vecAddr
		} `json:"request_event"`
		Sends       []vecSend
		TableGained bool `json:"table_gains_sender"`
	}
}

type vecFile struct {
	IDs []struct {
		vecAddr
		Input vectors.Hex
		ID    vectors.Hex
	}
	Tokens struct {
		Derive []struct {
			Host          string
			Secret, Token vectors.Hex
		}
		Rotation []struct {
			Previous, Current vectors.Hex
			Token             vectors.Hex `json:"token_127_0_0_1"`
		}
	}
	Messages, Lenient, Malformed []vecDatagram
	Distance                     []struct {
		Target, A, B vectors.Hex
		Order        int
	}
	Routing []struct {
		Own      vectors.Hex `json:"own_id"`
		K        int
		Insert   []string
		Rows     map[string][]string
		Rejected []string `json:"rejected_full"`
		Closest  []struct {
			Target vectors.Hex
			Row    int
			Exact  []string `json:"exact_xor_order"`
		}
	} `json:"routing_table"`
	Congestion []struct {
		Name  string
		Max   int `json:"max_window"`
		Steps []struct {
			Op    string
			Slot  int
			Slots [4]int
			Total int
			Full  bool
		}
	}
	Adaptive []struct {
		Name  string
		Steps []struct {
			Op                          string
			RTT, Avg, Variance, Timeout int64
			Attempt                     int
		}
	} `json:"adaptive_timeout"`
	Health []struct {
		Name  string
		Ticks []struct {
			Responses, Timeouts          int
			Online, Degraded, Cold, Idle bool
		}
	}
	States struct {
		Self    vecAddr
		Secrets struct{ Previous, Current vectors.Hex }
		Three   struct {
			Nodes []vecAddr `json:"routing_table"`
		}
	} `json:"server_states"`
	Server []vecServer
	Traces []struct {
		Name    string
		Packets []struct {
			Src, Dst vecAddr
			Hex      vectors.Hex
		}
	}
}

var vecCache *vecFile

func vec(t testing.TB) *vecFile {
	t.Helper()
	if vecCache == nil {
		vecCache = new(vecFile)
		vectors.Load(t, "dht-rpc.json", vecCache)
	}
	return vecCache
}

// describe writes a datagram as the vectors do, for comparison.
func describe(from netip.AddrPort, b []byte) (vecMessage, error) {
	prove := func(id *ID) vectors.Hex {
		if id == nil || IDOf(from) != *id {
			return nil
		}
		return id[:]
	}
	addr := func(a netip.AddrPort) vecAddr { return vecAddr{Host: a.Addr().String(), Port: a.Port()} }
	if len(b) > 0 && b[0] == requestByte {
		m, err := parseRequest(b)
		v := vecMessage{Type: "request", TID: m.tid, ID: prove(m.id), Internal: m.internal, Command: m.command, Value: m.value}
		if err == nil {
			v.To = addr(m.to)
		}
		if m.token != nil {
			v.Token = m.token[:]
		}
		if m.target != nil {
			v.Target = m.target[:]
		}
		return v, err
	}
	m, err := parseReply(b)
	v := vecMessage{Type: "reply", TID: m.tid, ID: prove(m.id), Error: m.code, Value: m.value}
	if err == nil {
		v.To = addr(m.to)
	}
	if m.token != nil {
		v.Token = m.token[:]
	}
	if m.closer.Bytes() != nil {
		v.Closer = []vecAddr{}
		for _, a := range m.closer.Append(nil) {
			v.Closer = append(v.Closer, addr(a))
		}
	}
	return v, err
}

func TestVectorMessages(t *testing.T) {
	f := vec(t)
	if len(f.Messages) != 99 || len(f.Lenient) != 19 || len(f.Malformed) != 35 {
		t.Fatalf("%d messages, %d lenient, %d malformed", len(f.Messages), len(f.Lenient), len(f.Malformed))
	}
	for _, v := range slices.Concat(f.Messages, f.Lenient) {
		got, err := describe(v.From.addr(), v.Hex)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(v.Decoded)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: decoded\n%s, want\n%s", v.Name, a, b)
		}
		if !v.Canonical {
			continue
		}
		var again []byte
		var size int
		if m, err := parseRequest(v.Hex); err == nil {
			again, size = m.append(nil), m.size()
		} else if m, err := parseReply(v.Hex); err == nil {
			again, size = m.append(nil), m.size()
		}
		if !bytes.Equal(again, v.Hex) || size != len(again) {
			t.Errorf("%s: encoded %x (size %d), want %x", v.Name, again, size, []byte(v.Hex))
		}
	}
	// What must not be read is not, and moves nothing in a node.
	for _, v := range f.Malformed {
		tc := newTestCore(t, Config{})
		tc.in(v.From.addr().String(), v.Hex)
		tc.idle(v.Name)
		if tc.c.table.Len() != 0 || tc.c.nat.Len() != 0 || len(tc.c.events) != 0 {
			t.Errorf("%s: changed the node", v.Name)
		}
	}
}

func TestVectorIDs(t *testing.T) {
	for _, v := range vec(t).IDs {
		if got := IDOf(v.addr()); !bytes.Equal(got[:], v.ID) {
			t.Errorf("IDOf(%v) = %v, want %x", v.addr(), got, []byte(v.ID))
		}
		if got := Hash(v.Input); !bytes.Equal(got[:], v.ID) {
			t.Errorf("Hash(%x) = %v, want %x", []byte(v.Input), got, []byte(v.ID))
		}
	}
}

func TestVectorTokens(t *testing.T) {
	f := vec(t)
	if len(f.Tokens.Derive) == 0 || len(f.Tokens.Rotation) < 2 {
		t.Fatal("lists are missing")
	}
	for _, v := range f.Tokens.Derive {
		if got := tokenHash((*[32]byte)(v.Secret), netip.MustParseAddr(v.Host)); !bytes.Equal(got[:], v.Token) {
			t.Errorf("token of %s = %x, want %x", v.Host, got, []byte(v.Token))
		}
	}
	// Consecutive states: each token is issued in its state, accepted in the
	// next, and refused in the one after that.
	host := netip.MustParseAddr("127.0.0.1")
	s := token.New(32, tokenPeriod, tokenHash, func([]byte) {})
	at := time.Unix(1e9, 0)
	rot := f.Tokens.Rotation
	for i, v := range rot {
		s.Set(at, [32]byte(v.Previous), [32]byte(v.Current))
		if got := s.Issue(at, host); !bytes.Equal(got[:], v.Token) {
			t.Errorf("state %d issues %x, want %x", i, got, []byte(v.Token))
		}
		if i > 0 && (!bytes.Equal(v.Previous, rot[i-1].Current) || !s.Valid(at, host, rot[i-1].Token)) {
			t.Errorf("state %d refuses the token of the one before", i)
		}
		if i > 1 {
			if s.Valid(at, host, rot[i-2].Token) {
				t.Errorf("state %d accepts the token of two states before", i)
			}
			if want := Hash(rot[i-1].Previous); !bytes.Equal(want[:], v.Current) {
				t.Errorf("state %d does not follow from the one before", i)
			}
		}
	}
}

func TestVectorDistance(t *testing.T) {
	f := vec(t)
	if len(f.Distance) == 0 {
		t.Fatal("list is missing")
	}
	for _, v := range f.Distance {
		if got := kad.Compare(ID(v.Target), ID(v.A), ID(v.B)); cmp.Compare(got, 0) != v.Order {
			t.Errorf("Compare(%x, %x, %x) = %d, want %d", []byte(v.Target), []byte(v.A), []byte(v.B), got, v.Order)
		}
	}
}

// The table of a node holds what the reference's holds, bucket for bucket, and
// names the truly closest nodes, nearest first.
func TestVectorRoutingTable(t *testing.T) {
	f := vec(t)
	if len(f.Routing) != 3 {
		t.Fatal("list is missing")
	}
	for i, v := range f.Routing {
		tb := kad.NewTable[ID, entry](ID(v.Own), v.K, kad.Limits{})
		var rejected []string
		for _, s := range v.Insert {
			if _, r := tb.Insert(contactOf(netip.MustParseAddrPort(s)), entry{}); r == kad.Full {
				rejected = append(rejected, s)
			}
		}
		if !slices.Equal(rejected, v.Rejected) {
			t.Errorf("table %d rejected %v, want %v", i, rejected, v.Rejected)
		}
		total := 0
		for row, want := range v.Rows {
			n, _ := strconv.Atoi(row)
			id := ID(v.Own)
			if n < 255 {
				id[n/8] ^= 0x80 >> (n % 8)
			}
			nodes := slices.Clone(tb.Bucket(id))
			slices.SortFunc(nodes, func(a, b *kad.Node[ID, entry]) int { return bytes.Compare(a.ID[:], b.ID[:]) })
			var got []string
			for _, n := range nodes {
				got = append(got, n.Addr.String())
			}
			total += len(got)
			if !slices.Equal(got, want) {
				t.Errorf("table %d, bucket %s: %v, want %v", i, row, got, want)
			}
		}
		if total != tb.Len() {
			t.Errorf("table %d holds %d nodes, want %d", i, tb.Len(), total)
		}
		for _, c := range v.Closest {
			var got []string
			for _, n := range tb.Closest(nil, ID(c.Target), v.K) {
				got = append(got, n.Addr.String())
			}
			if want := c.Exact[:min(len(c.Exact), v.K)]; !slices.Equal(got, want) {
				t.Errorf("table %d, closest to %x: %v, want %v", i, []byte(c.Target), got, want)
			}
			if row := min(kad.Prefix(ID(v.Own), ID(c.Target)), 255); row != c.Row {
				t.Errorf("table %d: bucket of %x is %d, want %d", i, []byte(c.Target), row, c.Row)
			}
		}
	}
}

func TestVectorCongestion(t *testing.T) {
	for _, v := range vec(t).Congestion {
		w := window{max: v.Max, since: time.Unix(1e9, 0)}
		var given [4]int // back to slots that are over, where the reference gives nothing
		for i, s := range v.Steps {
			switch s.Op {
			case "send":
				w.sent()
			case "recv":
				before := w.slots
				w.received()
				for slot := range given {
					if slot != w.slot {
						given[slot] += before[slot] - w.slots[slot]
					}
				}
			case "drain":
				w.advance(w.since.Add(slotTime))
				given[w.slot] = 0
			default:
				t.Fatalf("%s: unknown step %q", v.Name, s.Op)
			}
			slots, total := w.slots, w.total
			for slot, n := range given {
				slots[slot] += n
				total += n
			}
			if w.slot != s.Slot || slots != s.Slots || total != s.Total || w.full() != s.Full && total == w.total {
				t.Errorf("%s, step %d (%s): slot %d, slots %v, total %d, full %v; want %+v", v.Name, i, s.Op, w.slot, w.slots, w.total, w.full(), s)
			}
		}
	}
}

func TestVectorAdaptiveTimeout(t *testing.T) {
	if len(vec(t).Adaptive) != 4 {
		t.Fatal("list is missing")
	}
	now, peer := time.Unix(1e9, 0), netip.MustParseAddrPort("1.2.3.4:5")
	for _, v := range vec(t).Adaptive {
		e := newEstimator(AdaptiveTimeout{Jitter: -1}, now)
		for i, s := range v.Steps {
			switch s.Op {
			case "put":
				e.put(now, peer, time.Duration(s.RTT)*time.Millisecond)
				if rt, _ := e.get(now, peer); rt != (roundTrip{s.Avg, s.Variance}) {
					t.Errorf("%s, step %d: %+v, want %+v", v.Name, i, rt, s)
				}
			case "get":
				if got := e.timeout(now, peer, s.Attempt, 0.5).Milliseconds(); got != s.Timeout {
					t.Errorf("%s, step %d: timeout %d, want %d", v.Name, i, got, s.Timeout)
				}
			default:
				t.Fatalf("%s: unknown step %q", v.Name, s.Op)
			}
		}
	}
}

func TestVectorHealth(t *testing.T) {
	const defect = "REFERENCE DEFECT: after an offline spell degraded never clears by good ticks"
	met := false
	for _, v := range vec(t).Health {
		var h health
		responses, timeouts, good := 0, 0, 0
		for i, s := range v.Ticks {
			responses += s.Responses
			timeouts += s.Timeouts
			h.update(responses, timeouts)
			if s.Timeouts > s.Responses {
				good = 0
			} else {
				good++
			}
			want := s.Degraded
			if v.Name == defect && s.Degraded && good >= healthTicks {
				want, met = false, true // the reference stays degraded for ever
			}
			if h.down == s.Online || h.degraded != want || h.cold() != s.Cold {
				t.Errorf("%s, tick %d: online %v, degraded %v, cold %v; want %+v", v.Name, i, !h.down, h.degraded, h.cold(), s)
			}
			r, n := h.last()
			if idle := r+n < healthIdle; idle != s.Idle {
				t.Errorf("%s, tick %d: idle %v, want %v", v.Name, i, idle, s.Idle)
			}
		}
	}
	if !met {
		t.Errorf("no vector %q", defect)
	}
}

// vecHandler is the handler that a server vector names; it notes what it saw.
type vecHandler struct {
	kind string
	seen *Request
}

func (h *vecHandler) ServeRPC(r *Request) bool {
	h.seen = &r.Detach().Request
	r.answered = false
	other := netip.MustParseAddrPort("127.0.0.1:42002")
	switch h.kind {
	case "echo":
		r.Reply(r.Value)
	case "bare":
		r.Reply(nil, WithoutToken(), WithoutCloser())
	case "error17":
		r.Error(17)
	case "error17_opts":
		r.Error(17, WithToken(), WithoutCloser())
	case "silent":
	case "redirect":
		r.Reply(r.Value, To(other))
	case "relay":
		r.Relay(other, r.Value)
	default:
		panic("unknown handler " + h.kind)
	}
	return true
}

// Every datagram that a reference node was sent draws the same datagrams from
// this one, but for the order of closer nodes (nearest first here).
func TestVectorServer(t *testing.T) {
	f := vec(t)
	if len(f.Server) != 133 {
		t.Fatalf("%d vectors", len(f.Server))
	}
	for i, v := range f.Server {
		name := fmt.Sprintf("%d: %s, %s, table %s, handler %s", i, v.Name, v.State, v.Table, v.Handler)
		var cfg Config
		h := &vecHandler{kind: v.Handler}
		if v.Handler != "none" {
			cfg.Handler = h
		}
		tc := newTestCore(t, cfg)
		c := tc.c
		c.table = kad.NewTable[ID, entry](ID(*f.States.Self.ID), K, kad.Limits{})
		c.ephemeral = v.State != "persistent"
		c.secrets.Set(tc.c.now, [32]byte(f.States.Secrets.Previous), [32]byte(f.States.Secrets.Current))
		if v.Table == "three" {
			for _, a := range f.States.Three.Nodes {
				c.table.Insert(contactOf(a.addr()), entry{})
			}
		}
		before := c.table.Len()
		tc.in(v.From.addr().String(), v.Datagram)
		tc.advance(100 * time.Millisecond) // the delayed pings of the vectors
		if e := v.Expect.Event; (e == nil) != (h.seen == nil) {
			t.Errorf("%s: handler called %v, want %v", name, h.seen != nil, e != nil)
		} else if e != nil {
			r := h.seen
			if r.Command != e.Command || r.TID != e.TID || r.From != e.From.addr() || r.To != e.To.addr() ||
				(r.Target == nil) != (e.Target == nil) || r.Target != nil && !bytes.Equal(r.Target[:], e.Target) ||
				(r.Token == nil) != (e.Token == nil) || r.Token != nil && !bytes.Equal(r.Token[:], e.Token) ||
				(r.FromID == nil) != (e.From.ID == nil || *e.From.ID == nil) ||
				(r.Value == nil) != (e.Value == nil) || !bytes.Equal(r.Value, e.Value) {
				t.Errorf("%s: handler saw %+v, want %+v", name, r, e)
			}
		}
		sent := tc.out()
		if len(sent) != len(v.Expect.Sends) {
			t.Errorf("%s: %d datagrams sent, want %d", name, len(sent), len(v.Expect.Sends))
			continue
		}
		for j, want := range v.Expect.Sends {
			if sent[j].Peer != want.To.addr() || !bytes.Equal(sortedCloser(sent[j].Payload), sortedCloser(want.Hex)) {
				t.Errorf("%s: sent %x to %v, want %x to %v", name, sent[j].Payload, sent[j].Peer, []byte(want.Hex), want.To.addr())
			}
		}
		if gained := c.table.Len() > before; gained != v.Expect.TableGained {
			t.Errorf("%s: sender entered the table: %v", name, gained)
		}
	}
}

// sortedCloser returns a reply with its closer nodes in ascending order.
func sortedCloser(b []byte) []byte {
	m, err := parseReply(b)
	if err != nil || m.closer.Len() == 0 {
		return b
	}
	var list [][]byte
	for raw := range slices.Chunk(m.closer.Bytes(), 6) {
		list = append(list, raw)
	}
	slices.SortFunc(list, bytes.Compare)
	out := bytes.Clone(b)
	at := bytes.Index(out, m.closer.Bytes())
	copy(out[at:], slices.Concat(list...))
	return out
}

// Every packet of the recorded conversations is read, and written back the
// same.
func TestVectorTraces(t *testing.T) {
	f := vec(t)
	if len(f.Traces) != 3 {
		t.Fatal("list is missing")
	}
	for _, v := range f.Traces {
		for i, p := range v.Packets {
			var again []byte
			if m, err := parseRequest(p.Hex); err == nil {
				again = m.append(nil)
			} else if m, err := parseReply(p.Hex); err == nil {
				again = m.append(nil)
			}
			if !bytes.Equal(again, p.Hex) {
				t.Errorf("%s, packet %d: %x became %x", v.Name, i, []byte(p.Hex), again)
			}
		}
	}
}
