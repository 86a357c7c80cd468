package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/store"
)

// stopTimeout bounds how long a node may take to say good-bye.
const stopTimeout = 2 * time.Second

// open starts a node of the HyperDHT, and waits until it has found its way. The
// function ends it.
func (a *app) open(ctx context.Context, cfg nodeConfig) (*hyperdht.Node, func(), error) {
	node, stop, err := a.start(cfg)
	if err != nil {
		return nil, nil, err
	}
	done := a.spin("bootstrapping")
	err = node.Ready(ctx)
	done()
	if err == nil {
		err = unreachable(node, cfg.Bootstrap)
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("find the network: %w", stopCause(ctx, err))
	}
	return node, stop, nil
}

// unreachable says that there are nodes to begin with and none of them answered.
func unreachable(node *hyperdht.Node, bootstrap []string) error {
	if bootstrap == nil {
		bootstrap = hyperdht.DefaultBootstrap
	}
	if node.RPC().Stats().Requests.Responses > 0 {
		return nil
	}
	return silence(bootstrap)
}

// silence says that none of the nodes to begin with answered; nil if there are
// none.
func silence(bootstrap []string) error {
	if len(bootstrap) == 0 {
		return nil
	}
	return fmt.Errorf("%w, none of %s (is the network up? warren doctor looks closer)", errNoAnswer, strings.Join(bootstrap, ", "))
}

// start is open without waiting.
func (a *app) start(cfg nodeConfig) (*hyperdht.Node, func(), error) {
	var closers []func()
	stop := sync.OnceFunc(func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	})
	if cfg.store != "" {
		db, err := store.Open(cfg.store, store.Options{})
		if err != nil {
			return nil, nil, fmt.Errorf("--store: %w%s", err, hint(err))
		}
		cfg.Store = db
		closers = append(closers, func() {
			if err := db.Close(); err != nil {
				a.log.Error("closing the store", "error", err)
			}
		})
	}
	node, err := a.newNode(cfg)
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("%w%s", err, hint(err))
	}
	logged := a.logEvents(node)
	closers = append(closers, func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		node.Shutdown(ctx)
		<-logged
	})
	if cfg.metrics.at != "" {
		shut, err := a.serveMetrics(cfg.metrics, node)
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("--metrics: %w", err)
		}
		closers = append(closers, shut)
	}
	return node, stop, nil
}

// hint is what to do about a node that does not start.
func hint(err error) string {
	switch {
	case errors.Is(err, store.ErrDamaged):
		return " (move it away to start with an empty one)"
	case errors.Is(err, store.ErrLocked):
		return " (one process at a time: another folder, or no --store)"
	case errors.Is(err, syscall.EADDRINUSE):
		return " (another --port, or none for any that is free)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return " (--host is an address of this machine; without it all are bound)"
	}
	return ""
}

// newNode starts a bootstrap node if the public address is given, else a usual
// one.
func (a *app) newNode(cfg nodeConfig) (*hyperdht.Node, error) {
	if cfg.Public.IsValid() {
		return hyperdht.Bootstrapper(cfg.Public, cfg.Config)
	}
	return hyperdht.New(cfg.Config)
}
