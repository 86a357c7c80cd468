package duo

import (
	"io"
	"maps"
	"os"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/bench/internal/measure"
)

// bulk sends o.Bytes over connections that are open already, from the first
// write to the last acknowledgement.
func bulk(o Options) map[string]any {
	conns := make([]Conn, o.Conns)
	for i := range conns {
		c, err := o.Dial()
		measure.Check(err)
		conns[i] = c
	}
	time.Sleep(500 * time.Millisecond)
	each := o.Bytes / int64(o.Conns)
	chunk := make([]byte, o.Chunk)
	u := o.used()
	measure.Pool(o.Conns, o.Conns, func(i int) {
		c := conns[i]
		_, err := c.Write(header(Sink, uint64(each)))
		measure.Check(err)
		for left := each; left > 0; {
			n, err := c.Write(chunk[:min(left, int64(len(chunk)))])
			measure.Check(err)
			left -= int64(n)
		}
		_, err = io.ReadFull(c, make([]byte, 8))
		measure.Check(err)
	})
	wall := u.wall()
	u = o.since(u)
	total := each * int64(o.Conns)
	gb := float64(total) / 1e9
	r := map[string]any{
		"conns": o.Conns, "bytes": total, "mb_s": gb * 1e3 / wall, "wall": wall,
		"cpu_s_per_gb": (u.client + u.server) / gb, "cli_cpu_s_per_gb": u.client / gb, "srv_cpu_s_per_gb": u.server / gb,
	}
	if o.Extra != nil {
		maps.Copy(r, o.Extra(conns[0]))
	}
	return r
}

// rtt makes round trips on an echoing connection, one at a time.
func rtt(o Options, c Conn) map[string]any {
	message := make([]byte, o.Size)
	trip := func() int64 {
		start := measure.Now()
		_, err := c.Write(message)
		measure.Check(err)
		_, err = io.ReadFull(c, message)
		measure.Check(err)
		return measure.Now() - start
	}
	for range 200 {
		trip()
	}
	times := make([]int64, o.Count)
	u := o.used()
	for i := range times {
		times[i] = trip()
	}
	u = o.since(u)
	us := 1e6 / float64(o.Count)
	return map[string]any{
		"count": o.Count, "size": o.Size, "rtt": measure.Summarize(times),
		"cpu_us": map[string]float64{"cli": u.client * us, "srv": u.server * us},
	}
}

// load is rtt while another connection sends as much as it can.
func load(o Options) map[string]any {
	c, _, _ := dial(o.Dial)
	busy, err := o.Dial()
	measure.Check(err)
	_, err = busy.Write(header(Sink, 1e15))
	measure.Check(err)
	var sent atomic.Int64
	go func() {
		chunk := make([]byte, o.Chunk)
		for {
			n, err := busy.Write(chunk)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	}()
	time.Sleep(time.Second)
	before, start := sent.Load(), time.Now()
	r := rtt(o, c)
	r["bulk_mb_s"] = float64(sent.Load()-before) / 1e6 / time.Since(start).Seconds()
	return r
}

// flow sends as much as it can for o.Idle.
func flow(o Options) map[string]any {
	c, err := o.Dial()
	measure.Check(err)
	_, err = c.Write(header(Sink, 1e15))
	measure.Check(err)
	chunk := make([]byte, o.Chunk)
	sent := 0
	start := time.Now()
	for time.Since(start) < o.Idle {
		n, err := c.Write(chunk)
		measure.Check(err)
		sent += n
	}
	return map[string]any{"bytes": sent, "mb_s": float64(sent) / 1e6 / time.Since(start).Seconds()}
}

// hold opens connections, 20 at a time, and keeps them idle.
func hold(o Options) map[string]any {
	warm(o)
	time.Sleep(2 * time.Second)
	measure.GC()
	size := func() (client, server int64) {
		client = measure.RSS(os.Getpid())
		for _, pid := range o.Server {
			server += measure.RSS(pid)
		}
		return client, server
	}
	client0, server0 := size()
	conns := make([]Conn, o.Conns)
	start := time.Now()
	measure.Pool(o.Conns, 20, func(i int) { conns[i], _, _ = dial(o.Dial) })
	opened := time.Since(start).Seconds()
	time.Sleep(3 * time.Second)
	measure.GC()
	client1, server1 := size()
	u := o.used()
	time.Sleep(o.Idle)
	wall := u.wall()
	u = o.since(u)
	kb := 1 / float64(o.Conns) / 1024
	r := map[string]any{
		"conns": o.Conns, "open_s": opened, "idle_s": wall,
		"cli_rss_kb_per_conn": float64(client1-client0) * kb, "srv_rss_kb_per_conn_nogc": float64(server1-server0) * kb,
		"cli_rss_mb": float64(client1) / 1e6, "srv_rss_mb": float64(server1) / 1e6, "srv_rss_before_mb": float64(server0) / 1e6,
		"cli_cpu_pct": u.client / wall * 100, "srv_cpu_pct": u.server / wall * 100,
	}
	for _, c := range conns {
		c.Close()
	}
	return r
}
