package main

import (
	"github.com/spf13/cobra"
)

// Groups of commands in the help.
const (
	groupReach = "reach"
	groupNodes = "nodes"
	groupData  = "data"
	groupOther = "other"
)

// rootCommand builds the tree of commands.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "warren",
		Short: "Reach machines by public key, and keep records, over Kademlia networks",
		Long: `warren reaches machines by their public key, wherever they are, and stores small
records in distributed hash tables. It speaks the HyperDHT, the BitTorrent DHT
(warren mainline) and networks of the first dht-rpc (warren v1).

Results go to stdout, everything else to stderr. Keys, topics, targets and hashes
are 64 hex digits; a public key may also be z-base-32, a topic name:some words.
The network is the public one unless --bootstrap or WARREN_BOOTSTRAP says
otherwise. Exit status: 0 done, 1 failed, 2 wrong usage.`,
		Example: `  warren demo
  warren listen --key server.key --to 127.0.0.1:22 --allow any
  warren connect 6d1... --from 127.0.0.1:2222
  warren send photo.jpg`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: a.setUp,
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q; warren --help lists them", args[0])
			}
			return cmd.Help()
		},
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON, one object a line")
	flags.BoolVar(&a.z32, "z32", false, "print public keys as z-base-32")
	flags.StringVar(&a.logLevel, "log-level", "warn", "what to log to stderr: debug, info, warn or error")
	root.AddGroup(
		&cobra.Group{ID: groupReach, Title: "Connections by public key:"},
		&cobra.Group{ID: groupData, Title: "Records and topics:"},
		&cobra.Group{ID: groupNodes, Title: "Nodes and networks:"},
		&cobra.Group{ID: groupOther, Title: "Other networks and tools:"},
	)
	root.CompletionOptions.DisableDefaultCmd = true // ours has examples, and refuses what it does not know
	root.SetHelpCommand(a.helpCommand())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w (%s --help shows how)", err, cmd.CommandPath())
	})
	root.AddCommand(
		a.listenCommand(),
		a.connectCommand(),
		a.announceCommand(),
		a.unannounceCommand(),
		a.lookupCommand(),
		a.putCommand(),
		a.getCommand(),
		a.nodeCommand(),
		a.bootstrapCommand(),
		a.testnetCommand(),
		a.sendCommand(),
		a.receiveCommand(),
		a.relayCommand(),
		a.demoCommand(),
		a.doctorCommand(),
		a.keygenCommand(),
		a.versionCommand(),
		a.pingCommand(),
		a.findCommand(),
		a.queryCommand(),
		a.mainlineCommand(),
		a.v1Command(),
		a.completionCommand(),
	)
	complete(root)
	return root
}

// group makes a command that only holds others.
func group(use, short, long, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, GroupID: groupOther,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q; %s --help lists them", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// exactly demands arguments, by name.
func exactly(names ...string) cobra.PositionalArgs { return between(len(names), names...) }

// between demands the first few of the arguments, by name; the others may be
// left out.
func between(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return usage("%s is missing (%s --help shows how)", names[len(args)], cmd.CommandPath())
		}
		if len(args) > len(names) {
			return usage("too many arguments: %s (%s --help shows how)", quote(args[len(names)]), cmd.CommandPath())
		}
		return nil
	}
}
