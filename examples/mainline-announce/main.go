// Mainline-announce tells the BitTorrent DHT that this host is a peer of a
// torrent, again and again until it is interrupted, and remembers the nodes it
// met, so that the next start needs no bootstrap node.
//
//	go run ./examples/mainline-announce -port 6881 -state nodes.json 9f9165d9a281a9b8e782cd5176bbcc8256fd1871
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/warren-dht/warren/mainline"
)

func main() {
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public routers)")
	port := flag.Uint("port", 0, "where the peer listens (0: the port that our datagrams come from)")
	seed := flag.Bool("seed", false, "it has the whole torrent")
	state := flag.String("state", "", "file that holds what the node knows")
	flag.Parse()
	infoHash, err := mainline.ParseID(flag.Arg(0))
	if err != nil || *port > 65535 {
		log.Fatal("usage: mainline-announce [flags] INFOHASH")
	}
	var cfg mainline.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	opts := mainline.AnnounceOptions{Port: uint16(*port), Seed: *seed}
	if err := run(ctx, os.Stdout, cfg, *state, infoHash, opts); err != nil {
		log.Fatal(err)
	}
}

// run announces until the context ends.
func run(ctx context.Context, out io.Writer, cfg mainline.Config, file string, infoHash mainline.ID, opts mainline.AnnounceOptions) error {
	var err error
	if cfg.State, err = load(file); err != nil {
		return err
	}
	node, err := mainline.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Ready(ctx); err != nil {
		return err
	}
	err = node.KeepAnnounced(ctx, infoHash, opts, func(st mainline.Stored, err error) {
		if err != nil {
			fmt.Fprintf(out, "not announced: %v\n", err)
			return
		}
		fmt.Fprintf(out, "announced at %d nodes, refused by %d, not answered by %d\n", st.N(), len(st.Refused), st.TimedOut)
	})
	if !errors.Is(err, context.Canceled) {
		return err
	}
	return save(file, node.State())
}

// load reads a state; there is none yet if there is no file.
func load(file string) (*mainline.State, error) {
	b, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := new(mainline.State)
	return st, json.Unmarshal(b, st)
}

// save replaces the file as a whole, so that it is never half written.
func save(file string, st *mainline.State) error {
	if file == "" {
		return nil
	}
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}
