package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
)

func (a *app) receiveCommand() *cobra.Command {
	var flags nodeFlags
	var output, largest string
	var force bool
	cmd := &cobra.Command{
		Use:   "receive KEY",
		Short: "Receive the file that somebody sends",
		Long: `Receive the file that warren send offers under a one-time key. It gets the name that
the sender says, in the current directory, and appears there when it is complete.`,
		Example: `  warren receive 6d1...
  warren receive 6d1... --output - | tar x`,
		GroupID: groupReach,
		Args:    exactly("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := parseKey("KEY", args[0])
			if err != nil {
				return err
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			limit := int64(math.MaxInt64)
			if largest != "" {
				if limit, err = parseSize("--max-size", largest); err != nil {
					return err
				}
			}
			return a.receive(cmd.Context(), cfg, key, incoming{output, force, limit})
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file` or folder to write to, or - for stdout")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that exists")
	cmd.Flags().StringVar(&largest, "max-size", "", "refuse a file of more `bytes` than this; K, M, G and T stand for powers of 1024 (no limit)")
	return cmd
}

// incoming says what to do with a file that comes.
type incoming struct {
	output string // file or folder; "-" is stdout
	force  bool   // replace a file that exists
	limit  int64  // bytes
}

func (a *app) receive(ctx context.Context, cfg nodeConfig, key [32]byte, want incoming) error {
	a.data = want.output == "-"
	sender, receiver := transferKeys(key)
	cfg.KeyPair = &receiver
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := a.dial(ctx, node, sender.Public, hyperdht.DialConfig{})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	err = a.receiveFrom(conn, want)
	if err = finish(ctx, conn, err); err != nil {
		return fmt.Errorf("receive: %w", stopCause(ctx, err))
	}
	return nil
}

// receiveFrom stores the file that comes over a connection, and says so.
func (a *app) receiveFrom(conn io.ReadWriter, want incoming) error {
	start := time.Now()
	in := bufio.NewReaderSize(conn, maxChunk)
	h, err := readHeader(in)
	if err != nil {
		return err
	}
	if h.Size > want.limit {
		return tooLarge(want.limit)
	}
	out, err := a.openTarget(h, want.output, want.force)
	if err != nil {
		return err
	}
	defer out.discard()
	bar := a.transfer("receiving", h.Size)
	size, err := readFile(io.MultiWriter(out, bar), h, in, want.limit)
	bar.Finish()
	if err != nil {
		return err
	}
	if err := out.keep(); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, transferOK); err != nil {
		return err
	}
	a.transferred("received", out.name, size, time.Since(start))
	return nil
}

// A target is where a file is written: beside its final place, until it is
// complete.
type target struct {
	io.Writer
	name  string
	temp  *os.File // nil: stdout
	force bool
}

func (a *app) openTarget(h fileHeader, output string, force bool) (*target, error) {
	if output == "-" {
		return &target{Writer: a.stdout, name: "-"}, nil
	}
	name := output
	if info, err := os.Stat(output); output == "" || err == nil && info.IsDir() {
		base, err := safeName(h.Name)
		if err != nil {
			return nil, err
		}
		name = filepath.Join(output, base)
	}
	if _, err := os.Lstat(name); err == nil && !force {
		return nil, fmt.Errorf("%s exists; --force replaces it", quote(name))
	}
	// Unlike a temporary file it may be read by whom the umask lets.
	temp := filepath.Join(filepath.Dir(name), ".warren-"+rand.Text()+".part")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &target{Writer: f, name: name, temp: f, force: force}, nil
}

// keep moves the complete file to its place.
func (t *target) keep() error {
	if t.temp == nil {
		return nil
	}
	if err := t.temp.Close(); err != nil {
		return err
	}
	if !t.force {
		// A link, unlike a rename, replaces nothing.
		err := os.Link(t.temp.Name(), t.name)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return os.Rename(t.temp.Name(), t.name)
}

// discard removes what is not in its place.
func (t *target) discard() {
	if t.temp != nil {
		t.temp.Close()
		os.Remove(t.temp.Name()) // gone already if it was renamed
	}
}
