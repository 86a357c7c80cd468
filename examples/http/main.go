// Http serves files over HTTP on a public key, and fetches them by it: no port
// to forward, no address to know, no certificate, from behind any NAT.
//
//	go run ./examples/http -serve . -key site.key        # prints http://KEY/
//	go run ./examples/http http://KEY/go.mod             # from anywhere
//	go run ./examples/http -bootstrap 127.0.0.1:49737 ...  # in a network of one's own
//
// Both ends are net/http as it is: the server gets a net.Listener, the client a
// dialer. Who asks is known by key: it is the request's RemoteAddr.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// options are what the command line says.
type options struct {
	serve string // a folder to serve; or
	url   string // what to fetch
}

func main() {
	log.SetFlags(0)
	var o options
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public network)")
	key := flag.String("key", "", "file with the seed of our key; made if missing (default: a fresh key)")
	flag.StringVar(&o.serve, "serve", "", "folder to serve")
	flag.Parse()
	o.url = flag.Arg(0)
	if (o.serve == "") == (o.url == "") {
		log.Fatal("usage: http [flags] -serve FOLDER, or http [flags] http://KEY/PATH")
	}
	var cfg hyperdht.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	if *key != "" {
		pair, err := loadKey(*key)
		if err != nil {
			log.Fatal(err)
		}
		cfg.KeyPair = &pair
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, cfg, o); err != nil {
		log.Fatal(err)
	}
}

// loadKey reads a seed in hex, or makes one up and writes it.
func loadKey(file string) (hyperdht.KeyPair, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		pair := hyperdht.GenerateKeyPair()
		return pair, os.WriteFile(file, fmt.Appendf(nil, "%x\n", pair.Secret[:hyperdht.KeySize]), 0o600)
	}
	if err != nil {
		return hyperdht.KeyPair{}, err
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != hyperdht.KeySize {
		return hyperdht.KeyPair{}, fmt.Errorf("%s holds no seed of 64 hex digits", file)
	}
	return hyperdht.KeyPairFromSeed([hyperdht.KeySize]byte(seed)), nil
}

// run serves until the context ends, or fetches.
func run(ctx context.Context, out io.Writer, cfg hyperdht.Config, o options) error {
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if o.serve != "" {
		return serve(ctx, out, node, o.serve)
	}
	return fetch(ctx, out, node, o.url)
}

// serve serves a folder on the node's key.
func serve(ctx context.Context, out io.Writer, node *hyperdht.Node, folder string) error {
	l, err := node.Listen(ctx, hyperdht.ListenConfig{})
	if err != nil {
		return err
	}
	files := http.FileServer(http.Dir(folder))
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(out, "%.8s asks for %s\n", r.RemoteAddr, r.URL.Path)
			files.ServeHTTP(w, r)
		}),
	}
	fmt.Fprintf(out, "serving %s at http://%v/\n", folder, l.PublicKey())
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	l.Close() // nobody finds us any more
	// Requests under way have a few seconds.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

// fetch copies what a URL names to out.
func fetch(ctx context.Context, out io.Writer, node *hyperdht.Node, url string) error {
	transport := &http.Transport{DialContext: dialer(node)}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(out, resp.Body)
	return err
}

// dialer makes a node the dialer of an http.Transport, for URLs whose host is a
// public key. The port means nothing.
func dialer(node *hyperdht.Node) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		key, err := hyperdht.ParsePublicKey(host)
		if err != nil {
			return nil, err
		}
		return node.Dial(ctx, key)
	}
}
