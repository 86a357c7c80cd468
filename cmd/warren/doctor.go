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
)

// checkTimeout bounds each check of doctor.
const checkTimeout = 30 * time.Second

func (a *app) doctorCommand() *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what keeps this machine from connecting",
		Long: `Check, one after the other, what a connection needs: a socket, bootstrap nodes that
answer, a way through the NAT, and a connection to ourselves through the network.
Says what to do about what does not work.`,
		Example: `  warren doctor
  warren doctor --bootstrap 10.0.0.1:49737`,
		GroupID: groupOther,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			if cfg.Bootstrap == nil {
				cfg.Bootstrap = hyperdht.DefaultBootstrap
			}
			return a.doctor(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	return cmd
}

// A patient is what the checks share.
type patient struct {
	app  *app
	cfg  nodeConfig
	node *hyperdht.Node
	stop func()
}

// A check looks at one thing. It returns what it found, and if it failed an
// error that says what to do.
type check struct {
	name, title string
	run         func(*patient, context.Context) (string, error)
}

var checks = []check{
	{"socket", "A UDP socket", (*patient).socket},
	{"bootstrap", "Bootstrap nodes", (*patient).bootstrap},
	{"network", "The network", (*patient).network},
	{"address", "Our address", (*patient).address},
	{"connection", "A connection to ourselves", (*patient).connection},
}

func (a *app) doctor(ctx context.Context, cfg nodeConfig) error {
	p := &patient{app: a, cfg: cfg}
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
		text := fmt.Sprintf("ok      %s: %s", c.title, found)
		if err != nil {
			text = fmt.Sprintf("FAILED  %s", c.title)
		}
		a.result(struct {
			Check  string `json:"check"`
			OK     bool   `json:"ok"`
			Ms     millis `json:"ms"`
			Detail string `json:"detail,omitempty"`
		}{c.name, err == nil, ms(time.Since(start)), found}, "%s", text)
		if err != nil {
			return fmt.Errorf("doctor: %s: %w", c.name, stopCause(ctx, err))
		}
	}
	return nil
}

func (p *patient) socket(context.Context) (string, error) {
	var err error
	if p.node, p.stop, err = p.app.start(p.cfg); err != nil {
		return "", err
	}
	return fmt.Sprintf("bound to %v", p.node.RPC().LocalAddr()), nil
}

func (p *patient) bootstrap(ctx context.Context) (string, error) {
	if len(p.cfg.Bootstrap) == 0 {
		return "none wanted", nil
	}
	answered := 0
	var errs []error
	for _, s := range p.cfg.Bootstrap {
		to, err := resolveBootstrap(ctx, s, s)
		if err == nil {
			_, err = p.node.RPC().Ping(ctx, to)
		}
		if err == nil {
			answered++
		}
		errs = append(errs, err)
	}
	if answered == 0 {
		return "", fmt.Errorf("none answers (is UDP let out? is --bootstrap right?): %w", errors.Join(errs...))
	}
	return fmt.Sprintf("%d of %d answer", answered, len(p.cfg.Bootstrap)), nil
}

func (p *patient) network(ctx context.Context) (string, error) {
	if err := p.node.Ready(ctx); err != nil {
		return "", err
	}
	n := len(p.node.RPC().Nodes())
	if n == 0 && len(p.cfg.Bootstrap) > 0 {
		return "", errors.New("the bootstrap nodes name nobody: is it the right network?")
	}
	return fmt.Sprintf("%d nodes in the routing table", n), nil
}

func (p *patient) address(context.Context) (string, error) {
	rpc := p.node.RPC()
	public := rpc.PublicAddr()
	switch {
	case !public.Addr().IsValid():
		return "not known: too few nodes tell", nil
	case rpc.Randomized():
		return fmt.Sprintf("%v with another port for each peer; a relay helps where punching does not", public.Addr()), nil
	case rpc.Firewalled():
		return fmt.Sprintf("%v, which strangers cannot reach; peers punch through", public), nil
	}
	return fmt.Sprintf("%v, open to everybody", public), nil
}

// connection listens on a fresh key and dials it from a second node.
func (p *patient) connection(ctx context.Context) (string, error) {
	if len(p.cfg.Bootstrap) == 0 {
		return "not tried without a network", nil
	}
	l, err := p.node.Listen(ctx, hyperdht.ListenConfig{})
	if err != nil {
		return "", fmt.Errorf("nobody takes our announcement: %w", err)
	}
	defer l.Close()
	go echo(l)
	cfg := p.cfg
	cfg.Port, cfg.ExactPort, cfg.AnyPort = 0, false, true
	cfg.Ephemeral, cfg.store, cfg.metrics = dhtrpc.Always, "", ""
	other, stop, err := p.app.start(cfg)
	if err != nil {
		return "", err
	}
	defer stop()
	if err := other.Ready(ctx); err != nil {
		return "", err
	}
	start := time.Now()
	conn, err := other.Dial(ctx, l.PublicKey())
	if err != nil {
		return "", err
	}
	took := time.Since(start)
	defer conn.Close()
	if _, err := io.WriteString(conn, "?"); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return "", fmt.Errorf("it opened, but nothing came back: %w", err)
	}
	return fmt.Sprintf("%v path to %v in %v", conn.Path().Kind, conn.Path().Remote, took.Round(time.Millisecond)), nil
}
