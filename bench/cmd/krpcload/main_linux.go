// Command krpcload puts load on one node of the BitTorrent DHT. It writes the
// datagrams itself (BEP 5, BEP 44).
//
//	krpcload -to 127.0.0.1:6881 -mode ping|find|peers|get -n 64 -s 4 -d 5s -pids 1
//
// -populate P opens P sockets first, each a node with a random id that
// introduces itself with a ping and answers the server's own queries.
// peers: get_peers for random info hashes nobody has announced, so the reply
// has a token and nodes. get: BEP 44 get of 256 immutable values of 100 bytes
// stored beforehand, so the reply has a token and v. Every query carries one
// client id with ro=1 (BEP 43), so that the load itself stays out of the table.
package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/bench/internal/load"
	"github.com/warren-dht/warren/bench/internal/measure"
)

// A codec implements load.Codec for one mode.
type codec struct {
	mode    string
	id      [20]byte
	rng     *rand.PCG
	targets [][20]byte
	k       int
	lax     bool
	want    []byte
}

func (c *codec) rand20() (t [20]byte) {
	binary.LittleEndian.PutUint64(t[:], c.rng.Uint64())
	binary.LittleEndian.PutUint64(t[8:], c.rng.Uint64())
	binary.LittleEndian.PutUint32(t[16:], uint32(c.rng.Uint64()))
	return
}

// query appends a KRPC query; key names its 20-byte argument, and extra appends
// those that sort between id and it.
func query(b []byte, id [20]byte, q string, key string, target []byte, extra func([]byte) []byte, tid []byte) []byte {
	b = append(b, "d1:ad2:id20:"...)
	b = append(b, id[:]...)
	if key != "" && key < "k" {
		b = append(b, key...)
		b = append(b, target...)
	}
	if extra != nil {
		b = extra(b)
	}
	if key != "" && key > "k" {
		b = append(b, key...)
		b = append(b, target...)
	}
	b = fmt.Appendf(b, "e1:q%d:%s2:roi1e1:t2:", len(q), q)
	b = append(b, tid...)
	return append(b, "1:y1:qe"...)
}

func (c *codec) Append(b []byte, tid uint16) []byte {
	t := []byte{byte(tid), byte(tid >> 8)}
	switch c.mode {
	case "find":
		x := c.rand20()
		return query(b, c.id, "find_node", "6:target20:", x[:], nil, t)
	case "peers":
		x := c.rand20()
		return query(b, c.id, "get_peers", "9:info_hash20:", x[:], nil, t)
	case "get":
		c.k = (c.k + 1) % len(c.targets)
		return query(b, c.id, "get", "6:target20:", c.targets[c.k][:], nil, t)
	}
	return query(b, c.id, "ping", "", nil, nil, t)
}

func (c *codec) Tid(p []byte) (uint16, bool) {
	if c.lax {
		if len(p) < 4 {
			return 0, false
		}
		return binary.LittleEndian.Uint16(p[2:]), true
	}
	i := bytes.LastIndex(p, []byte("1:t2:"))
	if i < 0 || i+7 > len(p) {
		return 0, false
	}
	return binary.LittleEndian.Uint16(p[i+5:]), bytes.Contains(p, c.want)
}

func main() {
	to := flag.String("to", "", "host:port of the node")
	mode := flag.String("mode", "ping", "ping, find, peers or get")
	n := flag.Int("n", 64, "requests in flight")
	s := flag.Int("s", 4, "sockets")
	d := flag.Duration("d", 5*time.Second, "timed window")
	warm := flag.Duration("warm", time.Second, "before the window")
	pids := flag.String("pids", "", "server pids, for CPU")
	pop := flag.Int("populate", 0, "nodes introduced first")
	rate := flag.Float64("rate", 0, "requests/s, open loop (then -n and -s do not count)")
	lax := flag.Bool("lax", false, "udpecho ceilings")
	flag.Parse()
	dst, err := netip.ParseAddrPort(*to)
	measure.Check(err)
	populate(dst, *pop)
	var targets [][20]byte
	if *mode == "get" {
		targets = put(dst)
	}
	want := map[string]string{"ping": "1:y1:r", "find": "5:nodes", "peers": "5:nodes", "get": "1:v100:"}[*mode]
	r := load.Run(load.Options{To: dst, InFlight: *n, Sockets: *s, Warm: *warm, Window: *d, Pids: measure.Pids(*pids), Rate: *rate}, func(i int) load.Codec {
		c := &codec{mode: *mode, rng: rand.NewPCG(uint64(i)+1, uint64(time.Now().UnixNano())), targets: targets, want: []byte(want), lax: *lax}
		c.id = c.rand20()
		return c
	})
	measure.Out(struct {
		W    string `json:"w"`
		Mode string `json:"mode"`
		load.Result
	}{"krpcload", *mode, r})
}

// populate introduces n nodes.
func populate(dst netip.AddrPort, n int) {
	ua := net.UDPAddrFromAddrPort(dst)
	rng := &codec{rng: rand.NewPCG(7, uint64(time.Now().UnixNano()))}
	for i := 0; i < n; i++ {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		measure.Check(err)
		id := rng.rand20()
		ping := append([]byte("d1:ad2:id20:"), id[:]...)
		ping = append(ping, "e1:q4:ping1:t2:aa1:y1:qe"...)
		answer := func(b []byte, from netip.AddrPort) {
			if !bytes.Contains(b, []byte("1:y1:q")) {
				return
			}
			i := bytes.LastIndex(b, []byte("1:t"))
			if i < 0 {
				return
			}
			j := i + 3
			l := 0
			for j < len(b) && b[j] >= '0' && b[j] <= '9' {
				l = l*10 + int(b[j]-'0')
				j++
			}
			if j+1+l > len(b) {
				return
			}
			r := append([]byte("d1:rd2:id20:"), id[:]...)
			r = append(r, "5:nodes0:e"...)
			r = fmt.Appendf(r, "1:t%d:", l)
			r = append(r, b[j+1:j+1+l]...)
			r = append(r, "1:y1:re"...)
			c.WriteToUDPAddrPort(r, from)
		}
		buf := make([]byte, 4096)
		ok := false
		for try := 0; try < 5 && !ok; try++ {
			c.WriteToUDP(ping, ua)
			c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			for !ok {
				m, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					break
				}
				ok = bytes.Contains(buf[:m], []byte("1:y1:r"))
				answer(buf[:m], from)
			}
		}
		if !ok {
			measure.Fatal("populate: node %d got no reply", i)
		}
		c.SetReadDeadline(time.Time{})
		go func() {
			for {
				m, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				answer(buf[:m], from)
			}
		}()
	}
	if n > 0 {
		time.Sleep(500 * time.Millisecond)
	}
}

// put stores 256 immutable values of 100 bytes and returns their targets.
func put(dst netip.AddrPort) (targets [][20]byte) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(dst))
	measure.Check(err)
	defer c.Close()
	rng := &codec{rng: rand.NewPCG(9, uint64(time.Now().UnixNano()))}
	id := rng.rand20()
	buf := make([]byte, 4096)
	ask := func(req []byte) []byte {
		for try := 0; try < 5; try++ {
			c.Write(req)
			c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			if m, err := c.Read(buf); err == nil {
				return bytes.Clone(buf[:m])
			}
		}
		measure.Fatal("put: no reply")
		return nil
	}
	for i := 0; i < 256; i++ {
		v := fmt.Appendf(nil, "100:%s", bytes.Repeat([]byte{byte(i)}, 100))
		t := sha1.Sum(v)
		tid := []byte{byte(i), 9}
		rep := ask(query(nil, id, "get", "6:target20:", t[:], nil, tid))
		k := bytes.Index(rep, []byte("5:token"))
		if k < 0 {
			measure.Fatal("put: no token in %q", rep)
		}
		j, l := k+7, 0
		for ; rep[j] != ':'; j++ {
			l = l*10 + int(rep[j]-'0')
		}
		token := rep[j+1 : j+1+l]
		req := query(nil, id, "put", "", nil, func(b []byte) []byte {
			b = fmt.Appendf(b, "3:seqi0e5:token%d:", len(token)) // anacrolix wants a seq even here
			b = append(b, token...)
			b = append(b, "1:v"...)
			return append(b, v...)
		}, tid)
		if rep = ask(req); !bytes.Contains(rep, []byte("1:y1:r")) {
			measure.Fatal("put: %q", rep)
		}
		targets = append(targets, t)
	}
	return
}
