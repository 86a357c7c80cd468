package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpCommand is help, which refuses what is no command.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about any command",
		Long:    `Help about any command: the same as its --help.`,
		Example: `  warren help mainline put`,
		GroupID: groupOther,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage("unknown command %q; warren --help lists them", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if about, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, sub := range about.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func (a *app) completionCommand() *cobra.Command {
	scripts := map[string]func(*cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(root.OutOrStdout(), true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(root.OutOrStdout()) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(root.OutOrStdout(), true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(root.OutOrStdout()) },
	}
	shells := []cobra.Completion{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands and flags in a shell",
		Long: `Print a script that completes commands and flags in a shell. The examples are for one
session of bash, zsh, fish and PowerShell; write the script to where your shell looks
for it to have it in all (bash needs the package bash-completion).`,
		Example: `  source <(warren completion bash)
  source <(warren completion zsh)
  warren completion fish | source
  warren completion powershell | Out-String | Invoke-Expression

  warren completion bash > /etc/bash_completion.d/warren
  warren completion zsh > "${fpath[1]}/_warren"
  warren completion fish > ~/.config/fish/completions/warren.fish`,
		GroupID: groupOther,
		Args:    exactly("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			script, ok := scripts[args[0]]
			if !ok {
				return usage("SHELL: %s is not bash, zsh, fish or powershell", quote(args[0]))
			}
			return script(cmd.Root())
		},
		ValidArgsFunction: cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp),
	}
}

// words are what flags can be set to, where that is one of a few words.
var words = map[string][]cobra.Completion{
	"log-level":  {"debug", "info", "warn", "error"},
	"ephemeral":  {"auto", "true", "false"},
	"firewalled": {"true", "false"},
	"allow":      {"any"},
}

// files are the flags that name files or folders, and takeFiles the commands whose
// argument does; a shell completes these, and nothing else, with what lies around.
var (
	files     = map[string]bool{"key": true, "allow-file": true, "store": true, "output": true, "state": true}
	takeFiles = map[string]bool{"send": true, "keygen": true}
)

// complete tells the shells what arguments and flags can be, of a command and all
// below it.
func complete(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && !takeFiles[cmd.Name()] {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	flag := func(f *pflag.Flag) {
		if files[f.Name] || f.Value.Type() == "bool" {
			return
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words[f.Name], cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(flag)
	cmd.PersistentFlags().VisitAll(flag)
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

// joinWords writes "--ephemeral false" as "--ephemeral=false": a flag that may
// stand without a value would else take none.
func joinWords(args []string) (joined []string) {
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if isFlag && name == "" {
			return append(joined, args[i:]...)
		}
		arg := args[i]
		if isFlag && (name == "ephemeral" || name == "firewalled") && i+1 < len(args) && slices.Contains(words[name], args[i+1]) {
			i++
			arg += "=" + args[i]
		}
		joined = append(joined, arg)
	}
	return joined
}
