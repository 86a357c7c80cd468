package udp

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fastConn is a socket that reads with recvmmsg and writes with sendmmsg, and
// with segmentation and receive offload where the system has them
// (docs/spec/udx.md §8.3). Safe for concurrent use, with one reader.
//
// The system calls are raw ones: they never sleep, the poller does, and so the
// scheduler need not hear of them (which saves a sixth of the CPU of an echo).
type fastConn struct {
	socket
	is4    bool
	gso    atomic.Bool // switched off when a device turns out unable
	closed atomic.Bool
	zones  zones
	rd     reader
}

// newFastConn returns nil where the system calls are not to be had.
func newFastConn(s socket, offload bool) Conn {
	c := &fastConn{socket: s, is4: s.local.Addr().Is4()}
	c.rd.pool = &smallBuffers
	err := s.control(func(fd int) error {
		// Sandboxes may refuse these calls; nothing is there to be read yet.
		_, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		if e != 0 && e != unix.EAGAIN {
			return e
		}
		if _, _, e = unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), 0, 0, 0, 0, 0); e != 0 {
			return e
		}
		if !offload {
			return nil
		}
		if _, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT); err == nil && kernelHasOffload() {
			c.gso.Store(true)
			if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil {
				c.rd.pool = &largeBuffers
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	c.rd.try = c.receive
	return c
}

// kernelHasOffload tells whether the kernel is 5.0 or later: UDP_SEGMENT came
// with 4.18 and had its faults there.
var kernelHasOffload = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	major, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 5
})

func (c *fastConn) Close() error {
	c.closed.Store(true)
	return c.socket.Close()
}

// A reader is the state of the goroutine that reads.
type reader struct {
	pool *sync.Pool
	try  func(fd uintptr) bool
	buf  *readBuffer // borrowed while its bytes are in use; nil while waiting
	n    int         // messages in buf
	next int         // the message to hand out next,
	off  int         // from this byte on
}

// Receive buffers are borrowed from these pools by whichever socket has
// something to read, so that a socket that waits weighs nothing.
var (
	smallBuffers = sync.Pool{New: func() any { return newReadBuffer(64, maxDatagram) }}
	largeBuffers = sync.Pool{New: func() any { return newReadBuffer(8, 1<<16) }} // for UDP_GRO
)

// A readBuffer is the argument of a recvmmsg call, with room for what it reads.
type readBuffer struct {
	hdr  []unix.Mmsghdr
	iov  []unix.Iovec
	name []unix.RawSockaddrInet6
	ctl  [][ctlSize]byte
	data []byte
	size int // of a message's part of data
	used int // messages of the last call, whose lengths must be set again
}

// ctlSize has room for the control messages of a datagram: one when receiving,
// two when sending, of 24 bytes at most each.
const ctlSize = 64

func newReadBuffer(n, size int) *readBuffer {
	b := &readBuffer{
		hdr:  make([]unix.Mmsghdr, n),
		iov:  make([]unix.Iovec, n),
		name: make([]unix.RawSockaddrInet6, n),
		ctl:  make([][ctlSize]byte, n),
		data: make([]byte, n*size),
		size: size,
		used: n,
	}
	for i := range b.hdr {
		h := &b.hdr[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&b.name[i]))
		h.Iov = &b.iov[i]
		h.SetIovlen(1)
		h.Control = &b.ctl[i][0]
		b.iov[i].Base = &b.data[i*size]
		b.iov[i].SetLen(size)
	}
	return b
}

// ReadBatch implements [Conn]. What a call to the kernel brought beyond the room
// in batch is handed out by the next calls.
func (c *fastConn) ReadBatch(batch []Datagram) (int, error) {
	r := &c.rd
	if len(batch) == 0 {
		return 0, nil
	}
	if c.closed.Load() {
		r.n, r.next, r.off = 0, 0, 0 // what was read and not asked for
	}
	for failures := 0; r.next == r.n; failures++ {
		if failures > maxReadFailures {
			time.Sleep(readFailurePause)
		}
		r.n, r.next = 0, 0
		if err := c.raw.Read(r.try); err != nil {
			r.drop()
			if errors.Is(err, net.ErrClosed) {
				return 0, net.ErrClosed
			}
		}
	}
	return c.split(batch), nil
}

// receive is what the poller calls: it reports false when there is nothing to
// read, and gives the buffer back for as long as that lasts.
func (c *fastConn) receive(fd uintptr) bool {
	r := &c.rd
	if r.buf == nil {
		r.buf = r.pool.Get().(*readBuffer)
	}
	b := r.buf
	for i := range b.hdr[:b.used] {
		h := &b.hdr[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(ctlSize)
	}
	for {
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.hdr[0])), uintptr(len(b.hdr)), unix.MSG_DONTWAIT, 0, 0)
		switch e {
		case 0:
			b.used, r.n = int(n), int(n)
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			b.used = 0
			r.drop()
			return false
		default:
			b.used = len(b.hdr)
			r.drop()
			return true // ReadBatch tries again
		}
	}
}

// drop gives the buffer back to the pool.
func (r *reader) drop() {
	if r.buf != nil {
		r.pool.Put(r.buf)
		r.buf = nil
	}
}

// split fills batch from the messages read, each of which may be a train of
// datagrams of one flow, equal in size but for the last.
func (c *fastConn) split(batch []Datagram) int {
	r := &c.rd
	b := r.buf
	n := 0
	for n < len(batch) && r.next < r.n {
		h := &b.hdr[r.next]
		data := b.data[r.next*b.size:][:min(int(h.Len), b.size)]
		peer := c.peer(&b.name[r.next])
		seg := segmentSize(&h.Hdr, &b.ctl[r.next])
		if seg <= 0 {
			seg = max(len(data), 1)
		}
		for {
			end := min(r.off+seg, len(data))
			batch[n] = Datagram{Payload: data[r.off:end:end], Peer: peer}
			n++
			if r.off = end; end == len(data) {
				r.next++
				r.off = 0
				break
			}
			if n == len(batch) {
				break
			}
		}
	}
	return n
}

// segmentSize reads the control message of UDP_GRO: the size of a train's
// datagrams, or 0 if the message is a single one.
func segmentSize(h *unix.Msghdr, ctl *[ctlSize]byte) int {
	if int(h.Controllen) < unix.CmsgLen(4) {
		return 0
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(ctl))
	if c.Level != unix.SOL_UDP || c.Type != unix.UDP_GRO {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&ctl[unix.CmsgLen(0)])))
}
