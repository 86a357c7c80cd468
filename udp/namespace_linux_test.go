package udp

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
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

// A full socket buffer makes WriteBatch wait, not lose.
func TestFullBuffer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	loopback(t, true, 0)
	a, b := listenFast(t, Machine{NoOffload: true}, "127.0.0.1"), listenFast(t, Machine{NoOffload: true}, "127.0.0.1")
	a.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) })
	const total = 1000
	go func() {
		for range total / 10 {
			a.WriteBatch(segments(b.local, 1000, 1, 1000, 2, 1000, 3, 1000, 4, 1000, 5))
		}
	}()
	batch := make([]Datagram, BatchSize)
	for got := 0; got < total; {
		n, err := b.ReadBatch(batch)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
}
