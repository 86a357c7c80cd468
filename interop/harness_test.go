//go:build interop

package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// The harness against itself: two JavaScript processes, one network.
func TestHyperDHTScripts(t *testing.T) {
	a := StartJS(t, "hyperdht.js")
	b := StartJS(t, "hyperdht.js")
	ctx := t.Context()
	var network Testnet
	a.Must("testnet", Args{"size": 4}, &network)
	var server Server
	a.Must("listen", Args{"node": network.Nodes[1].Node}, &server)
	var client Node
	b.Must("node", Args{"bootstrap": network.Bootstrap}, &client)
	seed := hex.EncodeToString(bytes.Repeat([]byte{7}, 32))
	near, err := b.Dial(ctx, Args{"node": client.Node, "key": server.PublicKey, "seed": seed})
	if err != nil {
		t.Fatal(err)
	}
	far := a.Accept(ctx, server.Server)
	if !bytes.Equal(near.Info.HandshakeHash, far.Info.HandshakeHash) || len(near.Info.HandshakeHash) != 64 {
		t.Errorf("handshake hashes %v and %v", near.Info.HandshakeHash, far.Info.HandshakeHash)
	}
	if !bytes.Equal(far.Info.RemotePublicKey, near.Info.PublicKey) || !bytes.Equal(near.Info.RemotePublicKey, server.PublicKey) {
		t.Errorf("keys: %+v and %+v", near.Info, far.Info)
	}

	const size = 3<<20 + 5
	sent := make(chan error, 1)
	go func() {
		err := near.Send(ctx, "up", size)
		sent <- errors.Join(err, near.End(ctx))
	}()
	r, err := far.Receive(ctx, -1)
	if err != nil || r.Bytes != size || !r.End || !bytes.Equal(r.SHA256, PatternSum("up", size)) {
		t.Errorf("received %+v, %v", r, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := far.Write(ctx, []byte("after your end")); err != nil {
		t.Error(err)
	}
	if err := far.End(ctx); err != nil {
		t.Error(err)
	}
	if got, err := near.Read(ctx, 100); err != nil || string(got) != "after your end" {
		t.Errorf("read %q, %v", got, err)
	}
	if r, err := near.Wait(ctx, "close"); err != nil || !r.Close || r.Error != "" {
		t.Errorf("close: %+v, %v", r, err)
	}

	var remote *RemoteError
	if err := b.Call(ctx, "no such", nil, nil); !errors.As(err, &remote) {
		t.Errorf("an unknown method answers %v", err)
	}
}

func TestDHTRPCScript(t *testing.T) {
	js := StartJS(t, "dhtrpc.js")
	var network Testnet
	js.Must("network", Args{"size": 8}, &network)
	var put struct {
		Key          Hex    `json:"key"`
		ClosestNodes []Addr `json:"closestNodes"`
	}
	js.Must("put", Args{"node": network.Nodes[3].Node, "value": Hex("hello")}, &put)
	var got struct{ Value Hex }
	js.Must("get", Args{"node": network.Nodes[6].Node, "key": put.Key}, &got)
	if string(got.Value) != "hello" || len(put.ClosestNodes) == 0 {
		t.Errorf("got %q, stored at %v", got.Value, put.ClosestNodes)
	}
}

func TestProxy(t *testing.T) {
	echo, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	roomy(echo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			echo.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	t.Cleanup(func() { echo.Close(); <-done })
	link := Link{Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Delay: time.Millisecond}
	p := NewProxy(t, echo.LocalAddr().(*net.UDPAddr).AddrPort(), link)
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(p.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	roomy(c)
	const sent = 1000
	for i := range sent {
		c.Write([]byte{byte(i >> 8), byte(i)})
	}
	var order []int
	b := make([]byte, 2048)
	c.SetReadDeadline(time.Now().Add(time.Second)) // the last ones arrive within 12 ms
	for {
		n, err := c.Read(b)
		if err != nil {
			break
		}
		if n != 2 {
			t.Fatalf("a datagram of %d bytes", n)
		}
		order = append(order, int(b[0])<<8|int(b[1]))
	}
	there, back := p.Stats()
	if want := there.In - there.Lost + there.Duplicated - back.Lost + back.Duplicated; len(order) != want || there.In != sent {
		t.Errorf("%d datagrams came back, want %d (%+v, %+v)", len(order), want, there, back)
	}
	if there.Lost < 60 || there.Lost > 140 || there.Reordered < 60 || back.Duplicated < 60 {
		t.Errorf("links: %+v, %+v", there, back)
	}
	overtaken := 0
	for i := 1; i < len(order); i++ {
		if order[i] < order[i-1] {
			overtaken++
		}
	}
	if overtaken == 0 {
		t.Error("nothing was reordered")
	}
}

func TestPattern(t *testing.T) {
	js := StartJS(t, "hyperdht.js")
	var got Hex
	js.Must("hash", Args{"data": Hex("abc")}, &got)
	if len(got) != 32 {
		t.Errorf("hash of %d bytes", len(got))
	}
	h := sha256.New()
	if _, err := io.CopyN(h, Pattern("x"), 100_000); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.Sum(nil), PatternSum("x", 100_000)) || bytes.Equal(PatternSum("x", 10), PatternSum("y", 10)) {
		t.Error("the pattern is not one")
	}
}
