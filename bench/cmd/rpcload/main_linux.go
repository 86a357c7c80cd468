// Command rpcload puts load on one dht-rpc v6 node. It writes the datagrams
// itself (docs/spec/dht-rpc.md §2).
//
//	rpcload -to 127.0.0.1:10001 -mode ping|find|immget -n 64 -s 4 -d 5s -pids 123
//
// With -populate P it first opens P sockets and introduces each as a persistent
// node, so that the server's routing table fills, and goes on answering the
// server's own pings on them.
package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/bench/internal/load"
	"github.com/warren-dht/warren/bench/internal/measure"
)

// The wire: first byte, flags of a request and of a reply, commands.
const (
	request = 0x03
	reply   = 0x13

	hasID, hasToken, internal, hasTarget, hasValue = 1, 2, 4, 8, 16
	replyID, replyToken, replyCloser               = 1, 2, 4
	replyError, replyValue                         = 8, 16

	cmdPing, cmdFindNode             = 0, 2
	cmdImmutablePut, cmdImmutableGet = 8, 9
)

// What immget asks for.
const (
	values   = 256
	valueLen = 100
)

// addr6 is an address as the wire has it: IPv4, then the port, little-endian.
func addr6(a netip.AddrPort) (out [6]byte) {
	ip := a.Addr().As4()
	copy(out[:], ip[:])
	binary.LittleEndian.PutUint16(out[4:], a.Port())
	return
}

// A codec implements load.Codec for one mode.
type codec struct {
	mode    string
	to      [6]byte
	rng     *rand.PCG
	targets [][32]byte
	k       int
	lax     bool
}

func (c *codec) Append(b []byte, tid uint16) []byte {
	flags := byte(internal)
	cmd := byte(cmdPing)
	switch c.mode {
	case "find":
		flags, cmd = internal|hasTarget, cmdFindNode
	case "immget":
		flags, cmd = hasTarget, cmdImmutableGet
	}
	b = append(b, request, flags, byte(tid), byte(tid>>8))
	b = append(b, c.to[:]...)
	b = append(b, cmd)
	switch c.mode {
	case "find":
		for i := 0; i < 4; i++ {
			b = binary.LittleEndian.AppendUint64(b, c.rng.Uint64())
		}
	case "immget":
		c.k = (c.k + 1) % len(c.targets)
		b = append(b, c.targets[c.k][:]...)
	}
	return b
}

func (c *codec) Tid(p []byte) (uint16, bool) {
	if len(p) < 10 || p[0] != reply {
		return 0, false
	}
	fl := p[1]
	ok := true
	if !c.lax {
		switch c.mode {
		case "ping":
			ok = fl&replyError == 0
		case "find":
			ok = fl&(replyCloser|replyError) == replyCloser
		case "immget":
			ok = fl&(replyToken|replyValue|replyError) == replyToken|replyValue
		}
	}
	return binary.LittleEndian.Uint16(p[2:]), ok
}

func main() {
	to := flag.String("to", "", "host:port of the node")
	mode := flag.String("mode", "ping", "ping, find or immget")
	n := flag.Int("n", 64, "requests in flight")
	s := flag.Int("s", 4, "sockets")
	d := flag.Duration("d", 5*time.Second, "timed window")
	warm := flag.Duration("warm", time.Second, "before the window")
	pids := flag.String("pids", "", "server pids, for CPU")
	pop := flag.Int("populate", 0, "sockets introduced as persistent nodes first")
	rate := flag.Float64("rate", 0, "requests/s, open loop (then -n and -s do not count)")
	lax := flag.Bool("lax", false, "take any reply of the right type (echo ceilings)")
	flag.Parse()
	dst, err := netip.ParseAddrPort(*to)
	measure.Check(err)
	populate(dst, *pop)
	var targets [][32]byte
	if *mode == "immget" {
		targets = putValues(dst)
	}
	r := load.Run(load.Options{To: dst, InFlight: *n, Sockets: *s, Warm: *warm, Window: *d, Pids: measure.Pids(*pids), Rate: *rate}, func(i int) load.Codec {
		return &codec{mode: *mode, to: addr6(dst), rng: rand.NewPCG(uint64(i)+1, uint64(time.Now().UnixNano())), targets: targets, lax: *lax, k: i * 7 % max(1, len(targets))}
	})
	measure.Out(struct {
		W    string `json:"w"`
		Mode string `json:"mode"`
		load.Result
	}{"rpcload", *mode, r})
}

// populate introduces n persistent nodes, whose ids are the hashes of their
// addresses.
func populate(dst netip.AddrPort, n int) {
	ua := net.UDPAddrFromAddrPort(dst)
	for i := 0; i < n; i++ {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		measure.Check(err)
		self := c.LocalAddr().(*net.UDPAddr).AddrPort()
		self = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), self.Port())
		a := addr6(self)
		id := blake2b.Sum256(a[:])
		to := addr6(dst)
		req := append([]byte{request, internal | hasID, 1, 0}, to[:]...)
		req = append(req, id[:]...)
		req = append(req, cmdPing)
		buf := make([]byte, 2048)
		ok := false
		for try := 0; try < 5 && !ok; try++ {
			c.WriteToUDP(req, ua)
			c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			if m, _, err := c.ReadFromUDP(buf); err == nil && m > 2 && buf[0] == reply {
				ok = true
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
				if m < 10 || buf[0] != request {
					continue
				}
				f6 := addr6(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
				rep := append([]byte{reply, replyID, buf[2], buf[3]}, f6[:]...)
				rep = append(rep, id[:]...)
				c.WriteToUDPAddrPort(rep, from)
			}
		}()
	}
}

// putValues stores the values, each after a round trip for the token, and
// returns their targets.
func putValues(dst netip.AddrPort) (targets [][32]byte) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(dst))
	measure.Check(err)
	defer c.Close()
	to := addr6(dst)
	buf := make([]byte, 2048)
	ask := func(req []byte) []byte {
		for try := 0; try < 5; try++ {
			c.Write(req)
			c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			m, err := c.Read(buf)
			if err == nil && m >= 10 && buf[0] == reply && bytes.Equal(buf[2:4], req[2:4]) {
				return buf[:m]
			}
		}
		measure.Fatal("put: no reply")
		return nil
	}
	for i := 0; i < values; i++ {
		v := bytes.Repeat([]byte{byte(i)}, valueLen)
		t := blake2b.Sum256(v)
		req := append([]byte{request, hasTarget, byte(i), 7}, to[:]...)
		req = append(req, cmdImmutableGet)
		req = append(req, t[:]...)
		rep := ask(req)
		off := 10
		if rep[1]&replyID != 0 {
			off += 32
		}
		if rep[1]&replyToken == 0 {
			measure.Fatal("put: no token")
		}
		token := bytes.Clone(rep[off : off+32])
		req = append([]byte{request, hasTarget | hasToken | hasValue, byte(i), 8}, to[:]...)
		req = append(req, token...)
		req = append(req, cmdImmutablePut)
		req = append(req, t[:]...)
		req = append(req, byte(valueLen))
		req = append(req, v...)
		if rep = ask(req); rep[1]&replyError != 0 {
			measure.Fatal("put: error reply")
		}
		targets = append(targets, t)
	}
	return
}
