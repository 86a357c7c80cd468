package duo

import (
	"flag"
	"io"
	"os"
	"time"

	"github.com/warren-dht/warren/bench/internal/measure"
)

// Conn is one connection.
type Conn = io.ReadWriteCloser

// Options of a client.
type Options struct {
	Test   string
	Count  int
	Conns  int
	Rounds int
	Bytes  int64
	Chunk  int
	Size   int
	Idle   time.Duration
	Server []int // process ids
	Net    []int // of the network that connections are found through

	// Dial opens one new connection.
	Dial func() (Conn, error)
	// Fresh does so from a new node, for the test "cold"; closing the
	// connection closes the node.
	Fresh func() (Conn, error)
	// Extra, if not nil, adds a connection's own figures to those of "bulk".
	Extra func(Conn) map[string]any
}

// Flags registers what every client takes; it returns a function that settles
// them after flag.Parse.
func (o *Options) Flags(flags *flag.FlagSet) (settle func()) {
	flags.StringVar(&o.Test, "test", "connect", "connect, cold, burst, bulk, flow, rtt, load or hold")
	flags.IntVar(&o.Count, "count", 200, "connections or round trips")
	flags.IntVar(&o.Conns, "conns", 1, "connections at once")
	flags.IntVar(&o.Rounds, "rounds", 5, "bursts")
	flags.Int64Var(&o.Bytes, "bytes", 512<<20, "bytes in all")
	flags.IntVar(&o.Chunk, "chunk", 64<<10, "bytes of a write")
	flags.IntVar(&o.Size, "size", 64, "bytes of a round trip")
	idle := flags.Int("idle", 20, "seconds to hold connections, or to let one flow")
	server := flags.String("pids", "", "the server's process, for its CPU and memory")
	network := flags.String("net", "", "the network's process")
	return func() {
		o.Idle = time.Duration(*idle) * time.Second
		o.Server, o.Net = measure.Pids(*server), measure.Pids(*network)
	}
}

// Run runs the test and returns its figures.
func Run(o Options) map[string]any {
	tests := map[string]func(Options) map[string]any{
		"connect": connect, "cold": cold, "burst": burst, "bulk": bulk, "flow": flow, "load": load, "hold": hold,
		"rtt": func(o Options) map[string]any {
			c, _, _ := dial(o.Dial)
			return rtt(o, c)
		},
	}
	test, ok := tests[o.Test]
	if !ok {
		measure.Fatal("no test %q", o.Test)
	}
	return test(o)
}

// A usage is what the processes have used at a time, in seconds.
type usage struct {
	client, server, network float64
	at                      time.Time
}

func (o Options) used() usage {
	return usage{measure.CPU(os.Getpid()), measure.CPUs(o.Server), measure.CPUs(o.Net), time.Now()}
}

// since returns what they have used since then.
func (o Options) since(u usage) usage {
	now := o.used()
	return usage{now.client - u.client, now.server - u.server, now.network - u.network, u.at}
}

// perOp is the CPU of one of n operations, in milliseconds.
func (u usage) perOp(n int) map[string]float64 {
	ms := 1e3 / float64(n)
	return map[string]float64{"cli": u.client * ms, "srv": u.server * ms, "net": u.network * ms}
}

func (u usage) wall() float64 { return time.Since(u.at).Seconds() }

// dial opens a connection and waits for one byte there and back; it returns
// the nanoseconds to the open connection and to the byte.
func dial(open func() (Conn, error)) (c Conn, opened, echoed int64) {
	start := measure.Now()
	c, err := open()
	measure.Check(err)
	opened = measure.Now() - start
	_, err = c.Write(append(header(Echo, 0), 1))
	measure.Check(err)
	_, err = io.ReadFull(c, make([]byte, 1))
	measure.Check(err)
	return c, opened, measure.Now() - start
}

// warm opens one connection and forgets it.
func warm(o Options) {
	c, _, _ := dial(o.Dial)
	c.Close()
}

func connect(o Options) map[string]any {
	warm(o)
	var opened, echoed []int64
	u := o.used()
	for range o.Count {
		c, a, b := dial(o.Dial)
		opened, echoed = append(opened, a), append(echoed, b)
		c.Close()
	}
	return map[string]any{
		"open": measure.Summarize(opened), "echo": measure.Summarize(echoed), "cpu_ms": o.since(u).perOp(o.Count),
	}
}

func cold(o Options) map[string]any {
	var echoed []int64
	u := o.used()
	for range o.Count {
		c, _, b := dial(o.Fresh)
		echoed = append(echoed, b)
		c.Close()
	}
	return map[string]any{"echo": measure.Summarize(echoed), "cpu_ms": o.since(u).perOp(o.Count), "failed": 0}
}

func burst(o Options) map[string]any {
	warm(o)
	var rounds, echoed []int64
	var sum usage
	var wall float64
	for range o.Rounds {
		conns, times := make([]Conn, o.Conns), make([]int64, o.Conns)
		u := o.used()
		measure.Pool(o.Conns, o.Conns, func(i int) { conns[i], _, times[i] = dial(o.Dial) })
		took := u.wall()
		u = o.since(u)
		sum.client, sum.server, sum.network = sum.client+u.client, sum.server+u.server, sum.network+u.network
		wall += took
		rounds = append(rounds, int64(took*1e9))
		echoed = append(echoed, times...)
		for _, c := range conns {
			c.Close()
		}
		time.Sleep(300 * time.Millisecond)
	}
	n := o.Rounds * o.Conns
	return map[string]any{
		"conns": o.Conns, "rounds": o.Rounds, "conn_s": float64(n) / wall, "failed": 0,
		"all": measure.Summarize(rounds), "echo": measure.Summarize(echoed), "cpu_ms": sum.perOp(n),
	}
}
