package udp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs the named test again in a process that has a network
// namespace of its own, and reports whether this is that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const env = "WARREN_UDP_NAMESPACE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		if os.Getenv("WARREN_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skipf("network namespaces are not to be had: %v", err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out.String())
	}
	return false
}

// loopback brings the loopback interface of a fresh namespace up.
func loopback(t *testing.T, up bool, mtu uint32) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	if mtu > 0 {
		r.SetUint32(mtu)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r); err != nil {
			t.Fatal(err)
		}
	}
	r.SetUint16(unix.IFF_UP)
	if !up {
		r.SetUint16(0)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}

func TestWatchNamespace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := watch(ctx)
	for _, up := range []bool{true, false, true} {
		loopback(t, up, 0)
		select {
		case _, ok := <-c:
			if !ok {
				t.Fatal("closed")
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody heard of lo going up: %v", up)
		}
	}
	cancel()
	for range c {
	}
}

// A train with segments above the device's MTU is refused whole (EMSGSIZE);
// those of its datagrams that fit must arrive all the same.
func TestMTUNamespace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loopback(t, true, 1300)
	for _, m := range []Machine{{}, {NoOffload: true}, {Plain: true}} {
		c, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		b := listenFast(t, Machine{}, "127.0.0.1")
		n, err := c.WriteBatch(segments(b.local, 1272, 1272, 1272, 1400, 1400, 700, 1273, 1273, 800, 1300))
		if n != 10 || err != nil {
			t.Fatalf("WriteBatch = %d, %v", n, err)
		}
		c.WriteBatch(segments(b.local, 1273))
		c.WriteBatch(segments(b.local, 1))
		c.Close()
		var got []string
		batch := make([]Datagram, BatchSize)
		for len(got) == 0 || !strings.HasSuffix(got[len(got)-1], "×1") {
			n, err := b.ReadBatch(batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range batch[:n] {
				got = append(got, fmt.Sprintf("%d×%d", d.Payload[0], len(d.Payload)))
			}
		}
		if s := strings.Join(got, " "); s != "1×1272 2×1272 3×1272 6×700 9×800 1×1" {
			t.Errorf("%v: arrived: %s", m, s)
		}
	}
}

// veth makes a pair of interfaces whose far end answers to nothing.
func veth(t *testing.T) {
	t.Helper()
	loopback(t, true, 0)
	for _, line := range []string{
		"link add d0 type veth peer name d1",
		"link set d0 up", "link set d1 up",
		"addr add 10.9.9.1/24 dev d0", "addr add fe80::1/64 dev d0 nodad", "addr add fe80::2/64 dev d1 nodad",
	} {
		out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) && os.Getenv("WARREN_TEST_ALL") != "1" {
			t.Skip("the program ip is not installed")
		}
		if err != nil {
			t.Fatalf("ip %s: %v\n%s", line, err, out)
		}
	}
}

// outDatagrams is how many datagrams this namespace has sent (RFC 4113
// udpOutDatagrams).
func outDatagrams(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "Udp:" && f[1] != "InDatagrams" {
			n, err := strconv.Atoi(f[4])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no Udp line")
	return 0
}

// A full socket buffer makes WriteBatch wait, not lose; Close ends the wait. The
// buffer fills because nobody answers the question who has the address.
func TestFullBufferNamespace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	veth(t)
	if err := os.WriteFile("/proc/sys/net/ipv4/neigh/d0/retrans_time_ms", []byte("20"), 0); err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort("10.9.9.2:1")
	for _, m := range []Machine{{}, {NoOffload: true}, {Plain: true}} {
		c, err := m.Listen(netip.MustParseAddrPort("10.9.9.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		var s *socket
		switch c := c.(type) {
		case *fastConn:
			s = &c.socket
		case *plainConn:
			s = &c.socket
		}
		if err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8192) }); err != nil {
			t.Fatal(err)
		}
		before := outDatagrams(t)
		// Each longer than the one before, so that none leave as a train, which the
		// kernel would count as one.
		batch := segments(to, 501, 502, 503, 504, 505, 506, 507, 508, 509, 510, 511, 512, 513, 514, 515, 516, 517, 518, 519, 520)
		for i := range batch {
			if n, err := c.WriteBatch(batch[i : i+1]); n != 1 || err != nil {
				t.Fatalf("WriteBatch = %d, %v", n, err)
			}
		}
		if n, err := c.WriteBatch(batch); n != len(batch) || err != nil {
			t.Fatalf("WriteBatch = %d, %v", n, err)
		}
		if got := outDatagrams(t) - before; got != 2*len(batch) {
			t.Errorf("%+v: the kernel took %d of %d", m, got, 2*len(batch))
		}

		done := make(chan error)
		go func() {
			for {
				if _, err := c.WriteBatch(batch); err != nil {
					done <- err
					return
				}
			}
		}()
		c.Close()
		select {
		case err := <-done:
			if err != net.ErrClosed {
				t.Errorf("WriteBatch: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Close did not wake the writer")
		}
	}
}

// again sends a datagram until it is stopped: a link that has just been made may
// take a moment.
func again(c Conn, d Datagram) (stop func()) {
	over := make(chan struct{})
	go func() {
		for {
			c.WriteBatch([]Datagram{d})
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { close(over) }
}

// Link-local addresses keep their zones.
func TestZonesNamespace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	veth(t)
	for _, m := range []Machine{{}, {Plain: true}} {
		addr := netip.MustParseAddr("fe80::1%d0")
		list, err := m.Addrs()
		if err != nil || !slices.Contains(list, addr) {
			t.Errorf("Addrs: %v, %v", list, err)
		}
		a, err := m.Listen(netip.AddrPortFrom(addr, 0))
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Listen(netip.MustParseAddrPort("[::]:0"))
		if err != nil {
			t.Fatal(err)
		}
		if a.LocalAddr().Addr() != addr {
			t.Errorf("%+v: LocalAddr = %v", m, a.LocalAddr())
		}
		defer again(b, Datagram{Payload: []byte("x"), Peer: a.LocalAddr()})()
		batch := make([]Datagram, 1)
		if n, err := a.ReadBatch(batch); n != 1 || err != nil || string(batch[0].Payload) != "x" || batch[0].Peer.Addr().Zone() != "d0" {
			t.Errorf("%+v: ReadBatch = %d, %v, %q from %v", m, n, err, batch[0].Payload, batch[0].Peer)
		}
		defer again(a, Datagram{Payload: []byte("y"), Peer: batch[0].Peer})()
		if _, err := b.ReadBatch(batch); err != nil || string(batch[0].Payload) != "y" || batch[0].Peer != a.LocalAddr() {
			t.Errorf("%+v: %v, %q from %v, want from %v", m, err, batch[0].Payload, batch[0].Peer, a.LocalAddr())
		}
		a.Close()
		b.Close()
	}
}
