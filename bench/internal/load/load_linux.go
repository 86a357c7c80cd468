// Package load generates UDP requests. In a closed loop, S sockets (an OS
// thread each) keep N requests in flight, a new one for each reply; in an open
// loop, one socket sends at a fixed rate whatever comes back.
package load

import (
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/bench/internal/mmsg"
)

// A Codec writes requests and recognises good replies. Each socket has its own.
type Codec interface {
	// Append appends a request with a transaction id.
	Append(dst []byte, tid uint16) []byte
	// Tid reads the transaction id of a reply; a bad one is not ok.
	Tid(reply []byte) (tid uint16, ok bool)
}

// Options of a run.
type Options struct {
	To       netip.AddrPort
	InFlight int // in all; at most 256 a socket
	Sockets  int
	Warm     time.Duration // before the timed window
	Window   time.Duration
	Pids     []int   // of the server
	Rate     float64 // above 0: requests a second in an open loop, on one socket
}

// A Result counts only replies that arrive inside the timed window.
type Result struct {
	RPS       float64           `json:"rps"`
	Replies   int               `json:"replies"`
	Timeouts  int               `json:"timeouts"`
	Bad       int               `json:"bad"`
	Latencies measure.Latencies `json:"lat"`
	Wall      float64           `json:"wall_s"`
	SrvCPU    float64           `json:"srv_cpu_s"`
	SrvPer100 float64           `json:"srv_cpu_s_per_100k"`
	SrvBusy   float64           `json:"srv_cores"`
	GenCPU    float64           `json:"gen_cpu_s"`
	ReplyLen  float64           `json:"reply_bytes"`
	InFlight  int               `json:"inflight"`
	Sockets   int               `json:"sockets"`
}

const (
	batchSize   = 32
	maxRequest  = 2048
	maxReply    = 16384
	lost        = time.Second            // a request unanswered for so long is asked anew
	lateReplies = 200 * time.Millisecond // for the last ones of an open loop
)

// The phases of a run.
const (
	warming int32 = iota
	timed
	over
)

// A worker is one socket on its thread.
type worker struct {
	fd    int
	codec Codec
	phase *atomic.Int32

	sent []int64  // by slot: when its request was sent, 0 for none
	turn []uint16 // by slot: the generation of its request

	latencies []int64
	bytes     int64
	timeouts  int
	bad       int
}

// Run drives the load; codec makes the codec of socket i.
func Run(o Options, codec func(i int) Codec) Result {
	if o.Rate > 0 {
		o.Sockets, o.InFlight = 1, 1
	}
	var phase atomic.Int32
	workers := make([]*worker, o.Sockets)
	for i := range workers {
		slots := o.InFlight / o.Sockets
		if i < o.InFlight%o.Sockets {
			slots++
		}
		workers[i] = &worker{
			fd:        socket(o.To),
			codec:     codec(i),
			phase:     &phase,
			sent:      make([]int64, slots),
			turn:      make([]uint16, slots),
			latencies: make([]int64, 0, 1<<20),
		}
	}
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			runtime.LockOSThread()
			if o.Rate > 0 {
				w.paced(o.Rate)
			} else {
				w.closed()
			}
		})
	}
	time.Sleep(o.Warm)
	server, self := measure.CPUs(o.Pids), measure.CPU(os.Getpid())
	start := time.Now()
	phase.Store(timed)
	time.Sleep(o.Window)
	phase.Store(over)
	wall := time.Since(start).Seconds()
	server, self = measure.CPUs(o.Pids)-server, measure.CPU(os.Getpid())-self
	wg.Wait()

	r := Result{Wall: wall, SrvCPU: server, SrvBusy: server / wall, GenCPU: self, InFlight: o.InFlight, Sockets: o.Sockets}
	var all []int64
	var bytes int64
	for _, w := range workers {
		all = append(all, w.latencies...)
		bytes += w.bytes
		r.Timeouts += w.timeouts
		r.Bad += w.bad
		unix.Close(w.fd)
	}
	r.Replies = len(all)
	r.RPS = float64(r.Replies) / wall
	if r.Replies > 0 {
		r.SrvPer100 = server / float64(r.Replies) * 1e5
		r.ReplyLen = float64(bytes) / float64(r.Replies)
	}
	r.Latencies = measure.Summarize(all)
	return r
}

// socket opens a connected socket whose reads end after 20 ms.
func socket(to netip.AddrPort) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	measure.Check(err)
	measure.Check(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20))
	wait := unix.NsecToTimeval(int64(20 * time.Millisecond))
	measure.Check(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	measure.Check(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	measure.Check(unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	return fd
}

// closed keeps every slot busy. A transaction id is the slot in its low byte
// and the slot's generation in its high one.
func (w *worker) closed() {
	in, out := mmsg.NewBatch(batchSize, maxReply), mmsg.NewBatch(batchSize, maxRequest)
	queued := 0
	flush := func() {
		measure.Check(out.Send(w.fd, queued))
		queued = 0
	}
	send := func(slot int, now int64) {
		w.turn[slot]++
		w.sent[slot] = now
		request := w.codec.Append(out.Slot(queued)[:0], uint16(slot&0xff)|w.turn[slot]<<8)
		out.SetLen(queued, len(request))
		if queued++; queued == batchSize {
			flush()
		}
	}
	now := measure.Now()
	for slot := range w.sent {
		send(slot, now)
	}
	flush()
	scanned := now
	for {
		phase := w.phase.Load()
		if phase == over {
			return
		}
		n, err := in.Receive(w.fd)
		if err != 0 && err != syscall.EAGAIN && err != syscall.EINTR && err != syscall.ECONNREFUSED {
			measure.Fatal("recvmmsg: %v", err)
		}
		now = measure.Now()
		for i := range n {
			reply := in.Datagram(i)
			tid, ok := w.codec.Tid(reply)
			if !ok {
				w.bad++
				continue
			}
			slot := int(tid & 0xff)
			if slot >= len(w.sent) || w.sent[slot] == 0 || byte(tid>>8) != byte(w.turn[slot]) {
				continue // late, or not ours
			}
			if phase == timed {
				w.latencies = append(w.latencies, now-w.sent[slot])
				w.bytes += int64(len(reply))
			}
			send(slot, now)
		}
		if now-scanned > int64(50*time.Millisecond) {
			scanned = now
			for slot, at := range w.sent {
				if now-at > int64(lost) {
					if phase == timed {
						w.timeouts++
					}
					send(slot, now)
				}
			}
		}
		flush()
	}
}

// paced sends at a fixed rate. The loop never sleeps, so the generator adds no
// wake-up of its own. A reply is timed from when its request was due; one that
// is not in soon after the window counts as timed out.
func (w *worker) paced(rate float64) {
	measure.Check(unix.SetNonblock(w.fd, true))
	type request struct {
		due    int64 // 0: answered, or never sent
		counts bool
	}
	requests := make([]request, 1<<16) // by transaction id
	in, out := make([]byte, maxReply), make([]byte, 0, maxRequest)
	step := int64(1e9 / rate)
	next := measure.Now()
	var tid uint16
	var end int64
	for {
		now, phase := measure.Now(), w.phase.Load()
		if phase == over {
			if end == 0 {
				end = now + int64(lateReplies)
			}
			if now > end {
				break
			}
		}
		for phase != over && next <= now {
			tid++
			if r := requests[tid]; r.due != 0 && r.counts {
				w.timeouts++ // sent a whole turn of ids ago
			}
			requests[tid] = request{next, phase == timed}
			out = w.codec.Append(out[:0], tid)
			unix.Write(w.fd, out) // a full buffer is a lost request
			next += step
		}
		n, err := unix.Read(w.fd, in)
		if err != nil {
			continue
		}
		now = measure.Now()
		id, ok := w.codec.Tid(in[:n])
		if !ok {
			w.bad++
			continue
		}
		if r := requests[id]; r.due != 0 {
			if r.counts {
				w.latencies = append(w.latencies, now-r.due)
				w.bytes += int64(n)
			}
			requests[id].due = 0
		}
	}
	for _, r := range requests {
		if r.due != 0 && r.counts {
			w.timeouts++
		}
	}
}
