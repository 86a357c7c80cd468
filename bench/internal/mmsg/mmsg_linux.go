// Package mmsg sends and receives many datagrams with one system call
// (sendmmsg, recvmmsg), as thinly as Go allows. Linux, 64 bit.
package mmsg

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is the kernel's struct mmsghdr.
type message struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// A Batch is a set of datagrams of at most size bytes each. It is for one
// thread.
type Batch struct {
	messages []message
	vectors  []unix.Iovec
	names    []unix.RawSockaddrInet4
	data     []byte
	size     int
}

// NewBatch makes a batch of n datagrams for a connected socket.
func NewBatch(n, size int) *Batch {
	b := &Batch{
		messages: make([]message, n),
		vectors:  make([]unix.Iovec, n),
		data:     make([]byte, n*size),
		size:     size,
	}
	for i := range b.messages {
		b.vectors[i].Base = &b.data[i*size]
		b.vectors[i].SetLen(size)
		b.messages[i].hdr.Iov = &b.vectors[i]
		b.messages[i].hdr.SetIovlen(1)
	}
	return b
}

// Addressed gives each datagram an address, for a socket that is not connected.
func (b *Batch) Addressed() *Batch {
	b.names = make([]unix.RawSockaddrInet4, len(b.messages))
	for i := range b.messages {
		b.messages[i].hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		b.messages[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
	return b
}

// Size is the number of datagrams that the batch holds.
func (b *Batch) Size() int { return len(b.messages) }

// Slot is the room of datagram i.
func (b *Batch) Slot(i int) []byte { return b.data[i*b.size : (i+1)*b.size : (i+1)*b.size] }

// Datagram is what was received as datagram i.
func (b *Batch) Datagram(i int) []byte { return b.Slot(i)[:b.messages[i].n] }

// From is the sender of datagram i, and may be written to.
func (b *Batch) From(i int) *unix.RawSockaddrInet4 { return &b.names[i] }

// SetLen says how much of slot i is to be sent.
func (b *Batch) SetLen(i, n int) { b.vectors[i].SetLen(n) }

// Receive waits for the first datagram and takes what else is there.
func (b *Batch) Receive(fd int) (int, syscall.Errno) {
	n, _, err := syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[0])), uintptr(len(b.messages)), unix.MSG_WAITFORONE, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), 0
}

// Send sends the first n datagrams, however many calls it takes. Passing
// errors are tried again.
func (b *Batch) Send(fd, n int) error {
	for sent := 0; sent < n; {
		k, _, err := syscall.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[sent])), uintptr(n-sent), 0, 0, 0)
		switch err {
		case 0:
			sent += int(k)
		case syscall.EINTR, syscall.EAGAIN, syscall.ECONNREFUSED:
		default:
			return err
		}
	}
	return nil
}
