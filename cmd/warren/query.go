package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc"
)

// A rpcQuery is what query asks.
type rpcQuery struct {
	command uint64
	target  string
	value   valueFlags
	commit  bool
}

func (a *app) queryCommand() *cobra.Command {
	var flags nodeFlags
	var q rpcQuery
	cmd := &cobra.Command{
		Use:   "query --command N --target HEX",
		Short: "Run a command of your own on the nodes closest to a target",
		Long: `Run a command of your own on the nodes on the way to a target and print their
replies as they come. With --commit the command is sent once more to the closest
ones, each with the token that it gave.`,
		Example: `  warren query --command 3 --target 'name:our chess club' --bootstrap 127.0.0.1:49737`,
		GroupID: groupNodes,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("command") {
				return usage("query: --command is missing")
			}
			target, err := parseTopic("--target", q.target)
			if err != nil {
				return err
			}
			message := dhtrpc.Message{Command: q.command, Target: (*dhtrpc.ID)(&target)}
			if message.Value, err = q.value.bytes(); err != nil {
				return err
			}
			if _, err := flags.demand(cmd, envBootstrap); err != nil {
				return err
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			return a.query(cmd.Context(), cfg, message, q.commit)
		},
	}
	flags.add(cmd)
	cmd.Flags().Uint64Var(&q.command, "command", 0, "the command's `number`")
	cmd.Flags().StringVar(&q.target, "target", "", "64 `hex` digits, or name:some words")
	q.value.add(cmd)
	cmd.Flags().BoolVar(&q.commit, "commit", false, "send it again to the closest nodes, with their tokens")
	return cmd
}

func (a *app) query(ctx context.Context, cfg nodeConfig, m dhtrpc.Message, commit bool) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	what := fmt.Sprintf("command %d", m.Command)
	q := node.RPC().Query(m, dhtrpc.QueryOptions{Commit: commit})
	count := 0
	for r, err := range q.Replies(ctx) {
		if err != nil {
			return fmt.Errorf("%s: %w", what, stopCause(ctx, err))
		}
		count++
		a.rpcReply(r)
	}
	if _, failures := q.Counts(); count == 0 && failures > 0 {
		return fmt.Errorf("%s: %w: %d refused it or were silent", what, errNoAnswer, failures)
	}
	if count == 0 {
		return fmt.Errorf("%s: %w", what, errNoAnswer)
	}
	return nil
}

func (a *app) rpcReply(r dhtrpc.Reply) {
	var token *string
	if r.Token != nil {
		s := hex.EncodeToString(r.Token[:])
		token = &s
	}
	a.result(struct {
		From addrJSON `json:"from"`
		valueJSON
		Error uint64  `json:"error"`
		Token *string `json:"token,omitempty"`
	}{addr(r.From), value(r.Value), uint64(r.Error), token}, "%-21v  %s", r.From, valueText(r.Value))
}

// valueFlags are a byte string as text or as hex.
type valueFlags struct{ text, hex string }

func (f *valueFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.text, "value", "", "the value that goes along, as `text`")
	cmd.Flags().StringVar(&f.hex, "value-hex", "", "the same in `hex`")
}

// bytes returns the value, nil if there is none.
func (f *valueFlags) bytes() ([]byte, error) {
	switch {
	case f.text != "" && f.hex != "":
		return nil, usage("--value and --value-hex cannot be used together")
	case f.hex != "":
		b, err := hex.DecodeString(f.hex)
		if err != nil {
			return nil, usage("--value-hex: %s is not hex", quote(f.hex))
		}
		return b, nil
	case f.text != "":
		return []byte(f.text), nil
	}
	return nil, nil
}
