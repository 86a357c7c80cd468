package mainline

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/udp"
)

func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var host udp.Network
		tn := newTestnet(t, 20, func(i int, c *Config) {
			if i == 3 {
				host = c.Network
			}
		})
		defer tn.close()
		n := tn.nodes[3]
		mutable := Sign(seed, []byte("salt"), 7, StringValue("hello"))
		immutable := Item{Value: StringValue("bytes \xff")}
		for _, i := range []Item{mutable, immutable} {
			if _, err := n.Put(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		b, err := json.Marshal(n.State())
		if err != nil {
			t.Fatal(err)
		}
		n.Close()
		var st State
		if err := json.Unmarshal(b, &st); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if len(st.Nodes) == 0 || len(st.Items) < 2 {
			t.Fatalf("%s", b)
		}
		// No bootstrap node is needed.
		again := tn.add(func(c *Config) {
			c.Bootstrap, c.NoBootstrap, c.State = nil, true, &st
			c.Network, c.Addrs = host, []netip.AddrPort{n.Addr()}
		})
		if again.ID() != n.ID() || len(again.Nodes()) == 0 {
			t.Errorf("id %v, want %v; nodes %v", again.ID(), n.ID(), again.Nodes())
		}
		for _, i := range []Item{mutable, immutable} {
			f, err := again.Get(t.Context(), again.id(i.target(hashSHA1)), GetOptions{Salt: i.Salt})
			if err != nil || !cmp.Equal(f.Item, i) {
				t.Errorf("%v, %v", f, err)
			}
		}
	})
	// More than one source may put.
	many := new(State)
	for i := range 2*DefaultPerSource + 500 {
		many.Items = append(many.Items, Item{Value: StringValue(strconv.Itoa(i))})
	}
	n, _ := direct(t, func(c *Config) { c.State = many })
	if got := n.Stats().Items; got != len(many.Items) {
		t.Errorf("%d of %d items were restored", got, len(many.Items))
	}
	// bittorrent-dht's own.
	var st State
	if err := json.Unmarshal([]byte(`{"nodes":[{"host":"127.0.0.1","port":20000}],"values":{"e5f96f6f38320f0f33959cb4d3d656452117aadb":{"v":"48656c6c6f20576f726c6421","id":"00"}}}`), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Nodes) != 1 || st.Nodes[0].Addr != netip.MustParseAddrPort("127.0.0.1:20000") || len(st.Items) != 1 || string(st.Items[0].Value) != "12:Hello World!" {
		t.Errorf("%+v", st)
	}
	for _, bad := range []string{`{"nodes":[{"host":"x","port":1}]}`, `{"values":{"a":{"v":"zz"}}}`, `{"values":{"a":{"value":"00"}}}`, `[]`} {
		if json.Unmarshal([]byte(bad), &st) == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// A memStore is a durable store that is not.
type memStore struct {
	mu      sync.Mutex
	entries map[string]keep.Change
	err     error
	commits int
}

func (s *memStore) Load(each func(keep.Change) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.entries {
		if err := each(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) Commit(changes []keep.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.commits++; s.err != nil {
		return s.err
	}
	for _, c := range changes {
		k := c.Kind + "/" + string(c.Key)
		if c.Op == keep.OpRemove {
			delete(s.entries, k)
		} else {
			s.entries[k] = c
		}
	}
	return nil
}

func TestStoreSurvives(t *testing.T) {
	store := &memStore{entries: map[string]keep.Change{"other/x": {Kind: "other", Key: []byte("x")}}}
	item := Sign(seed, []byte("s"), 3, StringValue("kept"))
	hash := strings.Repeat("C", 20)
	var id ID
	play(t, func(c *Config) { c.Store, c.ID = store, ID{} }, func(s *stage) {
		a := s.actor()
		id = s.node.ID()
		a.enter('A')
		token := string(a.token())
		if m := a.parsed(newQuery(t, "announce_peer", map[string]any{"info_hash": hash, "port": 1, "token": token, "seed": 1})); m.kind != 'r' {
			t.Errorf("announce: %+v", m)
		}
		if m := a.parsed(newQuery(t, "put", map[string]any{
			"token": token, "v": item.Value, "k": item.Key, "sig": item.Signature, "seq": item.Seq, "salt": item.Salt,
		})); m.kind != 'r' {
			t.Errorf("put: %+v", m)
		}
		store.mu.Lock()
		keys := slices.Collect(maps.Keys(store.entries))
		keys = slices.DeleteFunc(keys, func(k string) bool { return strings.HasPrefix(k, kindNode) }) // noted sooner or later
		if len(keys) != 3 {                                                                           // the answers came after the commits
			t.Errorf("%v", keys)
		}
		store.err = errors.New("disk full")
		store.mu.Unlock()
		if m := a.parsed(newQuery(t, "put", map[string]any{"token": token, "v": "x"})); m.kind != 'e' || m.code != CodeServer {
			t.Errorf("put to a full disk: %+v", m)
		}
		store.mu.Lock()
		store.err = nil
		store.mu.Unlock()
	})
	saved := maps.Clone(store.entries)
	play(t, func(c *Config) { c.Store, c.ID = store, ID{} }, func(s *stage) {
		if s.node.ID() != id {
			t.Errorf("id %v, was %v", s.node.ID(), id)
		}
		if got := s.node.saved; len(got) != 1 {
			t.Errorf("saved nodes: %v", got)
		}
		for p := range s.node.Lookup(mustMake(hash)).Peers(s.Context()) {
			if p.Addr.Port() != 1 {
				t.Errorf("peer %v", p)
			}
			hash = ""
		}
		if hash != "" {
			t.Error("the peer is gone")
		}
		f, err := s.node.GetMutable(s.Context(), item.Key, item.Salt)
		if err != nil || !cmp.Equal(f.Item, item) {
			t.Errorf("%+v, %v", f, err)
		}
		time.Sleep(3 * time.Hour) // what expires leaves the store as well
		synctest.Wait()
		store.mu.Lock()
		for k := range store.entries {
			if !strings.HasPrefix(k, kindNode) && k != "other/x" {
				t.Errorf("%q is still there", k)
			}
		}
		store.mu.Unlock()
	})
	for _, bad := range []keep.Change{
		{Kind: kindPeer, Key: []byte("short"), Value: []byte{0}},
		{Kind: kindItem, Key: make([]byte, 20), Value: []byte("x")},
		{Kind: kindItem, Key: make([]byte, 20), Value: append(make([]byte, 16), "d1:vi1ee"...)},
		{Kind: kindNode, Key: []byte{0}, Value: []byte{200}},
		{Kind: "mainline.new", Key: []byte{0}},
	} {
		s := &memStore{entries: maps.Clone(saved)}
		s.entries["bad"] = bad
		if n, err := Listen(Config{Network: newDesk(), NoBootstrap: true, Store: s}); !errors.Is(err, ErrDamagedStore) {
			t.Errorf("%+v: %v", bad, err)
			if n != nil {
				n.Close()
			}
		}
	}
}
