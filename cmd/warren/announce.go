package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// announceInterval is how often an announcement is renewed; nodes forget it
// after twenty minutes.
const announceInterval = 10 * time.Minute

func (a *app) announceCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	var once bool
	cmd := &cobra.Command{
		Use:   "announce TOPIC",
		Short: "Announce a public key under a topic, until stopped",
		Long: `Announce a public key under a topic (64 hex digits, or name:some words), again and
again until stopped. If the key is being listened on, the nodes that it can be
reached through are announced with it.`,
		Example: `  warren announce 'name:our chess club' --key server.key`,
		GroupID: groupData,
		Args:    exactly("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, err := parseTopic("TOPIC", args[0])
			if err != nil {
				return err
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			pair, err := keys.pair(a)
			if err != nil {
				return err
			}
			return a.announce(cmd.Context(), cfg, topic, pair, once)
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "announce once and end; it is forgotten after twenty minutes")
	return cmd
}

func (a *app) announce(ctx context.Context, cfg nodeConfig, topic hyperdht.Target, pair noise.KeyPair, once bool) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		if once {
			return err
		}
		return stoppedWell(ctx, err)
	}
	defer stop()
	err = a.announceNow(ctx, node, topic, pair)
	if once || stoppedWell(ctx, err) != nil {
		return err
	}
	again := time.NewTicker(announceInterval)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if err := a.announceNow(ctx, node, topic, pair); err != nil && ctx.Err() == nil {
				a.log.Warn("announce failed, will try again", "error", err)
			}
		case <-ctx.Done():
			bye, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			if err := node.Unannounce(bye, topic, hyperdht.SignerOf(pair), hyperdht.AnnounceOptions{}); err != nil {
				a.log.Warn("unannounce failed", "error", err)
			}
			return untilStopped(ctx)
		}
	}
}

func (a *app) announceNow(ctx context.Context, node *hyperdht.Node, topic hyperdht.Target, pair noise.KeyPair) error {
	relays := relaysOf(ctx, node, pair.Public)
	stored, err := node.Announce(ctx, topic, hyperdht.SignerOf(pair), hyperdht.AnnounceOptions{Relays: relays})
	if err != nil {
		return fmt.Errorf("announce %x: %w", topic, stopCause(ctx, err))
	}
	a.event(struct {
		Event     string `json:"event"`
		PublicKey string `json:"publicKey"`
		Topic     string `json:"topic"`
		Acks      int    `json:"acks"`
	}{"announced", a.keyText(pair.Public), hex.EncodeToString(topic[:]), len(stored.Nodes)},
		"announced %s at %d nodes", a.keyText(pair.Public), len(stored.Nodes))
	return nil
}

// relaysOf are up to three nodes that forward to the listener on a key: those
// that know where it is.
func relaysOf(ctx context.Context, node *hyperdht.Node, key noise.PublicKey) []netip.AddrPort {
	var relays []netip.AddrPort
	for peer, err := range node.FindPeer(ctx, key) {
		if err != nil || len(relays) == maxRelays {
			break
		}
		if peer.PublicKey == key && !slices.Contains(relays, peer.From) {
			relays = append(relays, peer.From)
		}
	}
	return relays
}

// maxRelays is how many relays of a peer nodes keep.
const maxRelays = 3
