package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// checkTimeout bounds each check of doctor.
const checkTimeout = 30 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:   "doctor [KEY]",
		Short: "Find out what keeps this machine from connecting",
		Long: `Check, one after the other, what a connection needs: a socket, bootstrap nodes that
answer, what the NAT does (how it maps addresses, whose datagrams it lets in, whether it
hairpins, how large a packet may be), the addresses that peers are told, and a connection
to ourselves through the network. With a KEY, dial it too and tell what that did, phase
by phase. Says what to do about what does not work.`,
		Example: `  warren doctor
  warren doctor 6d1...
  warren doctor --bootstrap 10.0.0.1:49737`,
		GroupID: groupOther,
		Args:    between(0, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			all := checks
			var key noise.PublicKey
			if len(args) > 0 {
				var err error
				if key, err = parsePeer("KEY", args[0]); err != nil {
					return err
				}
				all = append(all[:len(all):len(all)], peerCheck)
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			if cfg.Bootstrap == nil {
				cfg.Bootstrap = hyperdht.DefaultBootstrap
			}
			return a.doctor(cmd.Context(), &patient{app: a, cfg: cfg, key: key}, all)
		},
	}
	flags.add(cmd)
	return cmd
}

// A patient is what the checks share.
type patient struct {
	app  *app
	cfg  nodeConfig
	key  noise.PublicKey // to dial; zero if none is given
	node *hyperdht.Node
	stop func()

	examined  bool
	diagnosis hyperdht.Diagnosis
}

// A finding is what a check found, in words and, for machines, as a value.
type finding struct {
	detail string
	advice string // what could be done about it; empty if nothing need be
	facts  any
	took   time.Duration // 0: as long as the check did
}

// A check looks at one thing. An error means that a connection cannot be made,
// and says what to do.
type check struct {
	name, title string
	run         func(*patient, context.Context) (finding, error)
}

// The checks, each of which needs those before it.
var checks = []check{
	{"socket", "A UDP socket", (*patient).socket},
	{"bootstrap", "Bootstrap nodes", (*patient).bootstrap},
	{"network", "The network", (*patient).network},
	{"mapping", "The NAT's mapping", (*patient).mapping},
	{"filtering", "Who is let in", (*patient).filtering},
	{"hairpin", "Hairpinning", (*patient).hairpin},
	{"mtu", "The largest packet", (*patient).mtu},
	{"lan", "Local addresses", (*patient).lan},
	{"address", "Our address", (*patient).address},
	{"connection", "A connection to ourselves", (*patient).connection},
}

var peerCheck = check{"peer", "A connection to the key", (*patient).peer}

func (a *app) doctor(ctx context.Context, p *patient, checks []check) error {
	defer func() {
		if p.stop != nil {
			p.stop()
		}
	}()
	for _, c := range checks {
		start := time.Now()
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		done := a.spin(c.title)
		found, err := c.run(p, limited)
		done()
		cancel()
		if ctx.Err() != nil { // whatever it found comes of that
			return fmt.Errorf("doctor: %s: %w", c.name, context.Cause(ctx))
		}
		if found.took == 0 {
			found.took = time.Since(start)
		}
		a.found(c, found, err == nil)
		if err != nil {
			return fmt.Errorf("doctor: %s: %w", c.name, err)
		}
	}
	return nil
}

// found prints what a check found.
func (a *app) found(c check, f finding, ok bool) {
	text := "ok      " + c.title
	switch {
	case !ok:
		text = "FAILED  " + c.title
	case f.advice != "":
		text = "so-so   " + c.title
	}
	if f.detail != "" {
		text += ": " + f.detail
	}
	if f.advice != "" {
		text += "\n        -> " + f.advice
	}
	a.result(struct {
		Check  string `json:"check"`
		OK     bool   `json:"ok"`
		Ms     millis `json:"ms"`
		Detail string `json:"detail,omitempty"`
		Advice string `json:"advice,omitempty"`
		Facts  any    `json:"facts,omitempty"`
	}{c.name, ok, ms(f.took), f.detail, f.advice, f.facts}, "%s", text)
}

func (p *patient) socket(context.Context) (f finding, err error) {
	if p.node, p.stop, err = p.app.start(p.cfg); err != nil {
		return f, err
	}
	return finding{detail: fmt.Sprintf("bound to %v", p.node.RPC().LocalAddr())}, nil
}

// bootstrap asks all bootstrap nodes for a sign of life.
func (p *patient) bootstrap(ctx context.Context) (finding, error) {
	if len(p.cfg.Bootstrap) == 0 {
		return finding{detail: "none wanted"}, nil
	}
	type answer struct {
		resolved bool
		err      error
	}
	answers := make(chan answer, len(p.cfg.Bootstrap))
	for _, s := range p.cfg.Bootstrap {
		go func() {
			to, err := resolveBootstrap(ctx, s, s)
			resolved := err == nil
			if resolved {
				_, err = p.node.RPC().Ping(ctx, to)
			}
			answers <- answer{resolved, err}
		}()
	}
	answered, resolved := 0, 0
	var errs []error
	for range p.cfg.Bootstrap {
		a := <-answers
		if a.resolved {
			resolved++
		}
		if a.err == nil {
			answered++
		}
		errs = append(errs, a.err)
	}
	detail := fmt.Sprintf("%d of %d answer", answered, len(p.cfg.Bootstrap))
	if answered == 0 {
		addrs, _ := p.node.RPC().Network().Addrs()
		return finding{detail: detail}, fmt.Errorf("%s: %w", whyNobodyAnswers(resolved, addrs), errors.Join(errs...))
	}
	return finding{detail: detail}, nil
}

func (p *patient) network(ctx context.Context) (f finding, err error) {
	if err := p.node.Ready(ctx); err != nil {
		return f, err
	}
	n := len(p.node.RPC().Nodes())
	if n == 0 && len(p.cfg.Bootstrap) > 0 {
		return f, errors.New("the bootstrap nodes name nobody: is it the right network?")
	}
	return finding{detail: fmt.Sprintf("%d nodes in the routing table", n)}, nil
}

// connection listens on a fresh key and dials it from a second node.
func (p *patient) connection(ctx context.Context) (f finding, err error) {
	if len(p.cfg.Bootstrap) == 0 {
		return finding{detail: "not tried without a network"}, nil
	}
	cfg := p.cfg
	pair := hyperdht.GenerateKeyPair()
	cfg.KeyPair = &pair
	ours := &policy{keys: map[noise.PublicKey]bool{pair.Public: true}}
	refused := p.app.refusals()
	defer refused.end()
	l, err := p.node.Listen(ctx, hyperdht.ListenConfig{Allow: ours.allow(refused)})
	if err != nil {
		return f, fmt.Errorf("nobody takes our announcement: %w", err)
	}
	defer l.Close()
	go echo(l)
	cfg.Port, cfg.ExactPort, cfg.AnyPort = 0, false, true
	cfg.Ephemeral, cfg.store, cfg.metrics = dhtrpc.Always, "", metricsConfig{}
	other, stop, err := p.app.start(cfg)
	if err != nil {
		return f, err
	}
	defer stop()
	if err := other.Ready(ctx); err != nil {
		return f, err
	}
	start := time.Now()
	conn, err := other.Dial(ctx, l.PublicKey())
	if err != nil {
		return f, err
	}
	took := time.Since(start)
	defer conn.Close()
	if _, err := io.WriteString(conn, "?"); err != nil {
		return f, err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return f, fmt.Errorf("it opened, but nothing came back: %w", err)
	}
	return finding{detail: fmt.Sprintf("%v path to %v in %v", conn.Path().Kind, conn.Path().Remote, took.Round(time.Millisecond))}, nil
}
