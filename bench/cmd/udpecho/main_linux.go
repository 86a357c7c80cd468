// Command udpecho is the ceiling of W1 and W7: it answers every datagram with
// a reply of -size bytes that carries the request's transaction id, and does
// nothing else.
//
//	-kind std    one goroutine, package net
//	-kind mmsg   one thread, batches of 32 with recvmmsg and sendmmsg
package main

import (
	"flag"
	"net"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/bench/internal/mmsg"
)

const (
	maxRequest = 2048
	batchSize  = 32
	minRequest = 11 // of dht-rpc; KRPC's are longer
)

func main() {
	kind := flag.String("kind", "std", "std or mmsg")
	size := flag.Int("size", 42, "bytes of a reply")
	port := flag.Int("port", 0, "port")
	krpc := flag.Bool("krpc", false, "the transaction id is krpcload's, 9 bytes before the end")
	flag.Parse()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: *port})
	measure.Check(err)
	measure.Check(conn.SetReadBuffer(4 << 20))
	e := echo{krpc: *krpc, size: *size}
	switch *kind {
	case "std":
		go e.single(conn)
	case "mmsg":
		f, err := conn.File()
		measure.Check(err)
		fd := int(f.Fd())
		measure.Check(unix.SetNonblock(fd, false))
		go e.batches(fd)
	default:
		measure.Fatal("no kind %q", *kind)
	}
	measure.Serve(map[string]any{"host": "127.0.0.1", "port": conn.LocalAddr().(*net.UDPAddr).Port})
}

type echo struct {
	krpc bool
	size int
}

// answer writes the start of a reply; it says whether in is a request.
func (e echo) answer(out, in []byte) bool {
	if len(in) < minRequest {
		return false
	}
	tid := 2
	if e.krpc {
		tid = len(in) - 9
	}
	out[0], out[1] = 0x13, 5
	out[2], out[3] = in[tid], in[tid+1]
	return true
}

func (e echo) single(conn *net.UDPConn) {
	in, out := make([]byte, maxRequest), make([]byte, e.size)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(in)
		if err == nil && e.answer(out, in[:n]) {
			conn.WriteToUDPAddrPort(out, from)
		}
	}
}

func (e echo) batches(fd int) {
	runtime.LockOSThread()
	in, out := mmsg.NewBatch(batchSize, maxRequest).Addressed(), mmsg.NewBatch(batchSize, e.size).Addressed()
	for {
		n, errno := in.Receive(fd)
		if errno != 0 {
			continue
		}
		k := 0
		for i := range n {
			if e.answer(out.Slot(k), in.Datagram(i)) {
				*out.From(k) = *in.From(i)
				k++
			}
		}
		measure.Check(out.Send(fd, k))
	}
}
