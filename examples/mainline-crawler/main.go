// Mainline-crawler collects info-hashes from the BitTorrent DHT (BEP 51): it
// goes from node to node, asks each for a sample of what it stores, and comes
// back to a node only after the interval that it named.
//
//	go run ./examples/mainline-crawler -n 1000
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/warren-dht/warren/mainline"
)

// Bounds of what is remembered. A crawler is fed by strangers.
const (
	maxNodes  = 100_000
	maxHashes = 10_000_000
)

func main() {
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public routers)")
	most := flag.Int("n", 100, "stop after so many info-hashes")
	workers := flag.Int("workers", 16, "nodes asked at once")
	timeout := flag.Duration("timeout", 5*time.Minute, "stop after so long")
	flag.Parse()
	cfg := mainline.Config{ReadOnly: true}
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := run(ctx, os.Stdout, cfg, *workers, *most); err != nil {
		log.Fatal(err)
	}
}

// run prints info-hashes until there are enough, no node is left to ask, or the
// context ends.
func run(ctx context.Context, out io.Writer, cfg mainline.Config, workers, most int) error {
	node, err := mainline.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := crawl{met: make(map[netip.AddrPort]bool), hashes: make(map[mainline.ID]bool), most: most, enough: cancel}
	c.add(node.Nodes())
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				n, ok := c.next(ctx)
				if !ok {
					return
				}
				s, err := node.Sample(ctx, n.Addr, anywhere())
				c.take(out, n, s, err)
			}
		})
	}
	all.Wait()
	fmt.Fprintf(out, "%d info-hashes from %d nodes; %d do not know sample_infohashes\n", len(c.hashes), c.sampled, c.unable)
	return nil
}

// anywhere is a random target: what a node names near it leads all over the
// network.
func anywhere() mainline.ID {
	var b [20]byte
	rand.Read(b[:])
	return mainline.FromHash(b)
}

// A crawl is the work that is left and what came of it. Safe for concurrent use.
type crawl struct {
	most   int
	enough context.CancelFunc

	mu      sync.Mutex
	met     map[netip.AddrPort]bool
	queue   []mainline.Contact
	asking  int           // nodes being asked, which may name more
	again   []appointment // nodes to come back to, soonest first
	hashes  map[mainline.ID]bool
	sampled int
	unable  int
}

// An appointment is when a node will have another sample.
type appointment struct {
	node mainline.Contact
	at   time.Time
}

// next waits for a node to ask; false when none will come.
func (c *crawl) next(ctx context.Context) (mainline.Contact, bool) {
	for ctx.Err() == nil {
		c.mu.Lock()
		switch {
		case len(c.queue) > 0:
			n := c.queue[0]
			c.queue = c.queue[1:]
			c.asking++
			c.mu.Unlock()
			return n, true
		case c.asking == 0 && len(c.again) == 0:
			c.mu.Unlock()
			return mainline.Contact{}, false
		}
		if len(c.again) > 0 && time.Now().After(c.again[0].at) {
			c.queue = append(c.queue, c.again[0].node)
			c.again = c.again[1:]
		}
		c.mu.Unlock()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return mainline.Contact{}, false
}

// add queues the nodes that were not met before.
func (c *crawl) add(nodes []mainline.Contact) {
	for _, n := range nodes {
		if !c.met[n.Addr] && len(c.met) < maxNodes {
			c.met[n.Addr] = true
			c.queue = append(c.queue, n)
		}
	}
}

// take notes what came of asking a node.
func (c *crawl) take(out io.Writer, n mainline.Contact, s mainline.Sample, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking--
	c.add(s.Nodes)
	if err != nil {
		if _, refused := err.(*mainline.Error); refused {
			c.unable++
		}
		return
	}
	c.sampled++
	for _, h := range s.Hashes {
		if !c.hashes[h] && len(c.hashes) < min(c.most, maxHashes) {
			c.hashes[h] = true
			fmt.Fprintln(out, h)
		}
	}
	if len(c.hashes) >= c.most {
		c.enough()
	}
	if s.Num > len(s.Hashes) && s.Interval > 0 { // it has more to show, later
		at := time.Now().Add(s.Interval)
		i := len(c.again)
		for i > 0 && c.again[i-1].at.After(at) {
			i--
		}
		c.again = append(c.again[:i], append([]appointment{{n, at}}, c.again[i:]...)...)
	}
}
