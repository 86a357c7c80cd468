// Mainline-lookup finds the peers of a torrent in the BitTorrent DHT.
//
//	go run ./examples/mainline-lookup 9f9165d9a281a9b8e782cd5176bbcc8256fd1871
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/warren-dht/warren/mainline"
)

func main() {
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public routers)")
	most := flag.Int("n", 0, "stop after so many peers (0: find all)")
	timeout := flag.Duration("timeout", time.Minute, "give up after so long")
	flag.Parse()
	infoHash, err := mainline.ParseID(flag.Arg(0))
	if err != nil {
		log.Fatal("usage: mainline-lookup [flags] INFOHASH")
	}
	cfg := mainline.Config{ReadOnly: true} // we ask and are gone: nobody needs to know us
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := run(ctx, os.Stdout, cfg, infoHash, *most); err != nil {
		log.Fatal(err)
	}
}

// run prints the peers of a torrent as they are found.
func run(ctx context.Context, out io.Writer, cfg mainline.Config, infoHash mainline.ID, most int) error {
	node, err := mainline.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Ready(ctx); err != nil {
		return err
	}
	lookup := node.Lookup(infoHash, mainline.LookupOptions{Scrape: true})
	found := 0
	for peer := range lookup.Peers(ctx) {
		fmt.Fprintf(out, "%v (from %v)\n", peer.Addr, peer.From.Addr)
		if found++; found == most {
			break // the lookup ends with the loop
		}
	}
	r := lookup.Result()
	fmt.Fprintf(out, "%d peers; %d of %d nodes named some; about %.0f seeds and %.0f downloaders\n",
		r.Peers, r.WithPeers, r.Replied, r.Seeds, r.Downloaders)
	return lookup.Err()
}
