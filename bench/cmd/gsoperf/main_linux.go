// Command gsoperf is the datagram ceiling of W8: how many bytes of -seg byte
// datagrams one sender gets to one receiver over loopback without reliability,
// and at what cost.
//
//	gsoperf -role server -gro
//	gsoperf -role client -to PORT -pids PID -gso -bytes 536870912
//
// Without -gso and -gro, -batch datagrams go with a system call. The sender
// keeps at most -win bytes unreported, and the receiver reports what it has
// every 128 KiB, so nothing is lost and the slower side sets the rate, as in a
// reliable stream with a window. -seal seals and opens each segment with
// ChaCha20-Poly1305: the floor of an encrypted stream.
package main

import (
	"crypto/cipher"
	"encoding/binary"
	"flag"
	"os"
	"runtime"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/unix"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/bench/internal/mmsg"
)

const (
	reportEvery = 128 << 10
	maxDatagram = 1 << 16
	maxSegments = 64
	maxStalls   = 100
)

// config are the flags of both roles.
type config struct {
	role, pids  string
	to          int
	gso, gro    bool
	seg, batch  int
	win         int
	bytes       int64
	aead        cipher.AEAD // nil: in the clear
	nonce       [chacha20poly1305.NonceSize]byte
	description map[string]any
}

func main() {
	var c config
	flag.StringVar(&c.role, "role", "server", "server or client")
	flag.IntVar(&c.to, "to", 0, "port of the server")
	flag.StringVar(&c.pids, "pids", "", "of the server, for its CPU")
	flag.BoolVar(&c.gso, "gso", false, "segmentation offload on the way out")
	flag.BoolVar(&c.gro, "gro", false, "receive offload")
	flag.IntVar(&c.seg, "seg", 1472, "bytes of a datagram")
	flag.IntVar(&c.batch, "batch", 1, "datagrams a system call")
	flag.IntVar(&c.win, "win", 1<<20, "bytes unreported")
	flag.Int64Var(&c.bytes, "bytes", 512<<20, "bytes in all")
	seal := flag.Bool("seal", false, "seal and open each datagram")
	flag.Parse()
	if *seal {
		var err error
		c.aead, err = chacha20poly1305.New(make([]byte, chacha20poly1305.KeySize))
		measure.Check(err)
	}
	c.description = map[string]any{"w": "gsoperf", "gso": c.gso, "batch": c.batch, "seg": c.seg, "seal": *seal, "win": c.win}

	runtime.LockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	measure.Check(err)
	measure.Check(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20))
	measure.Check(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20))
	measure.Check(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	if c.role == "server" {
		if c.gro {
			measure.Check(unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1))
		}
		name, err := unix.Getsockname(fd)
		measure.Check(err)
		go c.receive(fd)
		measure.Serve(map[string]any{"port": name.(*unix.SockaddrInet4).Port})
	}
	measure.Check(unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: c.to}))
	measure.Out(c.send(fd))
}

// send is the client.
func (c *config) send(fd int) map[string]any {
	segments := max(1, c.batch)
	if c.gso {
		segments = min(maxSegments, 65000/c.seg)
		measure.Check(unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, c.seg))
	}
	wait := unix.NsecToTimeval(int64(200 * time.Millisecond))
	measure.Check(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	var out *mmsg.Batch // offload: one datagram of all segments
	if c.gso {
		out = mmsg.NewBatch(1, segments*c.seg)
	} else {
		out = mmsg.NewBatch(segments, c.seg)
	}
	plain := make([]byte, c.seg-chacha20poly1305.Overhead)
	report := make([]byte, 64)
	server := measure.Pids(c.pids)
	cpu, serverCPU, start := measure.CPU(os.Getpid()), measure.CPUs(server), time.Now()
	var sent, have int64
	stalls := 0
	for have < c.bytes-reportEvery { // the last report may fall short of the end
		for sent < c.bytes && sent-have+int64(segments*c.seg) <= int64(c.win) {
			if c.aead != nil {
				for i := range segments {
					c.aead.Seal(c.segment(out, i)[:0], c.nonce[:], plain, nil)
				}
			}
			measure.Check(out.Send(fd, out.Size()))
			sent += int64(segments * c.seg)
		}
		n, err := unix.Read(fd, report)
		if err != nil {
			if stalls++; stalls > maxStalls {
				measure.Fatal("stalled: sent %d, the other side has %d", sent, have)
			}
			have = sent // some were lost: go on, and say so
			continue
		}
		if n == 8 {
			have = max(have, int64(binary.LittleEndian.Uint64(report)))
		}
	}
	wall := time.Since(start).Seconds()
	cpu, serverCPU = measure.CPU(os.Getpid())-cpu, measure.CPUs(server)-serverCPU
	gb := float64(c.bytes) / 1e9
	r := c.description
	r["mb_s"] = gb * 1e3 / wall
	r["cpu_s_per_gb"], r["cli_cpu_s_per_gb"], r["srv_cpu_s_per_gb"] = (cpu+serverCPU)/gb, cpu/gb, serverCPU/gb
	r["stalls"] = stalls
	return r
}

// segment is the room of segment i, wherever the batch holds it.
func (c *config) segment(out *mmsg.Batch, i int) []byte {
	if c.gso {
		return out.Slot(0)[i*c.seg : (i+1)*c.seg]
	}
	return out.Slot(i)
}

// receive is the server's work.
func (c *config) receive(fd int) {
	runtime.LockOSThread()
	in := mmsg.NewBatch(max(1, c.batch), maxDatagram).Addressed()
	opened := make([]byte, 0, maxDatagram)
	report := make([]byte, 8)
	var have, told uint64
	for {
		n, errno := in.Receive(fd)
		if errno != 0 {
			continue
		}
		for i := range n {
			d := in.Datagram(i)
			have += uint64(len(d))
			for c.aead != nil && len(d) > 0 {
				k := min(c.seg, len(d))
				_, err := c.aead.Open(opened, c.nonce[:], d[:k], nil)
				measure.Check(err)
				d = d[k:]
			}
		}
		if have-told >= reportEvery {
			told = have
			binary.LittleEndian.PutUint64(report, have)
			from := in.From(0)
			port := from.Port>>8 | from.Port<<8
			unix.Sendto(fd, report, 0, &unix.SockaddrInet4{Addr: from.Addr, Port: int(port)})
		}
	}
}
