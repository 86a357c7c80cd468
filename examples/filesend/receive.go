package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/warren-dht/warren/hyperdht"
)

// receive gets the file, or what is missing of it.
func receive(ctx context.Context, out io.Writer, node *hyperdht.Node, from hyperdht.PublicKey, o options) error {
	conn, err := node.Dial(ctx, from)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Destroy(ctx.Err()) })()

	// The part has the sender's key in its name, since the file's name is not
	// known yet when it is asked for.
	folder := "."
	if o.output != "" {
		folder = filepath.Dir(o.output)
	}
	file := filepath.Join(folder, fmt.Sprintf("filesend-%.8s.part", from))
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	has, err := sum(f, -1)
	if err != nil {
		return err
	}
	if err := writeJSON(conn, has); err != nil {
		return err
	}
	var of offer
	if err := readJSON(conn, &of); err != nil {
		return err
	}
	if of.From != 0 && of.From != has.Size || of.From > of.Size {
		return errors.New("the sender's offer makes no sense")
	}
	if o.output == "" {
		// Only a name, wherever it says that it came from.
		if o.output = filepath.Base(filepath.Clean("/" + of.Name)); o.output == "/" || o.output == "." {
			return fmt.Errorf("the sender's file has no usable name: %q", of.Name)
		}
	}
	if _, err := os.Lstat(o.output); err == nil {
		return fmt.Errorf("%s exists", o.output)
	}
	if err := f.Truncate(of.From); err != nil {
		return err
	}
	if of.From > 0 {
		fmt.Fprintf(out, "going on at byte %d\n", of.From)
	}
	bar := progress(o.bar, "receiving "+o.output, of.From, of.Size)
	to := io.MultiWriter(io.NewOffsetWriter(f, of.From), bar)
	if _, err := io.CopyN(to, conn, of.Size-of.From); err != nil {
		return fmt.Errorf("broken off, run it again to go on: %w", err)
	}
	got, err := sum(f, -1)
	if err != nil {
		return err
	}
	if got != of.part {
		f.Close()
		os.Remove(file)
		return errors.New("what arrived is not what the sender has")
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(file, o.output)); err != nil {
		return err
	}
	fmt.Fprintf(out, "received %s, %d bytes, SHA-256 %s\n", o.output, got.Size, got.Sum)
	if err := conn.WriteMessage([]byte("ok")); err != nil {
		return err
	}
	return conn.CloseWrite()
}
