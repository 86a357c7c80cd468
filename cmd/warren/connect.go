package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

func (a *app) connectCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	var from string
	var relays []string
	var noLAN, noHolepunch bool
	cmd := &cobra.Command{
		Use:   "connect KEY",
		Short: "Connect to a public key",
		Long: `Connect to a public key, with stdin and stdout. The end of stdin ends our half of the
connection; the end of the peer's half ends the command. With --from every
connection to a local TCP port is carried to the peer instead.`,
		Example: `  warren connect 6d1... < request > reply
  warren connect 6d1... --from 127.0.0.1:2222`,
		GroupID: groupReach,
		Args:    exactly("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := parsePeer("KEY", args[0])
			if err != nil {
				return err
			}
			if from != "" {
				if err := checkTCP("--from", from, true); err != nil {
					return err
				}
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			through, err := parsePeers("--relay-through", relays)
			if err != nil {
				return err
			}
			pair, err := keys.pair(a)
			if err != nil {
				return err
			}
			cfg.KeyPair = &pair
			dial := hyperdht.DialConfig{RelayThrough: through, NoLAN: noLAN}
			if noHolepunch {
				dial.NoFastOpen = true
				dial.Holepunch = func(hyperdht.PunchAttempt) bool { return false }
			}
			if from != "" {
				return a.forward(cmd.Context(), cfg, key, dial, from)
			}
			return a.connect(cmd.Context(), cfg, key, dial)
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	cmd.Flags().StringVar(&from, "from", "", "carry connections to this local `HOST:PORT` to the peer")
	cmd.Flags().BoolVar(&noLAN, "no-lan", false, "neither tell nor use addresses on the local network")
	cmd.Flags().BoolVar(&noHolepunch, "no-holepunch", false, "never punch holes: connect directly, over the local network or through a relay")
	cmd.Flags().StringSliceVar(&relays, "relay-through", nil, "blind relays to begin with while a direct path is looked for, `KEY`,...")
	return cmd
}

// connect joins one connection with stdin and stdout.
func (a *app) connect(ctx context.Context, cfg nodeConfig, key noise.PublicKey, dial hyperdht.DialConfig) error {
	a.data = true
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := a.dial(ctx, node, key, dial)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := a.stdio(ctx, conn); err != nil {
		conn.Destroy(err) // the peer must not take it for the end
		return fmt.Errorf("connection to %s: %w", a.keyText(key), stopCause(ctx, err))
	}
	return nil
}

// dial connects and tells of it, and of the better paths that come later.
func (a *app) dial(ctx context.Context, node *hyperdht.Node, key noise.PublicKey, cfg hyperdht.DialConfig) (*hyperdht.Conn, error) {
	start := time.Now()
	done := a.spin("connecting")
	conn, err := node.DialWith(ctx, key, cfg)
	done()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w%s", a.keyText(key), stopCause(ctx, err), advice(err))
	}
	took := time.Since(start)
	a.log.Info("connected", "remotePublicKey", a.keyText(key), "path", conn.Path().Kind.String(), "remote", conn.Path().Remote.String(), "took", took)
	hash := conn.HandshakeHash()
	path := conn.Path()
	a.event(struct {
		Event           string   `json:"event"`
		RemotePublicKey string   `json:"remotePublicKey"`
		HandshakeHash   string   `json:"handshakeHash"`
		Path            string   `json:"path"`
		RemoteAddress   addrJSON `json:"remoteAddress"`
		Ms              millis   `json:"ms"`
	}{"open", a.keyText(key), hex.EncodeToString(hash[:]), path.Kind.String(), addr(path.Remote), ms(took)},
		"connected to %s at %v (%v, %v)", a.keyText(key), path.Remote, path.Kind, took.Round(time.Millisecond))
	go a.paths(conn, path, start)
	return conn, nil
}

// paths tells of the paths that a connection takes after the first.
func (a *app) paths(conn *hyperdht.Conn, path hyperdht.Path, start time.Time) {
	for {
		next, err := conn.NextPath(context.Background(), path)
		if err != nil {
			return // the connection is over
		}
		if next.Kind != path.Kind {
			a.event(struct {
				Event         string   `json:"event"`
				Path          string   `json:"path"`
				RemoteAddress addrJSON `json:"remoteAddress"`
				Ms            millis   `json:"ms"`
			}{"path", next.Kind.String(), addr(next.Remote), ms(time.Since(start))}, "now %v at %v", next.Kind, next.Remote)
		}
		path = next
	}
}

// advice is what to do about a failed dial.
func advice(err error) string {
	switch {
	case errors.Is(err, hyperdht.ErrPunchRefused):
		return " (--no-holepunch leaves only a relay to reach this peer: --relay-through)"
	case errors.Is(err, hyperdht.ErrPeerNotFound):
		return " (is the peer listening, on the same network?)"
	case errors.Is(err, hyperdht.ErrPeerConnectionFailed):
		return " (does the peer allow our key? see --seed and --key)"
	case errors.Is(err, hyperdht.ErrHolepunchAborted), errors.Is(err, hyperdht.ErrCannotHolepunch):
		return " (--relay-through a relay helps where punching does not)"
	}
	return ""
}

// forwardConns bounds how many local connections are carried at a time. Others wait
// to be accepted.
const forwardConns = 1024

// forward carries each connection to a local TCP port to the peer, over a
// connection of its own.
func (a *app) forward(ctx context.Context, cfg nodeConfig, key noise.PublicKey, dial hyperdht.DialConfig, from string) error {
	tcp, err := net.Listen("tcp", from)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer tcp.Close()
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return stoppedWell(ctx, err)
	}
	defer stop()
	at := netip.MustParseAddrPort(tcp.Addr().String())
	a.nodeEvent("listening", at, "")
	defer context.AfterFunc(ctx, func() { tcp.Close() })()
	failed := newLineLimit(a.log, slog.LevelWarn, "connection failed")
	defer failed.end()
	carried := make(slots, forwardConns)
	var open sync.WaitGroup
	defer open.Wait()
	for {
		if err := carried.take(ctx); err != nil {
			return stoppedWell(ctx, err)
		}
		local, err := tcp.Accept()
		if err != nil {
			return stoppedWell(ctx, err)
		}
		open.Go(func() {
			defer carried.free()
			defer local.Close()
			if err := a.carry(ctx, node, key, dial, local.(*net.TCPConn)); err != nil && ctx.Err() == nil {
				failed.line("", slog.String("from", local.RemoteAddr().String()), slog.Any("error", err))
			}
		})
	}
}

// carry carries one local connection to the peer.
func (a *app) carry(ctx context.Context, node *hyperdht.Node, key noise.PublicKey, dial hyperdht.DialConfig, local *net.TCPConn) error {
	conn, err := a.dial(ctx, node, key, dial)
	if err != nil {
		local.SetLinger(0) // refused, not ended
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close(); local.Close() })()
	return finish(ctx, conn, join(conn, local))
}
