package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	mrand "math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/mainline"
)

// krpcNode: one node of the BitTorrent DHT that knows nobody.
func krpcNode(flags *flag.FlagSet, args []string) {
	port := flags.Uint("port", 0, "port")
	flags.Parse(args)
	node, err := mainline.Listen(mainline.Config{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, uint16(*port))}, NoBootstrap: true})
	measure.Check(err)
	measure.Check(node.Ready(context.Background()))
	measure.Serve(map[string]any{"host": "127.0.0.1", "port": node.Addr().Port()})
}

// krpcNet: a network of them in this process, and items put and got in it.
func krpcNet(flags *flag.FlagSet, args []string) {
	n := flags.Int("n", 100, "nodes")
	par := flags.Int("par", 1, "bootstraps at once")
	count := flags.Int("count", 200, "operations of a kind")
	conc := flags.Int("conc", 16, "operations at once")
	size := flags.Int("size", 100, "bytes of a value")
	flags.Parse(args)
	ctx := context.Background()

	measure.GC()
	rss0, cpu0, start := measure.RSS(os.Getpid()), measure.CPU(os.Getpid()), time.Now()
	listen := func(bootstrap ...string) *mainline.Node {
		node, err := mainline.Listen(mainline.Config{
			Addrs:       []netip.AddrPort{netip.AddrPortFrom(loopback, 0)},
			Bootstrap:   bootstrap,
			NoBootstrap: len(bootstrap) == 0,
		})
		measure.Check(err)
		measure.Check(node.Ready(ctx))
		return node
	}
	nodes := make([]*mainline.Node, *n)
	nodes[0] = listen()
	measure.Pool(*n-1, *par, func(i int) { nodes[i+1] = listen(nodes[0].Addr().String()) })
	boot, bootCPU := time.Since(start).Seconds(), measure.CPU(os.Getpid())-cpu0
	time.Sleep(time.Second)
	measure.GC()
	rss1 := measure.RSS(os.Getpid())
	table := 0
	for _, node := range nodes {
		table += len(node.Nodes())
	}

	values := make([][]byte, *count)
	owners := make([]int, *count)
	for i := range values {
		values[i] = make([]byte, *size)
		rand.Read(values[i])
		owners[i] = mrand.IntN(*n)
	}
	item := func(i int) mainline.Item { return mainline.Item{Value: mainline.StringValue(values[i])} }
	ops := map[string]any{
		"put": timed(*count, *conc, nil, func(i int) bool {
			_, err := nodes[owners[i]].Put(ctx, item(i))
			return err == nil
		}),
		"get": timed(*count, *conc, nil, func(i int) bool {
			other := mrand.IntN(*n - 1)
			if other >= owners[i] {
				other++
			}
			found, err := nodes[other].Get(ctx, mainline.ImmutableTarget(item(i).Value), mainline.GetOptions{NoCache: true})
			return err == nil && bytes.Equal(found.Value, item(i).Value)
		}),
	}
	measure.Out(map[string]any{
		"w": "W7net", "impl": "warren", "n": *n, "par": *par, "conc": *conc, "count": *count,
		"boot_s": boot, "boot_cpu_s": bootCPU, "rss_per_node_kb": float64(rss1-rss0) / float64(*n) / 1024,
		"table_mean": float64(table) / float64(*n), "ops": ops,
	})
}

// timed runs an operation count times, conc at once, and returns its figures:
// of this process and of others.
func timed(count, conc int, others []int, op func(i int) bool) map[string]any {
	times := make([]int64, count)
	var failed atomic.Int64
	cpu, otherCPU, start := measure.CPU(os.Getpid()), measure.CPUs(others), time.Now()
	measure.Pool(count, conc, func(i int) {
		began := measure.Now()
		if !op(i) {
			failed.Add(1)
		}
		times[i] = measure.Now() - began
	})
	wall := time.Since(start).Seconds()
	per := 1e3 / float64(count)
	cpu, otherCPU = (measure.CPU(os.Getpid())-cpu)*per, (measure.CPUs(others)-otherCPU)*per
	r := map[string]any{"ops_s": float64(count) / wall, "failed": failed.Load(), "lat": measure.Summarize(times)}
	if others == nil {
		r["cpu_ms"] = cpu
	} else {
		r["cli_cpu_ms"], r["net_cpu_ms"] = cpu, otherCPU
	}
	return r
}
