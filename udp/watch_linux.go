package udp

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// watch listens to the kernel's route messages, and polls where those are
// refused, as on Android.
func watch(ctx context.Context) <-chan struct{} {
	f, err := routeSocket()
	if err != nil {
		return watchPolling(ctx, interfaces)
	}
	return watchRoute(ctx, f, interfaces)
}

// routeSocket opens a socket that hears of links and addresses that change.
func routeSocket() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// watchRoute looks at the interfaces after each message: the kernel speaks of
// many things that are no change, such as a lifetime renewed. Its goroutine owns
// the socket and ends with the context.
func watchRoute(ctx context.Context, f *os.File, look func() []string) <-chan struct{} {
	out := make(chan struct{}, 1)
	old := look()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	go func() {
		defer close(out)
		defer stop()
		defer f.Close()
		buf := make([]byte, 4096)
		for {
			// An error is an overflow, which is news as well, or the end.
			_, err := f.Read(buf)
			if ctx.Err() != nil {
				return
			}
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				poll(ctx, out, old, look)
				return
			}
			if now := look(); !slices.Equal(now, old) {
				old = now
				notify(out)
			}
		}
	}()
	return out
}
