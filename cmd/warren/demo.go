package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
)

// demoTimeout bounds each step.
const demoTimeout = 30 * time.Second

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story in one process, no network needed",
		Long: `Show the whole story in one process on loopback: a network, a connection by public
key, records and topics. Says how long each step took, and fails if one does not
work.`,
		Example: `  warren demo`,
		GroupID: groupOther,
		Args:    exactly(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context()) },
	}
}

// A demo is the state that its steps share.
type demo struct {
	net            *network
	alice, bob     *hyperdht.Node
	listener       *hyperdht.Listener
	topic          hyperdht.Target
	owner, visitor hyperdht.KeyPair
}

// A demoStep is a chapter. It returns what there is to say about it.
type demoStep struct {
	name, title string
	run         func(*demo, context.Context) (string, error)
}

var demoSteps = []demoStep{
	{"network", "Start a network of eight nodes, and two peers", (*demo).start},
	{"listen", "Alice listens on a public key", (*demo).listen},
	{"connect", "Bob connects to that key and gets an echo", (*demo).connect},
	{"immutable", "Bob stores a text, Alice reads it by its hash", (*demo).immutable},
	{"mutable", "Alice stores a record under her key, and replaces it", (*demo).mutable},
	{"announce", "Alice announces her key under a topic", (*demo).announce},
	{"lookup", "Bob looks the topic up and connects to whom he finds", (*demo).lookup},
	{"unannounce", "Alice takes the announcement back", (*demo).unannounce},
	{"close", "Everybody goes home", (*demo).end},
}

func (a *app) demo(ctx context.Context) error {
	d := &demo{}
	defer d.end(context.Background())
	for i, step := range demoSteps {
		start := time.Now()
		limited, cancel := context.WithTimeout(ctx, demoTimeout)
		said, err := step.run(d, limited)
		cancel()
		took := time.Since(start)
		text := fmt.Sprintf("%d. %s: %s (%v)", i+1, step.title, said, took.Round(10*time.Microsecond))
		if err != nil {
			text = fmt.Sprintf("%d. %s: FAILED", i+1, step.title)
		}
		a.result(struct {
			Step   string `json:"step"`
			OK     bool   `json:"ok"`
			Ms     millis `json:"ms"`
			Detail string `json:"detail,omitempty"`
		}{step.name, err == nil, ms(took), said}, "%s", text)
		if err != nil {
			return fmt.Errorf("demo: %s: %w", step.name, stopCause(ctx, err))
		}
	}
	return nil
}

func (d *demo) start(ctx context.Context) (string, error) {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	var err error
	if d.net, err = startNetwork(ctx, hyperdht.Config{Host: host}, 8); err != nil {
		return "", err
	}
	d.owner, d.visitor = hyperdht.GenerateKeyPair(), hyperdht.GenerateKeyPair()
	for _, p := range []struct {
		node **hyperdht.Node
		pair *hyperdht.KeyPair
	}{{&d.alice, &d.owner}, {&d.bob, &d.visitor}} {
		*p.node, err = hyperdht.New(hyperdht.Config{Host: host, AnyPort: true, Bootstrap: d.net.bootstrap, KeyPair: p.pair})
		if err == nil {
			err = (*p.node).Ready(ctx)
		}
		if err != nil {
			return "", err
		}
	}
	return "the first one is " + d.net.bootstrap[0], nil
}

func (d *demo) listen(ctx context.Context) (string, error) {
	var err error
	if d.listener, err = d.alice.Listen(ctx, hyperdht.ListenConfig{}); err != nil {
		return "", err
	}
	go echo(d.listener)
	return d.listener.PublicKey().String(), nil
}

// echo sends back what comes, until the listener is closed.
func echo(l *hyperdht.Listener) {
	for {
		conn, err := l.AcceptConn(context.Background())
		if err != nil {
			return
		}
		go func() {
			io.Copy(conn, conn)
			conn.Close()
		}()
	}
}

func (d *demo) connect(ctx context.Context) (string, error) {
	return d.call(ctx, d.listener.PublicKey())
}

// call connects to a key and demands an echo.
func (d *demo) call(ctx context.Context, key hyperdht.PublicKey) (string, error) {
	conn, err := d.bob.Dial(ctx, key)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	const said = "Hello, Alice!"
	if _, err := io.WriteString(conn, said); err != nil {
		return "", err
	}
	if err := conn.CloseWrite(); err != nil {
		return "", err
	}
	heard, err := io.ReadAll(conn)
	if err == nil && string(heard) != said {
		err = fmt.Errorf("the echo of %q is %q", said, heard)
	}
	return fmt.Sprintf("%q came back, path %v", heard, conn.Path().Kind), err
}

func (d *demo) immutable(ctx context.Context) (string, error) {
	const text = "A record that nobody can change."
	stored, err := d.bob.ImmutablePut(ctx, []byte(text), hyperdht.PutOptions{})
	if err != nil {
		return "", err
	}
	got, err := d.alice.ImmutableGet(ctx, stored.Target)
	if err == nil && string(got.Value) != text {
		err = fmt.Errorf("read %q", got.Value)
	}
	return fmt.Sprintf("%d nodes have %x", len(stored.Nodes), stored.Target[:8]), err
}

func (d *demo) mutable(ctx context.Context) (string, error) {
	for seq, text := range []string{"first version", "second version"} {
		_, _, err := d.alice.MutablePut(ctx, hyperdht.SignerOf(d.owner), uint64(seq), []byte(text), hyperdht.PutOptions{})
		if err != nil {
			return "", err
		}
	}
	got, err := d.bob.MutableGet(ctx, d.owner.Public, hyperdht.GetOptions{})
	if err == nil && (string(got.Value) != "second version" || got.Seq != 1) {
		err = fmt.Errorf("read %q with seq %d", got.Value, got.Seq)
	}
	return fmt.Sprintf("Bob reads the %s", got.Value), err
}

func (d *demo) announce(ctx context.Context) (string, error) {
	d.topic = hyperdht.Hash([]byte("warren demo"))
	stored, err := d.alice.Announce(ctx, d.topic, hyperdht.SignerOf(d.owner), hyperdht.AnnounceOptions{Relays: relaysOf(ctx, d.alice, d.owner.Public)})
	return fmt.Sprintf("%d nodes know", len(stored.Nodes)), err
}

func (d *demo) lookup(ctx context.Context) (string, error) {
	for peer, err := range d.bob.Lookup(ctx, d.topic) {
		if err != nil {
			return "", err
		}
		if peer.PublicKey == d.owner.Public {
			return d.call(ctx, peer.PublicKey)
		}
	}
	return "", errors.New("nobody was found")
}

func (d *demo) unannounce(ctx context.Context) (string, error) {
	if err := d.alice.Unannounce(ctx, d.topic, hyperdht.SignerOf(d.owner), hyperdht.AnnounceOptions{}); err != nil {
		return "", err
	}
	for peer, err := range d.bob.Lookup(ctx, d.topic) {
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("%v is still there", peer.PublicKey)
	}
	return "nobody is found any more", nil
}

// end closes what there is.
func (d *demo) end(ctx context.Context) (string, error) {
	var errs []error
	for _, n := range []*hyperdht.Node{d.bob, d.alice} {
		if n != nil {
			errs = append(errs, n.Shutdown(ctx))
		}
	}
	if d.net != nil {
		errs = append(errs, d.net.close())
	}
	d.alice, d.bob, d.net = nil, nil, nil
	return "done", errors.Join(errs...)
}
