package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// allowFlags say who may connect.
type allowFlags struct {
	list []string
	file string
}

func (f *allowFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.list, "allow", nil, "who may connect: `KEY`,... or any")
	cmd.Flags().StringVar(&f.file, "allow-file", "", "a `file` with the keys of who may connect, one a line, # begins a comment")
}

// A policy is who may connect; nil if nothing was said.
type policy struct {
	any  bool
	keys map[noise.PublicKey]bool
}

// policy reads the flags.
func (f *allowFlags) policy(a *app) (*policy, error) {
	if len(f.list) == 0 && f.file == "" {
		return nil, nil
	}
	p := &policy{keys: map[noise.PublicKey]bool{}}
	for _, s := range f.list {
		if s == "any" {
			p.any = true
			continue
		}
		if err := p.add("--allow", s); err != nil {
			return nil, err
		}
	}
	if f.file == "" {
		return p, nil
	}
	file, err := os.Open(f.file)
	if err != nil {
		return nil, usage("--allow-file: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := p.add(fmt.Sprintf("%s:%d", f.file, n), text); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, usage("--allow-file: %w", err)
	}
	a.warnOpen(file, "other users can change who may connect; chmod go-w this file", 0o022)
	return p, nil
}

func (p *policy) add(what, s string) error {
	k, err := parseKey(what, s)
	if err != nil {
		return err
	}
	p.keys[k] = true
	return nil
}

var errNotAllowed = errors.New("not among the keys that may connect")

// allow is the policy as a listener asks it; nil accepts every key. It only decides:
// that a peer holds its key is proven when Accept returns the connection, so nothing
// else may happen here. Refusals are logged within a limit.
func (p *policy) allow(refused *lineLimit) func(context.Context, hyperdht.Incoming) error {
	if p == nil || p.any {
		return nil
	}
	return func(_ context.Context, in hyperdht.Incoming) error {
		if p.keys[in.RemotePublicKey] {
			return nil
		}
		refused.line(string(in.RemotePublicKey[:]),
			slog.String("claimedPublicKey", in.RemotePublicKey.String()), slog.String("from", in.Addr.String()))
		return errNotAllowed
	}
}

// refusals is the log of connections that a policy refuses.
func (a *app) refusals() *lineLimit {
	return newLineLimit(a.log, slog.LevelInfo, "connection refused: its key is not allowed")
}

// parsePeers reads public keys of those to connect to.
func parsePeers(what string, list []string) ([]noise.PublicKey, error) {
	var keys []noise.PublicKey
	for _, s := range list {
		k, err := parsePeer(what, s)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}
