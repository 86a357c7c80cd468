//go:build interop

package interop

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// A jsRecord is a record that JavaScript got.
type jsRecord struct {
	Seq       uint64
	Value     Hex
	Signature Hex
}

func recordSeed(n byte) [32]byte { return [32]byte(bytes.Repeat([]byte{n}, 32)) }

func recordSeedHex(n byte) string { s := recordSeed(n); return hex.EncodeToString(s[:]) }

func hexOf[T ~[32]byte](b T) string { s := [32]byte(b); return hex.EncodeToString(s[:]) }

// valueOf is a value of a size that no other test uses.
func valueOf(name string, size int) []byte {
	b := make([]byte, size)
	Pattern(name).Read(b)
	return b
}

// recordSizes are the sizes of values that are tried, up to the largest that the
// reference's nodes can still read with twenty closer nodes beside it.
var recordSizes = []int{0, 1, 252, 253, hyperdht.MaxImmutableValue, 1700}

func TestImmutableRecordsWithJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		ctx := t.Context()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		goClient := goNode(t, hyperdht.Config{Bootstrap: boot})
		for _, size := range recordSizes {
			value := valueOf("go", size)
			put, err := goClient.ImmutablePut(ctx, value, hyperdht.PutOptions{MaxValue: size})
			if err != nil || len(put.Refused) > 0 {
				t.Fatalf("%d bytes: %v, refused by %v", size, err, put.Refused)
			}
			var got *jsRecord
			js.Must("immutableGet", Args{"node": client.Node, "hash": hexOf(put.Target)}, &got)
			if got == nil || !bytes.Equal(got.Value, value) {
				t.Errorf("%d bytes of ours: they get %v", size, got)
			}

			value = valueOf("js", size)
			var theirs struct{ Hash Hex }
			js.Must("immutablePut", Args{"node": client.Node, "value": Hex(value)}, &theirs)
			if want := hyperdht.Hash(value); !bytes.Equal(theirs.Hash, want[:]) {
				t.Errorf("%d bytes: they hash to %v", size, theirs.Hash)
			}
			r, err := goClient.ImmutableGet(ctx, hyperdht.Hash(value))
			if err != nil || !bytes.Equal(r.Value, value) {
				t.Errorf("%d bytes of theirs: %d, %v", size, len(r.Value), err)
			}
		}
		var none *jsRecord
		js.Must("immutableGet", Args{"node": client.Node, "hash": recordSeedHex(1)}, &none)
		if _, err := goClient.ImmutableGet(ctx, recordSeed(1)); none != nil || !errors.Is(err, hyperdht.ErrNotFound) {
			t.Errorf("nobody put that: %v, %v", none, err)
		}
	})
}

func TestMutableRecordsWithJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		ctx := t.Context()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		goClient := goNode(t, hyperdht.Config{Bootstrap: boot})

		// Every size, each side reading what the other wrote; seq grows to its end.
		for i, size := range recordSizes {
			seq := []uint64{0, 1, 253, 65536, 1 << 32, hyperdht.MaxSeq}[i]
			ours, theirs := hyperdht.KeyPairFromSeed(recordSeed(2)), hyperdht.KeyPairFromSeed(recordSeed(3))
			value := valueOf("go", size)
			put, stored, err := goClient.MutablePut(ctx, hyperdht.SignerOf(ours), seq, value, hyperdht.PutOptions{MaxValue: size})
			if err != nil || len(stored.Refused) > 0 {
				t.Fatalf("seq %d: %v, refused by %v", seq, err, stored.Refused)
			}
			var got *jsRecord
			js.Must("mutableGet", Args{"node": client.Node, "key": hexOf(ours.Public)}, &got)
			if got == nil || got.Seq != seq || !bytes.Equal(got.Value, value) || !bytes.Equal(got.Signature, put.Signature[:]) {
				t.Errorf("ours of seq %d: they get %v", seq, got)
			}

			value = valueOf("js", size)
			var signed struct{ Signature Hex }
			js.Must("mutablePut", Args{"node": client.Node, "seed": recordSeedHex(3), "value": Hex(value), "seq": seq}, &signed)
			r, err := goClient.MutableGet(ctx, theirs.Public, hyperdht.GetOptions{Seq: seq})
			if err != nil || r.Seq != seq || !bytes.Equal(r.Value, value) || !bytes.Equal(r.Signature[:], signed.Signature) {
				t.Errorf("theirs of seq %d: %+v, %v", seq, r, err)
			}
			if _, err := goClient.MutableGet(ctx, theirs.Public, hyperdht.GetOptions{Seq: seq, First: true}); err != nil {
				t.Errorf("first of seq %d: %v", seq, err)
			}
		}
	})
}

func TestSequenceErrorsWithJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		ctx := t.Context()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		goClient := goNode(t, hyperdht.Config{Bootstrap: boot})
		keys := hyperdht.KeyPairFromSeed(recordSeed(4))
		put := func(seq uint64, value string) error {
			_, _, err := goClient.MutablePut(ctx, hyperdht.SignerOf(keys), seq, []byte(value), hyperdht.PutOptions{})
			return err
		}
		jsPut := func(seq uint64, value string) {
			js.Must("mutablePut", Args{"node": client.Node, "seed": recordSeedHex(4), "value": Hex(value), "seq": seq}, nil)
		}
		latest := func() string {
			var got *jsRecord
			js.Must("mutableGet", Args{"node": client.Node, "key": hexOf(keys.Public)}, &got)
			r, err := goClient.MutableGet(ctx, keys.Public, hyperdht.GetOptions{})
			if err != nil || got == nil || got.Seq != r.Seq || !bytes.Equal(got.Value, r.Value) {
				t.Errorf("they get %v, we get %+v, %v", got, r, err)
			}
			return fmt.Sprint(r.Seq, string(r.Value))
		}
		jsPut(5, "five")
		if err := put(5, "five"); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if err := put(5, "other"); !errors.Is(err, hyperdht.SeqReused) {
			t.Errorf("reused: %v", err)
		}
		if err := put(4, "four"); !errors.Is(err, hyperdht.SeqTooLow) {
			t.Errorf("too low: %v", err)
		}
		jsPut(4, "four") // they do not notice
		jsPut(5, "other")
		if got := latest(); got != "5five" && got != "5 five" {
			t.Errorf("latest is %q", got)
		}
		if err := put(6, "six"); err != nil {
			t.Error(err)
		}
		jsPut(5, "five")
		if got := latest(); got != "6six" && got != "6 six" {
			t.Errorf("latest is %q", got)
		}

		// A third keeps it alive without the key.
		r, err := goNode(t, hyperdht.Config{Bootstrap: boot}).MutableGet(ctx, keys.Public, hyperdht.GetOptions{
			Refresh: func(hyperdht.MutableRecord) bool { return true },
		})
		if err != nil || len(r.Refreshed.Nodes) == 0 || len(r.Refreshed.Refused) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// jsPeers are the peers of a topic as JavaScript finds them, with their relays.
func jsPeers(js *Peer, node, topic string) map[string][]Addr {
	var replies []struct {
		Peers []struct {
			PublicKey      Hex
			RelayAddresses []Addr
		}
	}
	js.Must("lookup", Args{"node": node, "topic": topic}, &replies)
	found := map[string][]Addr{}
	for _, r := range replies {
		for _, p := range r.Peers {
			found[hex.EncodeToString(p.PublicKey)] = p.RelayAddresses
		}
	}
	return found
}

func goPeers(t *testing.T, n *hyperdht.Node, topic hyperdht.Target) map[string][]netip.AddrPort {
	t.Helper()
	found := map[string][]netip.AddrPort{}
	for p, err := range n.Lookup(t.Context(), topic) {
		if err != nil {
			t.Error(err)
			break
		}
		found[hexOf(p.PublicKey)] = p.Relays
	}
	return found
}

func TestTopicsWithJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		ctx := t.Context()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		goClient := goNode(t, hyperdht.Config{Bootstrap: boot})
		topic := recordSeed(9)
		ours := hyperdht.KeyPairFromSeed(recordSeed(5))
		theirs := hexOf(hyperdht.KeyPairFromSeed(recordSeed(6)).Public)
		relays := []netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:4567"), netip.MustParseAddrPort("10.1.2.4:80")}

		stored, err := goClient.Announce(ctx, topic, hyperdht.SignerOf(ours), hyperdht.AnnounceOptions{Relays: relays})
		if err != nil || len(stored.Refused) > 0 {
			t.Fatalf("%v, refused by %v", err, stored.Refused)
		}
		js.Must("announce", Args{
			"node": client.Node, "topic": recordSeedHex(9), "seed": recordSeedHex(6),
			"relayAddresses": []map[string]any{{"host": "10.1.2.5", "port": 1}, {"host": "10.1.2.6", "port": 65535}},
		}, nil)

		there, here := jsPeers(js, client.Node, recordSeedHex(9)), goPeers(t, goClient, topic)
		if len(there) != 2 || len(here) != 2 {
			t.Errorf("they find %v, we find %v", there, here)
		}
		if got := there[hexOf(ours.Public)]; len(got) != 2 || got[0].Host != "10.1.2.3" || got[0].Port != 4567 {
			t.Errorf("our relays as they find them: %v", got)
		}
		want := []netip.AddrPort{netip.MustParseAddrPort("10.1.2.5:1"), netip.MustParseAddrPort("10.1.2.6:65535")}
		if !slices.Equal(here[theirs], want) {
			t.Errorf("their relays as we find them: %v", here[theirs])
		}

		if err := goClient.Unannounce(ctx, topic, hyperdht.SignerOf(ours), hyperdht.AnnounceOptions{}); err != nil {
			t.Error(err)
		}
		if there := jsPeers(js, client.Node, recordSeedHex(9)); len(there) != 1 || there[theirs] == nil {
			t.Errorf("after our unannounce they find %v", there)
		}
		js.Must("unannounce", Args{"node": client.Node, "topic": recordSeedHex(9), "seed": recordSeedHex(6)}, nil)
		if here := goPeers(t, goClient, topic); len(here) != 0 {
			t.Errorf("after their unannounce we find %v", here)
		}
	})
}

// Bumps and announcements that replace an earlier one, on nodes of either side.
func TestBumpAndClearWithJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		ctx := t.Context()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		goClient := goNode(t, hyperdht.Config{Bootstrap: boot})
		topic := recordSeed(10)
		now := uint64(time.Now().UnixMilli())
		bumps := func() (there, here uint64) {
			var replies []struct{ Bump uint64 }
			js.Must("lookup", Args{"node": client.Node, "topic": recordSeedHex(10)}, &replies)
			for _, r := range replies {
				there = max(there, r.Bump)
			}
			for p, err := range goClient.Lookup(ctx, topic) {
				if err != nil {
					t.Fatal(err)
				}
				here = max(here, p.Bump)
			}
			return there, here
		}
		relay := func(host string) Args { return Args{"host": host, "port": 1} }
		jsAnnounce := func(host string, options Args) {
			js.Must("announce", Args{
				"node": client.Node, "topic": recordSeedHex(10), "seed": recordSeedHex(11),
				"relayAddresses": []Args{relay(host)}, "options": options,
			}, nil)
		}
		theirs := hexOf(hyperdht.KeyPairFromSeed(recordSeed(11)).Public)
		relays := func() string { return fmt.Sprint(goPeers(t, goClient, topic)[theirs]) }

		jsAnnounce("10.1.2.3", Args{"bump": now})
		if there, here := bumps(); there != now || here != now {
			t.Errorf("bumps %d and %d, want %d", there, here, now)
		}
		signer := hyperdht.SignerOf(hyperdht.KeyPairFromSeed(recordSeed(12)))
		for _, c := range []struct{ bump, want uint64 }{{now + 7, now + 7}, {now, now + 7}, {now + 1<<40, now + 7}} {
			if _, err := goClient.Announce(ctx, topic, signer, hyperdht.AnnounceOptions{Bump: c.bump}); err != nil {
				t.Fatal(err)
			}
			if there, here := bumps(); there != c.want || here != c.want {
				t.Errorf("after %d: bumps %d and %d, want %d", c.bump, there, here, c.want)
			}
		}

		jsAnnounce("10.1.2.4", Args{}) // a young announcement keeps its relays
		if got := relays(); got != "[10.1.2.3:1]" {
			t.Errorf("relays %s", got)
		}
		jsAnnounce("10.1.2.5", Args{"clear": true})
		if got := relays(); got != "[10.1.2.5:1]" {
			t.Errorf("relays %s after clearing", got)
		}
		if _, err := goClient.Announce(ctx, topic, hyperdht.SignerOf(hyperdht.KeyPairFromSeed(recordSeed(11))), hyperdht.AnnounceOptions{
			Relays: []netip.AddrPort{netip.MustParseAddrPort("10.1.2.6:1")}, Clear: true,
		}); err != nil {
			t.Error(err)
		}
		if got := jsPeers(js, client.Node, recordSeedHex(10))[theirs]; fmt.Sprint(got) != "[10.1.2.6:1]" {
			t.Errorf("they find relays %v after we cleared", got)
		}
	})
}

// Servers of either side are found by the other, and no longer once they are
// closed.
func TestFindPeerWithJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		ctx := t.Context()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		goClient := goNode(t, hyperdht.Config{Bootstrap: boot})
		finds := func(key hyperdht.PublicKey) (n int) {
			for p, err := range goClient.FindPeer(ctx, key) {
				if err != nil || p.PublicKey != key {
					t.Errorf("%+v, %v", p, err)
				}
				n++
			}
			return n
		}
		jsFinds := func(key hyperdht.PublicKey) (n int) {
			var replies []struct{ From Addr }
			js.Must("findPeer", Args{"node": client.Node, "key": hexOf(key)}, &replies)
			return len(replies)
		}

		var server Server
		js.Must("listen", Args{"node": client.Node, "seed": recordSeedHex(7)}, &server)
		theirs := hyperdht.KeyPairFromSeed(recordSeed(7)).Public
		if finds(theirs) == 0 {
			t.Error("their server is not found")
		}
		js.Must("server.close", Args{"server": server.Server}, nil)
		if n := finds(theirs); n != 0 {
			t.Errorf("their server is found %d times after it closed", n)
		}

		ours := hyperdht.KeyPairFromSeed(recordSeed(8))
		l, err := goNode(t, hyperdht.Config{Bootstrap: boot}).Listen(ctx, hyperdht.ListenConfig{KeyPair: &ours})
		if err != nil {
			t.Fatal(err)
		}
		if jsFinds(ours.Public) == 0 || finds(ours.Public) == 0 {
			t.Error("our server is not found")
		}
		l.Close()
		if n := jsFinds(ours.Public); n != 0 {
			t.Errorf("our server is found %d times after it closed", n)
		}
	})
}
