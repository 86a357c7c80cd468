package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	mrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/dhtrpc"
)

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// anyPort is a port for a node whose id has to be known beforehand.
func anyPort() uint16 { return uint16(20000 + mrand.IntN(20000)) }

// retry calls make with other ports until one is free.
func retry[T any](make func(port uint16) (T, error)) T {
	for range 20 {
		if v, err := make(anyPort()); err == nil {
			return v
		}
	}
	v, err := make(anyPort())
	measure.Check(err)
	return v
}

// dhtrpcNode: one persistent node of its own network.
func dhtrpcNode(flags *flag.FlagSet, args []string) {
	port := flags.Uint("port", 0, "port")
	hyper := flags.Bool("hyper", false, "a HyperDHT node, with its records")
	flags.Parse(args)
	first := func(port uint16) (*dhtrpc.Node, error) {
		return dhtrpc.Bootstrapper(netip.AddrPortFrom(loopback, port), dhtrpc.Config{Host: loopback})
	}
	if *hyper {
		first = hyperBootstrapper
	}
	var node *dhtrpc.Node
	if *port != 0 {
		var err error
		node, err = first(uint16(*port))
		measure.Check(err)
	} else {
		node = retry(first)
	}
	measure.Check(node.Ready(context.Background()))
	if node.Ephemeral() {
		measure.Fatal("still ephemeral")
	}
	measure.Serve(map[string]any{"host": "127.0.0.1", "port": node.Addr().Port()})
}

// dhtrpcNet: a network in this process, timed while it starts, and queries.
func dhtrpcNet(flags *flag.FlagSet, args []string) {
	n := flags.Int("n", 100, "nodes")
	par := flags.Int("par", 1, "bootstraps at once")
	queries := flags.Int("queries", 1000, "queries")
	conc := flags.Int("conc", 16, "queries at once")
	window := flags.Int("window", 0, "requests a slot, 0 for the default")
	flags.Parse(args)
	ctx := context.Background()

	measure.GC()
	rss0, cpu0, start := measure.RSS(os.Getpid()), measure.CPU(os.Getpid()), time.Now()
	nodes := make([]*dhtrpc.Node, *n)
	nodes[0] = retry(func(port uint16) (*dhtrpc.Node, error) {
		return dhtrpc.Bootstrapper(netip.AddrPortFrom(loopback, port), dhtrpc.Config{Host: loopback})
	})
	measure.Check(nodes[0].Ready(ctx))
	reachable := false
	measure.Pool(*n-1, *par, func(i int) {
		node, err := dhtrpc.Listen(dhtrpc.Config{
			Host:       loopback,
			Bootstrap:  []string{nodes[0].Addr().String()},
			Ephemeral:  dhtrpc.Never,
			Firewalled: &reachable,
			MaxWindow:  *window,
		})
		measure.Check(err)
		measure.Check(node.Ready(ctx))
		nodes[i+1] = node
	})
	boot, bootCPU := time.Since(start).Seconds(), measure.CPU(os.Getpid())-cpu0
	sum := func(f func(dhtrpc.Stats) int) (total int) {
		for _, node := range nodes {
			total += f(node.Stats())
		}
		return total
	}
	requests := func(s dhtrpc.Stats) int { return s.Requests.Total }
	timeouts := func(s dhtrpc.Stats) int { return s.Requests.Timeouts }
	bootRequests := sum(requests)
	time.Sleep(time.Second)
	measure.GC()
	rss1 := measure.RSS(os.Getpid())
	var ids []dhtrpc.ID
	for _, node := range nodes {
		if id, ok := node.ID(); ok {
			ids = append(ids, id)
		}
	}

	times := make([]int64, *queries)
	var found, exact atomic.Int64
	requests0, timeouts0 := sum(requests), sum(timeouts)
	cpu1, start1 := measure.CPU(os.Getpid()), time.Now()
	measure.Pool(*queries, *conc, func(i int) {
		var target dhtrpc.ID
		rand.Read(target[:])
		node := nodes[mrand.IntN(len(nodes))]
		began := measure.Now()
		q := node.FindNode(target, dhtrpc.QueryOptions{})
		measure.Check(q.Run(ctx))
		times[i] = measure.Now() - began
		closest := q.Closest()
		found.Add(int64(len(closest)))
		if i%50 == 0 && len(closest) > 0 && closest[0].ID == best(ids, node, target) {
			exact.Add(1)
		}
	})
	wall, cpu := time.Since(start1).Seconds(), measure.CPU(os.Getpid())-cpu1
	asked := sum(requests) - requests0
	per := 1 / float64(*queries)
	measure.Out(map[string]any{
		"w": "W2", "impl": "warren", "n": *n, "par": *par, "persistent": len(ids),
		"table_mean": float64(sum(func(s dhtrpc.Stats) int { return s.Nodes })) / float64(*n),
		"boot_s":     boot, "boot_cpu_s": bootCPU, "boot_reqs": bootRequests,
		"rss_per_node_kb": float64(rss1-rss0) / float64(*n) / 1024, "rss0_mb": float64(rss0) / 1e6, "rss1_mb": float64(rss1) / 1e6,
		"conc": *conc, "queries": *queries, "qps": float64(*queries) / wall, "query_cpu_ms": cpu * per * 1e3,
		"lat": measure.Summarize(times), "reqs_per_query": float64(asked) * per, "reqs_per_s": float64(asked) / wall,
		"timeouts": sum(timeouts) - timeouts0, "closest_mean": float64(found.Load()) * per, "exact_of_20": exact.Load(),
	})
}

// best is the id closest to a target among those of the other nodes.
func best(ids []dhtrpc.ID, node *dhtrpc.Node, target dhtrpc.ID) dhtrpc.ID {
	own, _ := node.ID()
	distance := func(id dhtrpc.ID) (d dhtrpc.ID) {
		for i := range d {
			d[i] = id[i] ^ target[i]
		}
		return d
	}
	others := slices.DeleteFunc(slices.Clone(ids), func(id dhtrpc.ID) bool { return id == own })
	return slices.MinFunc(others, func(a, b dhtrpc.ID) int {
		x, y := distance(a), distance(b)
		return bytes.Compare(x[:], y[:])
	})
}
