package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/mainline"
	"github.com/warren-dht/warren/store"
)

func (a *app) mainlineNodeCommand() *cobra.Command {
	var flags mainlineFlags
	var state, dir string
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run a node until it is stopped",
		Example: `  warren mainline node --port 6881 --store /var/lib/warren-mainline
  warren mainline node --port 6881 --state dht.json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.config()
			if err != nil {
				return err
			}
			if cfg.State, err = loadState(state); err != nil {
				return err
			}
			if dir != "" {
				db, err := store.Open(dir, store.Options{})
				if err != nil {
					return fmt.Errorf("--store: %w%s", err, hint(err))
				}
				defer db.Close()
				cfg.Store = db
			}
			return a.mainlineServe(cmd.Context(), cfg, state)
		},
	}
	flags.add(cmd, "port")
	cmd.Flags().StringVar(&dir, "store", "", "a `directory` in which to keep what others store here")
	cmd.Flags().StringVar(&state, "state", "", "a JSON `file` with the id, nodes and items of the last run, read first and written at the end")
	return cmd
}

func (a *app) mainlineServe(ctx context.Context, cfg mainline.Config, state string) error {
	node, err := mainline.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	a.nodeEvent("listening", node.Addr(), node.ID().String())
	switch err := node.Ready(ctx); {
	case err == nil:
		a.nodeEvent("ready", node.Addr(), node.ID().String())
	case ctx.Err() == nil:
		return err
	}
	err = untilStopped(ctx)
	if state != "" {
		err = errors.Join(err, saveState(state, node.State()))
	}
	node.Close()
	a.plainEvent("close")
	return err
}

// loadState reads a state file; nil if there is none.
func loadState(name string) (*mainline.State, error) {
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	state := new(mainline.State)
	if err := json.Unmarshal(b, state); err != nil {
		return nil, usage("--state: %s: %w", quote(name), err)
	}
	return state, nil
}

// saveState replaces a state file, at once or not at all.
func saveState(name string, state *mainline.State) error {
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("--state: %w", err)
	}
	return nil
}
