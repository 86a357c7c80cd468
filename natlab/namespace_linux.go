package natlab

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enter runs f on a thread that is in a namespace. What f opens stays there.
func enter(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := os.Open("/run/netns/" + ns)
		if err != nil {
			done <- err
			return
		}
		defer fd.Close()
		if err := unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("setns: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// flushConntrack makes a namespace forget all flows.
func flushConntrack(ns string) error {
	return enter(ns, func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		// A header, and a struct nfgenmsg of zeros: every family.
		var msg struct {
			unix.NlMsghdr
			unix.Nfgenmsg
		}
		msg.Len = uint32(unsafe.Sizeof(msg))
		msg.Type = unix.NFNL_SUBSYS_CTNETLINK<<8 | ctDelete
		msg.Flags = unix.NLM_F_REQUEST | unix.NLM_F_ACK
		b := unsafe.Slice((*byte)(unsafe.Pointer(&msg)), msg.Len)
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		answer := make([]byte, 4096)
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if n < unix.SizeofNlMsghdr+4 {
			return fmt.Errorf("conntrack: an answer of %d bytes", n)
		}
		if code := *(*int32)(unsafe.Pointer(&answer[unix.SizeofNlMsghdr])); code != 0 {
			return fmt.Errorf("conntrack: %w", unix.Errno(-code))
		}
		return nil
	})
}

// ctDelete is IPCTNL_MSG_CT_DELETE of linux/netfilter/nfnetlink_conntrack.h;
// without a tuple it is about all flows.
const ctDelete = 2
