package mainline

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// A State is what a node knows that is worth keeping: as JSON it has the form of
// bittorrent-dht's toJSON, and reads that too. A node made with it
// (Config.State) has the same id, begins with those nodes, and holds those
// items.
//
//	{"id": "…", "nodes": [{"id": "…", "host": "192.0.2.1", "port": 6881}],
//	 "values": {"<target>": {"value": "<bencoded, in hex>", "k": "…", "sig": "…", "seq": 1, "salt": "…"}}}
type State struct {
	ID    ID        // of the first socket
	Nodes []Contact // the last heard from first
	Items []Item    // that the node holds, for itself and for others
}

type stateJSON struct {
	ID     ID                  `json:"id,omitzero"`
	Nodes  []Contact           `json:"nodes"`
	Values map[string]itemJSON `json:"values"`
}

type itemJSON struct {
	Value string `json:"value,omitempty"` // bencoded
	V     string `json:"v,omitempty"`     // bittorrent-dht: the content of a byte string
	K     string `json:"k,omitempty"`
	Sig   string `json:"sig,omitempty"`
	Seq   int64  `json:"seq,omitempty"`
	Salt  string `json:"salt,omitempty"`
}

// State returns what the node knows now.
func (n *Node) State() *State {
	st := &State{ID: n.ID(), Nodes: n.Nodes()}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, i := range n.items.kept.All() {
		st.Items = append(st.Items, *i)
	}
	return st
}

// MarshalJSON writes the form shown above.
func (st *State) MarshalJSON() ([]byte, error) {
	j := stateJSON{ID: st.ID, Nodes: st.Nodes, Values: make(map[string]itemJSON)}
	if j.Nodes == nil {
		j.Nodes = []Contact{}
	}
	for _, i := range st.Items {
		j.Values[fmt.Sprintf("%x", i.target(hashSHA1).short())] = itemJSON{
			Value: hex.EncodeToString(i.Value),
			K:     hex.EncodeToString(i.Key),
			Sig:   hex.EncodeToString(i.Signature),
			Seq:   i.Seq,
			Salt:  hex.EncodeToString(i.Salt),
		}
	}
	return json.Marshal(j)
}

func (k key) short() []byte { return k[:shortID] }

// UnmarshalJSON reads the form shown above, and that of bittorrent-dht.
func (st *State) UnmarshalJSON(b []byte) error {
	var j stateJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*st = State{ID: j.ID, Nodes: j.Nodes}
	for target, v := range j.Values {
		var bad error
		bytes := func(s string) []byte {
			b, err := hex.DecodeString(s)
			if err != nil {
				bad = err
			}
			if len(b) == 0 {
				return nil
			}
			return b
		}
		i := Item{Value: bytes(v.Value), Key: bytes(v.K), Signature: bytes(v.Sig), Salt: bytes(v.Salt), Seq: v.Seq}
		if i.Value == nil {
			i.Value = StringValue(bytes(v.V))
		}
		if bad == nil {
			bad = i.check()
		}
		if bad != nil {
			return fmt.Errorf("mainline: value %s: %w", target, bad)
		}
		st.Items = append(st.Items, i)
	}
	return nil
}

// restore takes up what an earlier node left, in its store and in its state. It
// runs before anything else does.
func (n *Node) restore(now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.load(now); err != nil {
		return err
	}
	st := n.cfg.State
	if st == nil {
		return nil
	}
	if !st.ID.IsZero() && n.cfg.ID.IsZero() && n.checkID(st.ID) == nil {
		n.sockets[0].id = st.ID.key
		n.sockets[0].routes.rebase(st.ID.key)
	}
	for _, c := range st.Nodes {
		n.saveAddr(c.Addr)
	}
	for k, i := range st.Items {
		if i.check() != nil || i.Mutable() && !n.cfg.Verify(i.Signature, SignedMessage(i.Salt, i.Seq, i.Value), i.Key) {
			continue
		}
		// Who put them is not known any more, and one source has room for only so
		// many. Each of these is the only one of its network.
		share := 0
		for _, quota := range []int{n.cfg.PerSource, n.cfg.PerNetwork} {
			if quota > 0 {
				share = max(share, k/quota)
			}
		}
		from := netip.AddrFrom4([4]byte{0, byte(share >> 8), byte(share), 1})
		n.keepItem(now, i.target(n.cfg.Hash), &i, nil, from)
	}
	return nil
}

// saveAddr notes an address from an earlier life: it is asked when the node
// bootstraps, and enters the table when it answers.
func (n *Node) saveAddr(a netip.AddrPort) {
	if usable(a) && len(n.saved) < maxSaved {
		n.saved = append(n.saved, a)
	}
}

// maxSaved bounds the nodes taken from an earlier life.
const maxSaved = 50
