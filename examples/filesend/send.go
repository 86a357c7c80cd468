package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/warren-dht/warren/hyperdht"
)

// A part is what the receiver has.
type part struct {
	Size int64  `json:"size"`
	Sum  string `json:"sum"` // SHA-256 in hex
}

// An offer is what the sender has.
type offer struct {
	part
	Name string `json:"name"`
	From int64  `json:"from"` // the first byte that is sent
}

// send offers a file until it has arrived.
func send(ctx context.Context, out io.Writer, node *hyperdht.Node, to hyperdht.PublicKey, code string, o options) error {
	f, err := os.Open(o.send)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := node.Listen(ctx, hyperdht.ListenConfig{
		Allow: func(_ context.Context, in hyperdht.Incoming) error {
			if in.RemotePublicKey != to {
				return errors.New("not the receiver")
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintf(out, "receive with: filesend -receive %s\n", code)
	for {
		conn, err := l.AcceptConn(ctx)
		if err != nil {
			return err
		}
		if err := sendTo(ctx, conn, f, o); err != nil {
			fmt.Fprintf(out, "broken off: %v; waiting for the receiver to try again\n", err)
			continue
		}
		fmt.Fprintf(out, "%s has arrived\n", filepath.Base(o.send))
		return nil
	}
}

// sendTo sends what the receiver does not have yet.
func sendTo(ctx context.Context, conn *hyperdht.Conn, f *os.File, o options) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Destroy(ctx.Err()) })()
	var has part
	if err := readJSON(conn, &has); err != nil {
		return err
	}
	of := offer{Name: filepath.Base(o.send)}
	var err error
	if of.part, err = sum(f, -1); err != nil {
		return err
	}
	if has.Size > 0 && has.Size <= of.Size {
		if begins, err := sum(f, has.Size); err != nil {
			return err
		} else if begins == has {
			of.From = has.Size
		}
	}
	if err := writeJSON(conn, of); err != nil {
		return err
	}
	bar := progress(o.bar, "sending "+of.Name, of.From, of.Size)
	rest := io.NewSectionReader(f, of.From, of.Size-of.From)
	if _, err := io.Copy(io.MultiWriter(conn, bar), rest); err != nil {
		return err
	}
	if ok, err := conn.ReadMessage(); err != nil || string(ok) != "ok" {
		return errors.Join(errors.New("the receiver does not confirm"), err)
	}
	return nil
}

// sum is the SHA-256 of the first n bytes of a file, -1 for all of them.
func sum(f *os.File, n int64) (part, error) {
	if n < 0 {
		info, err := f.Stat()
		if err != nil {
			return part{}, err
		}
		n = info.Size()
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil {
		return part{}, err
	}
	return part{Size: n, Sum: hex.EncodeToString(h.Sum(nil))}, nil
}

func writeJSON(conn *hyperdht.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return conn.WriteMessage(b)
}

func readJSON(conn *hyperdht.Conn, v any) error {
	b, err := conn.ReadMessage()
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
