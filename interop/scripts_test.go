//go:build interop

package interop

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"testing"
)

func TestUDXScript(t *testing.T) {
	for _, version := range []string{"udx-native", "udx-native-1183", "udx-native-1207"} {
		t.Run(version, func(t *testing.T) {
			ctx := t.Context()
			a, b := StartJS(t, "udx.js", "udx-native"), StartJS(t, "udx.js", version)
			var sa, sb struct {
				Socket string
				Port   uint16
			}
			a.Must("bind", nil, &sa)
			b.Must("bind", nil, &sb)
			var near, far struct{ Stream string }
			a.Must("accept", Args{"id": 1, "remoteId": 2, "mode": "echo"}, &far)
			b.Must("create", Args{"id": 2, "socket": sb.Socket, "remoteId": 1, "port": sa.Port}, &near)
			s := b.Stream(near.Stream)
			const size = 1 << 20
			sent := make(chan error, 1)
			go func() { sent <- s.Send(ctx, "u", size) }()
			r, err := s.Receive(ctx, size)
			if err != nil || !bytes.Equal(r.SHA256, PatternSum("u", size)) {
				t.Errorf("echo: %+v, %v", r, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if err := s.End(ctx); err != nil {
				t.Error(err)
			}
			if r, err := s.Wait(ctx, "close"); err != nil || !r.Close || r.Error != "" {
				t.Errorf("close: %+v, %v", r, err)
			}
		})
	}
}

func TestSecretStreamScript(t *testing.T) {
	ctx := t.Context()
	a, b := StartJS(t, "secretstream.js"), StartJS(t, "secretstream.js")
	for _, pattern := range []string{"XX", "IK"} {
		var server struct {
			Port      uint16
			PublicKey Hex
		}
		a.Must("listen", Args{"pattern": pattern, "mode": "echo", "seed": seedOf(1)}, &server)
		args := Args{"port": server.Port, "pattern": pattern}
		if pattern == "IK" {
			args["remotePublicKey"] = server.PublicKey
		}
		var client struct{ Stream string }
		b.Must("connect", args, &client)
		s := b.Stream(client.Stream)
		if err := s.Write(ctx, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Read(ctx, 5); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", pattern, got, err)
		}
	}

	var server struct{ Port uint16 }
	a.Must("listen", Args{"mode": "mux"}, &server)
	var client struct{ Stream string }
	b.Must("connect", Args{"port": server.Port, "mode": "mux"}, &client)
	var conn struct{ Stream string }
	for range 3 { // the two echoing ones came first
		if err := a.Event(ctx, "connection", &conn); err != nil {
			t.Fatal(err)
		}
	}
	var ca, cb struct{ Channel string }
	// a's open waits until b has opened: without a channel or a pairing of that
	// name b would refuse it at once.
	a.Must("mux.cork", Args{"stream": conn.Stream}, nil)
	a.Must("channel.open", Args{"stream": conn.Stream, "protocol": "p", "handshake": Hex("from a")}, &ca)
	a.Must("channel.send", Args{"channel": ca.Channel, "data": Hex("x")}, nil)
	b.Must("channel.open", Args{"stream": client.Stream, "protocol": "p", "handshake": Hex("from b")}, &cb)
	a.Must("mux.uncork", Args{"stream": conn.Stream}, nil)
	for _, want := range []string{"open", "message"} {
		var e struct {
			Name            string
			Data, Handshake Hex
		}
		if err := b.Event(ctx, "channel", &e); err != nil || e.Name != want {
			t.Fatalf("event %+v, %v; want %s", e, err, want)
		}
		if want == "open" && string(e.Handshake) != "from a" || want == "message" && string(e.Data) != "x" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestMainlineScript(t *testing.T) {
	js := StartJS(t, "mainline.js")
	var network Testnet
	js.Must("network", Args{"size": 8}, &network)
	var put struct {
		Target Hex
		Stored int
	}
	js.Must("put", Args{"node": network.Nodes[1].Node, "value": Hex("hello")}, &put)
	if want := sha1.Sum([]byte("5:hello")); !bytes.Equal(put.Target, want[:]) || put.Stored == 0 {
		t.Errorf("put: %+v", put)
	}
	var got struct {
		Value Hex
		Seq   int64
	}
	js.Must("get", Args{"node": network.Nodes[5].Node, "target": put.Target}, &got)
	if string(got.Value) != "hello" {
		t.Errorf("got %q", got.Value)
	}
	js.Must("put", Args{"node": network.Nodes[1].Node, "value": Hex("v"), "seed": seedOf(3), "seq": 4, "salt": Hex("s")}, &put)
	js.Must("get", Args{"node": network.Nodes[6].Node, "target": put.Target, "salt": Hex("s")}, &got)
	if string(got.Value) != "v" || got.Seq != 4 {
		t.Errorf("got %q, seq %d", got.Value, got.Seq)
	}
	topic := hex.EncodeToString(bytes.Repeat([]byte{9}, 20))
	js.Must("announce", Args{"node": network.Nodes[2].Node, "infoHash": topic, "port": 7777}, nil)
	var found struct{ Peers []Addr }
	js.Must("lookup", Args{"node": network.Nodes[7].Node, "infoHash": topic}, &found)
	if len(found.Peers) == 0 || found.Peers[0].Port != 7777 {
		t.Errorf("found %+v", found)
	}
}

func TestV2Script(t *testing.T) {
	js := StartJS(t, "v2.js")
	var network Testnet
	js.Must("network", Args{"size": 8}, &network)
	var put struct{ Replies []struct{ Node Addr } }
	target := PatternSum("", 0) // SHA-256 of the empty string names nothing yet
	js.Must("update", Args{"node": network.Nodes[0].Node, "command": "values", "target": target, "value": Hex("hello")}, &put)
	stored := 0
	for _, n := range network.Nodes {
		var values []Hex
		js.Must("node.stored", Args{"node": n.Node}, &values)
		stored += len(values)
	}
	if len(put.Replies) == 0 || stored < 5 {
		t.Errorf("%d replies, %d stored", len(put.Replies), stored)
	}
	var pong struct{ To, From Addr }
	js.Must("ping", Args{"node": network.Nodes[0].Node, "peer": network.Nodes[1].Addr().String()}, &pong)
	if pong.To.Port != network.Nodes[0].Port || pong.From.Port != network.Nodes[1].Port {
		t.Errorf("ping: %+v", pong)
	}
}

func TestRelayScript(t *testing.T) {
	js := StartJS(t, "hyperdht.js")
	var network Testnet
	js.Must("testnet", Args{"size": 4}, &network)
	var relay, server Server
	js.Must("relay", Args{"node": network.Nodes[1].Node}, &relay)
	var behind, client Node
	js.Must("node", Args{"bootstrap": network.Bootstrap}, &behind)
	js.Must("node", Args{"bootstrap": network.Bootstrap}, &client)
	js.Must("listen", Args{"node": behind.Node, "mode": "echo", "options": Args{"relayThrough": relay.PublicKey}}, &server)
	s, err := js.Dial(t.Context(), Args{"node": client.Node, "key": server.PublicKey, "options": Args{"relayThrough": relay.PublicKey}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(t.Context(), 5); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	var stats struct{ Sessions struct{ Accepted int } }
	js.Must("relay.stats", Args{"server": relay.Server}, &stats)
	if stats.Sessions.Accepted == 0 {
		t.Errorf("the relay saw nobody: %+v", stats)
	}
}

func seedOf(b byte) Hex { return bytes.Repeat([]byte{b}, 32) }
