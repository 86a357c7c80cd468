package main

import (
	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/noise"
)

func (a *app) keygenCommand() *cobra.Command {
	var seed string
	cmd := &cobra.Command{
		Use:   "keygen [FILE]",
		Short: "Make a key pair",
		Long: `Make a key pair and print its public key. The seed goes into FILE, which must not
exist (mode 0600); without FILE it is printed too. With --seed the public key of a
known seed is printed.`,
		Example: `  warren keygen me.key`,
		GroupID: groupReach,
		Args:    between(0, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.keygen(seed, args)
		},
	}
	cmd.Flags().StringVar(&seed, "seed", "", "print the public key of this seed, 64 `hex` digits")
	return cmd
}

func (a *app) keygen(seed string, args []string) error {
	var pair noise.KeyPair
	shown := ""
	switch {
	case seed != "" && len(args) > 0:
		return usage("--seed and FILE cannot be used together")
	case seed != "":
		s, err := parseHex32("--seed", seed)
		if err != nil {
			return err
		}
		pair = noise.KeyPairFromSeed(s)
	case len(args) > 0:
		var err error
		if pair, err = createKey(args[0]); err != nil {
			return err
		}
	default:
		pair = noise.GenerateKeyPair()
		shown = seedHex(pair)
	}
	text := a.keyText(pair.Public)
	if shown != "" {
		text += "\nseed " + shown
	}
	a.result(struct {
		PublicKey string `json:"publicKey"`
		Z32       string `json:"z32"`
		Seed      string `json:"seed,omitempty"`
	}{a.keyText(pair.Public), pair.Public.Z32(), shown}, "%s", text)
	return nil
}
