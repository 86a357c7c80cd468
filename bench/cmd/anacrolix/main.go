// Command anacrolix plays the roles of W7 with anacrolix/dht:
//
//	anacrolix -role node            one server, no bootstrap
//	anacrolix -role net -n 100      the network workload of js/krpc-net.mjs
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/exts/getput"
	"github.com/anacrolix/dht/v2/krpc"
	peer_store "github.com/anacrolix/dht/v2/peer-store"
	"github.com/anacrolix/log"
	"golang.org/x/time/rate"

	"github.com/warren-dht/warren/bench/internal/measure"
)

// mk starts a node.
func mk(start []dht.Addr) *dht.Server {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	measure.Check(err)
	cfg := dht.NewDefaultServerConfig()
	cfg.Conn = c
	cfg.StartingNodes = func() ([]dht.Addr, error) { return start, nil }
	cfg.SendLimiter = rate.NewLimiter(rate.Inf, 0) // the default is 25 sends a second
	cfg.PeerStore = &peer_store.InMemory{}
	cfg.Logger = log.Default.FilterLevel(log.Critical)
	cfg.WaitToReply = true
	s, err := dht.NewServer(cfg)
	measure.Check(err)
	return s
}

// keepGood pings each node of the table once when first seen: anacrolix hands
// out only nodes that have answered it, and pings lazily (once a minute).
func keepGood(s *dht.Server) {
	seen := map[string]bool{}
	for {
		for _, ni := range s.Nodes() {
			if k := ni.Addr.String(); !seen[k] {
				seen[k] = true
				go s.Ping(ni.Addr.UDP())
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	role := flag.String("role", "node", "node or net")
	n := flag.Int("n", 100, "nodes")
	par := flag.Int("par", 1, "bootstraps at once")
	count := flag.Int("count", 200, "operations")
	conc := flag.Int("conc", 16, "at once")
	size := flag.Int("size", 100, "value bytes")
	flag.Parse()
	if *role == "node" {
		s := mk(nil)
		go keepGood(s)
		measure.Serve(map[string]any{"host": "127.0.0.1", "port": s.Addr().(*net.UDPAddr).Port})
	}
	ctx := context.Background()
	measure.GC()
	rss0, c0, t0 := measure.RSS(os.Getpid()), measure.CPU(os.Getpid()), time.Now()
	nodes := make([]*dht.Server, *n)
	nodes[0] = mk(nil)
	boot := []dht.Addr{dht.NewAddr(nodes[0].Addr())}
	go keepGood(nodes[0])
	measure.Pool(*n-1, *par, func(i int) {
		s := mk(boot)
		_, err := s.BootstrapContext(ctx)
		measure.Check(err)
		nodes[i+1] = s
		go keepGood(s)
	})
	bootS, bootCPU := time.Since(t0).Seconds(), measure.CPU(os.Getpid())-c0
	for range 2 { // until the tables are filled; not timed
		time.Sleep(2 * time.Second)
		for _, s := range nodes {
			s.BootstrapContext(ctx)
		}
	}
	time.Sleep(time.Second)
	measure.GC()
	rss1 := measure.RSS(os.Getpid())
	table := 0
	for _, s := range nodes {
		table += s.NumNodes()
	}
	res := map[string]any{"w": "W7net", "impl": "anacrolix", "n": *n, "par": *par, "conc": *conc, "count": *count, "boot_s": bootS, "boot_cpu_s": bootCPU, "rss_per_node_kb": float64(rss1-rss0) / float64(*n) / 1024, "table_mean": float64(table) / float64(*n)}
	ops := map[string]any{}
	res["ops"] = ops
	vals := make([]string, *count)
	keys := make([]krpc.ID, *count)
	owner := make([]int, *count)
	for i := range vals {
		b := make([]byte, *size)
		rand.Read(b)
		vals[i] = string(b)
		keys[i] = sha1.Sum(fmt.Appendf(nil, "%d:%s", *size, b))
		owner[i] = mrand.IntN(*n)
	}
	phase := func(name string, f func(i int) bool) {
		L := make([]int64, *count)
		var failed atomic.Int64
		c, t := measure.CPU(os.Getpid()), time.Now()
		measure.Pool(*count, *conc, func(i int) {
			s := time.Now()
			if !f(i) {
				failed.Add(1)
			}
			L[i] = int64(time.Since(s))
		})
		wall := time.Since(t).Seconds()
		ops[name] = map[string]any{"ops_s": float64(*count) / wall, "cpu_ms": (measure.CPU(os.Getpid()) - c) / float64(*count) * 1e3, "failed": failed.Load(), "lat": measure.Summarize(L)}
	}
	phase("put", func(i int) bool {
		_, err := getput.Put(ctx, keys[i], nodes[owner[i]], nil, func(seq int64) bep44.Put { return bep44.Put{V: vals[i], Seq: seq} })
		return err == nil
	})
	phase("get", func(i int) bool {
		k := mrand.IntN(*n)
		for k == owner[i] {
			k = mrand.IntN(*n)
		}
		tctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		r, _, err := getput.Get(tctx, keys[i], nodes[k], nil, nil)
		return err == nil && string(r.V) == fmt.Sprintf("%d:%s", *size, vals[i])
	})
	measure.Out(res)
}
