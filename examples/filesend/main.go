// Filesend sends a file to whoever has the code that it prints, from behind any
// NAT to behind any other. A transfer that breaks off goes on where it was.
//
//	go run ./examples/filesend -send photo.jpg           # prints the code
//	go run ./examples/filesend -receive CODE             # writes photo.jpg here
//	go run ./examples/filesend -receive CODE -output /tmp/p.jpg
//	go run ./examples/filesend -bootstrap 127.0.0.1:49737 ...
//
// What was received so far is in filesend-….part. The receiver tells its size and its
// SHA-256; if that is how the sender's file begins, the sender sends the rest,
// else everything. The file gets its name when the SHA-256 of the whole is right.
//
//	receiver                                   sender
//	{"size":N,"sum":"…"} of the part  ------>
//	       <------ {"name":"…","size":N,"sum":"…","from":N} of the file
//	       <====== the file's bytes, beginning at "from"
//	"ok"                              ------>
package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/warren-dht/warren/hyperdht"
)

// options are what the command line says.
type options struct {
	send    string // a file; or
	receive string // a code
	output  string // where to; empty: the name that the sender says, here
	code    string // for send; empty: a fresh one
	bar     io.Writer
}

func main() {
	log.SetFlags(0)
	var o options
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public network)")
	flag.StringVar(&o.send, "send", "", "file to send")
	flag.StringVar(&o.receive, "receive", "", "code of the file to receive")
	flag.StringVar(&o.output, "output", "", "where to write it (default: here, under the sender's name)")
	flag.StringVar(&o.code, "code", "", "code of an earlier run, to send again under (default: a fresh one)")
	flag.Parse()
	if (o.send == "") == (o.receive == "") || flag.NArg() > 0 {
		log.Fatal("usage: filesend [flags] -send FILE, or filesend [flags] -receive CODE")
	}
	o.bar = io.Discard
	if term.IsTerminal(int(os.Stderr.Fd())) {
		o.bar = os.Stderr
	}
	var cfg hyperdht.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, cfg, o); err != nil {
		log.Fatal(err)
	}
}

// run sends a file once, or receives one.
func run(ctx context.Context, out io.Writer, cfg hyperdht.Config, o options) error {
	code := o.receive
	if o.send != "" {
		if code = o.code; code == "" {
			fresh := hyperdht.GenerateKeyPair()
			code = hex.EncodeToString(fresh.Secret[:hyperdht.KeySize])
		}
	}
	secret, err := hex.DecodeString(code)
	if err != nil || len(secret) != hyperdht.KeySize {
		return fmt.Errorf("%q is no code: want 64 hex digits", code)
	}
	sender, receiver := keys(secret)
	if o.send != "" {
		cfg.KeyPair = &sender
	} else {
		cfg.KeyPair = &receiver
	}
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if o.send != "" {
		return send(ctx, out, node, receiver.Public, code, o)
	}
	return receive(ctx, out, node, sender.Public, o)
}

// keys derives the key pairs of both ends from the code. That somebody listens on
// a key can be read in the DHT, so the sender lets in the receiver's key only.
func keys(secret []byte) (sender, receiver hyperdht.KeyPair) {
	derive := func(role string) hyperdht.KeyPair {
		return hyperdht.KeyPairFromSeed(hyperdht.Hash(append([]byte("filesend "+role+" "), secret...)))
	}
	return derive("sender"), derive("receiver")
}

// progress is a bar for size bytes of which some are there already.
func progress(w io.Writer, what string, there, size int64) *progressbar.ProgressBar {
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(w),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(w) }))
	bar.Set64(there)
	return bar
}
