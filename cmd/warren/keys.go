package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/noise"
)

// keyFlags choose a key pair.
type keyFlags struct{ seed, file string }

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.seed, "seed", "", "the key pair's seed: 64 `hex` digits")
	cmd.Flags().StringVar(&f.file, "key", "", "a `file` that holds the seed; made with mode 0600 when missing")
}

// pair returns the key pair that was chosen, a fresh one if none was.
func (f *keyFlags) pair(a *app) (noise.KeyPair, error) {
	switch {
	case f.seed != "" && f.file != "":
		return noise.KeyPair{}, usage("--seed and --key cannot be used together")
	case f.seed != "":
		seed, err := parseHex32("--seed", f.seed)
		return noise.KeyPairFromSeed(seed), err
	case f.file != "":
		return a.loadKey(f.file)
	}
	return noise.GenerateKeyPair(), nil
}

// loadKey reads a key file, and makes it if it is missing. One that others can read
// or write draws a warning.
func (a *app) loadKey(name string) (noise.KeyPair, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return createKey(name)
	}
	if err != nil {
		return noise.KeyPair{}, fmt.Errorf("--key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return noise.KeyPair{}, fmt.Errorf("--key: %w", err)
	}
	seed, err := parseHex32("--key", strings.TrimSpace(string(b)))
	if err != nil {
		return noise.KeyPair{}, usage("--key: %s does not hold a seed of 64 hex digits", quote(name))
	}
	a.warnOpen(f, "other users can use this key file; chmod 600 it", 0o077)
	return noise.KeyPairFromSeed(seed), nil
}

// maxKeyFile is how much of a key file is read: a seed and some white space.
const maxKeyFile = 4096

// warnOpen warns of a file that has one of the permissions, where files have them:
// not on Windows, and not of a pipe or a device.
func (a *app) warnOpen(f *os.File, message string, permissions fs.FileMode) {
	info, err := f.Stat()
	if err == nil && hasModes && info.Mode().IsRegular() && info.Mode()&permissions != 0 {
		a.log.Warn(message, "file", f.Name(), "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
}

// createKey draws a key pair and writes its seed to a new file.
func createKey(name string) (noise.KeyPair, error) {
	pair := noise.GenerateKeyPair()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return pair, fmt.Errorf("key file: %w", err)
	}
	_, err = fmt.Fprintln(f, seedHex(pair))
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(name)
		return pair, fmt.Errorf("key file: %w", err)
	}
	return pair, nil
}

func seedHex(pair noise.KeyPair) string { return hex.EncodeToString(pair.Secret[:32]) }

// keyText is a public key as --z32 wants it printed.
func (a *app) keyText(k noise.PublicKey) string {
	if a.z32 {
		return k.Z32()
	}
	return k.String()
}
