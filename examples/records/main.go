// Records stores a small record under a public key, and keeps it alive: nodes
// forget what nobody puts or reads for two days.
//
//	go run ./examples/records -seed SEED -put 'on holiday'   # prints the key; keeps it until interrupted
//	go run ./examples/records -mirror KEY                    # keeps somebody else's record
//	go run ./examples/records -get KEY
//	go run ./examples/records -bootstrap 127.0.0.1:49737 ...
//
// A record carries its owner's signature, so whoever holds it can put it again
// without the owner's key: a mirror keeps a record alive, and follows its new
// versions, but cannot change it.
package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// options are what the command line says.
type options struct {
	seed   string // of the owner's key, in hex; empty: a fresh one
	put    string
	mirror string // a public key
	get    string // a public key
	every  time.Duration
}

func main() {
	log.SetFlags(0)
	var o options
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public network)")
	flag.StringVar(&o.seed, "seed", "", "seed of the key, 64 hex digits (default: a fresh key)")
	flag.StringVar(&o.put, "put", "", "what to store, at most 920 bytes")
	flag.StringVar(&o.mirror, "mirror", "", "key whose record to keep alive")
	flag.StringVar(&o.get, "get", "", "key whose record to print")
	flag.DurationVar(&o.every, "every", 12*time.Hour, "how often to put the record again")
	flag.Parse()
	if o.put == "" && o.mirror == "" && o.get == "" || flag.NArg() > 0 {
		log.Fatal("usage: records [flags] -put TEXT, -mirror KEY or -get KEY")
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

// run puts and keeps until the context ends, or gets.
func run(ctx context.Context, out io.Writer, cfg hyperdht.Config, o options) error {
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	switch {
	case o.get != "":
		key, err := hyperdht.ParsePublicKey(o.get)
		if err != nil {
			return err
		}
		r, err := node.MutableGet(ctx, key, hyperdht.GetOptions{})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "version %d: %s\n", r.Seq, r.Value)
		return nil
	case o.mirror != "":
		key, err := hyperdht.ParsePublicKey(o.mirror)
		if err != nil {
			return err
		}
		r, err := node.MutableGet(ctx, key, hyperdht.GetOptions{})
		if err != nil {
			return err
		}
		return keep(ctx, out, node, r.MutableRecord, o.every)
	default:
		r, err := put(ctx, out, node, o)
		if err != nil {
			return err
		}
		return keep(ctx, out, node, r, o.every)
	}
}

// put replaces the record of the key by a new version.
func put(ctx context.Context, out io.Writer, node *hyperdht.Node, o options) (hyperdht.MutableRecord, error) {
	pair := hyperdht.GenerateKeyPair()
	if o.seed != "" {
		seed, err := hex.DecodeString(o.seed)
		if err != nil || len(seed) != hyperdht.KeySize {
			return hyperdht.MutableRecord{}, errors.New("the seed is not 64 hex digits")
		}
		pair = hyperdht.KeyPairFromSeed([hyperdht.KeySize]byte(seed))
	}
	seq := uint64(0)
	switch old, err := node.MutableGet(ctx, pair.Public, hyperdht.GetOptions{}); {
	case err == nil:
		seq = old.Seq + 1
	case !errors.Is(err, hyperdht.ErrNotFound):
		return hyperdht.MutableRecord{}, err
	}
	r, stored, err := node.MutablePut(ctx, hyperdht.SignerOf(pair), seq, []byte(o.put), hyperdht.PutOptions{})
	if err != nil {
		return r, err
	}
	fmt.Fprintf(out, "version %d is kept by %d nodes under %v\n", seq, len(stored.Nodes), pair.Public)
	return r, nil
}

// keep keeps a record alive until the context ends. If it meets a later version
// it keeps that one.
func keep(ctx context.Context, out io.Writer, node *hyperdht.Node, r hyperdht.MutableRecord, every time.Duration) error {
	var mu sync.Mutex
	keeper := node.NewKeeper(hyperdht.KeeperConfig{
		Every: every,
		Changed: func(k hyperdht.Kept) {
			mu.Lock()
			defer mu.Unlock()
			if k.Err != nil {
				fmt.Fprintf(out, "could not be put: %v\n", k.Err)
				return
			}
			fmt.Fprintf(out, "version %d: %d nodes had it, %d have it now\n", k.Mutable.Seq, k.Found, k.Replicas)
		},
	})
	defer keeper.Close()
	if err := keeper.KeepMutable(r); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
