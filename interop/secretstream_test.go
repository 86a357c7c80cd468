//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/secretstream"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// secretSeed is the seed of an identity.
func secretSeed(b byte) [32]byte { return [32]byte(bytes.Repeat([]byte{b}, 32)) }

// dialTCP connects to a port of this machine.
func dialTCP(t *testing.T, port uint16) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// listenTCP accepts connections and hands each to serve.
func listenTCP(t *testing.T, serve func(net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// secretPair makes an encrypted stream between this process and the script, of
// which either may be the initiator. mode is the script's stream's.
func secretPair(t *testing.T, js *Peer, initiator bool, pattern noise.Pattern, mode Args, cfg secretstream.Config) (*secretstream.Conn, *Stream) {
	t.Helper()
	ours, theirs := noise.KeyPairFromSeed(secretSeed(1)), noise.KeyPairFromSeed(secretSeed(2))
	cfg.Static, cfg.Pattern = ours, pattern
	args := Args{"seed": Hex(theirs.Secret[:32]), "pattern": pattern.String()}
	for k, v := range mode {
		args[k] = v
	}
	var c *secretstream.Conn
	var handle struct{ Stream string }
	if initiator {
		var listening struct{ Port uint16 }
		js.Must("listen", args, &listening)
		if pattern == noise.IK {
			cfg.RemotePublicKey = theirs.Public
		}
		var err error
		if c, err = secretstream.Client(t.Context(), dialTCP(t, listening.Port), cfg); err != nil {
			t.Fatal(err)
		}
		if err := js.Event(t.Context(), "connection", &handle); err != nil {
			t.Fatal(err)
		}
	} else {
		type outcome struct {
			c   *secretstream.Conn
			err error
		}
		served := make(chan outcome, 1)
		port := listenTCP(t, func(raw net.Conn) {
			c, err := secretstream.Server(t.Context(), raw, cfg)
			served <- outcome{c, err}
		})
		args["port"] = port
		if pattern == noise.IK {
			args["remotePublicKey"] = Hex(ours.Public[:])
		}
		js.Must("connect", args, &handle)
		o := <-served
		if o.err != nil {
			t.Fatal(o.err)
		}
		c = o.c
	}
	t.Cleanup(func() { c.Close() })
	var open struct {
		PublicKey       Hex `json:"publicKey"`
		RemotePublicKey Hex `json:"remotePublicKey"`
		HandshakeHash   Hex `json:"handshakeHash"`
	}
	if err := js.Event(t.Context(), "open", &open); err != nil {
		t.Fatal(err)
	}
	hash := c.HandshakeHash()
	if !bytes.Equal(open.HandshakeHash, hash[:]) || !bytes.Equal(open.RemotePublicKey, ours.Public[:]) || !bytes.Equal(open.PublicKey, theirs.Public[:]) || c.RemotePublicKey() != theirs.Public {
		t.Errorf("the sides do not agree: %+v, hash %x, remote key %v", open, hash, c.RemotePublicKey())
	}
	return c, js.Stream(handle.Stream)
}

// everyWay runs f for both patterns with either side as the initiator.
func everyWay(t *testing.T, f func(t *testing.T, initiator bool, pattern noise.Pattern)) {
	for _, pattern := range []noise.Pattern{noise.XX, noise.IK} {
		for _, initiator := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/initiator=%v", pattern, initiator), func(t *testing.T) { f(t, initiator, pattern) })
		}
	}
}

// Bulk in both directions at once, each ended with half of the stream open.
func TestSecretStreamBulk(t *testing.T) {
	js := StartJS(t, "secretstream.js")
	everyWay(t, func(t *testing.T, initiator bool, pattern noise.Pattern) {
		c, far := secretPair(t, js, initiator, pattern, nil, secretstream.Config{KeepAlive: 5 * time.Second})
		const there, back = 16<<20 + 7, 8<<20 + 3
		ctx := t.Context()
		errs := make(chan error, 3)
		go func() {
			_, err := io.Copy(struct{ io.Writer }{c}, io.LimitReader(Pattern("there"), there))
			errs <- errors.Join(err, c.CloseWrite())
		}()
		go func() { errs <- errors.Join(far.Send(ctx, "back", back), far.End(ctx)) }()
		go func() {
			r, err := far.Receive(ctx, -1)
			if err == nil && (r.Bytes != there || !bytes.Equal(r.SHA256, PatternSum("there", there)) || !r.End) {
				err = fmt.Errorf("the script received %+v", r)
			}
			errs <- err
		}()
		got, n, err := sum(c)
		if err != nil || n != back || !bytes.Equal(got, PatternSum("back", back)) {
			t.Errorf("received %d bytes, %v", n, err)
		}
		for range 3 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if r, err := far.Wait(ctx, "close"); err != nil || r.Error != "" {
			t.Errorf("close: %+v, %v", r, err)
		}
	})
}

// One write is one message, whatever its size.
func TestSecretStreamMessages(t *testing.T) {
	js := StartJS(t, "secretstream.js")
	everyWay(t, func(t *testing.T, initiator bool, pattern noise.Pattern) {
		c, _ := secretPair(t, js, initiator, pattern, Args{"mode": "echo"}, secretstream.Config{})
		var messages [][]byte
		for _, n := range []int{1, 2, 15, 16, 17, 63, 64, 65, 1000, 16359, 16360, 16361, 65536, 200_000} {
			messages = append(messages, bytes.Repeat([]byte{byte(n)}, n))
		}
		if n, err := c.WriteMessages(messages); n != len(messages) || err != nil {
			t.Fatal(n, err)
		}
		for _, m := range messages {
			if got, err := c.ReadMessage(); err != nil || !bytes.Equal(got, m) {
				t.Fatalf("message of %d bytes came back with %d, %v", len(m), len(got), err)
			}
		}
	})
}

// Keep-alives of either side: seen by those who want to see empty messages.
func TestSecretStreamKeepAlive(t *testing.T) {
	js := StartJS(t, "secretstream.js")
	c, far := secretPair(t, js, true, noise.XX, nil, secretstream.Config{})
	js.Must("stream.keepAlive", Args{"stream": far.Handle, "ms": 20}, nil)
	for range 3 {
		if m, err := c.ReadMessage(); err != nil || len(m) != 0 {
			t.Fatalf("%x, %v", m, err)
		}
	}
	// Ours keeps the other's timeout from striking, and hides the other's.
	js.Must("stream.timeout", Args{"stream": far.Handle, "ms": 500}, nil)
	c.SetKeepAlive(50 * time.Millisecond)
	c.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
	var timeout net.Error
	if m, err := c.ReadMessage(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatalf("%x, %v", m, err)
	}
	if err := far.Write(t.Context(), []byte("alive")); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Time{})
	if m, err := c.ReadMessage(); err != nil || string(m) != "alive" {
		t.Fatalf("%q, %v", m, err)
	}
	c.SetKeepAlive(0)
	if r, err := far.Wait(t.Context(), "close"); err != nil || r.Error == "" {
		t.Errorf("without keep-alive the peer's timeout: %+v, %v", r, err)
	}
}

// A channelEvent is what a script says of its protomux channels.
type channelEvent struct {
	Channel, Name string
	Handshake     Hex
	Type          int
	Data          Hex
	IsRemote      bool `json:"isRemote"`
}

func TestProtomuxChannels(t *testing.T) {
	js := StartJS(t, "secretstream.js")
	everyWay(t, func(t *testing.T, initiator bool, pattern noise.Pattern) {
		ctx := t.Context()
		c, far := secretPair(t, js, initiator, pattern, Args{"mode": "mux"}, secretstream.Config{})
		mux := protomux.New(c)
		log := make(chan string, 100)
		cfg := func(name, protocol, id string) protomux.ChannelConfig {
			say := func(format string, args ...any) error { log <- name + " " + fmt.Sprintf(format, args...); return nil }
			return protomux.ChannelConfig{
				Protocol: protocol, ID: []byte(id),
				OnOpen: func(_ *protomux.Channel, handshake []byte) error { return say("open %s", handshake) },
				Messages: []func(*protomux.Channel, []byte) error{
					func(_ *protomux.Channel, p []byte) error { return say("0 %s", p) },
					func(_ *protomux.Channel, p []byte) error { return say("1 %s", p) },
				},
				OnClose: func(_ *protomux.Channel, remote bool) { say("close %v", remote) },
			}
		}
		want := func(lines ...string) {
			t.Helper()
			for _, l := range lines {
				select {
				case got := <-log:
					if got != l {
						t.Fatalf("%q, want %q", got, l)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("nothing, want %q", l)
				}
			}
		}
		event := func(name string) (e channelEvent) {
			t.Helper()
			if err := js.Event(ctx, "channel", &e); err != nil || e.Name != name {
				t.Fatalf("%+v, %v, want %s", e, err, name)
			}
			return e
		}
		ended := make(chan error, 1)
		go func() { ended <- mux.Run() }()

		// They open, we answer; messages in a batch; they close.
		mux.Pair("theirs", nil, func(o *protomux.Offer) {
			ch, err := mux.Channel(cfg("theirs", "theirs", string(o.ID)))
			if err == nil {
				err = errors.Join(ch.Open([]byte("from go")), ch.Send(1, []byte("first")))
			}
			if err != nil {
				t.Error(err)
			}
		})
		var theirs struct{ Channel string }
		js.Must("channel.open", Args{"stream": far.Handle, "protocol": "theirs", "id": Hex("id"), "handshake": Hex("from js"), "messages": 2}, &theirs)
		js.Must("mux.cork", Args{"stream": far.Handle}, nil)
		for i, m := range []string{"a", "b", "c"} {
			js.Must("channel.send", Args{"channel": theirs.Channel, "type": i % 2, "data": Hex(m)}, nil)
		}
		js.Must("mux.uncork", Args{"stream": far.Handle}, nil)
		want("theirs open from js", "theirs 0 a", "theirs 1 b", "theirs 0 c")
		if e := event("open"); string(e.Handshake) != "from go" {
			t.Errorf("%+v", e)
		}
		if e := event("message"); e.Type != 1 || string(e.Data) != "first" {
			t.Errorf("%+v", e)
		}
		js.Must("channel.close", Args{"channel": theirs.Channel}, nil)
		want("theirs close true")
		event("close")
		event("destroy")

		// Nobody there wants this one.
		unwanted, err := mux.Channel(cfg("unwanted", "unwanted", ""))
		if err == nil {
			err = unwanted.Open(nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		want("unwanted close true")
		if err := unwanted.WaitOpen(ctx); !errors.Is(err, protomux.ErrRejected) {
			t.Errorf("rejected: %v", err)
		}

		// Both open at once: ours is on its way, in a batch, when theirs comes.
		// Then a message in the batch, and we close.
		mux.Cork()
		both, err := mux.Channel(cfg("both", "both", ""))
		if err == nil {
			err = errors.Join(both.Open([]byte("hello")), both.Send(0, []byte("x")))
		}
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Channel string }
		js.Must("channel.open", Args{"stream": far.Handle, "protocol": "both", "handshake": Hex("hi"), "messages": 2}, &answer)
		if err := both.WaitOpen(ctx); err != nil {
			t.Fatal(err)
		}
		mux.Uncork()
		if err := both.Send(1, []byte("y")); err != nil {
			t.Fatal(err)
		}
		if e := event("open"); string(e.Handshake) != "hello" {
			t.Errorf("%+v", e)
		}
		for i, m := range []string{"x", "y"} {
			if e := event("message"); e.Type != i || string(e.Data) != m {
				t.Errorf("%+v", e)
			}
		}
		both.Close()
		if e := event("close"); !e.IsRemote {
			t.Errorf("%+v", e)
		}
		event("destroy")
		want("both open hi", "both close false")

		if err := far.End(ctx); err == nil {
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
		}
	})
}

// A goRelay is a blind relay in this process: its protocol over TCP, its
// streams on a UDP socket.
func goRelay(t *testing.T) (server *relay.Server, tcp uint16, g *goUDX) {
	t.Helper()
	g = newGoUDX(t)
	server = relay.NewServer(relay.Config{NewStream: g.mux.NewStream})
	t.Cleanup(server.Close)
	tcp = listenTCP(t, func(raw net.Conn) {
		c, err := secretstream.Server(t.Context(), raw, secretstream.Config{})
		if err != nil {
			t.Error(err)
			return
		}
		mux, key := protomux.New(c), c.RemotePublicKey()
		if _, err := server.Accept(mux, key[:], raw.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()); err != nil {
			t.Error(err)
		}
		mux.Run()
	})
	return server, tcp, g
}

// A relayClient pairs, in this process or in a script.
type relayClient interface {
	pair(ctx context.Context, initiator bool, token relay.Token) (relayedStream, error)
}

// A relayedStream is the end of a relayed stream.
type relayedStream struct {
	goStream *udx.Stream
	js       *Stream
}

type goRelayClient struct {
	*relay.Client
	g  *goUDX
	to netip.AddrPort
}

func newGoRelayClient(t *testing.T, tcp, udpPort uint16) *goRelayClient {
	t.Helper()
	c, err := secretstream.Client(t.Context(), dialTCP(t, tcp), secretstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	mux, key := protomux.New(c), c.PublicKey()
	client, err := relay.NewClient(mux, key[:])
	if err != nil {
		t.Fatal(err)
	}
	go mux.Run()
	t.Cleanup(func() { mux.Close() })
	return &goRelayClient{client, newGoUDX(t), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), udpPort)}
}

func (c *goRelayClient) pair(ctx context.Context, initiator bool, token relay.Token) (relayedStream, error) {
	s, err := c.g.mux.NewStream(udx.StreamConfig{Accept: func(*udx.Stream, udp.Conn, netip.AddrPort) bool { return false }})
	if err != nil {
		return relayedStream{}, err
	}
	id, err := c.Pair(ctx, initiator, token, s.ID())
	if err != nil {
		return relayedStream{}, err
	}
	return relayedStream{goStream: s}, s.Connect(c.g.conn, id, c.to, udx.ConnectOptions{})
}

type jsRelayClient struct {
	*Peer
	handle string
}

func newJSRelayClient(t *testing.T, js *Peer, tcp, udpPort uint16) *jsRelayClient {
	t.Helper()
	var c struct{ Client string }
	js.Must("client", Args{"port": tcp, "udp": udpPort}, &c)
	return &jsRelayClient{js, c.Client}
}

func (c *jsRelayClient) pair(ctx context.Context, initiator bool, token relay.Token) (relayedStream, error) {
	var made struct{ Stream string }
	err := c.Call(ctx, "pair", Args{"client": c.handle, "isInitiator": initiator, "token": Hex(token[:])}, &made)
	return relayedStream{js: c.Stream(made.Stream)}, err
}

// talk sends a line each way and checks it.
func (s relayedStream) write(ctx context.Context, b []byte) error {
	if s.js != nil {
		return s.js.Write(ctx, b)
	}
	_, err := s.goStream.Write(b)
	return err
}

func (s relayedStream) read(ctx context.Context, n int) ([]byte, error) {
	if s.js != nil {
		return s.js.Read(ctx, n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(s.goStream, b)
	return b, err
}

// Either relay serves either kind of client, in both roles.
func TestBlindRelay(t *testing.T) {
	js := StartJS(t, "secretstream-relay.js")
	for _, relayIn := range []string{"go", "js"} {
		var tcp, udpPort uint16
		if relayIn == "go" {
			_, port, g := goRelay(t)
			tcp, udpPort = port, g.port()
		} else {
			var at struct{ Port, UDP uint16 }
			js.Must("relay", nil, &at)
			tcp, udpPort = at.Port, at.UDP
		}
		newClient := func(kind string) relayClient {
			if kind == "go" {
				return newGoRelayClient(t, tcp, udpPort)
			}
			return newJSRelayClient(t, js, tcp, udpPort)
		}
		for _, kinds := range [][2]string{{"go", "js"}, {"js", "go"}, {"go", "go"}, {"js", "js"}} {
			t.Run(fmt.Sprintf("%s relay, %s and %s", relayIn, kinds[0], kinds[1]), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				a, b := newClient(kinds[0]), newClient(kinds[1])
				token := relay.NewToken()
				type outcome struct {
					s   relayedStream
					err error
				}
				other := make(chan outcome, 1)
				go func() {
					s, err := b.pair(ctx, false, token)
					other <- outcome{s, err}
				}()
				x, err := a.pair(ctx, true, token)
				y := <-other
				if err := errors.Join(err, y.err); err != nil {
					t.Fatal(err)
				}
				hello := bytes.Repeat([]byte("hello"), 1000)
				for _, e := range [][2]relayedStream{{x, y.s}, {y.s, x}} {
					if err := e[0].write(ctx, hello); err != nil {
						t.Fatal(err)
					}
				}
				for _, s := range []relayedStream{x, y.s} {
					if got, err := s.read(ctx, len(hello)); err != nil || !bytes.Equal(got, hello) {
						t.Fatalf("%d bytes, %v", len(got), err)
					}
				}
			})
		}
	}
}
