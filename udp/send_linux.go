package udp

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of a train, one call's worth of segmentation offload
// (docs/spec/udx.md §8.3).
const (
	maxSegments   = 64 // newer kernels take 128
	maxTrainBytes = 65507
)

// maxMessages and maxIovecs bound one sendmmsg call.
const (
	maxMessages = 64
	maxIovecs   = 256
)

// A writer is the state of one WriteBatch. Writers are borrowed from a pool.
type writer struct {
	c    *fastConn
	try  func(fd uintptr) bool // send, bound once so that no call allocates
	todo []Datagram            // what is still to be sent

	n     int              // messages in the vector
	count [maxMessages]int // datagrams in each
	hdr   [maxMessages]unix.Mmsghdr
	name  [maxMessages]unix.RawSockaddrInet6
	ctl   [maxMessages][ctlSize]byte
	iov   [maxIovecs]unix.Iovec
}

var writers = sync.Pool{New: func() any {
	w := new(writer)
	w.try = w.send
	return w
}}

// WriteBatch implements [Conn]. Consecutive datagrams of equal size to one peer
// leave as one train where segmentation offload is to be had. When the socket's
// buffer is full it waits.
func (c *fastConn) WriteBatch(batch []Datagram) (int, error) {
	w := writers.Get().(*writer)
	w.c, w.todo = c, batch
	err := c.raw.Write(w.try)
	left := len(w.todo)
	w.c, w.todo = nil, nil
	writers.Put(w)
	if errors.Is(err, net.ErrClosed) {
		return len(batch) - left, net.ErrClosed
	}
	return len(batch), nil
}

// send is what the poller calls: it reports false when the socket's buffer is
// full, and is called again when there is room.
func (w *writer) send(fd uintptr) bool {
	for len(w.todo) > 0 {
		if len(w.todo) == 1 && w.todo[0].TTL == 0 {
			if w.sendOne(fd) == unix.EAGAIN {
				return false
			}
			continue
		}
		if w.plan(); w.n == 0 {
			w.todo = w.todo[1:] // the socket cannot address its peer
			continue
		}
		sent, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.hdr[0])), uintptr(w.n), 0, 0, 0)
		switch {
		case e == 0:
			for _, k := range w.count[:min(int(sent), w.n)] {
				w.todo = w.todo[k:]
			}
		case e == unix.EAGAIN:
			return false
		case e != unix.EINTR:
			if !w.refused(fd, e) {
				return false
			}
		}
	}
	return true
}

// refused deals with the first message of the vector, which the kernel did not
// take. A single datagram is lost. The datagrams of a train may have better luck
// one by one: EMSGSIZE says that some are larger than the device's MTU, EIO that
// the device cannot compute checksums and that no train will ever leave. It
// reports false when the socket's buffer is full.
func (w *writer) refused(fd uintptr, e syscall.Errno) bool {
	if e == unix.EIO {
		w.c.gso.Store(false)
	}
	k := w.count[0]
	if k == 1 {
		w.todo = w.todo[1:]
		return true
	}
	for range k {
		if w.sendOne(fd) == unix.EAGAIN {
			return false
		}
	}
	return true
}

// sendOne sends the first datagram by the cheapest call there is, and takes it
// off the list unless the error is EAGAIN. Its TTL is the socket's.
func (w *writer) sendOne(fd uintptr) syscall.Errno {
	d := &w.todo[0]
	size, ok := w.c.sockaddr(&w.name[0], d.Peer)
	var e syscall.Errno
	if ok {
		for {
			_, _, e = syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(d.Payload))), uintptr(len(d.Payload)), 0,
				uintptr(unsafe.Pointer(&w.name[0])), uintptr(size))
			if e != unix.EINTR {
				break
			}
		}
	}
	if e != unix.EAGAIN {
		w.todo = w.todo[1:]
	}
	return e
}

// plan fills the vector from the head of the list. It stops before a datagram
// that the socket cannot address.
func (w *writer) plan() {
	gso := w.c.gso.Load()
	rest, iov := w.todo, w.iov[:0]
	for w.n = 0; w.n < maxMessages && len(iov) < maxIovecs && len(rest) > 0; w.n++ {
		size, ok := w.c.sockaddr(&w.name[w.n], rest[0].Peer)
		if !ok {
			return
		}
		k := 1
		if gso {
			k = train(rest[:min(len(rest), maxSegments, maxIovecs-len(iov))])
		}
		h := &w.hdr[w.n].Hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&w.name[w.n])), uint32(size)
		h.Iov = &w.iov[len(iov)]
		h.SetIovlen(k)
		for i := range rest[:k] {
			p := rest[i].Payload
			iov = append(iov, unix.Iovec{Base: unsafe.SliceData(p)})
			iov[len(iov)-1].SetLen(len(p))
		}
		h.Control = nil
		ctl := 0
		if k > 1 {
			ctl += putControl(w.ctl[w.n][ctl:], unix.SOL_UDP, unix.UDP_SEGMENT, uint16(len(rest[0].Payload)))
		}
		if ttl := rest[0].TTL; ttl != 0 && w.c.is4 {
			ctl += putControl(w.ctl[w.n][ctl:], unix.IPPROTO_IP, unix.IP_TTL, int32(ttl))
		} else if ttl != 0 {
			ctl += putControl(w.ctl[w.n][ctl:], unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, int32(ttl))
		}
		if ctl > 0 {
			h.Control = &w.ctl[w.n][0]
		}
		h.SetControllen(ctl)
		w.count[w.n] = k
		rest = rest[k:]
	}
}

// train returns how many of the first datagrams may leave as one: equal in size,
// but for a shorter last one, in peer and in hop limit.
func train(list []Datagram) int {
	first := &list[0]
	size := len(first.Payload)
	if size == 0 {
		return 1
	}
	total := size
	for k := 1; k < len(list); k++ {
		d := &list[k]
		n := len(d.Payload)
		if total += n; n == 0 || n > size || total > maxTrainBytes || d.Peer != first.Peer || d.TTL != first.TTL {
			return k
		}
		if n < size {
			return k + 1
		}
	}
	return len(list)
}

// putControl writes a control message and returns the room that it takes.
func putControl[T uint16 | int32](b []byte, level, kind int32, v T) int {
	size := int(unsafe.Sizeof(v))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	*(*T)(unsafe.Pointer(&b[unix.CmsgLen(0)])) = v
	return unix.CmsgSpace(size)
}
