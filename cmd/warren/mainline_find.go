package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) mainlineFindCommand() *cobra.Command {
	flags := mainlineFlags{readOnly: true}
	cmd := &cobra.Command{
		Use:     "find TARGET",
		Short:   "Find the nodes closest to a target, eight of each family",
		Example: `  warren mainline find 0303030303030303030303030303030303030303`,
		Args:    exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseMainlineID("TARGET", args[0])
			if err != nil {
				return err
			}
			cfg, err := flags.config()
			if err != nil {
				return err
			}
			node, err := a.mainlineNode(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer node.Close()
			nodes, err := node.Closest(cmd.Context(), target)
			if err != nil {
				return fmt.Errorf("find %v: %w", target, stopCause(cmd.Context(), err))
			}
			if len(nodes) == 0 {
				return fmt.Errorf("find %v: %w", target, errNoAnswer)
			}
			for _, c := range nodes {
				a.contactResult(c)
			}
			return nil
		},
	}
	flags.add(cmd, "port")
	return cmd
}
