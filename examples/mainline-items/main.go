// Mainline-items stores small values in the BitTorrent DHT and reads them back:
// an immutable one under its hash, and a mutable one under a public key and a
// salt, which it then replaces by a newer version.
//
//	go run ./examples/mainline-items -seed 0001…1f -salt status 'all is well'
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/warren-dht/warren/mainline"
)

func main() {
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public routers)")
	seed := flag.String("seed", "", "of the key, 32 bytes in hex (default: a fresh one)")
	salt := flag.String("salt", "", "tells several items of one key apart")
	flag.Parse()
	key, err := privateKey(*seed)
	if err != nil || flag.NArg() != 1 {
		log.Fatal("usage: mainline-items [flags] VALUE")
	}
	var cfg mainline.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, cfg, key, *salt, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func privateKey(seed string) (ed25519.PrivateKey, error) {
	if seed == "" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	b, err := hex.DecodeString(seed)
	if err != nil || len(b) != ed25519.SeedSize {
		return nil, errors.New("not a seed")
	}
	return ed25519.NewKeyFromSeed(b), nil
}

// run stores a value both ways and reads it back.
func run(ctx context.Context, out io.Writer, cfg mainline.Config, key ed25519.PrivateKey, salt, text string) error {
	node, err := mainline.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Ready(ctx); err != nil {
		return err
	}
	value := mainline.StringValue(text)

	// Immutable: whoever knows the hash can read it, and nobody can change it.
	stored, err := node.Put(ctx, mainline.Item{Value: value})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "immutable: stored under %v at %d nodes\n", stored.Target, stored.N())
	found, err := node.Get(ctx, stored.Target, mainline.GetOptions{NoCache: true})
	if err != nil {
		return err
	}
	text2, _ := found.Bytes()
	fmt.Fprintf(out, "immutable: found %q\n", text2)

	// Mutable: only the key's owner can replace it, with a higher seq. Nobody
	// else may have done so since we looked: that is what cas says.
	var seq int64
	var opts mainline.PutOptions
	old, err := node.GetMutable(ctx, key.Public().(ed25519.PublicKey), []byte(salt))
	switch {
	case err == nil:
		fmt.Fprintf(out, "mutable: version %d exists, %d nodes agree\n", old.Seq, old.Agree)
		seq, opts.CAS = old.Seq+1, &old.Seq
	case !errors.Is(err, mainline.ErrNotFound):
		return err
	}
	stored, err = node.Put(ctx, mainline.Sign(key, []byte(salt), seq, value), opts)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "mutable: stored version %d under %v at %d nodes\n", seq, stored.Target, stored.N())
	found, err = node.GetMutable(ctx, key.Public().(ed25519.PublicKey), []byte(salt), mainline.GetOptions{NoCache: true})
	if err != nil {
		return err
	}
	text2, _ = found.Bytes()
	fmt.Fprintf(out, "mutable: found version %d, %q\n", found.Seq, text2)
	return nil
}
