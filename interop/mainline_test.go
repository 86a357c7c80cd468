//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/warren-dht/warren/mainline"
)

// A mainlinePeer is a node of one of the three implementations that share a
// network.
type mainlinePeer struct {
	name     string
	announce func(t *testing.T, infoHash [20]byte) (port uint16)
	lookup   func(t *testing.T, infoHash [20]byte) []uint16
	put      func(t *testing.T, value string) // immutable
	get      func(t *testing.T, target [20]byte) string
	sign     func(t *testing.T, seed byte, salt, value string) // a mutable item with seq 1
	getKey   func(t *testing.T, seed byte, salt string) string
}

func privateKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicKey(seed byte) []byte { return privateKey(seed).Public().(ed25519.PublicKey) }

// warrenNodes makes a network of our nodes on loopback.
func warrenNodes(t *testing.T, n int, boot ...string) []*mainline.Node {
	t.Helper()
	var nodes []*mainline.Node
	for range n {
		node, err := mainline.Listen(mainline.Config{
			Addrs:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
			Bootstrap: append([]string{}, boot...),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		if err := node.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if nodes = append(nodes, node); len(boot) == 0 {
			boot = []string{node.Addr().String()}
		}
	}
	return nodes
}

func warrenPeer(n *mainline.Node) mainlinePeer {
	return mainlinePeer{
		name: "warren",
		announce: func(t *testing.T, infoHash [20]byte) uint16 {
			st, err := n.Announce(t.Context(), mainline.FromHash(infoHash), mainline.AnnounceOptions{Port: 4321})
			if err != nil || len(st.Refused) > 0 {
				t.Errorf("announce: %+v, %v", st, err)
			}
			return 4321
		},
		lookup: func(t *testing.T, infoHash [20]byte) (ports []uint16) {
			l := n.Lookup(mainline.FromHash(infoHash))
			for p := range l.Peers(t.Context()) {
				ports = append(ports, p.Addr.Port())
			}
			if l.Err() != nil {
				t.Error(l.Err())
			}
			return ports
		},
		put: func(t *testing.T, value string) {
			st, err := n.Put(t.Context(), mainline.Item{Value: mainline.StringValue(value)})
			if err != nil || len(st.Refused) > 0 {
				t.Errorf("put: %+v, %v", st, err)
			}
		},
		get: func(t *testing.T, target [20]byte) string {
			f, err := n.Get(t.Context(), mainline.FromHash(target), mainline.GetOptions{NoCache: true})
			if err != nil {
				t.Error(err)
				return ""
			}
			b, _ := f.Bytes()
			return string(b)
		},
		sign: func(t *testing.T, seed byte, salt, value string) {
			st, err := n.Put(t.Context(), mainline.Sign(privateKey(seed), []byte(salt), 1, mainline.StringValue(value)))
			if err != nil || len(st.Refused) > 0 {
				t.Errorf("put: %+v, %v", st, err)
			}
		},
		getKey: func(t *testing.T, seed byte, salt string) string {
			f, err := n.GetMutable(t.Context(), publicKey(seed), []byte(salt), mainline.GetOptions{NoCache: true})
			if err != nil {
				t.Error(err)
				return ""
			}
			if f.Seq != 1 || f.Invalid != 0 {
				t.Errorf("get: %+v", f)
			}
			b, _ := f.Bytes()
			return string(b)
		},
	}
}

// scriptPeer is a node of a script, js/mainline.js or js/mainline-libtorrent.mjs,
// which have the same commands but for how they name a mutable item.
func scriptPeer(name string, p *Peer, node string, byKey bool) mainlinePeer {
	seedHex := func(seed byte) Hex { return bytes.Repeat([]byte{seed}, 32) }
	return mainlinePeer{
		name: name,
		announce: func(t *testing.T, infoHash [20]byte) uint16 {
			r := struct{ Port uint16 }{7777}
			p.Must("announce", Args{"node": node, "infoHash": hex.EncodeToString(infoHash[:]), "port": 7777}, &r)
			return r.Port
		},
		lookup: func(t *testing.T, infoHash [20]byte) (ports []uint16) {
			var r struct{ Peers []struct{ Port uint16 } }
			p.Must("lookup", Args{"node": node, "infoHash": hex.EncodeToString(infoHash[:])}, &r)
			for _, x := range r.Peers {
				ports = append(ports, x.Port)
			}
			return ports
		},
		put: func(t *testing.T, value string) {
			var r struct{ Stored int }
			p.Must("put", Args{"node": node, "value": Hex(value)}, &r)
			if r.Stored == 0 {
				t.Error("nobody stored it")
			}
		},
		get: func(t *testing.T, target [20]byte) string {
			var r *struct{ Value Hex }
			if err := p.Call(t.Context(), "get", Args{"node": node, "target": hex.EncodeToString(target[:])}, &r); err != nil || r == nil {
				t.Errorf("get: %v", err)
				return ""
			}
			return string(r.Value)
		},
		sign: func(t *testing.T, seed byte, salt, value string) {
			args := Args{"node": node, "value": Hex(value), "seed": seedHex(seed), "salt": Hex(salt)}
			if byKey {
				args["publicKey"] = Hex(publicKey(seed))
			} else {
				args["seq"] = 1
			}
			var r struct{ Stored int }
			p.Must("put", args, &r)
			if r.Stored == 0 {
				t.Error("nobody stored it")
			}
		},
		getKey: func(t *testing.T, seed byte, salt string) string {
			args := Args{"node": node, "salt": Hex(salt)}
			if byKey {
				args["publicKey"] = Hex(publicKey(seed))
			} else {
				args["target"] = mainline.MutableTarget(publicKey(seed), []byte(salt)).String()
			}
			var r *struct {
				Value Hex
				Seq   int64
			}
			if err := p.Call(t.Context(), "get", args, &r); err != nil || r == nil {
				t.Errorf("get: %v", err)
				return ""
			}
			if r.Seq != 1 {
				t.Errorf("seq %d", r.Seq)
			}
			return string(r.Value)
		},
	}
}

// startLibtorrent starts sessions of libtorrent in a network, and waits until
// they have found it.
func startLibtorrent(t *testing.T, n int, boot string) (*Peer, []string, []netip.AddrPort) {
	t.Helper()
	err := exec.Command("/usr/bin/python3", "-c", "import libtorrent").Run()
	Need(t, err == nil, "python3-libtorrent is not installed")
	p := StartJS(t, "mainline-libtorrent.mjs")
	var names []string
	var addrs []netip.AddrPort
	at := netip.MustParseAddrPort(boot)
	for range n {
		var r struct {
			Node string
			Port uint16
		}
		p.Must("node", Args{"bootstrap": []string{boot}}, &r)
		p.Must("addNode", Args{"node": r.Node, "host": at.Addr().String(), "port": at.Port()}, nil)
		names = append(names, r.Node)
		addrs = append(addrs, netip.AddrPortFrom(at.Addr(), r.Port))
	}
	deadline := time.Now().Add(CallTimeout)
	for _, name := range names {
		for known := 0; known < 3; {
			p.Must("nodes", Args{"node": name}, &known)
			if time.Now().After(deadline) {
				t.Fatalf("libtorrent knows %d nodes", known)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return p, names, addrs
}

// TestMainlineOneNetwork: warren, bittorrent-dht and libtorrent in one network.
// Peers and items put by each are found by each.
func TestMainlineOneNetwork(t *testing.T) {
	ours := warrenNodes(t, 8)
	boot := ours[0].Addr().String()
	js := StartJS(t, "mainline.js")
	var theirs []struct {
		Node string
		Port uint16
	}
	for range 6 {
		var r struct {
			Node string
			Port uint16
		}
		js.Must("node", Args{"bootstrap": []string{boot}}, &r)
		theirs = append(theirs, r)
	}
	lt, sessions, _ := startLibtorrent(t, 3, boot)

	// One node of each puts, another one finds.
	writers := []mainlinePeer{
		warrenPeer(ours[2]), scriptPeer("bittorrent-dht", js, theirs[1].Node, false), scriptPeer("libtorrent", lt, sessions[0], true),
	}
	readers := []mainlinePeer{
		warrenPeer(ours[6]), scriptPeer("bittorrent-dht", js, theirs[4].Node, false), scriptPeer("libtorrent", lt, sessions[1], true),
	}
	for i, w := range writers {
		infoHash := sha1.Sum([]byte("torrent of " + w.name))
		value, signed, salt := "value of "+w.name, "signed by "+w.name, "salt"
		sum := sha1.Sum(fmt.Appendf(nil, "%d:%s", len(value), value))
		port := w.announce(t, infoHash)
		w.put(t, value)
		w.sign(t, byte(i+1), salt, signed)
		for _, r := range readers {
			t.Run(w.name+" to "+r.name, func(t *testing.T) {
				found := false
				for range 5 { // libtorrent announces in its own time
					for _, p := range r.lookup(t, infoHash) {
						found = found || p == port
					}
					if found {
						break
					}
					time.Sleep(time.Second)
				}
				if !found {
					t.Error("the peer was not found")
				}
				if got := r.get(t, sum); got != value {
					t.Errorf("immutable: %q", got)
				}
				if got := r.getKey(t, byte(i+1), salt); got != signed {
					t.Errorf("mutable: %q", got)
				}
			})
		}
	}
}

// TestMainlineLibtorrentExtensions asks libtorrent what bittorrent-dht does not
// know: samples of info-hashes (BEP 51), scrapes (BEP 33), and nodes near us.
func TestMainlineLibtorrentExtensions(t *testing.T) {
	ours := warrenNodes(t, 4)
	lt, sessions, addrs := startLibtorrent(t, 2, ours[0].Addr().String())
	infoHash := sha1.Sum([]byte("scraped"))
	for i, n := range ours {
		if _, err := n.Announce(t.Context(), mainline.FromHash(infoHash), mainline.AnnounceOptions{Port: uint16(5000 + i), Seed: i == 0}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), CallTimeout)
	defer cancel()
	n := ours[1]
	for i, a := range addrs {
		c, err := n.Ping(ctx, a)
		if err != nil || c.ID.IsZero() {
			t.Fatalf("ping: %v, %v", c, err)
		}
		near, err := n.FindNode(ctx, a, n.ID())
		if err != nil || len(near) == 0 {
			t.Errorf("find_node: %v, %v", near, err)
		}
		s, err := n.Sample(ctx, a, c.ID)
		if err != nil || s.Num == 0 || len(s.Hashes) != 1 || s.Hashes[0] != mainline.FromHash(infoHash) || s.Interval == 0 {
			t.Errorf("session %d: sample_infohashes: %+v, %v", i, s, err)
		}
	}
	r, err := n.Scrape(ctx, mainline.FromHash(infoHash))
	if err != nil || r.Seeds < 0.5 || r.Downloaders < 0.5 { // one address each: filters know no ports
		t.Errorf("scrape: %+v, %v", r, err)
	}
	// libtorrent's second put of its own item takes the next seq, ours with cas follows.
	p := scriptPeer("libtorrent", lt, sessions[0], true)
	p.sign(t, 9, "", "first")
	f, err := n.GetMutable(ctx, publicKey(9), nil)
	if err != nil || f.Seq != 1 {
		t.Fatalf("get: %+v, %v", f, err)
	}
	cas := int64(1)
	st, err := n.Put(ctx, mainline.Sign(privateKey(9), nil, 2, mainline.StringValue("second")), mainline.PutOptions{CAS: &cas})
	if err != nil || len(st.Refused) > 0 {
		t.Errorf("put with cas: %+v, %v", st, err)
	}
	st, err = n.Put(ctx, mainline.Sign(privateKey(9), nil, 3, mainline.StringValue("third")), mainline.PutOptions{CAS: &cas})
	if err == nil || len(st.Refused) == 0 || st.Refused[0].Err.Code != mainline.CodeCASMismatch {
		t.Errorf("put with an old cas: %+v, %v", st, err)
	}
}
