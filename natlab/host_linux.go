package natlab

import (
	"context"
	"net/netip"
	"os/exec"
	"slices"

	"github.com/warren-dht/warren/udp"
)

// Host is a machine in the laboratory. It implements [udp.Network]: sockets of
// this process that live in the host's namespace. Safe for concurrent use.
type Host struct {
	lab   *Lab
	ns    string
	addrs []netip.Addr
}

// Addr is the host's first address.
func (h *Host) Addr() netip.Addr { return h.addrs[0] }

// Command is exec.CommandContext for a program that runs on the host. The process
// started is the program itself, so signals reach it.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.ns, name}, args...)...)
}

// Listen implements [udp.Network].
func (h *Host) Listen(addr netip.AddrPort) (c udp.Conn, err error) {
	err = enter(h.ns, func() error {
		c, err = udp.Default.Listen(addr)
		return err
	})
	return c, err
}

// Addrs implements [udp.Network].
func (h *Host) Addrs() ([]netip.Addr, error) {
	return append(slices.Clone(h.addrs), netip.AddrFrom4([4]byte{127, 0, 0, 1})), nil
}

// Watch implements [udp.Network]. A host's addresses never change.
func (h *Host) Watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{})
	context.AfterFunc(ctx, func() { close(c) })
	return c
}
