package main

import (
	"context"

	"github.com/spf13/cobra"
)

// Defaults of --max-conns and --max-peer-conns.
const (
	listenConns     = 4096
	listenPeerConns = 1024
	execConns       = 128 // each is a process or more
	execPeerConns   = 32
	relayConns      = 16384 // two clients for each pair
	relayPeerConns  = 1024  // a server has one for each of its clients
)

// connFlags bound the open connections of a listener: all of them, and those of one
// public key.
type connFlags struct{ all, peer int }

// add adds the flags. The texts are the defaults as the help shows them.
func (f *connFlags) add(cmd *cobra.Command, all, peer string) {
	cmd.Flags().IntVar(&f.all, "max-conns", 0, "how many connections are open at a time ("+all+")")
	cmd.Flags().IntVar(&f.peer, "max-peer-conns", 0, "how many connections of one public key are open at a time ("+peer+")")
}

// settle reads the flags, and fills in the defaults. A default is never more than
// the other bound allows.
func (f *connFlags) settle(cmd *cobra.Command, all, peer int) error {
	given := cmd.Flags().Changed
	switch {
	case given("max-conns") && f.all < 1:
		return usage("--max-conns: %d is not positive", f.all)
	case given("max-peer-conns") && f.peer < 1:
		return usage("--max-peer-conns: %d is not positive", f.peer)
	case given("max-conns") && given("max-peer-conns") && f.peer > f.all:
		return usage("--max-peer-conns: %d is more than --max-conns %d", f.peer, f.all)
	}
	if !given("max-conns") {
		f.all = max(all, f.peer)
	}
	if !given("max-peer-conns") {
		f.peer = min(peer, f.all)
	}
	return nil
}

// slots bound how many of something exist at a time.
type slots chan struct{}

// take waits for a free slot.
func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// free gives a slot back.
func (s slots) free() { <-s }
