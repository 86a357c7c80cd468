package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// upstreamTimeout bounds how long listen --to waits for the service to answer.
const upstreamTimeout = 10 * time.Second

// A service is what listen does with connections. At most one of its ways is
// set; without any, one connection goes to stdin and stdout.
type service struct {
	echo    bool
	command string // run through sh -c
	to      string // a TCP address
}

func (a *app) listenCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	var allow allowFlags
	var conns connFlags
	var relays, allowedRelays []string
	var noLAN, noHolepunch bool
	var s service
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Serve connections to a public key",
		Long: `Serve connections to a public key until stopped. With --echo, --exec or --to every
connection is served; without them one connection gets stdin and stdout.

Announced keys can be read in the DHT, so --exec and --to demand --allow. A peer is
served when it has proved that it holds its key, not before.`,
		Example: `  warren listen --key server.key
  warren listen --key server.key --to 127.0.0.1:22 --allow 6d1...
  warren listen --exec 'tar c .' --allow any`,
		GroupID: groupReach,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			may, err := allow.policy(a)
			if err != nil {
				return err
			}
			if may == nil && (s.command != "" || s.to != "") {
				return usage("listen: --exec and --to need --allow KEY,..., --allow-file FILE or --allow any, since announced keys can be read in the DHT")
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			through, err := parsePeers("--relay-through", relays)
			if err != nil {
				return err
			}
			relay, err := allowRelay(allowedRelays, may)
			if err != nil {
				return err
			}
			all, peer := listenConns, listenPeerConns
			if s.command != "" {
				all, peer = execConns, execPeerConns
			}
			if err := conns.settle(cmd, all, peer); err != nil {
				return err
			}
			pair, err := keys.pair(a)
			if err != nil {
				return err
			}
			refused := a.refusals()
			defer refused.end()
			return a.listen(cmd.Context(), cfg, hyperdht.ListenConfig{KeyPair: &pair, Allow: may.allow(refused), RelayThrough: through, AllowRelay: relay,
				HideLocalAddresses: noLAN, NoHolepunch: noHolepunch, MaxConns: conns.all, MaxPeerConns: conns.peer}, s)
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	allow.add(cmd)
	conns.add(cmd, fmt.Sprintf("%d, with --exec %d", listenConns, execConns), fmt.Sprintf("%d, with --exec %d", listenPeerConns, execPeerConns))
	cmd.Flags().BoolVar(&s.echo, "echo", false, "send back what comes")
	cmd.Flags().StringVar(&s.command, "exec", "", "run this `command` with the connection as its stdin and stdout")
	cmd.Flags().StringVar(&s.to, "to", "", "connect to this `HOST:PORT` for each connection")
	cmd.Flags().BoolVar(&noLAN, "no-lan", false, "do not tell peers our addresses on the local network")
	cmd.Flags().BoolVar(&noHolepunch, "no-holepunch", false, "never punch holes: peers come directly, over the local network or through a relay")
	cmd.Flags().StringSliceVar(&relays, "relay-through", nil, "blind relays that peers may begin with, `KEY`,...")
	cmd.Flags().StringSliceVar(&allowedRelays, "allow-relay", nil, "blind relays that clients may name: `KEY`,... or any (default: any of clients that --allow lists by key, else none)")
	return cmd
}

// check refuses two ways at once, addresses that are none, and commands where there
// is no shell.
func (s service) check() error {
	ways := 0
	for _, set := range []bool{s.echo, s.command != "", s.to != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		return usage("listen: --echo, --exec and --to exclude each other")
	}
	if s.command != "" {
		if _, err := exec.LookPath("sh"); err != nil {
			return fmt.Errorf("--exec: %w", err)
		}
	}
	if s.to != "" {
		return checkTCP("--to", s.to, false)
	}
	return nil
}

// stdio tells whether stdin and stdout are the connection's.
func (s service) stdio() bool { return !s.echo && s.command == "" && s.to == "" }

func (a *app) listen(ctx context.Context, cfg nodeConfig, lc hyperdht.ListenConfig, s service) error {
	a.data = s.stdio()
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return stoppedWell(ctx, err)
	}
	defer stop()
	done := a.spin("announcing")
	l, err := node.Listen(ctx, lc)
	done()
	if err != nil {
		return stoppedWell(ctx, fmt.Errorf("listen on %v: %w", lc.KeyPair.Public, stopCause(ctx, err)))
	}
	a.listening(node, l.PublicKey())
	if s.stdio() {
		conn, err := l.AcceptConn(ctx)
		if err != nil {
			return stoppedWell(ctx, stopCause(ctx, err))
		}
		l.Close() // it was for one
		return a.serveConn(ctx, conn, func() error { return a.stdio(ctx, conn) })
	}
	// What serves a connection may outlive it for a moment, as a command that has to
	// be killed does: such ones are counted here too.
	serving := make(slots, lc.MaxConns)
	var open sync.WaitGroup
	defer open.Wait()
	defer l.Close()
	for {
		err := serving.take(ctx)
		if err != nil {
			return stoppedWell(ctx, err)
		}
		conn, err := l.AcceptConn(ctx)
		if err != nil {
			return stoppedWell(ctx, stopCause(ctx, err))
		}
		open.Go(func() {
			defer serving.free()
			if err := a.serveConn(ctx, conn, func() error { return a.serve(ctx, conn, s) }); err != nil {
				a.log.Debug("connection failed", "remotePublicKey", conn.RemotePublicKey(), "error", err)
			}
		})
	}
}

// listening tells that a key can be connected to.
func (a *app) listening(node *hyperdht.Node, key noise.PublicKey) {
	a.event(struct {
		Event     string `json:"event"`
		PublicKey string `json:"publicKey"`
		addrJSON
	}{"listening", a.keyText(key), addr(node.RPC().LocalAddr())}, "listening on %s", a.keyText(key))
}

// stoppedWell is nil if a signal has ended a long-running command.
func stoppedWell(ctx context.Context, err error) error {
	if interrupted(ctx) {
		return nil
	}
	return err
}

// serveConn tells of a connection's beginning and end.
func (a *app) serveConn(ctx context.Context, conn *hyperdht.Conn, serve func() error) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	remote := a.keyText(conn.RemotePublicKey())
	hash := conn.HandshakeHash()
	path := conn.Path()
	a.event(struct {
		Event           string   `json:"event"`
		RemotePublicKey string   `json:"remotePublicKey"`
		HandshakeHash   string   `json:"handshakeHash"`
		Path            string   `json:"path"`
		RemoteAddress   addrJSON `json:"remoteAddress"`
	}{"connection", remote, hex.EncodeToString(hash[:]), path.Kind.String(), addr(path.Remote)},
		"connection from %s at %v (%v)", remote, path.Remote, path.Kind)
	err := stoppedWell(ctx, serve())
	a.event(struct {
		Event           string `json:"event"`
		RemotePublicKey string `json:"remotePublicKey"`
		Error           string `json:"error,omitempty"`
	}{"closed", remote, errorText(err)}, "closed %s", remote)
	return err
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// serve serves one connection.
func (a *app) serve(ctx context.Context, conn *hyperdht.Conn, s service) error {
	switch {
	case s.echo:
		_, err := io.Copy(conn, conn)
		return finish(ctx, conn, err)
	case s.command != "":
		return a.exec(ctx, conn, s.command)
	}
	tcp, err := dialService(ctx, conn.Done(), s.to, (&net.Dialer{}).DialContext)
	if err != nil {
		return finish(ctx, conn, err) // refused, not ended
	}
	return finish(ctx, conn, join(conn, tcp.(*net.TCPConn)))
}

// dialService connects to the service of listen --to. It waits no longer than
// upstreamTimeout, and not for a peer whose connection has ended.
func dialService(ctx context.Context, gone <-chan struct{}, to string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return dial(ctx, "tcp", to)
}
