package attacks

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// The attacks of this file rest on one fact: the Noise handshake hash is made of
// what is on the wire and the server's public key. It is no secret.

// An eavesdropper reads the handshakes of a client with one server.
type eavesdropper struct {
	*wire
	observer
	target [32]byte

	mu      sync.Mutex
	drop    bool     // the first messages
	firsts  [][]byte // first messages, each once
	seconds [][]byte
	punches [][]byte // sealed payloads of punch messages
	fresh   chan []byte
}

// eavesdrop watches a client of the holder of a key.
func eavesdrop(key hyperdht.PublicKey) *eavesdropper {
	e := &eavesdropper{wire: newWire(), target: hyperdht.TargetOf(key), fresh: make(chan []byte, 64)}
	e.out, e.in = e.leaves, e.arrives
	return e
}

func (e *eavesdropper) leaves(c udp.Conn, d udp.Datagram) bool {
	e.see(c, d)
	command, target, value, ok := parseRequest(d.Payload)
	if !ok || target == nil || *target != e.target {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch command {
	case peerHandshake:
		m := noiseOf(value)
		if !slices.ContainsFunc(e.firsts, func(b []byte) bool { return bytes.Equal(b, m) }) {
			e.firsts = append(e.firsts, m)
			select {
			case e.fresh <- m:
			default:
			}
		}
		return !e.drop
	case peerHolepunch:
		e.notePunch(value)
	}
	return true
}

func (e *eavesdropper) arrives(c udp.Conn, d udp.Datagram) bool {
	e.see(c, d)
	if m, ok := parseReply(d.Payload); ok && m.value != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if n := noiseOf(m.value); len(n) >= 80 {
			e.seconds = append(e.seconds, n)
		}
		e.notePunch(m.value)
	}
	return true
}

// notePunch keeps the sealed payload of a PEER_HOLEPUNCH (docs/spec/
// hyperdht-connect.md §3.5), if the value can be one. The lock is held.
func (e *eavesdropper) notePunch(value []byte) {
	r := compact.NewReader(value)
	r.Uint()
	r.Uint()
	r.Uint()
	if b := r.Buffer(); r.Err() == nil && len(b) > 40 {
		e.punches = append(e.punches, slices.Clone(b))
	}
}

// parseRequest reads a DHT request.
func parseRequest(b []byte) (command uint64, target *[32]byte, value []byte, ok bool) {
	r := compact.NewReader(b)
	if r.Uint8() != 3 {
		return 0, nil, nil, false
	}
	flags := r.Uint()
	r.Uint16()
	r.Addr()
	if flags&1 != 0 {
		r.Fixed32()
	}
	if flags&2 != 0 {
		r.Fixed32()
	}
	command = r.Uint()
	if flags&8 != 0 {
		target = r.Fixed32()
	}
	if flags&16 != 0 {
		value = r.Buffer()
	}
	return command, target, value, r.Err() == nil && flags&4 == 0
}

// A replayer is an attacker with recorded first messages of Alice's. It does not
// hold her key. It runs a blind relay, and it is a member of the DHT.
type replayer struct {
	t      *testing.T
	node   *hyperdht.Node
	socket *socket
	relay  hyperdht.PublicKey
	ids    chan uint32 // of the streams that servers want to be relayed
	s      *server

	rounds, answered int
}

func newReplayer(t *testing.T, w *network) *replayer {
	r := &replayer{t: t, node: w.join("8.0.0.1", open), ids: make(chan uint32, 256)}
	r.socket = bind(t, "8.0.0.9:6666", nil)
	l, err := r.node.Listen(t.Context(), hyperdht.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	r.relay = l.PublicKey()
	go func() {
		for {
			c, err := l.AcceptConn(t.Context())
			if err != nil {
				return
			}
			go r.session(c)
		}
	}()
	return r
}

// session is the relay's side of a connection: it learns stream ids, and pairs
// nobody.
func (r *replayer) session(c *hyperdht.Conn) {
	mux := protomux.New(c)
	key := c.RemotePublicKey()
	ch, err := mux.Channel(protomux.ChannelConfig{Protocol: "blind-relay", ID: key[:], Messages: []func(*protomux.Channel, []byte) error{
		func(_ *protomux.Channel, b []byte) error { // docs/spec/blind-relay.md: pair
			in := compact.NewReader(b)
			in.Fixed(1)
			in.Fixed32()
			if id := uint32(in.Uint()); in.Err() == nil {
				r.ids <- id
			}
			return nil
		}}})
	if err == nil {
		ch.Open(nil)
		mux.Run()
	}
}

// replay sends a recorded first message to the server, through one of its
// forwarders or directly, and returns the server's answer; nil if there is none.
func (r *replayer) replay(first []byte, direct bool) []byte {
	r.rounds++
	to := []netip.AddrPort{r.s.addr}
	if !direct {
		to = nil
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		for p, err := range r.node.FindPeer(ctx, r.s.key) {
			if err == nil {
				to = append(to, p.From)
			}
		}
		if len(to) == 0 {
			r.t.Fatal("no DHT node knows the server")
		}
	}
	target := dhtrpc.ID(hyperdht.TargetOf(r.s.key))
	ctx, cancel := context.WithTimeout(r.t.Context(), 500*time.Millisecond)
	defer cancel()
	m := dhtrpc.Message{Command: peerHandshake, Target: &target, Value: handshakeValue(first)}
	reply, err := r.node.RPC().Request(ctx, to[r.rounds%len(to)], m, dhtrpc.NoRetry())
	if err != nil || reply.Value == nil {
		return nil
	}
	r.answered++
	return noiseOf(reply.Value)
}

// follow sends the header of Alice's stream, which the attacker computes from
// both messages.
func (r *replayer) follow(first, second []byte, stream uint32) {
	p := packet{flags: isData, id: stream, payload: headerOf(publicHash(r.s.key, first, second))}
	r.socket.send(r.s.addr, p.bytes())
}

// throughRelay replays a message; the server tells the attacker's blind relay the
// id of its stream.
func (r *replayer) throughRelay(first []byte) {
	for len(r.ids) > 0 {
		<-r.ids
	}
	second := r.replay(first, false)
	if second == nil {
		return
	}
	select {
	case id := <-r.ids:
		r.follow(first, second, id)
	case <-time.After(2 * time.Second):
	}
	time.Sleep(50 * time.Millisecond) // each round for itself: the relay is not told whose stream it is
}

// guessing replays a message without a relay. The attacker has to guess the id of
// the server's stream among 2^32; the test lets the first guess be right.
func (r *replayer) guessing(h *handshake, direct bool) {
	if second := r.replay(h.first, direct); second != nil {
		if hello, ok := h.finish(second); ok {
			r.follow(h.first, second, hello.stream)
		}
	}
}

// A recorded first message, replayed without the client's key, never makes a
// server deliver a connection: with and without the help of a blind relay, before
// and after a restart of the server.
func TestReplayedFirstMessage(t *testing.T) {
	need(t)
	w := newNetwork(t, 8, nil)
	r := newReplayer(t, w)
	alice := hyperdht.GenerateKeyPair()
	ran := filepath.Join(t.TempDir(), "ran")
	serve := func() *server {
		return start(t, "listening", "listen", "--exec", "echo ran >> "+ran+"; exec cat > /dev/null", "--allow", alice.Public.String(),
			"--seed", "1111111111111111111111111111111111111111111111111111111111111111", "--relay-through", r.relay.String(),
			"--port", "45000", "--firewalled=true", "--bootstrap", w.boot[0])
	}
	runs := func() int {
		b, _ := os.ReadFile(ran)
		return bytes.Count(b, []byte("\n"))
	}
	const rounds = 13
	settle := 3 * time.Second
	if *full {
		settle = 15 * time.Second
	}
	bad := 0
	count := func(what string, rounds, delivered int) {
		t.Logf("%s: %d of %d delivered", what, delivered, rounds)
		bad += delivered
	}

	r.s = serve()
	// Messages that the attacker has kept from the server.
	tape := eavesdrop(r.s.key)
	client := w.join("7.0.0.1", func(c *hyperdht.Config) {
		firewalled(c) // as most clients are: else the server would not use its relay
		c.Network = tape
	})
	tape.drop = true
	var kept [][]byte
	for range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		go client.DialWith(ctx, r.s.key, hyperdht.DialConfig{KeyPair: alice})
		select {
		case m := <-tape.fresh:
			kept = append(kept, m)
		case <-ctx.Done():
			t.Fatal("Alice sends no first message")
		}
		cancel()
	}
	for _, first := range kept {
		r.throughRelay(first)
	}
	time.Sleep(time.Second)
	withRelay := r.s.count("connection")
	for i := range rounds {
		r.guessing(shake(t, r.s.key, alice, clientHello{}), i%2 == 0)
	}
	time.Sleep(settle)
	count("kept from the server, with a relay's help", rounds, withRelay)
	count("kept from the server, the id guessed", rounds, r.s.count("connection")-withRelay)
	if r.answered < rounds {
		t.Errorf("the server answered %d of %d first messages that it did not know", r.answered, r.rounds)
	}

	// Messages that led to a connection, before a restart.
	tape.mu.Lock()
	tape.drop, tape.firsts = false, nil
	tape.mu.Unlock()
	before := runs()
	for range rounds {
		c, err := client.DialWith(t.Context(), r.s.key, hyperdht.DialConfig{KeyPair: alice})
		if err != nil {
			t.Fatalf("Alice herself: %v", err)
		}
		c.Close()
	}
	for end := time.Now().Add(5 * time.Second); runs()-before < rounds && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if n := runs() - before; n != rounds {
		t.Errorf("the command ran %d times for Alice herself, want %d", n, rounds)
	}
	tape.mu.Lock()
	firsts := slices.Clone(tape.firsts)
	tape.mu.Unlock()
	honest := runs()
	for _, first := range firsts {
		r.throughRelay(first)
	}
	var used []*handshake
	for range rounds - 2 {
		h := shake(t, r.s.key, alice, clientHello{})
		r.replay(h.first, true)
		used = append(used, h)
	}
	time.Sleep(time.Second)
	count("after the connection", len(firsts), runs()-honest)

	r.s.stop()
	r.s = serve()
	honest = runs()
	for _, first := range firsts {
		r.throughRelay(first)
	}
	time.Sleep(time.Second)
	withRelay = r.s.count("connection")
	for i, h := range used {
		r.guessing(h, i%2 == 0)
	}
	time.Sleep(settle)
	count("after a restart, with a relay's help", len(firsts), withRelay)
	count("after a restart, the id guessed", len(used), r.s.count("connection")-withRelay)
	if n := runs() - honest; n > r.s.count("connection") {
		t.Errorf("the command ran %d times after the restart", n)
	}
	result(t, bad == 0, "replayed first messages", "0 delivered", "%d of %d delivered", bad, r.rounds-len(used))
}

// publicKeys are keys that an observer can derive from the handshake hash: those
// of the reference (docs/spec/secret-stream.md §11, hyperdht-connect.md §3.6) and
// their like.
func publicKeys(hash []byte) (keys [][32]byte) {
	for _, name := range []string{"hyperswarm/secret-stream", "hyperswarm/dht", "warren/datagrams", "warren/punch"} {
		for id := range byte(12) {
			ns := sodium.Namespace(name, id)
			keys = append(keys, sodium.KeyedSum256(hash, ns[:]))
			for send := range byte(4) {
				last := sodium.Namespace("hyperswarm/secret-stream", send)
				keys = append(keys, sodium.KeyedSum256(hash, ns[:], last[:]))
			}
		}
	}
	return append(keys, [32]byte(hash[:32]), [32]byte(hash[32:]))
}

// opened tries all keys on a sealed message with a nonce of 8 or 24 bytes in
// front.
func opened(keys [][32]byte, sealed []byte) (plain []byte, key *[32]byte) {
	for _, size := range []int{8, 24} {
		if len(sealed) < size+sodium.SecretboxOverhead {
			continue
		}
		var nonce [24]byte
		copy(nonce[:], sealed[:size])
		for i := range keys {
			if plain, ok := sodium.OpenSecretbox(nil, sealed[size:], &nonce, &keys[i]); ok {
				return plain, &keys[i]
			}
		}
	}
	return nil, nil
}

// An observer of the handshake can neither read nor forge the datagrams of two
// warren peers, and cannot read what they say to each other to punch holes.
func TestPublicHashOpensNothing(t *testing.T) {
	need(t)
	w := newNetwork(t, 8, nil)
	l, err := w.join("6.0.0.1", firewalled).Listen(t.Context(), hyperdht.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	tape := eavesdrop(l.PublicKey())
	client := w.join("7.0.0.1", func(c *hyperdht.Config) {
		firewalled(c)
		c.Network = tape
	})
	conn := mustDial(t, client, l.PublicKey())
	peer, err := l.AcceptConn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()

	// What the observer knows.
	hash := conn.HandshakeHash()
	known := false
	tape.mu.Lock()
	for _, first := range tape.firsts {
		for _, second := range tape.seconds {
			known = known || bytes.Equal(publicHash(l.PublicKey(), first, second), hash[:])
		}
	}
	punches := slices.Clone(tape.punches)
	tape.mu.Unlock()
	if !known {
		t.Fatal("the handshake hash does not follow from the wire: the attack is no longer the right one")
	}
	keys := publicKeys(hash[:])

	// Datagrams, both ways.
	const secret = "the password is swordfish"
	type end struct {
		name  string
		c     *hyperdht.Conn
		other *hyperdht.Conn
	}
	// What goes to an address that has not answered a challenge yet is limited, and
	// datagrams beyond that are lost. A round trip later it has.
	for _, e := range []end{{"server", peer, conn}, {"client", conn, peer}, {"server", peer, conn}} {
		e.other.SetReadDeadline(time.Now().Add(5 * time.Second))
		e.other.NetConn().(*udx.Stream).ReceiveMessages() // those that come before Receive count
		if _, err := e.c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(e.other, make([]byte, 1)); err != nil {
			t.Fatalf("the peer of the %s reads nothing: %v", e.name, err)
		}
	}
	read, forged := 0, 0
	for _, e := range []end{{"server", peer, conn}, {"client", conn, peer}} {
		for i := range 10 {
			if err := e.c.Send([]byte(secret + strconv.Itoa(i))); err != nil {
				t.Fatalf("Send of the %s: %v", e.name, err)
			}
		}
		b := make([]byte, 1000)
		e.other.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := e.other.Receive(b); err != nil || !bytes.HasPrefix(b[:n], []byte(secret)) {
			t.Fatalf("the peer of the %s received %q, %v", e.name, b[:n], err)
		}
	}
	flows := tape.all()
	for _, f := range flows {
		for _, d := range f.datagrams {
			if plain, _ := opened(keys, d); bytes.HasPrefix(plain, []byte(secret)) {
				read++
			}
		}
	}
	sent := 0
	for _, f := range flows {
		sent += len(f.datagrams)
	}
	if sent < 20 {
		t.Fatalf("%d datagrams are on the tape, want at least 20", sent)
	}
	result(t, read == 0, "datagrams opened with the handshake hash", "0", "%d of %d", read, 20)

	// Forged ones, under every key that the observer has.
	received := make(chan string, 10_000)
	peer.SetReadDeadline(time.Time{})
	go func() {
		defer close(received)
		for b := make([]byte, 1000); ; {
			n, err := peer.Receive(b)
			if err != nil {
				return
			}
			received <- string(b[:n])
		}
	}()
	for i := range keys {
		nonce := [24]byte{'e', 'v', 'i', 'l', byte(i)}
		for _, size := range []int{8, 24} {
			box := sodium.SealSecretbox(nonce[:size], []byte("forged"), &nonce, &keys[i])
			for _, f := range flows {
				if f.to.Addr() == netip.MustParseAddr("6.0.0.1") {
					p := packet{flags: isMessage, id: f.id, seq: f.next, ack: f.ack, payload: box}
					f.from.WriteBatch([]udp.Datagram{{Payload: p.bytes(), Peer: f.to}})
				}
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	const last = "the last one"
	for range 10 { // one may get lost
		conn.Send([]byte(last))
		time.Sleep(20 * time.Millisecond)
	}
	arrived := false
	for !arrived {
		select {
		case got := <-received:
			arrived = got == last
			if got == "forged" {
				forged++
			}
		case <-time.After(5 * time.Second):
			t.Fatal("Receive does not return the last datagram")
		}
	}
	result(t, forged == 0, "datagrams forged with the handshake hash", "0", "%d received", forged)

	read = 0
	for _, b := range punches {
		if plain, _ := opened(keys, b); plain != nil {
			read++
		}
	}
	if len(punches) == 0 {
		t.Error("no punch message is on the tape")
	}
	result(t, read == 0, "punch messages opened with the handshake hash", "0", "%d of %d", read, len(punches))
}
