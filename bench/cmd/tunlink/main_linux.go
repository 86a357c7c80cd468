// Command tunlink is the bottleneck of W11: it makes an interface "wan" in each of
// two network namespaces and carries IP packets between them, at a rate, with a
// delay and a queue each way. Whoever started it gives the interfaces their
// addresses. Needs root.
//
//	tunlink -a ns1 -b ns2 -mbit 50 -rtt 40ms -queue 250000
package main

import (
	"flag"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/bench/internal/wan"
)

func main() {
	a := flag.String("a", "", "one namespace")
	b := flag.String("b", "", "the other")
	mbit := flag.Float64("mbit", 50, "rate each way")
	rtt := flag.Duration("rtt", 40*time.Millisecond, "round trip")
	queue := flag.Float64("queue", 250000, "queue bytes each way")
	flag.Parse()
	left, right := tun(*a), tun(*b)
	link := wan.Config{Rate: *mbit * 1e6, Delay: *rtt / 2, Queue: *queue}
	carry(left, right, wan.New(link, 1))
	carry(right, left, wan.New(link, 2))
	measure.Serve(map[string]any{"interface": "wan"})
}

// carry moves packets one way.
func carry(from, to *os.File, link *wan.Link) {
	go link.Run(func(b []byte) { to.Write(b) })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, err := from.Read(b)
			measure.Check(err)
			link.Put(b[:n])
		}
	}()
}

// tun makes an interface in a namespace.
func tun(namespace string) *os.File {
	opened := make(chan *os.File)
	go func() {
		// The thread changes over to the namespace; it ends with the goroutine.
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + namespace)
		measure.Check(err)
		defer ns.Close()
		measure.Check(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		measure.Check(err)
		request, err := unix.NewIfreq("wan")
		measure.Check(err)
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		measure.Check(unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
		opened <- os.NewFile(uintptr(fd), "/dev/net/tun")
	}()
	return <-opened
}
