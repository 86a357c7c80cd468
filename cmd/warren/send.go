package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

func (a *app) sendCommand() *cobra.Command {
	var flags nodeFlags
	var name string
	cmd := &cobra.Command{
		Use:   "send FILE|-",
		Short: "Send a file to whoever has the key that it prints",
		Long: `Send a file, or stdin, to whoever runs warren receive with the one-time key that is
printed. Nobody else can connect. Ends when the file has arrived.`,
		Example: `  warren send photo.jpg
  tar c . | warren send - --name folder.tar`,
		GroupID: groupReach,
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			file, err := a.openSource(args[0], name)
			if err != nil {
				return err
			}
			defer file.Close()
			return a.send(cmd.Context(), cfg, file)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "the name that the receiver is told")
	return cmd
}

// maxReceivers is how many connections of receivers are open at a time; all but
// the first wait.
const maxReceivers = 4

// A source is what is sent.
type source struct {
	io.ReadCloser
	header fileHeader
	file   *os.File // nil: stdin, which can be sent only once
}

func (a *app) openSource(name, as string) (*source, error) {
	if name == "-" {
		if as == "" {
			as = "stdin"
		}
		return &source{io.NopCloser(a.stdin), fileHeader{as, -1}, nil}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("FILE: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", quote(name))
	}
	if err != nil {
		f.Close()
		return nil, usage("FILE: %w", err)
	}
	if as == "" {
		as = filepath.Base(name)
	}
	return &source{f, fileHeader{as, info.Size()}, f}, nil
}

// rewind goes back to the start, for another try.
func (s *source) rewind() error {
	if s.file == nil {
		return errors.New("stdin cannot be sent twice")
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return err
}

func (a *app) send(ctx context.Context, cfg nodeConfig, file *source) error {
	var key [32]byte
	rand.Read(key[:])
	sender, receiver := transferKeys(key)
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	may := &policy{keys: map[noise.PublicKey]bool{receiver.Public: true}}
	refused := a.refusals()
	defer refused.end()
	l, err := node.Listen(ctx, hyperdht.ListenConfig{KeyPair: &sender, Allow: may.allow(refused),
		MaxConns: maxReceivers, MaxPeerConns: maxReceivers})
	if err != nil {
		return fmt.Errorf("send: %w", stopCause(ctx, err))
	}
	defer l.Close()
	text := hex.EncodeToString(key[:])
	if a.z32 {
		text = noise.PublicKey(key).Z32()
	}
	a.event(struct {
		Event string `json:"event"`
		Key   string `json:"key"`
		Name  string `json:"name"`
		Size  int64  `json:"size"`
	}{"listening", text, file.header.Name, file.header.Size}, "%s", text)
	a.progress("on the other machine: warren receive %s", text)
	for {
		conn, err := l.AcceptConn(ctx)
		if err != nil {
			return fmt.Errorf("send: %w", stopCause(ctx, err))
		}
		err = a.sendTo(ctx, conn, file)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("send: %w", stopCause(ctx, err))
		}
		a.log.Warn("the transfer failed, waiting for another try", "error", err)
		if err := errors.Join(err, file.rewind()); file.file == nil {
			return fmt.Errorf("send: %w", err)
		}
	}
}

// sendTo sends the file over one connection and waits for the receiver's word
// that it is stored.
func (a *app) sendTo(ctx context.Context, conn *hyperdht.Conn, file *source) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	start := time.Now()
	bar := a.transfer("sending", file.header.Size)
	counted := &countingReader{r: file}
	err := writeFile(conn, file.header, io.TeeReader(counted, bar))
	if err == nil {
		answer := make([]byte, len(transferOK))
		if _, err = io.ReadFull(conn, answer); err == nil && string(answer) != transferOK {
			err = errors.New("the receiver did not store it")
		}
	}
	bar.Finish()
	if err := finish(ctx, conn, err); err != nil {
		return err
	}
	a.transferred("sent", file.header.Name, counted.n, time.Since(start))
	return nil
}

// transferred tells that a file has arrived.
func (a *app) transferred(event, name string, size int64, took time.Duration) {
	rate := float64(size) / max(took.Seconds(), 1e-9) / 1e6
	a.event(struct {
		Event string `json:"event"`
		Name  string `json:"name"`
		Size  int64  `json:"size"`
		Ms    millis `json:"ms"`
	}{event, name, size, ms(took)}, "%s %s, %d bytes in %v (%.1f MB/s)", event, name, size, took.Round(time.Millisecond), rate)
}

// A countingReader counts what is read.
type countingReader struct {
	r io.Reader
	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	return n, err
}
